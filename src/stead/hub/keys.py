"""The hub's two secrets on disk: the token that people show to it, and the key that it shows to the agent.

Both are made on first use, complete or not at all, readable by their owner only. In memory only the token's digest stays.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path
from typing import Final

import msgspec

from stead.wire.secret import KEY, base32, load_key, load_secret

__all__ = ["KEY", "TOKEN", "Token", "load_key", "load_token", "new_token"]

TOKEN: Final = re.compile(r"stead_([a-z2-7]{8})_[a-z2-7]{52}")
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
    return f"stead_{base32(5)}_{base32(32)}"


def load_token(path: str, person: str) -> tuple[Token, str]:
    """Read the token's file, or make it. SteadError when it can't be read, is malformed or is open to others."""
    text = load_secret(Path(path), new_token(), TOKEN)
    return Token.of(text, person), text
