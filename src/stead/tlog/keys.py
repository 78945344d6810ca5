"""Keys of signed notes: Ed25519 for logs (0x01) and for witnesses (0x04), and ML-DSA-44 (0x06), which is only read.

Sources: C2SP signed-note v1.0.0 (key ids, vkeys, signature types), tlog-cosignature v1.0.1 (0x04, 0x06), and for the
private form Go's golang.org/x/mod/sumdb/note, so that its tools read our keys and we read theirs. PyNaCl is the one
Ed25519 library of every component, because libraries disagree about malformed keys; of it only the plain bindings are
imported. Nothing here verifies ML-DSA: such keys are known by name and id, and their signatures count for nothing.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

import msgspec
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from stead.tlog.strict import Malformed, decode64, encode64

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
MLDSA: Final = 0x06
PUBLIC_BYTES: Final = {ED25519: 32, COSIGNATURE: 32, MLDSA: 1312}
SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
ID_BYTES: Final = 4
TEXT_MAX: Final = 4096  # characters of a key in text; an ML-DSA vkey has 1,752 beside its name
_PRIVATE: Final = "PRIVATE+KEY+"


class Signature(NamedTuple):
    """One signature line of a note: who (name and 4-byte key id), and the bytes that the key's type defines."""

    name: str
    key_id: bytes
    data: bytes

    @property
    def line(self) -> str:
        """The line of the note, with its newline: em dash, space, name, space, base64(key id ‖ data)."""
        return f"— {self.name} {encode64(self.key_id + self.data)}\n"


class VerifierKey(msgspec.Struct, frozen=True):
    """A public key as trust is written down. `kind` is the signature type byte; `public` has 32 bytes, or 1,312 for ML-DSA-44."""

    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        """The 4-byte key id: SHA-256(name ‖ 0x0A ‖ kind ‖ public), truncated."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes((self.kind,)) + self.public).digest()[:ID_BYTES]

    @property
    def text(self) -> str:
        """The vkey: `<name>+<id in hex>+<base64(kind ‖ public)>`."""
        return f"{self.name}+{self.id.hex()}+{encode64(bytes((self.kind,)) + self.public)}"


class SigningKey(msgspec.Struct, frozen=True):
    """A private Ed25519 key (kind 0x01 or 0x04). Made by `new_signing_key`; it never prints its seed."""

    name: str
    kind: int
    seed: bytes
    public: bytes

    def __repr__(self) -> str:
        return f"SigningKey({self.verifier.text!r})"

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        return VerifierKey(self.name, self.kind, self.public)

    @property
    def text(self) -> str:
        """Go's note signer form, `PRIVATE+KEY+<name>+<id in hex>+<base64(kind ‖ seed)>`: a secret."""
        return f"{_PRIVATE}{self.name}+{self.verifier.id.hex()}+{encode64(bytes((self.kind,)) + self.seed)}"

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature (RFC 8032) of the message as it stands; what a note needs is built by its module."""
        return crypto_sign(message, self.seed + self.public)[:SIGNATURE_BYTES]


def new_signing_key(name: str, kind: int, seed: bytes) -> SigningKey:
    """The key of a 32-byte seed (fresh random bytes, from the caller). Raises Malformed for a bad name, kind or length."""
    _check_name(name)
    if kind not in (ED25519, COSIGNATURE):
        raise Malformed(f"key {name}: type {kind:#04x} can't sign here")
    if len(seed) != SEED_BYTES:
        raise Malformed(f"key {name}: a seed has {SEED_BYTES} bytes, this one {len(seed)}")
    public, _ = crypto_sign_seed_keypair(seed)
    return SigningKey(name, kind, seed, public)


def parse_vkey(text: str) -> VerifierKey:
    """Read a vkey of type 0x01, 0x04 or 0x06. Raises Malformed, also when the id is not that of an Ed25519 key.

    The id that an ML-DSA vkey claims is not compared: published vectors of transparency-dev/formats hold one with another
    id than tlog-cosignature gives it, and nothing follows from it, since no signature of such a key is believed here.
    """
    name, key_id, kind, public = _parts(text, "vkey")
    if len(public) != PUBLIC_BYTES.get(kind):
        raise Malformed(f"vkey {name}: type {kind:#04x} with {len(public)} bytes is not a key that is known here")
    key = VerifierKey(name, kind, public)
    if key.id != key_id and kind != MLDSA:
        raise Malformed(f"vkey {name}: the id {key_id.hex()} is not that of this key, {key.id.hex()}")
    return key


def parse_signing_key(text: str) -> SigningKey:
    """Read a private key in Go's form. Raises Malformed (which never quotes the key)."""
    if not text.startswith(_PRIVATE):
        raise Malformed("private key: it does not start with PRIVATE+KEY+")
    name, key_id, kind, seed = _parts(text.removeprefix(_PRIVATE), "private key")
    key = new_signing_key(name, kind, seed)
    if key.verifier.id != key_id:
        raise Malformed(f"private key {name}: the id {key_id.hex()} is not that of this key")
    return key


def verify(key: VerifierKey, message: bytes, signature: bytes) -> bool:
    """Whether it is this Ed25519 key's 64-byte signature of exactly these bytes. False for any other length, and for ML-DSA."""
    if key.kind == MLDSA or len(signature) != SIGNATURE_BYTES or len(key.public) != PUBLIC_BYTES[ED25519]:
        return False
    try:
        crypto_sign_open(signature + message, key.public)
    except BadSignatureError:
        return False
    return True


def is_key_name(name: str) -> bool:
    """Whether a note may name a key so: not empty, valid UTF-8, no Unicode space, no control character, no plus."""
    return bool(name) and not any(char == "+" or char < " " or char.isspace() or "\ud800" <= char <= "\udfff" for char in name)


def _check_name(name: str) -> None:
    if not is_key_name(name):
        raise Malformed("a key name is empty, or has a space, a plus or a control character")


def _parts(text: str, what: str) -> tuple[str, bytes, int, bytes]:
    """Name, id, type and key bytes of `<name>+<8 hex digits>+<base64(type ‖ bytes)>`."""
    if len(text) > TEXT_MAX:
        raise Malformed(f"{what}: it is longer than {TEXT_MAX} characters")
    parts = text.split("+", 2)
    if len(parts) != 3:
        raise Malformed(f"{what}: it has no name, id and key, separated by plus signs")
    name, key_id, encoded = parts
    _check_name(name)
    if len(key_id) != 2 * ID_BYTES or not set(key_id) <= set("0123456789abcdef"):
        raise Malformed(f"{what} {name}: the id is not {2 * ID_BYTES} lower-case hex digits")
    try:
        data = decode64(encoded)
    except Malformed:
        raise Malformed(f"{what} {name}: the key is not base64") from None
    if not data:
        raise Malformed(f"{what} {name}: there is no key")
    return name, bytes.fromhex(key_id), data[0], data[1:]
