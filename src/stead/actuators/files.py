"""`files`: where one file is: at its path, in quarantine, or there in compressed form only; and the end of a quarantined one.

A file is moved and compressed only where the catalogue's allow-list names it, and both can be put back exactly. What is in
quarantine may be removed for good once its time is over: that has no undo, and is a step of its own. Symbolic and hard links,
open files, files that changed since they were seen, and those in folders of other users are refused by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import Callable
from typing import Final, Literal, TypeVar

import msgspec

from stead.files.cleaner import Cleaner, Place
from stead.model.change import ABSENT, Absent, Record, Step, Target
from stead.model.errors import SteadError
from stead.protocols import Actuator, Host

T = TypeVar("T")
_STOPS_S: Final = 20.0
_BYTES_PER_S: Final = 4_000_000.0  # of compression at the lowest priority, at least
_PURPOSES: Final = {"quarantine": "quarantine", "compressed": "compress"}


class Files(msgspec.Struct, frozen=True):
    """Where a file's content is, and whether stead's compressed form of it stands beside its path; None leaves it open.

    `objections` is only seen: what must not be done with it, and why ("quarantine: it is a symbolic link").
    """

    place: Literal["here", "quarantine", "compressed"] | None = None
    compressed_copy: bool | None = None
    objections: tuple[str, ...] = ()


class FilesActuator:
    """Reads and sets where files are. All blocking work is done on threads of its own, at the lowest priority."""

    name = "files"
    state = Files

    def __init__(self, cleaner: Cleaner) -> None:
        self._cleaner = cleaner

    async def read(self, host: Host, target: Target) -> Files | Absent:
        """Where it is; ABSENT when that very file is neither at its path nor in quarantine."""
        if target.kind != "file" or host.system != "linux":
            return ABSENT
        found = await _aside(lambda: self._cleaner.look(target))
        if found is None:
            return ABSENT
        return Files(found.place, found.compressed_copy, tuple(f"{purpose}: {why}" for purpose, why in found.objections))

    def plan(self, target: Target, now: Files | Absent, want: Files | Absent) -> Step:
        """One move. SteadError when the allow-list, or what the file is, forbids it."""
        if isinstance(now, Absent):
            raise SteadError("that very file is not there any more", str(target), code="files.gone")
        if isinstance(want, Absent):
            return self._end(target, now)
        place = want.place or now.place
        copy = place == "compressed"
        if want.compressed_copy not in (None, copy) and want != now:
            raise SteadError(
                f"a file that is {place} has {'a' if copy else 'no'} compressed form", str(target), code="files.order"
            )
        purpose = _PURPOSES.get(str(place))
        if purpose and place != now.place:
            if now.place != "here":
                raise SteadError(f"it is {now.place}, and must be here first", str(target), "undo that run", code="files.order")
            _refuse(now, purpose, target, "see the allow-list: `cleaning` in the catalogue")
        changed: Record = {"place": place} if place != now.place else {}
        if changed or want.compressed_copy is not None:
            changed |= {"compressed_copy": copy} if copy != now.compressed_copy else {}
        before: Record = {key: getattr(now, key) for key in changed}
        note = "put back, it has another inode number" if place == "compressed" else ""
        return Step(self.name, target, before, changed, "exact", duration_s=_duration_s(target), note=note)

    def _end(self, target: Target, now: Files) -> Step:
        if now.place != "quarantine":
            what = "only what is in quarantine is removed for good"
            raise SteadError(what, str(target), "quarantine it first", code="files.order")
        _refuse(now, "purge", target, "wait, or undo its run")
        reason = "a file that is removed can't be brought back"
        return Step(self.name, target, {"place": now.place}, None, "none", reason, duration_s=30.0)

    def met(self, now: Files | Absent, want: Files | Absent) -> bool:
        """Is it where it is wanted?"""
        if isinstance(now, Absent) or isinstance(want, Absent):
            return isinstance(now, Absent) and isinstance(want, Absent)
        return want.place in (None, now.place) and want.compressed_copy in (None, now.compressed_copy)

    async def write(self, host: Host, target: Target, want: Files | Absent) -> None:
        """Move it, if the allow-list still says so. FileNotFoundError: that very file is gone. SteadError, OSError: why not."""
        await self._move(host, target, want, back=False)

    async def put_back(self, host: Host, target: Target, want: Files | Absent) -> None:
        """The same for an undo, which no rule of the allow-list has to allow."""
        await self._move(host, target, want, back=True)

    async def _move(self, host: Host, target: Target, want: Files | Absent, *, back: bool) -> None:
        if target.kind != "file" or host.system != "linux":
            raise SteadError("files are moved on Linux only", str(target), code="files.unsupported")
        place: Place | None = None if isinstance(want, Absent) else want.place
        if place is None and not isinstance(want, Absent):
            place = "compressed" if want.compressed_copy else "here"
        stop = threading.Event()
        await _aside(lambda: self._cleaner.move(target, place, host.note, stop.is_set, back=back), stop)


def _refuse(now: Files, purpose: str, target: Target, fix: str) -> None:
    why = next((one.partition(": ")[2] for one in now.objections if one.startswith(f"{purpose}: ")), "")
    if why:
        raise SteadError(why, str(target), fix, code="files.refused")


def _duration_s(target: Target) -> float:
    size = target.identity.get("bytes", "0")
    return 30.0 + (int(size) if size.isdigit() else 0) / _BYTES_PER_S


async def _aside(work: Callable[[], T], stop: threading.Event | None = None) -> T:
    """Run it on a daemon thread: a file system may hang for ever.

    With `stop` it runs at the lowest priority; when waiting for it ends, it is stopped, and given some time to end cleanly.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            if stop is not None:
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
            result = work()
        except BaseException as error:
            _tell(loop, done, functools.partial(done.set_exception, error))
        else:
            _tell(loop, done, functools.partial(done.set_result, result))

    threading.Thread(target=run, name="files", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if stop is not None:
            stop.set()
            await asyncio.wait((done,), timeout=_STOPS_S)
        if done.done():
            done.exception()  # seen: it is the caller's that counts
        raise


def _tell(loop: asyncio.AbstractEventLoop, done: asyncio.Future[T], outcome: Callable[[], object]) -> None:
    """Tell the loop how it ended, unless nobody waits any more, or the loop is closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(lambda: None if done.done() else outcome())


def actuator(cleaner: Cleaner) -> Actuator[Files]:
    """The plugin's factory."""
    return FilesActuator(cleaner)
