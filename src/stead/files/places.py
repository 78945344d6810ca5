"""Where quarantines are: `.stead-quarantine` in a folder that the file's own rule says, on the file's own mount and device.

The place follows from the rule, not from how file systems happen to be mounted for this process: so the same file has the same
quarantine under a hardened unit, outside it, and after a reboot, and who can write the rule's folder can write its quarantine.
Only where a mount or a subvolume begins below that folder, it is at the top of that: a rename can't leave it. Whether it can be
written is asked before anything is moved. Each place is remembered by a link in the state directory, also without its rule.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from typing import Final

from stead.files.paths import shown
from stead.files.way import Way, mount_of, open_way, stat_in
from stead.model.errors import SteadError
from stead.protocols import Note

NAME: Final = b".stead-quarantine"
UNSAFE: Final = "files.unsafe"
GRANT: Final = "give the unit ReadWritePaths that hold both, and restart it (docs/how-to/disk.md)"


class Places:
    """The quarantines of one host. `root` is what all paths are taken under; `state` is stead's state directory.

    A place is a path under the root. `anchor`: the folder that a file's rule names for it; None when no rule speaks of the file.
    """

    def __init__(self, root: str, state: str) -> None:
        self._root = root.rstrip("/")
        self._state = os.fsencode(state.rstrip("/"))
        self._links = os.fsencode(self._root) + self._state + b"/quarantines"

    def place(self, way: Way, anchor: bytes | None) -> bytes:
        """Where a file of this way is put."""
        inside = anchor is not None and (way.at + b"/").startswith(anchor.rstrip(b"/") + b"/")
        above = anchor.rstrip(b"/") if anchor is not None and inside else way.at
        return max(above, way.top.rstrip(b"/"), key=len) + b"/" + NAME

    def around(self, way: Way, anchor: bytes | None) -> list[bytes]:
        """Where a file of this way may be by now: where it is put, in the state directory (once), in any folder on its way."""
        parts = way.at.split(b"/")
        above = [b"/".join((*parts[:end], NAME)) for end in range(len(parts), 0, -1)]
        return list(dict.fromkeys((self.place(way, anchor), self._state + b"/quarantine", *above)))

    def known(self) -> list[bytes]:
        """Every place that was ever made, and is not forgotten."""
        try:
            names = sorted(os.listdir(self._links))  # noqa: PTH208 (bytes)
            return [os.readlink(self._links + b"/" + name) for name in names]  # noqa: PTH115 (bytes)
        except OSError:
            return []

    def open(self, place: bytes) -> int:
        """Open one. FileNotFoundError: there is none; SteadError: others may change it, or a link leads there; OSError."""
        with self._beside(place) as way:
            return opened(way.folder, way.name, place)

    def holding(self, way: Way, anchor: bytes | None, *names: bytes) -> int | None:
        """Open the one that has one of these names, of those in which a file of this way may be."""
        for place in self.around(way, anchor):
            try:
                folder = self.open(place)
            except FileNotFoundError:
                continue
            except SteadError as error:
                if error.problem.code == UNSAFE:
                    raise
                continue  # a link, or another user's folder: it holds nothing of stead's
            if any(stat_in(folder, name) is not None for name in names):
                return folder
            os.close(folder)
        return None

    def made(self, way: Way, anchor: bytes | None, note: Note) -> int:
        """Open the one of a way; it is made where there is none. Raises SteadError, with what is in its way, or OSError."""
        nearest = self._nearest(way) if anchor is None else None
        if nearest is not None:
            return nearest
        blocked = self.obstacle(way, anchor)
        if blocked:
            raise SteadError(blocked, shown(way.at + b"/" + way.name), GRANT, code="files.quarantine")
        place = self.place(way, anchor)
        self._remember(place)
        with self._beside(place) as at:
            if at.stat() is None:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(at.name, 0o700, dir_fd=at.folder)
                    os.fsync(at.folder)
                    note(f"mkdir {shown(place)}")
            return opened(at.folder, at.name, place)

    def _nearest(self, way: Way) -> int | None:
        """Open the nearest that is there and can be used, for a file that no rule speaks of any more."""
        for place in self.around(way, None):
            try:
                folder = self.open(place)
            except (OSError, SteadError):
                continue
            if mount_of(folder) == way.mount and os.fstat(folder).st_dev == way.device and writable(folder):
                return folder
            os.close(folder)
        return None

    def obstacle(self, way: Way, anchor: bytes | None) -> str:
        """Why nothing of this way can be moved into its quarantine, and back, now; empty when it can. Changes nothing."""
        place = self.place(way, anchor)
        try:
            with self._beside(place) as at:
                if (at.mount, at.device) != (way.mount, way.device):
                    return f"its quarantine {shown(place)} is on another mount, and a move would be a copy"
                if at.stat() is None:
                    return (
                        "" if writable(at.folder) else f"its quarantine can't be made: {shown(at.at)} can't be written by stead"
                    )
                folder = opened(at.folder, at.name, place)
                try:
                    if mount_of(folder) != way.mount:
                        return f"its quarantine {shown(place)} is a mount of its own, and a move would be a copy"
                    return "" if writable(folder) else f"its quarantine {shown(place)} can't be written by stead"
                finally:
                    os.close(folder)
        except (OSError, SteadError) as error:
            return f"its quarantine {shown(place)} can't be used: {error}"

    def _remember(self, place: bytes) -> None:
        os.makedirs(self._links, 0o700, exist_ok=True)  # noqa: PTH103 (bytes)
        with contextlib.suppress(FileExistsError):
            os.symlink(place, self._links + b"/" + hashlib.sha256(place).hexdigest()[:16].encode())  # noqa: PTH211 (bytes)

    @contextlib.contextmanager
    def _beside(self, place: bytes) -> Iterator[Way]:
        """The folder that a place is in. The state directory is stead's own, and may be reached by a link."""
        if place != self._state + b"/quarantine":
            with open_way(self._root, place, None) as way:
                yield way
            return
        folder = os.open(os.fsencode(self._root) + self._state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield Way(folder, self._state, b"quarantine", self._state, mount_of(folder), os.fstat(folder).st_dev)
        finally:
            os.close(folder)


def opened(parent: int, name: bytes, place: bytes) -> int:
    """Open a quarantine in an open folder. FileNotFoundError: there is none; SteadError: others may change it; OSError."""
    try:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        what = "something else has the quarantine's name"
        raise SteadError(what, shown(place), "move it away", code="files.foreign") from error
    found = os.fstat(folder)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        os.close(folder)
        code = UNSAFE if found.st_uid == os.geteuid() else "files.foreign"
        fix = "remove it, or give it to stead's user with mode 0700"
        raise SteadError("the quarantine is not stead's alone", shown(place), fix, code=code)
    return folder


def writable(folder: int) -> bool:
    """May this process make and remove names in an open folder: its mount, its mode and its attributes allow it?"""
    return os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True)
