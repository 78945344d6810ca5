"""Who is meant by an intent now: which processes and control groups are protected, and which may be slowed for them.

Every process is looked at when it is first seen, in its first seconds, when it becomes another program, and once a minute (it
may have been moved to another group); in between a tick costs one comparison for each that ran. What may be slowed is either a
group that a pattern names, whole, or a process that one names with all that descends from it. What is protected, what is never
slowed by anyone (PID 1, sshd, the kernel's threads, stead) and a group that any of these is in are left out, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Final

from stead.cgroups.owners import STEAD
from stead.cgroups.tree import Groups, parse_membership
from stead.host.procfs import parse_stat
from stead.model.intent import Intent, Matched, Pattern, Protect, guarded, pattern_of
from stead.model.observe import Now
from stead.probes.proc_table import Table, Task
from stead.protocols import Host

AGAIN_MS: Final = 60_000
NEW_MS: Final = 2_000  # whoever starts a process moves it to its group right after: until then it is looked at each time
YOUNG_MS: Final = 5_000  # and then once more
_TICK_MS: Final = 1000 // os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 10
_MOST_ANCESTORS: Final = 64
_MOST_CHARACTERS: Final = 4096
_MOST_NAMED: Final = 4


class Known:
    """One process as it was last looked at: its groups, and which patterns it fits by itself."""

    __slots__ = (
        "called",
        "due_ms",
        "guard",
        "last",
        "name",
        "parent",
        "path",
        "protects",
        "slowed_by",
        "spared",
        "task",
        "unified",
    )

    def __init__(self, task: Task, path: str, unified: str) -> None:
        self.task, self.name = task, task.name
        self.last = task.last if task.threads == 1 else b""  # as long as this stands it has not run, nor called itself otherwise
        self.due_ms = 0  # when it is looked at again
        self.parent = 0
        self.path, self.unified = path, unified
        self.guard = ""  # why it is never slowed
        self.protects: set[int] = set()
        self.slowed_by = ""  # the process pattern that it fits itself
        self.spared = ""  # the same of one that is protected, or never slowed
        self.called = task.name  # by the pattern: a script's name says more than its interpreter's

    @property
    def title(self) -> str:
        """What people are told that it is."""
        return f"{self.called} (pid {self.task.pid})"

    def is_as(self, before: Known, fields: tuple[str, ...]) -> bool:
        """The same process of the same parent in the same groups, and the same in these fields?"""
        where = (self.task, self.parent, self.path, self.unified) == (before.task, before.parent, before.path, before.unified)
        return where and all(getattr(self, name) == getattr(before, name) for name in fields)


class Thing:
    """One protected thing, or one that may be slowed, with its processes. `path`: the group that it is, if it is one."""

    __slots__ = ("apart", "path", "pattern", "protect", "subject", "tasks", "title")

    def __init__(self, subject: str, title: str, pattern: str = "", path: str = "", protect: Protect | None = None) -> None:
        self.subject, self.title, self.pattern, self.path, self.protect = subject, title, pattern, path, protect
        self.tasks: list[Task] = []
        self.apart: set[str] = set()  # groups of version 2 that only protected processes are in: theirs is the pressure


class Members:
    """Keeps `protected` and `contenders` up to date; `left_out` and `left_alone` say why something that fits is no contender."""

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self.protected: list[Thing] = [Thing(one.subject, one.title, protect=one) for one in intent.protect]
        self.contenders: list[Thing] = []
        self.left_out: dict[str, str] = {}
        self.left_alone: frozenset[tuple[str, str]] = frozenset()  # the same for the record: (what, why), whoever it is by number
        self._protects = [[pattern_of(text) for text in one.match] for one in intent.protect]
        self._slowed = [pattern_of(text) for text in intent.best_effort]
        every = [*self._slowed, *(pattern for one in self._protects for pattern in one)]
        self._by_process = any(pattern.kind == "process" for pattern in every)
        self._by_group = any(pattern.kind != "process" for pattern in every)
        self._known: dict[int, Known] = {}
        self._due: list[tuple[int, int]] = []  # heap of when a process is looked at again, and its pid
        self._passes = 0  # of the table, when it was last looked at
        self._paths: dict[str, tuple[frozenset[int], tuple[str, str] | None]] = {}
        self.at_ms: int | None = None  # when it was last brought up to date, monotonic
        self._memberships: dict[int, str] = {}  # what was asked for in the tick of `_asked_ms`
        self._asked_ms: int | None = None

    def update(self, host: Host, groups: Groups, table: Table, now: Now) -> bool:
        """Look at what is new in the table. True when something changed."""
        known, changed = self._known, False
        self.at_ms = mono_ms = now.mono_ms
        for pid in self._to_look_at(table, mono_ms):
            task, one = table.tasks[pid], known.get(pid)
            found = self._look(host, groups, task, one)
            found.due_ms = mono_ms + patience_ms(task, now)
            heappush(self._due, (found.due_ms, pid))
            changed = changed or found is not one
            known[pid] = found
        for pid in known.keys() - table.tasks.keys():
            del known[pid]
            changed = True
        if changed:
            self._sort(host, groups)
        return changed

    def names(self, subject: str) -> bool:
        """Is a process or a group among what is protected or may be slowed?"""
        things = (*self.protected, *self.contenders)
        return any(thing.subject == subject or any(task.subject == subject for task in thing.tasks) for thing in things)

    def _to_look_at(self, table: Table, mono_ms: int) -> list[int]:
        """Whose time has come, who is new, and who is another program: only who ran can be. All, when a pass was missed."""
        known, found = self._known, set[int]()
        while self._due and self._due[0][0] <= mono_ms:
            pid = heappop(self._due)[1]
            if pid in table.tasks and pid in known and known[pid].due_ms <= mono_ms:
                found.add(pid)
        seen = (*table.ran, *table.met) if table.passes - self._passes <= 1 else table.tasks.values()
        self._passes = table.passes
        for task in seen:
            one = known.get(task.pid)
            if (one is None or one.task is not task or one.name != task.name) and table.tasks.get(task.pid) is task:
                found.add(task.pid)
        return sorted(found)

    def matched(self) -> tuple[Matched, ...]:
        """What each protected thing and each pattern stands for now."""
        told = []
        for thing in self.protected:
            objective = thing.protect.objective if thing.protect else None
            patterns = thing.protect.match if thing.protect else ()
            names = tuple(sorted(self._known[task.pid].title for task in thing.tasks))
            told.append(Matched("protect", thing.title, patterns, names, len(names), str(objective) if objective else ""))
        for pattern in self._slowed:
            mine = [thing for thing in self.contenders if thing.pattern == str(pattern)]
            why = tuple(f"{path}: {why}" for path, why in self.left_out.items() if _first(pattern, path))
            why += self._spared(str(pattern))
            names = tuple(sorted(thing.path or thing.title for thing in mine))
            told.append(
                Matched(
                    "best_effort", str(pattern), (str(pattern),), names, sum(len(thing.tasks) for thing in mine), left_out=why
                )
            )
        return tuple(told)

    def _spared(self, pattern: str) -> tuple[str, ...]:
        """Who fits a pattern and is left alone all the same, by the reason why."""
        found: dict[str, list[str]] = {}
        for one in self._known.values():
            if one.spared == pattern:
                found.setdefault("protected" if one.protects else one.guard, []).append(one.title)
        told = []
        for why, names in found.items():
            more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            told.append(f"{', '.join(sorted(names)[:_MOST_NAMED])}{more}: {why}")
        return tuple(told)

    def membership(self, host: Host, pid: int, now: Now) -> str:
        """What /proc/PID/cgroup says, read once a tick for all who ask; empty when the process is gone."""
        if self._asked_ms != now.mono_ms:
            self._asked_ms, self._memberships = now.mono_ms, {}
        found = self._memberships.get(pid)
        if found is None:
            found = self._memberships[pid] = _text(host, f"/proc/{pid}/cgroup")
        return found

    def _look(self, host: Host, groups: Groups, task: Task, before: Known | None) -> Known:
        """Read what patterns are held against: the groups and the command line. `before` again when it comes to the same."""
        membership = _text(host, f"/proc/{task.pid}/cgroup")
        one = Known(task, groups.path_in(membership) or "/", parse_membership(membership).get("", "/"))
        try:
            stat = parse_stat(task.stat_last)
            one.parent, kernel_thread = stat.parent, stat.of_kernel
        except (ValueError, IndexError):
            one.parent, kernel_thread = 0, False
        if before is not None and one.last and one.is_as(before, ("name", "last")):
            return before
        command = _text(host, f"/proc/{task.pid}/cmdline").rstrip("\0").replace("\0", " ") if self._by_process else ""
        if task.pid in (1, os.getpid()):
            one.guard = "the init system" if task.pid == 1 else "stead itself"
        else:
            one.guard = "the kernel" if kernel_thread else guarded(task.name)
        for index, patterns in enumerate(self._protects):
            fits = next((name for pattern in patterns if (name := pattern.called(task.name, command))), "")
            if fits or index in self._of(one.path)[0]:
                one.protects.add(index)
                one.called = fits or one.called
        for pattern in self._slowed if one.guard != "the kernel" else ():
            if fits := pattern.called(task.name, command):
                one.called = fits
                if one.guard or one.protects:
                    one.spared = str(pattern)
                else:
                    one.slowed_by = str(pattern)
                break
        if before is not None and one.is_as(before, ("guard", "protects", "slowed_by", "spared", "called")):
            before.name, before.last = one.name, one.last
            return before
        return one

    def _of(self, path: str) -> tuple[frozenset[int], tuple[str, str] | None]:
        """What a group is in: the indices of `protect`, and the topmost group that may be slowed, with its pattern."""
        if not self._by_group:
            return frozenset(), None
        found = self._paths.get(path)
        if found is None:
            if len(self._paths) > 4096:
                self._paths.clear()
            found = self._paths[path] = (
                frozenset(i for i, patterns in enumerate(self._protects) if any(_first(p, path) for p in patterns)),
                min(((top, str(p)) for p in self._slowed if (top := _first(p, path))), key=lambda one: len(one[0]), default=None),
            )
        return found

    def _sort(self, host: Host, groups: Groups) -> None:
        """Put every process with what it belongs to."""
        for thing in self.protected:
            thing.tasks, thing.apart = [], set()
        found: dict[str, Thing] = {}
        spoilt: dict[str, str] = {}
        alone: set[tuple[str, str]] = set()
        for one in self._known.values():
            for index in one.protects:
                self.protected[index].tasks.append(one.task)
            group = self._of(one.path)[1]
            if group is not None and (one.protects or one.guard):
                why = "protected" if one.protects else one.guard
                spoilt[group[0]] = f"{one.task.name} (pid {one.task.pid}) is in it, and is {why}"
                holds = "protected work" if one.protects else one.guard
                alone.add((f"cgroup:{group[0]}", f"left alone, though {group[1]} names it: it holds {holds}"))
            if one.spared:
                why = "protected" if one.protects else one.guard
                alone.add((f"best_effort:{one.spared}", f"{one.name} is left alone, though {one.spared} names it: it is {why}"))
            if one.protects or one.guard:
                if one.path.startswith(f"{STEAD}/"):  # begun by a contender that stead has placed: that one is put back for it
                    pid, _, ticks = one.path.split("/")[2].partition("-")
                    spoilt[f"process:{pid}@{ticks}"] = f"{one.task.name} (pid {one.task.pid}) was begun in its group"
                continue
            contender = self._group(groups, found, *group) if group is not None else self._tree(found, one)
            if contender is not None:
                contender.tasks.append(one.task)
        self.left_out, self.left_alone = dict(spoilt), frozenset(alone)
        self.contenders = [thing for thing in found.values() if (thing.path or thing.subject) not in spoilt]
        self._set_apart()

    def _group(self, groups: Groups, found: dict[str, Thing], path: str, pattern: str) -> Thing | None:
        thing = found.get(path)
        if thing is None:
            own = groups.id_of(path)
            if own is None:
                return None
            thing = found[path] = Thing(f"cgroup:{path}@{own}", path.rpartition("/")[2], pattern, path)
        return thing

    def _tree(self, found: dict[str, Thing], one: Known) -> Thing | None:
        """The topmost process above this one (or itself) that a pattern names, with nothing guarded or protected between."""
        top: Known | None = None
        at: Known | None = one
        for _ in range(_MOST_ANCESTORS):
            if at is None or at.guard or at.protects:
                break
            top = at if at.slowed_by else top
            at = self._known.get(at.parent)
        if top is None:
            return None
        thing = found.get(top.task.subject)
        if thing is None:
            thing = found[top.task.subject] = Thing(top.task.subject, top.title, top.slowed_by)
        return thing

    def _set_apart(self) -> None:
        """Find the groups of version 2 whose members are all protected: their pressure is what the protected work loses."""
        mixed: set[str] = {"/"}
        ours: dict[str, set[int]] = {}
        for one in self._known.values():
            if one.protects:
                ours.setdefault(one.unified, set()).update(one.protects)
            else:
                mixed.update(_with_above(one.unified))
        for path, indices in ours.items():
            for index in indices if path not in mixed else ():
                self.protected[index].apart.add(path)


def patience_ms(task: Task, now: Now) -> int:
    """How long what was seen of a process stands: not at all while it is new, and then until it is young no more.

    One that began while the tick went on is younger than nothing.
    """
    age_ms = now.mono_ms - task.start_ticks * _TICK_MS  # both clocks count from the boot
    return AGAIN_MS if not -YOUNG_MS < age_ms < YOUNG_MS else 0 if age_ms < NEW_MS else YOUNG_MS - age_ms


def _first(pattern: Pattern, path: str) -> str:
    """The topmost group of a path that a pattern names: the group itself, or one that it is in. Empty: none."""
    return next((above for above in reversed(list(_with_above(path))) if pattern.fits_group(above)), "")


def _with_above(path: str) -> Iterator[str]:
    while path and path != "/":
        yield path
        path = path.rpartition("/")[0]


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path, _MOST_CHARACTERS).decode("utf-8", "replace")
    except OSError:
        return ""
