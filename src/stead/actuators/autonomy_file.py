"""How much stead may do by itself here, as two files: `autonomy.json` in the state directory, and the pause file.

The pause file is a file so that anyone can stop stead with `touch`, with or without an agent. `autonomy.json` is replaced
atomically and synced, with its directory. A file that can't be understood fails safe: mode observe and locked, with the
problem told, until a person sets the mode anew.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from stead.model.errors import SteadError
from stead.model.policy import Autonomy, Mode
from stead.protocols import Note

_SAFE: Final = Autonomy(mode="observe", ceilings={"host": 0}, locked=True)
_ADVISE: Final = Autonomy()
_PAUSE_REASON_MAX: Final = 400


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's content; pause is not in it."""

    mode: Mode
    ceilings: dict[str, int] = {}
    locked: bool = False


class AutonomyFile:
    """Reads and writes stead's own autonomy. `first` is what a new state begins with; `problem` says what is wrong, if so."""

    def __init__(self, state_dir: Path, pause: Path, first: Autonomy = _ADVISE) -> None:
        self.path, self.pause_path, self.first = state_dir / "autonomy.json", pause, first
        self.problem = ""
        self._seen: tuple[int, int, int] | None = None
        self._stored: Autonomy = first

    def read(self) -> Autonomy:
        """Mode, ceilings, lock and pause as they are now. Never raises: what can't be read is observe and locked."""
        return msgspec.structs.replace(self._read_file(), paused=self.paused())

    def _read_file(self) -> Autonomy:
        try:
            stat = self.path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen != self._seen:
                self._stored = self._parse(self.path.read_bytes())
                self._seen = seen
        except FileNotFoundError:
            self.problem, self._seen, self._stored = "", None, self.first
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            fix = "stead only observes until a person sets the mode: `stead mode advise`"
            self.problem, self._seen, self._stored = f"{self.path} can't be understood ({error}): {fix}", None, _SAFE
        return self._stored

    def _parse(self, data: bytes) -> Autonomy:
        stored = msgspec.json.decode(data, type=_Stored)
        self.problem = ""
        return Autonomy(stored.mode, dict(stored.ceilings), stored.locked)

    def write(self, autonomy: Autonomy, note: Note | None = None) -> None:
        """Make it so, durably. SteadError when it can't be written; a pause comes first, and a resume last.

        `note` is told what was done.
        """
        tell = note or (lambda operation: None)
        try:
            if autonomy.paused and not self.paused():
                self.pause("by stead")
                tell("make the pause file")
            stored = _Stored(autonomy.mode, dict(autonomy.ceilings), autonomy.locked)
            _replace(self.path, msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n")
            tell(f"replace {self.path.name}: {msgspec.json.encode(stored).decode()}")
            if not autonomy.paused and self.paused():
                self.resume()
                tell("remove the pause file")
        except OSError as error:
            raise SteadError(
                f"stead's autonomy can't be written: {error.strerror}",
                error.filename or str(self.path),
                "make the state directory writable, or free some space; `touch` the pause file to stop stead at once",
                code="autonomy.unwritable",
            ) from error

    def paused(self) -> bool:
        """Is the pause file there? Looked at before every write."""
        return os.path.lexists(self.pause_path)

    def stopped(self) -> bool:
        """May nothing be written forward now, be it paused or the mode below act? Lowering stops also what was allowed before."""
        return self.paused() or self._read_file().mode != "act"

    def pause(self, reason: str = "") -> None:
        """Stop all forward writes from now on. On a full disk an empty file says enough. OSError when it can't be made."""
        try:
            _replace(self.pause_path, (reason[:_PAUSE_REASON_MAX] + "\n").encode("utf-8", "replace"))
        except OSError:
            self.pause_path.touch(mode=0o600)

    def resume(self) -> None:
        """Take the pause file away."""
        with contextlib.suppress(FileNotFoundError):
            self.pause_path.unlink()
            _sync_directory(self.pause_path.parent)

    def pause_reason(self) -> str:
        """What the pause file says; empty when there is none or it says nothing."""
        try:
            with self.pause_path.open("rb") as file:
                return file.read(_PAUSE_REASON_MAX).decode("utf-8", "replace").strip()
        except OSError:
            return ""


def _replace(path: Path, data: bytes) -> None:
    """The whole new content or the whole old one, whatever happens meanwhile."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
