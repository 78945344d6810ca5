"""What the allow-list would let go now: a bounded look into its folders, and into the quarantine.

It may take a while and may meet anything, so it runs on a probe's thread. What it finds is a proposal and no more: the actuator
looks at every file again, right before it touches it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from stead.files import gz
from stead.files.allow_list import AllowList, names, nature, objection
from stead.files.at_work import AtWork
from stead.files.mounts import Readings, mount_of, mount_points, readings
from stead.files.openers import opener
from stead.files.packing import SUFFIX
from stead.files.paths import NAME_MAX, shown
from stead.files.places import GRANT, NAME, UNSAFE, Places, writable
from stead.files.quarantine import items
from stead.files.way import READ_ONLY, Way, open_in, open_way, stat_in
from stead.model.change import Target
from stead.model.cleaning import Cleanable, CleaningRule, Quarantined
from stead.model.errors import SteadError
from stead.protocols import Host

FILES_MAX: Final = 32  # of one run: each has its own attempt and receipt
LOOKED_AT_MAX: Final = 128  # of the largest, for one that nobody has open
ENTRIES_MAX: Final = 20_000  # of one folder with what is below it


class Candidate(NamedTuple):
    """One file that may go."""

    path: bytes
    inode: int
    mtime_ns: int
    bytes: int

    def target(self, purpose: str) -> Target:
        """The file as a target. A compressed one gets another inode when it is put back, so there that is no part of it."""
        identity = {"mtime_ns": str(self.mtime_ns), "bytes": str(self.bytes)}
        return Target("file", shown(self.path), identity if purpose == "compress" else {"inode": str(self.inode), **identity})


class Held(NamedTuple):
    """One file in quarantine: on which mount, and the target that it is."""

    mount: str
    item: Quarantined
    target: Target


class Found(msgspec.Struct, frozen=True):
    """One look. `targets`: purpose and mount → files, the largest first; sizes are bytes by mount."""

    cleanable: tuple[Cleanable, ...] = ()
    held: tuple[Held, ...] = ()
    targets: dict[tuple[str, str], tuple[Target, ...]] = {}
    mounts: tuple[str, ...] = ()
    refused: dict[str, str] = {}  # folder → why nothing of it can be cleaned, or put back


class Scan:
    """One look at everything that the rules name. `found` may be asked for once; it blocks."""

    def __init__(self, host: Host, allow: AllowList, places: Places, at_work: AtWork, now_ms: int) -> None:
        self._host, self._allow, self._places, self._at_work, self._now_ms = host, allow, places, at_work, now_ms
        self._root = str(host.root).rstrip("/")
        self._points = mount_points(host)
        self._files: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
        self._cleanable: list[Cleanable] = []
        self._held: dict[bytes, list[Held]] = {}
        self._mounts: dict[str, None] = {}
        self._refused: dict[str, str] = {}

    def found(self) -> Found:
        """The whole of it."""
        for rule in self._allow.rules:
            self._look_by(rule)
        for place in self._places.known():
            self._look_at(place)
        kept = tuple(one for each in self._held.values() for one in each)
        targets = {key: self._chosen(found, key[0]) for key, found in self._files.items()}
        mounts = (*self._mounts, *(one.mount for one in kept))
        return Found(
            tuple(self._cleanable), kept, targets | _due(kept, self._now_ms), tuple(dict.fromkeys(mounts)), self._refused
        )

    def _look_by(self, rule: CleaningRule) -> None:
        """What one rule names, by mount."""
        by_mount: dict[str, list[Candidate]] = {}
        for folder in rule.folders:
            mount, path = mount_of(folder, self._points), os.fsencode(folder.rstrip("/"))
            try:
                with open_way(self._root, path + b"/.", self._allow.owners(rule)) as way:
                    self._mounts[mount] = None
                    anchor = os.fsencode(rule.quarantine_in) or path
                    for place in self._places.around(way, anchor):
                        self._look_at(place)
                    told = readings(self._host, way.mount) if rule.unread else Readings()
                    blocked = self._blocked(way, rule, anchor, told)
                    if blocked:
                        self._refuse(folder, blocked)
                        continue
                    by_mount.setdefault(mount, []).extend(_look(way, path, rule, self._allow, self._now_ms / 1000, told))
            except FileNotFoundError:
                continue
            except (OSError, SteadError) as error:
                self._refuse(folder, str(error))
        for mount, each in by_mount.items():
            found = list(dict.fromkeys(each))  # one folder of a rule may be in another
            self._files[rule.do, mount] += found
            title, size = rule.title or rule.category, sum(one.bytes for one in found)
            self._cleanable.append(Cleanable(rule.category, title, rule.do, mount, len(found), size))

    def _blocked(self, way: Way, rule: CleaningRule, anchor: bytes, told: Readings) -> str:
        """Why a rule names no file of a folder: nothing could be moved there, or it is not known what was read."""
        if way.read_only:
            return READ_ONLY
        unknown = f"the rule {rule.category} names no file: {told.unknown}" if told.unknown else ""
        return unknown or self._places.obstacle(way, anchor)

    def _refuse(self, folder: str, why: str) -> None:
        said = self._refused.get(folder, why)
        self._refused[folder] = why if why in said else f"{said}; {why}"

    def _look_at(self, place: bytes) -> None:
        """What is in one quarantine, and whether it could be put back."""
        if place in self._held:
            return
        self._held[place] = []
        try:
            folder = self._places.open(place)
        except OSError:
            return
        except SteadError as error:
            if error.problem.code == UNSAFE:
                self._refuse(shown(place), str(error))
            return
        try:
            self._held[place] = list(_held(folder, place, self._allow, mount_of(shown(place), self._points)))
            if self._held[place] and not writable(folder):
                self._refuse(shown(place), f"it can't be written by stead, so nothing can be put back from it: {GRANT}")
        finally:
            os.close(folder)

    def _chosen(self, found: list[Candidate], purpose: str) -> tuple[Target, ...]:
        """The largest that nobody has open."""
        chosen: list[Target] = []
        for one in sorted(found, key=lambda one: -one.bytes)[:LOOKED_AT_MAX]:
            rule = self._allow.rule_for(one.path, purpose)
            with self._at_work.looking(one.path) as alone:
                if rule is not None and alone and not _unfit(self._root, one, self._allow, rule):
                    chosen.append(one.target(purpose))
            if len(chosen) == FILES_MAX:
                break
        return tuple(chosen)


def _look(way: Way, path: bytes, rule: CleaningRule, allow: AllowList, now_s: float, told: Readings) -> Iterator[Candidate]:
    """The files of one folder, and of those below it, that the rule names and nothing forbids."""
    left = ENTRIES_MAX
    todo = [(os.dup(way.folder), path, 1)]
    try:
        while todo and left > 0:
            folder, at, depth = todo.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        left -= 1
                        name = os.fsencode(entry.name)
                        if entry.is_dir(follow_symlinks=False):
                            if depth < rule.depth and name != NAME:
                                todo += _below(folder, name, at, depth, way.device, allow.owners(rule))
                        elif names(rule, at + b"/" + name) and allow.rule_for(at + b"/" + name, rule.do) is rule:
                            yield from _candidate(folder, name, at, rule, now_s, told)
                        if left <= 0:
                            break
            finally:
                os.close(folder)
    finally:
        for folder, _, _ in todo:
            os.close(folder)


def _below(folder: int, name: bytes, at: bytes, depth: int, device: int, owners: Collection[int]) -> list[tuple[int, bytes, int]]:
    """A folder below, if it is on the same device and one of the owners' own."""
    try:
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return []
    found = os.fstat(below)
    if found.st_dev != device or found.st_uid not in owners:
        os.close(below)
        return []
    return [(below, at + b"/" + name, depth + 1)]


def _candidate(folder: int, name: bytes, at: bytes, rule: CleaningRule, now_s: float, told: Readings) -> Iterator[Candidate]:
    file = stat_in(folder, name)
    path = at + b"/" + name
    if file is None or objection(rule, file, now_s, told) or len(shown(path).encode()) > NAME_MAX:
        return
    if rule.do == "compress" and (name.endswith(SUFFIX) or stat_in(folder, name + SUFFIX) is not None):
        return
    if file.st_blocks * 512 * 2 < file.st_size:
        return  # sparse: little would become free
    yield Candidate(path, file.st_ino, file.st_mtime_ns, file.st_size)


def _unfit(root: str, one: Candidate, allow: AllowList, rule: CleaningRule) -> bool:
    """Would it be refused: is it open, or would it hardly get smaller?"""
    try:
        with open_way(root, one.path, allow.owners(rule)) as way:
            descriptor = open_in(way.folder, way.name)
            try:
                wrong = nature(os.fstat(descriptor)) or opener(descriptor, fresh=False)
                return bool(wrong) or (rule.do == "compress" and not gz.promising(descriptor))
            finally:
                os.close(descriptor)
    except (OSError, SteadError):
        return True


def _held(folder: int, place: bytes, allow: AllowList, mount: str) -> Iterator[Held]:
    """What is in one quarantine, with the time from which it may be removed."""
    for key, origin in items(folder):
        due_ms = origin.at_ms + round(allow.quarantine_s(origin.category) * 1000)
        kept = Quarantined(origin.path, origin.category, origin.bytes, origin.at_ms, due_ms, f"{shown(place)}/{key.decode()}")
        yield Held(mount, kept, Target("file", origin.path, origin.identity))


def _due(kept: Iterable[Held], now_ms: int) -> dict[tuple[str, str], tuple[Target, ...]]:
    """What has been in quarantine for long enough, by mount, the largest first."""
    due: dict[tuple[str, str], list[Held]] = defaultdict(list)
    for one in kept:
        if one.item.due_ms <= now_ms:
            due["purge", one.mount].append(one)
    return {
        key: tuple(one.target for one in sorted(found, key=lambda one: -one.item.bytes)[:FILES_MAX]) for key, found in due.items()
    }
