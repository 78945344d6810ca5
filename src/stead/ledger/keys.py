"""The log's own keys: made at first start, rotated by a person with an overlap, each on record in the ledger.

All keys of a log have its origin as their name, so the origin outlives every key. While two overlap, both sign every
checkpoint: who trusts the old one learns of the new one in time, and C2SP lets a verifier ignore what it does not know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from stead.ledger.key_files import KeyFiles
from stead.tlog.keys import ED25519, SEED_BYTES, SigningKey, VerifierKey, is_key_name, new_signing_key, parse_vkey

OVERLAP_DAYS: Final = 30.0
_DAY_MS: Final = 86_400_000


class KeyRow(NamedTuple):
    """A key as the ledger has it: when it began to sign (Unix ms), and until when; None: until it is rotated."""

    vkey: str
    since_ms: int
    until_ms: int | None

    def signs(self, now_ms: int) -> bool:
        """Does it sign checkpoints at this time?"""
        return self.until_ms is None or now_ms < self.until_ms


class KeyRing:
    """The keys that sign. `files` hold their secrets; `overlap_days` is how long a rotated key goes on signing."""

    def __init__(self, files: KeyFiles, overlap_days: float = OVERLAP_DAYS, random: Callable[[int], bytes] = os.urandom) -> None:
        self.files = files
        self.overlap_ms = int(overlap_days * _DAY_MS)
        self._random = random
        self._rows: tuple[KeyRow, ...] = ()
        self._keys: dict[str, SigningKey] = {}

    def make(self, origin: str) -> SigningKey:
        """A fresh key, its secret on disk. It signs nothing before `adopt`."""
        key = new_signing_key(origin, ED25519, self._random(SEED_BYTES))
        self.files.put(key)
        return key

    def held(self, rows: Sequence[KeyRow], now_ms: int) -> tuple[VerifierKey, ...]:
        """Those keys of the rows that sign at this time. SteadError: the secret of one is not here, so it is no key of ours."""
        found = {row.vkey: self._keys.get(row.vkey) or self.files.get(parse_vkey(row.vkey)) for row in rows if row.signs(now_ms)}
        self._keys |= found
        return tuple(key.verifier for key in found.values())

    def adopt(self, rows: Sequence[KeyRow], now_ms: int, made: Iterable[SigningKey] = ()) -> None:
        """Take the keys of the ledger's rows, newest first, which are durable. SteadError: a secret can't be used.

        Secrets that are no longer needed are deleted. OSError: these files can't be put in order; the keys sign all the same.
        """
        self._keys |= {key.verifier.text: key for key in made}
        found = {key.text: self._keys[key.text] for key in self.held(rows, now_ms)}
        self._rows, self._keys = tuple(rows), found
        for row in rows:
            key = parse_vkey(row.vkey)
            self.files.publish(key)
            if row.vkey not in found:
                self.files.drop(key)

    def signers(self, now_ms: int) -> tuple[SigningKey, ...]:
        """The keys that sign at this time, newest first."""
        return tuple(self._keys[row.vkey] for row in self._rows if row.vkey in self._keys and row.signs(now_ms))

    def expired(self, now_ms: int) -> bool:
        """Is there a secret whose time is over?"""
        return any(row.vkey in self._keys and not row.signs(now_ms) for row in self._rows)

    def discard(self, key: SigningKey) -> None:
        """Forget a key that was made and not adopted."""
        if key.verifier.text not in self._keys:
            self.files.drop(key.verifier)


def origin_of(host_name: str, former: Iterable[str]) -> str:
    """The name of a new log on this host: `<host>/ledger`, and after former ones `<host>/ledger/2` and so on."""
    host = "".join(char if is_key_name(char) else "-" for char in host_name) or "localhost"
    first = f"{host}/ledger"
    numbers = [_generation(origin, first) for origin in former]
    number = max(numbers, default=0) + 1
    return first if number == 1 else f"{first}/{number}"


def _generation(origin: str, first: str) -> int:
    if origin == first:
        return 1
    number = origin.removeprefix(f"{first}/")
    return int(number) if origin != number and number.isascii() and number.isdigit() else 0


def rotation_text(origin: str, old: str, new: str) -> bytes:
    """What both keys sign when one follows the other: four lines, each ended by a newline."""
    return f"stead/key-rotation/v1\n{origin}\n{old}\n{new}\n".encode()
