"""Files as the actuator sees them, and the list of those that may go: what actuator, probe and proposals share in one process.

The rules come from the catalogue, which is loaded after the actuators: until then nothing may be touched.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

from stead.files import packing, quarantine
from stead.files.allow_list import NO_RULE, AllowList, objection
from stead.files.at_work import PATIENCE_S, AtWork
from stead.files.gz import Stop
from stead.files.mounts import Readings, readings
from stead.files.openers import opener
from stead.files.paths import meant, shown
from stead.files.places import GRANT, Places
from stead.files.quarantine import Origin, is_it, key_of, read_origin
from stead.files.scan import Found, Scan
from stead.files.way import READ_ONLY, Way, open_in, open_way, stat_in, stranger
from stead.model.change import Target
from stead.model.cleaning import CleaningRule
from stead.model.errors import SteadError
from stead.model.observe import Now
from stead.model.protection import globbed
from stead.protocols import Host, Note

Place = Literal["here", "quarantine", "compressed"]
AGAIN_MS: Final = 900_000
IN_VAIN_S: Final = 86_400.0
PURPOSES: Final[dict[str | None, str]] = {"quarantine": "quarantine", "compressed": "compress", None: "purge"}


class Look(msgspec.Struct, frozen=True):
    """One file as it is: where its content is, is there a compressed form by stead, and why what must not be done with it."""

    place: Place
    compressed_copy: bool
    bytes: int
    objections: tuple[tuple[str, str], ...] = ()  # (purpose, why not)


class Cleaner:
    """One process's view of the files that may go. Its methods block: they belong on threads.

    `protected`: patterns of the policy, over paths and "file:<path>", that nothing may touch.
    """

    def __init__(self, host: Host, state: str, protected: tuple[str, ...] = ()) -> None:
        self.host, self.protected = host, protected
        self.allow = AllowList()
        self.places = Places(str(host.root), state)
        self.found: Found | None = None
        self._at_work = AtWork()
        self._scanning = threading.Lock()
        self._noting = threading.Lock()  # of the two tables below, which moves and looks write
        self._scanned_ms = 0
        self._looks = 0
        self._failed: dict[str, float] = {}  # target → when it was tried in vain: it would only fail again
        self._touched: dict[str, int] = {}  # target → during or before which look stead changed it

    def rule_by(self, rules: Iterable[CleaningRule]) -> None:
        """Take the catalogue's rules."""
        self.allow = AllowList(rules)

    def refresh(self, now: Now) -> Found:
        """What may go now, looked up again after a quarter of an hour, and when something was changed.

        One look at a time: while one hangs, what was found before is the answer. BlockingIOError when nothing was yet.
        """
        if not self._scanning.acquire(timeout=PATIENCE_S):
            if self.found is None:
                raise BlockingIOError("a look at the allow-list's folders hangs")
            return self.found
        try:
            if self.found is None or self._touched or now.mono_ms - self._scanned_ms >= AGAIN_MS:
                self._looks += 1
                self.found = Scan(self.host, self.allow, self.places, self._at_work, now.unix_ms).found()
                self._scanned_ms = now.mono_ms
                self._forget()
            return self.found
        finally:
            self._scanning.release()

    def _forget(self) -> None:
        """Of what was touched before this look, and tried in vain a day ago."""
        now_s = time.monotonic()
        with self._noting:
            self._touched = {key: look for key, look in self._touched.items() if look > self._looks}
            self._failed = {key: at_s for key, at_s in self._failed.items() if now_s - at_s < IN_VAIN_S}

    def candidates(self, purpose: str, subject: str) -> tuple[Target, ...]:
        """The files that may be compressed, quarantined or purged on a mount ("mount:/var"), the largest first."""
        if self.found is None:
            return ()
        found = self.found.targets.get((purpose, subject.partition(":")[2]), ())
        fresh = (one for one in found if one.key not in self._touched and not self._in_vain(one))
        return tuple(one for one in fresh if not globbed(one.name, self.protected) and not globbed(str(one), self.protected))

    def _in_vain(self, target: Target) -> bool:
        return time.monotonic() - self._failed.get(target.key, -IN_VAIN_S) < IN_VAIN_S

    def touched(self, target: Target) -> None:
        """Stead changed it: what was found before says nothing about it any more."""
        with self._noting:
            self._touched[target.key] = self._looks + 1

    def look(self, target: Target) -> Look | None:
        """One file as it is; None when that very file is nowhere. Raises SteadError, OSError.

        What must not be done with it is not asked of one that stead has just changed: it is not planned for before a new look.
        """
        path, identity = meant(target.name), target.identity
        if not {"mtime_ns", "bytes"} <= identity.keys():
            return None
        try:
            with open_way(self._root, path, None) as way:
                return self._look(way, path, identity, target.key in self._touched)
        except FileNotFoundError:
            return None

    def _look(self, way: Way, path: bytes, identity: dict[str, str], touched: bool = True) -> Look | None:
        key, size = key_of(path, identity), int(identity["bytes"])
        grabbed = left = False
        folder = self._holding(way, path, key)
        if folder is not None:
            try:
                if is_it(stat_in(folder, key), identity):
                    return Look("quarantine", False, size, self._not_due(folder, key))
                grabbed = is_it(stat_in(folder, key + packing.PLAIN), identity)
                left = stat_in(folder, key + packing.OLD) is not None
            finally:
                os.close(folder)
        packed = packing.packed_in(way, identity)
        file = way.stat()
        if is_it(file, identity) and file is not None:
            return Look("here", packed or left, size, () if touched else self._objections(way, path, file))
        if grabbed:
            return Look("here", True, size)  # a compression was interrupted: `here` is put back from quarantine
        return Look("compressed", True, size) if packed else None

    def _objections(self, way: Way, path: bytes, file: os.stat_result) -> tuple[tuple[str, str], ...]:
        found = {purpose: self._forbids(purpose, way, path, file) for purpose in ("quarantine", "compress")}
        if not all(found.values()):
            with self._at_work.looking(path) as alone:
                who = _opener(way) if alone else "stead itself"
            found = {purpose: why or (f"it is open: {who} has it" if who else "") for purpose, why in found.items()}
        return tuple((purpose, why) for purpose, why in found.items() if why)

    def _forbids(self, purpose: str, way: Way, path: bytes, file: os.stat_result) -> str:
        """Why the allow-list, or where the file is, forbids it; empty when nothing does. Who has it open is not asked."""
        if way.read_only:
            return READ_ONLY
        rule = self.allow.rule_for(path, purpose)
        if rule is None:
            return NO_RULE
        foreign = stranger(way.owners, self.allow.owners(rule))
        if foreign is not None:
            return str(foreign)
        told = readings(self.host, way.mount) if rule.unread else Readings()
        return objection(rule, file, time.time(), told) or self.places.obstacle(way, self.allow.anchor_on(path))

    def _not_due(self, folder: int, key: bytes) -> tuple[tuple[str, str], ...]:
        origin = read_origin(folder, key)
        if origin is None:
            return (("purge", "what lies beside it is torn, so since when it is in quarantine is not known"),)
        left_s = origin.at_ms / 1000 + self.allow.quarantine_s(origin.category) - time.time()
        return (("purge", f"it stays in quarantine for another {left_s / 3600:.1f} h"),) if left_s > 0 else ()

    def move(self, target: Target, want: Place | None, note: Note, stop: Stop, *, back: bool = False) -> None:
        """Bring a file where it is wanted; None: out of quarantine, for good. Raises SteadError, OSError, InterruptedError.

        The allow-list is asked again, right before anything moves: it may be another one than when this was planned. It is not
        asked for what puts a file back (`back`, or wanted here), which whoever owns the folders, and a rule that is gone, do
        not forbid: the file comes back under its own owner, over nothing, and through no link.
        """
        path, identity = meant(target.name), dict(target.identity)
        self.touched(target)
        with self._noting:
            self._failed[target.key] = time.monotonic()
        with self._at_work.changing(path), open_way(self._root, path, None) as way:
            now = self._look(way, path, identity)
            if now is None:
                raise FileNotFoundError(f"{target} is not there")
            if (now.place, now.compressed_copy) != (want, want == "compressed"):
                self._change(way, path, identity, now, want, back, note, stop)
        with self._noting:
            self._failed.pop(target.key, None)
        self.touched(target)

    def _change(
        self, way: Way, path: bytes, identity: dict[str, str], now: Look, want: Any, back: bool, note: Note, stop: Stop
    ) -> None:
        key, purpose = key_of(path, identity), PURPOSES.get(want, "")
        folder = self._holding(way, path, key)
        try:
            why = self._forbidden(purpose, way, path, key, now, folder) if purpose and not back else ""
            if why:
                raise SteadError(why, shown(path), "see `stead files`, and the allow-list", code="files.refused")
            if way.read_only and want is not None:
                raise SteadError(READ_ONLY, shown(path), GRANT, code="files.read-only")
            if folder is None:
                folder = self.places.made(way, self.allow.anchor_on(path), note)
            self._move(way, folder, path, identity, now, want, note, stop)
        finally:
            if folder is not None:
                os.close(folder)

    def _forbidden(self, purpose: str, way: Way, path: bytes, key: bytes, now: Look, folder: int | None) -> str:
        if purpose == "purge":
            held = folder is not None and now.place == "quarantine"
            return dict(self._not_due(folder, key)).get(purpose, "") if held and folder is not None else ""
        file = way.stat()
        return self._forbids(purpose, way, path, file) if now.place == "here" and file is not None else ""

    def _move(
        self, way: Way, folder: int, path: bytes, identity: dict[str, str], now: Look, want: Any, note: Note, stop: Stop
    ) -> None:
        key = key_of(path, identity)
        if want in (None, "quarantine") and "inode" not in identity:
            raise SteadError("this target has no inode, so it could be another file", shown(path), code="files.identity")
        if want is None and now.place == "quarantine":
            quarantine.purge(folder, key, identity, note)
        elif want == "here" and now.place == "quarantine":
            quarantine.give_back(way, folder, key, note)
        elif want == "here":
            packing.unpack(way, folder, key, identity, note, stop)
        elif want == "quarantine" and now.place == "here" and not now.compressed_copy:
            rule = self.allow.rule_for(path, "quarantine")
            category = rule.category if rule else ""
            origin = Origin(shown(path), identity, category, now.bytes, round(time.time() * 1000))
            quarantine.put(way, folder, key, origin, note)
        elif want == "compressed" and now.place == "here":
            packing.pack(way, folder, key, identity, note, stop)
        else:
            what = f"a file that is {now.place} can't go {'away for good' if want is None else f'to {want}'}"
            raise SteadError(what, shown(path), "put it back first", code="files.order")

    def _holding(self, way: Way, path: bytes, key: bytes) -> int | None:
        names = (key, key + packing.PLAIN, key + packing.OLD)
        return self.places.holding(way, self.allow.anchor_on(path), *names)

    @property
    def _root(self) -> str:
        return str(self.host.root).rstrip("/")


def _opener(way: Way) -> str:
    try:
        descriptor = open_in(way.folder, way.name)
    except OSError as error:
        return f"somebody, for {error.strerror}"
    try:
        return opener(descriptor, fresh=False)
    finally:
        os.close(descriptor)
