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
    r"|encryption[-_]?key|signing[-_]?key|account[-_]?key|credential|authorization|auth[-_]?key|bearer|cookie|session[-_]?key"
    r"|client[-_]?secret|signature|dsn)[\w.-]*"
    r"|(?:[\w.-]*[-_.])?(?:pass|pat|psk|pw|creds)|sig)"
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
    (re.compile(r"([a-z][a-z0-9+.-]*://[^\s/:@]+):(?!\d{1,5}(?:[/?#]|$))[^\s@]*@", re.IGNORECASE), rf"\1:{HIDDEN}@"),
    (re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/:@]{20,}@", re.IGNORECASE), rf"\1{HIDDEN}@"),  # a token in the user's place
    (re.compile(r"(://hooks\.slack\.com/services/)\S+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"((?<!\S)-U\s*[^\s%]+)%\S+"), rf"\1%{HIDDEN}"),  # smbclient -U user%password
    (re.compile(rf"((?<![\w.-]){_NAME}\s*[=:]\s*){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"(\"{_NAME}\"\s*:\s*){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"((?<!\S)--?{_NAME}\s+){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"((?<!\S)(?:-u|--user|--proxy-user)[= ]?[^\s:=]+):\S+"), rf"\1:{HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*"), HIDDEN),
    (
        re.compile(
            r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|sk-|sk_(?:live|test)_|rk_live_|hvs\.|pypi-|npm_|dop_v1_|AIza)[\w-]{8,}"
        ),
        HIDDEN,
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{12,}"), HIDDEN),
    (re.compile(r"\bstead_[a-z2-7]{4,}_[a-z2-7]{20,}"), HIDDEN),  # our own, as in the page's address
)
_HINTS = (  # what every rule needs to match, in small letters: most command lines have none of it, which is quickly seen
    *("pass", "pwd", "secret", "token", "key", "credential", "auth", "bearer", "basic", "cookie", "dsn", "pat", "psk", "://"),
    *("pw", "cred", "sig"),
    *(
        "-----begin",
        "-u",
        "-user",
        "eyj",
        "ghp_",
        "gho_",
        "ghu_",
        "ghs_",
        "ghr_",
        "github_",
        "glpat-",
        "xox",
        "sk-",
        "sk_live_",
        "sk_test_",
    ),
    *("rk_live_", "hvs.", "pypi-", "npm_", "dop_v1_", "aiza", "akia", "asia", "stead_"),
)
_USER = re.compile(r"([^:%]*[:%]).+", re.DOTALL)  # curl's user:password, smbclient's user%password
_USER_FLAGS = frozenset(("-u", "--user", "--proxy-user", "-U"))
_OWN_FLAGS: Mapping[str, tuple[str, ...]] = {  # program, or word after it → its short options that take a password
    **dict.fromkeys(("mysql", "mariadb", "mysqldump", "mysqladmin", "mariadb-dump", "mysqlimport", "sshpass"), ("-p",)),
    **dict.fromkeys(("mongo", "mongosh", "mongodump", "mongorestore", "7z", "7za", "login"), ("-p",)),
    **dict.fromkeys(("ldapsearch", "ldapmodify", "ldapadd", "ldapdelete", "ldapwhoami"), ("-w",)),
    **dict.fromkeys(("snmpget", "snmpwalk", "snmpset"), ("-A", "-X", "-c")),
    **dict.fromkeys(("zip", "unzip", "ipmitool", "sqlcmd"), ("-P",)),
    **{"redis-cli": ("-a",), "curl": ("-b",)},
}
_PROGRAM = re.compile(rf"(?<![\w.-])(?:{'|'.join(map(re.escape, _OWN_FLAGS))})(?![\w-])")
_WITHIN_TEXT = tuple(  # sh -c "mysql -pPASSWORD"
    re.compile(
        rf"(?<![\w.-])((?:{'|'.join(re.escape(name) for name, own in _OWN_FLAGS.items() if flag in own)})"
        rf"\s(?:[^|;&\n]*?\s)?{flag})(\s*){_VALUE}"
    )
    for flag in sorted({flag for own in _OWN_FLAGS.values() for flag in own})
)


def redact(argv: Sequence[str]) -> str:
    """Render a command line as one readable string with its passwords, tokens and keys replaced by `[redacted]`."""
    whole = " ".join(argv)
    if not _suspicious(whole) and not _PROGRAM.search(whole):
        return whole
    shown: list[str] = []
    own: tuple[str, ...] = ()  # password options of the program that the arguments are for
    hide = user = False
    for argument in argv:
        if hide:
            shown.append(HIDDEN)
        elif user and (parts := _USER.fullmatch(argument)):
            shown.append(parts[1] + HIDDEN)
        else:
            shown.append(_redact_argument(argument, own))
        hide = not hide and (argument in own or _FLAG.fullmatch(argument) is not None)
        user = argument in _USER_FLAGS
        own = _OWN_FLAGS.get(argument.rsplit("/", 1)[-1], own)
    return " ".join(shown)


def redact_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Copy an environment with the values of names that sound like secrets, and credentials in others, replaced."""
    return {
        name: HIDDEN if _SECRET_NAME.fullmatch(name) and value else _redact_text(value) for name, value in environment.items()
    }


def _redact_argument(argument: str, own: Sequence[str]) -> str:
    for flag in own:
        if argument.startswith(flag) and argument != flag:
            return flag + HIDDEN
    if " " in argument:
        for pattern in _WITHIN_TEXT:
            argument = pattern.sub(rf"\1\2{HIDDEN}", argument)
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
