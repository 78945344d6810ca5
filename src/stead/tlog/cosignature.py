"""Witness cosignatures, Ed25519 (C2SP tlog-cosignature v1.0.1, type 0x04): when a cosigner saw a checkpoint as the newest.

The ML-DSA-44 kind (0x06) is not made or verified here; a note that carries such lines is read, and they count for nothing.
"""

from __future__ import annotations

from typing import Final

from stead.tlog.keys import COSIGNATURE, SIGNATURE_BYTES, Signature, SigningKey, VerifierKey, verify

TIME_MAX_S: Final = 2**63 - 1
_TIME_BYTES: Final = 8


def message(text: str, time_s: int) -> bytes:
    """What a cosigner signs: a header, the POSIX time in seconds, and the whole text of the checkpoint's note."""
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def cosign(text: str, key: SigningKey, time_s: int) -> Signature:
    """A cosignature of a checkpoint's text. Raises ValueError for a key of another type or an impossible time."""
    if key.kind != COSIGNATURE:
        raise ValueError(f"key {key.name} is not a cosigner's")
    if not 0 <= time_s <= TIME_MAX_S:
        raise ValueError(f"{time_s} is not a time that a cosignature can carry")
    return Signature(key.name, key.verifier.id, time_s.to_bytes(_TIME_BYTES, "big") + key.sign(message(text, time_s)))


def cosigned_at(text: str, key: VerifierKey, data: bytes) -> int | None:
    """The time (POSIX seconds) of a good cosignature by an Ed25519 key; None for one that is not good."""
    if key.kind != COSIGNATURE or len(data) != _TIME_BYTES + SIGNATURE_BYTES:
        return None
    time_s = int.from_bytes(data[:_TIME_BYTES], "big")
    good = time_s <= TIME_MAX_S and verify(key, message(text, time_s), data[_TIME_BYTES:])
    return time_s if good else None
