"""Where private keys lie: one file each in `keys/` (0700), readable by their owner alone, sealed to the machine where it can be.

A key's secret is written and synced first, and its public half (`<id>.vkey`) only once the ledger has it on record. So a
secret without its public half that no ledger knows is what a crash left, and goes; with it, it belongs to a log that was
here before, and stays.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from stead.ledger import durable
from stead.model.errors import SteadError
from stead.tlog.keys import ED25519, SigningKey, VerifierKey, parse_signing_key, parse_vkey
from stead.tlog.strict import Malformed

SEALED: Final = ".cred"
_PLAIN: Final = ".key"
_PUBLIC: Final = ".vkey"
_OTHERS: Final = 0o077
_START_ANEW: Final = "or move ledger.db away: then stead begins a new log, which says so"


class Sealer(Protocol):
    """Binds a secret to this machine."""

    def seal(self, name: str, secret: bytes) -> bytes | None:
        """The sealed form; None where it can't be done."""
        ...

    def unseal(self, name: str, sealed: bytes) -> bytes:
        """The secret. SteadError when this machine can't."""
        ...


class KeyFiles:
    """The private keys of one state directory. Every method raises SteadError, or OSError as the system says it."""

    def __init__(self, directory: Path, sealer: Sealer | None = None) -> None:
        self.directory = directory
        self._sealer = sealer

    def put(self, key: SigningKey) -> None:
        """Write a new key's secret, durably: sealed where that works, else in Go's form, 0600."""
        self._make_directory()
        text = f"{key.text}\n".encode()
        sealed = self._sealer.seal(_sealed_name(key.verifier), text) if self._sealer is not None else None
        self._write(key.verifier, _PLAIN if sealed is None else SEALED, text if sealed is None else sealed)

    def publish(self, key: VerifierKey) -> None:
        """Write the public half, whole or not at all: from now on the secret belongs to a log."""
        path, text = self._path(key, _PUBLIC), f"{key.text}\n".encode()
        if not path.exists() or path.read_bytes() != text:
            durable.put(path, text, 0o600)
            durable.settle([path])

    def get(self, key: VerifierKey) -> SigningKey:
        """Read a key's secret. SteadError: missing, readable by others, another key's, damaged, sealed to another machine."""
        path = self.place(key)
        text = self._secret(key, path)
        try:
            found = parse_signing_key(text.decode().strip())
        except (Malformed, UnicodeDecodeError) as error:
            raise _refused(f"this is no key: {error}", path, "ledger.key-damaged") from error
        if found.verifier != key:
            raise _refused(f"this is the key of {found.name}, and not {key.text}", path, "ledger.key-foreign")
        return found

    def place(self, key: VerifierKey) -> Path:
        """The file that holds a key's secret, or would."""
        sealed = self._path(key, SEALED)
        return sealed if sealed.exists() else self._path(key, _PLAIN)

    def drop(self, key: VerifierKey) -> None:
        """Delete a key's secret, if it is there."""
        for suffix in (_PLAIN, SEALED):
            self._path(key, suffix).unlink(missing_ok=True)
        self._sync()

    def clean(self, known: Iterable[VerifierKey]) -> None:
        """Delete what a crash left: secrets that no log ever had."""
        kept = {key.id.hex() for key in known} | {path.stem for path in self._all(_PUBLIC)}
        for path in (*self._all(_PLAIN), *self._all(SEALED)):
            if path.stem not in kept:
                path.unlink(missing_ok=True)

    def origins(self) -> set[str]:
        """The logs that had keys here. A witness's key is none of a log."""
        found = set()
        for path in self._all(_PUBLIC):
            with contextlib.suppress(Malformed, UnicodeDecodeError):
                key = parse_vkey(path.read_bytes().decode().strip())
                found |= {key.name} if key.kind == ED25519 else set()
        return found

    def _secret(self, key: VerifierKey, path: Path) -> bytes:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise _refused("the ledger's key is missing", path, "ledger.key-missing") from error
        except OSError as error:
            raise _refused(f"the ledger's key can't be read: {error.strerror}", path, "ledger.key-missing") from error
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            if os.name != "nt" and (status.st_mode & _OTHERS or status.st_uid not in (os.geteuid(), 0)):
                fix = f"make it stead's own (chmod 600 {path}), and then `stead ledger key --rotate`: somebody may have a copy"
                raise SteadError("others can read or replace the ledger's key", str(path), fix, code="ledger.key-open")
            data = file.read()
        if path.suffix != SEALED:
            return data
        if self._sealer is None:
            raise _refused("the ledger's key is sealed, and nothing here can open it", path, "ledger.key-sealed")
        return self._sealer.unseal(_sealed_name(key), data)

    def _make_directory(self) -> None:
        if not self.directory.is_dir():
            self.directory.mkdir(mode=0o700)
            durable.sync_names(self.directory.parent)
        if os.name != "nt" and self.directory.stat().st_mode & _OTHERS:
            self.directory.chmod(0o700)

    def _write(self, key: VerifierKey, suffix: str, data: bytes) -> None:
        fd = os.open(self._path(key, suffix), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        self._sync()

    def _all(self, suffix: str) -> list[Path]:
        return sorted(self.directory.glob(f"*{suffix}"))

    def _path(self, key: VerifierKey, suffix: str) -> Path:
        return self.directory / f"{key.id.hex()}{suffix}"

    def _sync(self) -> None:
        if self.directory.is_dir():
            durable.sync_names(self.directory)


def _sealed_name(key: VerifierKey) -> str:
    return f"stead-ledger-{key.id.hex()}"


def _refused(what: str, path: Path, code: str) -> SteadError:
    return SteadError(what, str(path), f"restore the whole state directory from its backup, {_START_ANEW}", code=code)
