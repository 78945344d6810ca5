"""Takes secrets out of command lines and environments before anything is stored, shown or logged.

A command line is free text, so this errs towards hiding: what follows a name that sounds like a secret goes, and so does
what looks like a credential by its own shape (tokens of well-known issuers, JSON web tokens, private keys).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

HIDDEN = "[redacted]"

_NAME = (
    r"(?:[\w.-]*(?:passw(?:or)?d|passwd|passphrase|pwd|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|secret[-_]?key"
    r"|encryption[-_]?key|signing[-_]?key|credential|authorization|auth[-_]?key|bearer|cookie|session[-_]?key|client[-_]?secret|dsn)[\w.-]*"
    r"|(?:[\w.-]*[-_.])?(?:pass|pat|psk))"
)
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
_FLAG = re.compile(rf"--?{_NAME}", re.IGNORECASE)
_VALUE = r"(?:\"[^\"]*\"|'[^']*'|[^\s&;,\"']+)"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A key block, a header, a URL's password, name=value or --name value within one argument (sh -c "…"), then shapes.
    (re.compile(r"-----BEGIN [\s\S]*"), HIDDEN),
    (
        re.compile(r"((?:proxy-)?authorization|cookie|x-[\w-]*(?:key|token|auth)[\w-]*)\s*:\s*[^\"']+", re.IGNORECASE),
        rf"\1: {HIDDEN}",
    ),
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"([a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/]*@", re.IGNORECASE), rf"\1:{HIDDEN}@"),
    (re.compile(rf"((?<![\w.-]){_NAME}\s*[=:]\s*){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"(\"{_NAME}\"\s*:\s*){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"((?<!\S)--?{_NAME}\s+){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"((?<!\S)(?:-u|--user|--proxy-user)[= ]?[^\s:=]+):\S+"), rf"\1:{HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*"), HIDDEN),
    (
        re.compile(
            r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|sk-|sk_live_|rk_live_|hvs\.|pypi-|npm_|dop_v1_|AIza)[\w-]{8,}"
        ),
        HIDDEN,
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{12,}"), HIDDEN),
    (re.compile(r"\bstead_[a-z2-7]{4,}_[a-z2-7]{20,}"), HIDDEN),  # our own, as in the page's address
)
_HINTS = (  # what every rule needs to match, in small letters: most command lines have none of it, which is quickly seen
    *("pass", "pwd", "secret", "token", "key", "credential", "auth", "bearer", "basic", "cookie", "dsn", "pat", "psk", "://"),
    *("-----begin", "-u", "-user", "eyj", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_", "glpat-", "xox", "sk-", "sk_live_"),
    *("rk_live_", "hvs.", "pypi-", "npm_", "dop_v1_", "aiza", "akia", "asia", "stead_"),
)
_USER_FLAGS = frozenset(("-u", "--user", "--proxy-user", "-U"))
_DASH_P_IS_PASSWORD = ("mysql", "mariadb", "mysqldump", "mysqladmin", "mariadb-dump", "sshpass", "mongo", "mongosh")


def redact(argv: Sequence[str]) -> str:
    """Render a command line as one readable string with its passwords, tokens and keys replaced by `[redacted]`."""
    whole = " ".join(argv)
    program = argv[0].rsplit("/", 1)[-1] if argv else ""
    if program not in _DASH_P_IS_PASSWORD and not _suspicious(whole):
        return whole
    shown: list[str] = []
    hide = user = False
    for argument in argv:
        if hide:
            shown.append(HIDDEN)
        elif user and ":" in argument:
            shown.append(argument.split(":", 1)[0] + ":" + HIDDEN)
        else:
            shown.append(_redact_argument(argument, program))
        hide, user = _next_is_secret(argument, program, hide), argument in _USER_FLAGS
    return " ".join(shown)


def redact_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Copy an environment with the values of names that sound like secrets, and credentials in others, replaced."""
    return {
        name: HIDDEN if _SECRET_NAME.fullmatch(name) and value else _redact_text(value) for name, value in environment.items()
    }


def _next_is_secret(argument: str, program: str, was_hidden: bool) -> bool:
    """Say whether the argument after this one is a secret: `--token VALUE`, `sshpass -p VALUE`."""
    if was_hidden:
        return False
    if argument == "-p":
        return program in _DASH_P_IS_PASSWORD
    return _FLAG.fullmatch(argument) is not None


def _redact_argument(argument: str, program: str) -> str:
    if argument.startswith("-p") and len(argument) > 2 and program in _DASH_P_IS_PASSWORD and argument[2] != "=":
        return "-p" + HIDDEN
    return _redact_text(argument)


def _redact_text(text: str) -> str:
    return _apply_rules(text) if _suspicious(text) else text


def _suspicious(text: str) -> bool:
    small = text.lower()
    return any(hint in small for hint in _HINTS)


def _apply_rules(text: str) -> str:
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
