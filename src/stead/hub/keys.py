"""The hub's two secrets on disk: the token that people show to it, and the key that it shows to the agent.

Both are made on first use, complete or not at all, readable by their owner only. In memory only the token's digest stays.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path
from typing import Final

import msgspec

from stead.model.errors import SteadError

TOKEN: Final = re.compile(r"stead_([a-z2-7]{8})_[a-z2-7]{52}")
KEY: Final = re.compile(r"[a-z2-7]{52}")
SESSION_S: Final = 12 * 3600


class Token(msgspec.Struct, frozen=True):
    """What is kept of the token: its public part, the digest of the whole, and the person it speaks for ("uid:0")."""

    id: str
    digest: bytes
    person: str

    @classmethod
    def of(cls, text: str, person: str) -> Token:
        """Take a token's text apart. ValueError when it is none."""
        match = TOKEN.fullmatch(text)
        if match is None:
            raise ValueError("not a token")
        return cls(match[1], hashlib.sha256(text.encode()).digest(), person)

    def matches(self, text: str) -> bool:
        """Is this the token? Takes the same time whatever was sent."""
        return hmac.compare_digest(hashlib.sha256(text.encode("utf-8", "replace")).digest(), self.digest)

    def session(self, now_s: int) -> str:
        """A cookie's value that proves, for 12 hours, that its bearer showed the token. It survives the hub, not the token."""
        until = str(now_s + SESSION_S)
        return f"{until}.{hmac.new(self.digest, until.encode(), 'sha256').hexdigest()}"

    def in_session(self, value: str, now_s: int) -> bool:
        """Was this value made by `session` in the last 12 hours?"""
        until, _, proof = value.partition(".")
        right = hmac.new(self.digest, until.encode("utf-8", "replace"), "sha256").hexdigest()
        return hmac.compare_digest(right.encode(), proof.encode("utf-8", "replace")) and int(until) > now_s


def new_token() -> str:
    """A fresh token: `stead_<id>_<32 random bytes in base32>`."""
    return f"stead_{_base32(5)}_{_base32(32)}"


def new_key() -> str:
    """A fresh hub key: 32 random bytes in base32."""
    return _base32(32)


def load_token(path: str, person: str) -> tuple[Token, str]:
    """Read the token's file, or make it. SteadError when it can't be read, is malformed or is open to others."""
    text = _load(Path(path), new_token(), TOKEN)
    return Token.of(text, person), text


def load_key(path: str) -> str:
    """Read the hub key's file, or make it. SteadError as `load_token`."""
    return _load(Path(path), new_key(), KEY)


def _base32(size: int) -> str:
    return base64.b32encode(secrets.token_bytes(size)).decode().rstrip("=").lower()


def _load(path: Path, fresh: str, form: re.Pattern[str]) -> str:
    try:
        if not path.exists():
            _create(path, fresh)
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle) as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read(256).strip()
    except OSError as error:
        fix = "run the hub as the state's owner, or as root"
        raise SteadError(f"the secret can't be read or made: {error.strerror}", str(path), fix, code="hub.secret") from None
    if mode & 0o077:
        fix = "delete it, so that a new one is made: others may have read this one"
        raise SteadError(f"the secret is open to others (mode {mode:04o})", str(path), fix, code="hub.secret-open")
    if form.fullmatch(text) is None:
        raise SteadError("the secret is damaged", str(path), "delete it, so that a new one is made", code="hub.secret-damaged")
    return text


def _create(path: Path, text: str) -> None:
    """Make the file whole or not at all; whoever comes second keeps the first one's (agent and hub start together)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
