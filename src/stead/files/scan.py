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
from stead.files.allow_list import READ_ONLY, AllowList, names, nature, objection
from stead.files.at_work import AtWork
from stead.files.mounts import mount_of, mount_points
from stead.files.openers import opener
from stead.files.packing import SUFFIX
from stead.files.paths import NAME_MAX, shown
from stead.files.quarantine import DEFAULT_S, Quarantine
from stead.files.way import Way, open_in, open_way, stat_in
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
    refused: dict[str, str] = {}  # folder → why it can't be looked into


def scan(host: Host, allow: AllowList, quarantine: Quarantine, at_work: AtWork, now_ms: int) -> Found:
    """Look at everything that the rules name."""
    root, points = str(host.root).rstrip("/"), mount_points(host)
    files: dict[tuple[str, str], list[Candidate]] = defaultdict(list)
    cleanable: list[Cleanable] = []
    held: dict[bytes, list[Held]] = {}
    refused: dict[str, str] = {}
    mounts: dict[str, None] = {}
    for rule in allow.rules:
        by_mount: dict[str, list[Candidate]] = defaultdict(list)
        for folder in rule.folders:
            mount = mount_of(folder, points)
            try:
                with open_way(root, os.fsencode(folder.rstrip("/")) + b"/.", allow.owners(rule)) as way:
                    mounts[mount] = None
                    if way.read_only:
                        refused[folder] = READ_ONLY
                        continue
                    by_mount[mount] += _look(way, os.fsencode(folder.rstrip("/")), rule, allow, now_ms / 1000)
                    for place in quarantine.places(way):
                        if place not in held:
                            held[place] = list(_held(quarantine, place, allow, mount))
            except FileNotFoundError:
                continue
            except (OSError, SteadError) as error:
                refused[folder] = str(error)
        for mount, found in by_mount.items():
            files[rule.do, mount] += found
            title = rule.title or rule.category
            cleanable.append(Cleanable(rule.category, title, rule.do, mount, len(found), sum(one.bytes for one in found)))
    kept = tuple(one for each in held.values() for one in each)
    targets = {key: _chosen(root, found, key[0], allow, at_work) for key, found in files.items()}
    return Found(tuple(cleanable), kept, targets | _due(kept, now_ms), tuple(mounts), refused)


def _look(way: Way, path: bytes, rule: CleaningRule, allow: AllowList, now_s: float) -> Iterator[Candidate]:
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
                            if depth < rule.depth:
                                todo += _below(folder, name, at, depth, way.device, allow.owners(rule))
                        elif names(rule, at + b"/" + name):
                            yield from _candidate(folder, name, at, rule, now_s)
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


def _candidate(folder: int, name: bytes, at: bytes, rule: CleaningRule, now_s: float) -> Iterator[Candidate]:
    file = stat_in(folder, name)
    path = at + b"/" + name
    if file is None or objection(rule, file, now_s) or len(shown(path).encode()) > NAME_MAX:
        return
    if rule.do == "compress" and (name.endswith(SUFFIX) or stat_in(folder, name + SUFFIX) is not None):
        return
    if file.st_blocks * 512 * 2 < file.st_size:
        return  # sparse: little would become free
    yield Candidate(path, file.st_ino, file.st_mtime_ns, file.st_size)


def _chosen(root: str, found: list[Candidate], purpose: str, allow: AllowList, at_work: AtWork) -> tuple[Target, ...]:
    """The largest that nobody has open."""
    chosen: list[Target] = []
    for one in sorted(found, key=lambda one: -one.bytes)[:LOOKED_AT_MAX]:
        rule = allow.rule_for(one.path, purpose)
        with at_work.looking(one.path) as alone:
            if rule is not None and alone and not _unfit(root, one, allow, rule):
                chosen.append(one.target(purpose))
        if len(chosen) == FILES_MAX:
            break
    return tuple(chosen)


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


def _held(quarantine: Quarantine, place: bytes, allow: AllowList, mount: str) -> Iterator[Held]:
    """What is in one quarantine, with the time from which it may be removed."""
    spans = {rule.category: rule.quarantine_s for rule in allow.rules}
    for key, origin in quarantine.items(place):
        due_ms = origin.at_ms + round(spans.get(origin.category, DEFAULT_S) * 1000)
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
