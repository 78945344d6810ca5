"""How long memory lasts for the protected work at the rate that contenders take it, and what each of those holds.

Room is what is left until the first limit that protected work would suffer from: the host's available memory, or the limit of
a group that it shares with the contender. Whoever takes a quarter of what the greediest of them takes is told the time that is
left for all of them; the others are told an hour. Nothing is read where nothing is protected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from stead.cgroups.memory import hard_limit, read_memory
from stead.cgroups.own_groups import has_own
from stead.cgroups.tree import Groups
from stead.host.procfs import parse_meminfo
from stead.model.intent import Intent
from stead.model.observe import MetricSpec, Now, Reading, Sample
from stead.model.session import session_group
from stead.probes.held_memory import GroupFiles, HeldMemory, is_frozen, resident_bytes
from stead.probes.kernel_files import available_bytes, parse_loadavg_tasks
from stead.probes.members import Members, Thing
from stead.probes.proc_table import Table
from stead.probes.reading import FIRST, Source, SystemProbe, unknown
from stead.protocols import Host

LONG_S: Final = 3600.0  # the most that is told: at this growth, memory is nobody's worry
SHARE: Final = 0.25  # of what the one takes that takes most
QUIET: Final = "it is limited, and nothing shows that it wants more"
_ABOVE_MS: Final = 10_000  # how often it is looked up which groups the protected work is in
AHEAD_S: Final = 1.0  # what it takes until the limit is there: less than it needs then would be refused
_CACHE_TAKEN: Final = 0.8  # of its cache: the rest may be in use at this moment
_ROOM_GIVEN: Final = 0.7  # of the room that is left, the most that it may still take
_MOST: Final = 32  # contenders that are followed, the largest first
_MOST_PROTECTED: Final = 256
_FRESH_MS: Final = 900  # whom an intent means is looked up once a tick, and not again for what calls in between
_PRESSURE: Final = "/proc/pressure/memory"


class Headroom(SystemProbe):
    """The room that is left, and each contender's part in its going."""

    name = "headroom"
    interval_s = 1.0
    metrics = (
        MetricSpec("infra.memory_room", "bytes", "Memory left until protected work would suffer", "min"),
        MetricSpec("infra.memory_time_to_full", "seconds", "How long memory lasts at what this contender wants", "min"),
        MetricSpec("infra.memory_growth", "bytes_per_second", "How fast this contender takes more memory"),
        MetricSpec("infra.memory_granted", "ratio", "Of the growth that this contender wants, the share that it gets"),
        MetricSpec("infra.contender_memory", "bytes", "Memory that this contender holds", "last"),
        MetricSpec("infra.contender_memory_full", "percent", "Time in which all of this contender stood still for memory"),
        MetricSpec("infra.memory_hold_at", "bytes", "Where this group can be held: less its cache, more what it takes meanwhile"),
        MetricSpec("infra.memory_hold_most", "bytes", "Where this group can be held at most, a part of the room left to others"),
        MetricSpec("infra.memory_idle", "percent", "Of its memory, what this contender has not touched of late or is held from"),
    )

    def __init__(self, intent: Intent, table: Table | None = None, members: Members | None = None) -> None:
        self._members, self._table = members or Members(intent), table or Table()
        self._loadavg, self._meminfo = Source("/proc/loadavg"), Source("/proc/meminfo")
        self._groups: Groups | None = None
        self._held: dict[str, tuple[HeldMemory, GroupFiles | None]] = {}
        self._shared: frozenset[str] = frozenset()  # groups that protected work is in, or below
        self._shared_ms: int | None = None
        self._before: dict[str, int] = {}  # subject → its size before it was held to less
        self._alarms: tuple[str, ...] = ()
        self._swap_free = 0
        self._placed = False  # is anything in a group of stead's own?
        self._rooms: dict[str, int | None] = {}  # group → what is left in it, in this reading; None: it has no limit

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Read each contender's memory, and how much is left; nothing where nothing is protected."""
        if not self._members.intent.protect:
            return Reading()
        groups = self._groups = self._groups or Groups.of(host)
        self._bring_up_to_date(host, groups, now)
        self._look_where_protected(host, groups, now)
        sizes = parse_meminfo(self._meminfo.text(host))
        room, self._swap_free = available_bytes(sizes), sizes.get("SwapFree", 0)
        things, self._rooms = self._follow(groups), {}
        self._placed = bool(things) and has_own(host, groups, "freezer")
        for thing in things:
            self._read(host, groups, thing, now)
        samples = [Sample("infra.memory_room", "host", float(room))]
        wanted = [self._held[thing.subject][0].wanted for thing in things]
        for thing in things:
            samples += self._samples(host, groups, thing, room, wanted, now)
        return Reading(tuple(samples))

    def alarms(self) -> tuple[str, ...]:
        """What calls for a reading before its time: pressure, and events of the groups of version 2 that memory may fill."""
        return self._alarms

    def _bring_up_to_date(self, host: Host, groups: Groups, now: Now) -> None:
        """Whom the intent means now. The probe of contention has looked already, but for what calls in between two ticks."""
        members = self._members
        if members.at_ms is None or now.mono_ms - members.at_ms >= _FRESH_MS:
            last_pid = parse_loadavg_tasks(self._loadavg.text(host))[1]
            self._table.update(host, now, last_pid)
            members.update(host, groups, self._table, now)

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Say that only Linux tells it."""
        if not self._members.intent.protect:
            return Reading()
        return unknown(self.metrics, f"{host.system} has no control groups")

    def close(self) -> None:
        """Let every descriptor go."""
        for _, files in self._held.values():
            if files is not None:
                files.close()
        self._held.clear()

    def _follow(self, groups: Groups) -> list[Thing]:
        """The contenders of now, the login sessions of people left out; those that went are let go."""
        things = [one for one in self._members.contenders if not (one.path and session_group(one.path))][:_MOST]
        present = {thing.subject for thing in things}
        for subject in [subject for subject in self._held if subject not in present]:
            files = self._held.pop(subject)[1]
            self._before.pop(subject, None)
            if files is not None:
                files.close()
        for thing in things:
            if thing.subject not in self._held:
                files = GroupFiles(groups, thing.path) if thing.path and groups.kind("memory") else None
                self._held[thing.subject] = (HeldMemory(), files)
        paths = {*(thing.path for thing in things if thing.path), *self._shared} if groups.kind("memory") == "v2" else ()
        events = sorted(f"{groups.folder(path, 'memory')}/memory.events" for path in paths)
        self._alarms = (_PRESSURE, *events) if things else ()
        return things

    def _read(self, host: Host, groups: Groups, thing: Thing, now: Now) -> None:
        held, files = self._held[thing.subject]
        if files is not None:
            files.look(host, now.mono_ms)
            held.take(files.size, files.held_back, now.mono_ms, files.some_stalled)
            return
        size, stopped = resident_bytes(host, thing.tasks, self._members.at_ms == now.mono_ms)
        own = self._placed and not stopped
        frozen = own and is_frozen(host, groups, self._path_of(host, groups, thing, "freezer", now))
        held.take(size, "stopped" if stopped else "frozen" if frozen else "", now.mono_ms)

    def _samples(
        self, host: Host, groups: Groups, thing: Thing, room: int, wanted: Sequence[float], now: Now
    ) -> Iterator[Sample]:
        held, files = self._held[thing.subject]
        subject = thing.subject
        if held.size is None:
            return  # it has just ended
        yield Sample("infra.contender_memory", subject, float(held.size))
        yield Sample("infra.memory_growth", subject, held.growth, "" if held.growth is not None else FIRST)
        room = min([room, *self._rooms_above(host, groups, thing, now)])
        left_s = None if held.growth is None else _time(held, room, wanted)
        yield Sample("infra.memory_time_to_full", subject, left_s, "" if left_s is not None else FIRST)
        granted = held.granted
        why = FIRST if held.growth is None else QUIET
        yield Sample("infra.memory_granted", subject, granted, "" if granted is not None else why)
        if files is None:
            return
        hold = self._hold_at(files, held)
        yield Sample("infra.memory_hold_at", subject, hold, "" if hold is not None else "it is gone")
        yield Sample("infra.memory_hold_most", subject, max(held.size + _ROOM_GIVEN * room, hold or 0.0))
        stalled = files.all_stalled
        yield Sample("infra.contender_memory_full", subject, stalled, "" if stalled is not None else "not told for this group")
        idle = self._idle(files, held, subject)
        yield Sample("infra.memory_idle", subject, idle, "" if idle is not None else "not told for this group")

    def _hold_at(self, files: GroupFiles, held: HeldMemory) -> float | None:
        """A limit that stops it without ending it: what it can't give back, a fifth of its cache, and what it takes meanwhile."""
        parts = files.memory()
        if parts is None:
            return None
        return parts.size - _CACHE_TAKEN * min(parts.file, parts.size) + AHEAD_S * held.newest

    def _rooms_above(self, host: Host, groups: Groups, thing: Thing, now: Now) -> Iterator[int]:
        """What is left in each limited group that both the contender and protected work are in."""
        path = (
            thing.path.rpartition("/")[0]
            if thing.path
            else self._path_of(host, groups, thing, "memory", now)
            if self._shared
            else ""
        )
        while path:
            if path in self._shared:
                if path not in self._rooms:
                    self._rooms[path] = _room_in(host, groups, path)
                room = self._rooms[path]
                if room is not None:
                    yield room
            path = path.rpartition("/")[0]

    def _path_of(self, host: Host, groups: Groups, thing: Thing, controller: str, now: Now) -> str:
        if not thing.tasks or not groups.kind(controller):
            return ""
        return groups.path_in(self._members.membership(host, thing.tasks[0].pid, now), controller) or ""

    def _idle(self, files: GroupFiles, held: HeldMemory, subject: str) -> float | None:
        """Percent that it has not touched of late; while it is held to less, percent of what it held before."""
        limit, size = files.limit, held.size or 0
        if limit is None:
            self._before[subject] = size
            idle = files.idle_bytes(self._swap_free)
            return None if idle is None or not size else min(100.0, 100.0 * idle / size)
        before = self._before.get(subject, size)
        return max(0.0, 100.0 * (before - limit) / before) if before else 0.0

    def _look_where_protected(self, host: Host, groups: Groups, now: Now) -> None:
        if self._shared_ms is not None and now.mono_ms - self._shared_ms < _ABOVE_MS:
            return
        self._shared_ms = now.mono_ms
        found: set[str] = set()
        if groups.kind("memory"):
            tasks = [task for thing in self._members.protected for task in thing.tasks][:_MOST_PROTECTED]
            for path in {groups.path_of(task.pid, "memory") or "" for task in tasks}:
                while path:
                    found.add(path)
                    path = path.rpartition("/")[0]
        self._shared = frozenset(found - {"/"})  # the root has no limit


def _room_in(host: Host, groups: Groups, path: str) -> int | None:
    """What is left in a group until its own limit, its cache counted in; None where it has none."""
    if hard_limit(host, groups, path) is None:
        return None
    found = read_memory(host, groups, path)
    return None if found is None or found.limit is None else max(0, found.limit - found.size + found.file)


def _time(held: HeldMemory, room: int, wanted: Sequence[float]) -> float:
    """Seconds until the first limit, at what all contenders want together; an hour for whoever has little part in it."""
    if held.wanted <= 0 or held.wanted < SHARE * max(wanted):
        return LONG_S
    return max(0.0, min(LONG_S, room / sum(wanted)))


def probe(intent: Intent | None = None, process_table: Table | None = None, members: Members | None = None) -> Headroom:
    """Make the probe; without an intent it reads nothing. `members` are shared with the other probes of the intent."""
    return Headroom(intent or Intent(), process_table, members)
