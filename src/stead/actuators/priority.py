"""`priority`: how much of CPU and disk one process gets: nice, autogroup nice, IO class, scheduling class, clamps, CPUs.

Nice alone does nothing between processes of different sessions where autogroups are in force: there the autogroup's nice
decides, and it belongs to the whole session. So a plan says whose session that is, an autogroup that stead itself or PID 1 is
in is left alone, one that something protected is in is not weighed down, and when the process ends before its session does,
the session's weight is still put back. What it starts meanwhile inherits what it was given, and comes back with it; what it
has started already is lowered with it where that is wanted (`scheduling.members`). Without CAP_SYS_NICE a lowered priority
can't be raised again: then the undo is none.

macOS and Windows have some of these levers (nice or a priority class, IO priority, affinity). What a system lacks is left out of
the plan and said in it; a wish for nothing else is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Literal, cast

import msgspec

from stead.cgroups import rivals
from stead.cgroups.insiders import Shield, protected_in_session, protected_process, shielded
from stead.cgroups.tree import Groups
from stead.model.change import ABSENT, FAMILY, Absent, Record, Step, Target
from stead.model.errors import SteadError
from stead.protocols import Actuator, Host, Lever, Scheduler
from stead.scheduling import members
from stead.scheduling.cpus import format_cpus, parse_cpus
from stead.scheduling.family import INHERITED, Heirs, family_within
from stead.scheduling.levers import LEVEL_OF, IoClass, Priority, leader_levers, read_levers, set_levers
from stead.scheduling.session import give_back, leader_of, leader_within, name_of, session_of
from stead.scheduling.slower import lowered

__all__ = ["Priority", "PriorityActuator", "actuator"]

_SETTABLE: Final = frozenset(("other", "batch", "idle"))
_SEEN_ONLY: Final = frozenset(("session", "apart", "family"))  # the family is not a lever of the process's own
_FULL: Final = 1024
_LEVERS: Final[dict[str, Lever]] = {  # levers that a system may lack, by field
    "autogroup_nice": "autogroup",
    "ionice_class": "ionice",
    "ionice_level": "ionice",
    "policy": "policy",
    "cpus": "affinity",
    "uclamp_min": "uclamp",
    "uclamp_max": "uclamp",
}
_NO_AUTOGROUP: Final = "no autogroup is in force here: nice alone decides"
_NEEDS_CAP: Final = "a lowered priority can't be raised again without CAP_SYS_NICE"


class PriorityActuator:
    """Reads and sets the levers of processes."""

    name = "priority"
    state = Priority

    def __init__(self, host: Host, shield: Shield = Shield()) -> None:  # noqa: B008 (it never changes)
        self._host, self._shield = host, shield

    async def read(self, host: Host, target: Target) -> Priority | Absent:
        """All levers as they are. ABSENT when this very process (pid, start and boot) is not there.

        Of a process that ended, and left a family or a session that was changed for it, these alone.
        """
        pid = _pid(host, target)
        if pid is None:
            return _left_behind(host, target)
        try:
            seen = read_levers(host, pid)
        except ProcessLookupError:
            return _left_behind(host, target)
        family = members.seen(host, target)
        return _left_behind(host, target) if _pid(host, target) is None else msgspec.structs.replace(seen, family=family)

    def plan(self, target: Target, now: Priority | Absent, want: Priority | Absent) -> Step:
        """The diff as the system will round it, and whether it can be put back. SteadError for what must not be done."""
        if isinstance(now, Absent) or isinstance(want, Absent):
            raise SteadError("a priority can't be absent", str(target), "choose another playbook", code="priority.absent")
        levers = self._host.scheduler
        rounded = _rounded(now, want, levers)
        changed = _changed(now, rounded)
        lacking = _lacking(now, want, levers)
        shared = self._shared(target, now.session, now.autogroup_nice, changed.get("autogroup_nice"))
        if shared:
            del changed["autogroup_nice"]
            lacking.append(f"its session is not weighed down: {shared}")
            rounded = msgspec.structs.replace(rounded, autogroup_nice=None)
        if lacking and not _fields(rounded):
            raise SteadError("; ".join(lacking), str(target), "choose another playbook", code="priority.lacking")
        _check_clamps(now, rounded, target)
        family = self._family(target, want.family)
        self._yield(target, (*changed, *(family.levers if family else ())))
        if "policy" in changed and (now.policy not in _SETTABLE or rounded.policy not in _SETTABLE):
            raise SteadError(
                f"a {now.policy} process is not moved to {rounded.policy}",
                str(target),
                "set it by hand",
                code="priority.realtime",
            )
        note = self._autogroup_note(target, now) if "autogroup_nice" in changed else ""
        note = "; ".join(filter(None, [note, *lacking, family.note if family else ""]))
        self._spare(target, now, changed)
        undo, reason = self._undo(now, changed)
        before = {key: getattr(now, key) for key in changed}
        within: dict[str, str] = {}
        if "autogroup_nice" in changed:
            within |= leader_within(self._host, now.session, target.name)
        if INHERITED.intersection(changed):
            within |= family_within(self._host, int(target.name))
        if family and family.want:
            before["family"], changed["family"] = family.before, family.want
            within |= family.within
        target = msgspec.structs.replace(target, within=within)
        wait_s = 10.0 if {"autogroup_nice", "family"} & changed.keys() else 5.0
        return Step(self.name, target, cast(Record, before), cast(Record, changed), undo, reason, duration_s=wait_s, note=note)

    def slowing(self, now: Priority | Absent, fields: Mapping[str, object]) -> dict[str, object]:
        """Of the wanted levers those that are lower than they are, and what is wanted of its family."""
        if isinstance(now, Absent):
            return dict(fields)
        return {**lowered(now, fields), **{key: value for key, value in fields.items() if key == "family"}}

    def met(self, now: Priority | Absent, want: Priority | Absent) -> bool:
        """Is each lever that is wanted so? A lever that this system lacks, or that went with the process, can't be wanted.

        Where it lacks all of them, though the process is there, nothing is as wanted.
        """
        if isinstance(now, Absent) or isinstance(want, Absent):
            return now == want
        if not members.met(now.family, want.family):
            return False
        rounded = _fields(_rounded(now, want, self._host.scheduler))
        if _fields(want) and not rounded:
            return now.nice is None
        return all(getattr(now, key) in (None, value) for key, value in rounded.items())

    async def write(self, host: Host, target: Target, want: Priority | Absent) -> None:
        """Set what is wanted on the process and the threads that go with it.

        ProcessLookupError when this very process is gone; PermissionError when the system refuses.
        """
        pid = _pid(host, target)
        if pid is not None and not isinstance(want, Absent):
            self._spare(target, read_levers(host, pid), _fields(want))
        await self._set(host, target, want)

    async def _set(self, host: Host, target: Target, want: Priority | Absent) -> None:
        if isinstance(want, Absent):
            raise SteadError("a priority can't be absent", str(target), code="priority.absent")
        pid = _pid(host, target)
        if pid is None:
            return give_back(host, target, want.autogroup_nice)
        levers = host.scheduler
        if want.autogroup_nice is not None:
            shared = self._shared(target, session_of(host, str(pid)), levers.autogroup(pid), want.autogroup_nice)
            if shared:
                raise SteadError(f"its session can't be weighed down: {shared}", str(target), code="priority.session")
        set_levers(levers, pid, want)
        if want.family:
            members.lower(host, target, want.family, self._shield)

    def between(self, seen: Record | None, before: Record | None, want: Record | None) -> bool:
        """Is this what an interrupted write leaves? Each lever is old or new; of a family each one is, or is another's by now."""
        if seen is None or want is None:
            return seen in (before, want)
        fields = [key for key, value in want.items() if value is not None and key != "family"]
        return all(seen.get(key) in ((before or {}).get(key), want[key]) for key in fields)

    async def put_back(self, host: Host, target: Target, want: Priority | Absent) -> None:
        """The same, and of what it started meanwhile what that inherited: first, so that what is cut short is seen on itself.

        Its family goes before it, each of them in the same way, also when it has ended. SteadError, when all else is done, for
        what the system refuses there.
        """
        pid, trouble = _pid(host, target), ""
        if not isinstance(want, Absent) and want.family:
            try:
                members.put_back(host, target, want.family)
            except SteadError as error:
                trouble = str(error)
            want = msgspec.structs.replace(want, family=None)
        await self._put_itself_back(host, target, pid, want)
        if trouble:
            raise SteadError(trouble, str(target))

    async def _put_itself_back(self, host: Host, target: Target, pid: int | None, want: Priority | Absent) -> None:
        if isinstance(want, Absent) or pid is None:
            if target.within.get(FAMILY) and (isinstance(want, Absent) or leader_of(host, target) is None):
                return  # it has ended, and left but its family
            return await self._set(host, target, want)
        heirs = Heirs(host, target, leader_levers(host.scheduler, pid), want)
        heirs.put_back()
        await self._set(host, target, want)
        heirs.put_back()  # who was started in between
        heirs.tell()

    def _spare(self, target: Target, now: Priority, want: Mapping[str, object]) -> None:
        """SteadError where this would make a process slower that the policy, the owner or stead itself protects."""
        why = protected_process(self._host, Groups.of(self._host), int(target.name), self._shield) if lowered(now, want) else ""
        if why:
            raise SteadError(f"it is {why}", str(target), "leave it as it is", code="priority.protected")

    def _shared(self, target: Target, session: int | None, now: int | None, want: object) -> str:
        """What protected is in its session, and would be weighed down with it; empty when nothing is, or it gets lighter."""
        if session is None or not isinstance(want, int) or want <= (now or 0):
            return ""
        return protected_in_session(self._host, Groups.of(self._host), session, self._shield, int(target.name))

    def _family(self, target: Target, want: Sequence[str] | None) -> members.Lowered | None:
        """Whom of its family to lower. SteadError for what can't be wanted of one."""
        if not want:
            return None
        return members.planned(self._host, target, self._shield, members.wanted(want, target))

    def _yield(self, target: Target, levers: Collection[str]) -> None:
        """SteadError when another controller that runs here sets one of these."""
        other = rivals.yielding(rivals.running(self._host), (f"process.{key}" for key in levers)) if levers else ""
        if other:
            raise SteadError(other, str(target), "leave it to that one", code="priority.owned")

    def _undo(self, now: Priority, changed: dict[str, object]) -> tuple[Literal["exact", "lossy", "none"], str]:
        if not self._host.scheduler.can_raise() and _lowered(now, changed):
            return "none", _NEEDS_CAP
        mixed = [key for key, value in changed.items() if f"{key}={value}" in (now.apart or ())]
        if mixed:
            return "lossy", f"some of its threads have {', '.join(mixed)} so already, and can't be told apart afterwards"
        return "exact", ""

    def _autogroup_note(self, target: Target, now: Priority) -> str:
        """Whom else the autogroup's nice touches. SteadError when that is stead itself, or the system's own."""
        if now.session in (0, None, session_of(self._host, "1")):
            what, fix = "the system's own", "move it to a session of its own (setsid)"
        elif now.session == session_of(self._host, "self"):
            what, fix = "stead's own: they share a session", "start one of them in a session of its own (setsid)"
        else:
            return f"autogroup nice is of its whole session: {now.session}, begun by {name_of(self._host, now.session)}"
        raise SteadError(f"its autogroup is {what}", str(target), fix, code="priority.session")


def _pid(host: Host, target: Target) -> int | None:
    """The pid, if the process there is the one that is meant."""
    if target.kind != "process" or not target.name.isdigit() or target.identity.get("boot_id") != host.boot_id:
        return None
    pid = int(target.name)
    ticks = host.start_ticks(pid)
    return pid if ticks is not None and str(ticks) == target.identity.get("start_ticks") else None


def _left_behind(host: Host, target: Target) -> Priority | Absent:
    """What is left of an ended process's levers: its session's weight, while the session's leader lives, and its family's."""
    leader, family = leader_of(host, target), members.seen(host, target) or None
    weight = None
    with contextlib.suppress(ProcessLookupError):
        weight = None if leader is None else host.scheduler.autogroup(leader)
    return ABSENT if weight is None and family is None else Priority(autogroup_nice=weight, session=leader, family=family)


def _rounded(now: Priority, want: Priority, levers: Scheduler) -> Priority:
    """As the system will round it: nice within its range, the level that a class has, only levers that exist here."""
    ionice_class = want.ionice_class or (now.ionice_class if want.ionice_level is not None else None)
    level = want.ionice_level
    if ionice_class is not None and now.ionice_class is not None:
        rounded = levers.rounded_ionice(ionice_class, LEVEL_OF[ionice_class] if level is None else level)
        ionice_class, level = cast(IoClass, rounded[0]), rounded[1]
    rounded_want = msgspec.structs.replace(
        want,
        nice=None if want.nice is None else levers.rounded_nice(want.nice),
        autogroup_nice=_clamped(want.autogroup_nice),
        ionice_class=ionice_class,
        ionice_level=level,
        cpus=None if want.cpus is None else format_cpus(parse_cpus(want.cpus)),
    )
    absent = {key: None for key in _LEVERS if getattr(now, key) is None and now.nice is not None}
    return msgspec.structs.replace(rounded_want, **absent)


def _lacking(now: Priority, want: Priority, levers: Scheduler) -> list[str]:
    """What is wanted and not to be had here, in words, each reason once."""
    missing = [_LEVERS[key] for key in _fields(want) if key in _LEVERS and getattr(now, key) is None]
    words = (levers.lacks(lever) or _NO_AUTOGROUP for lever in dict.fromkeys(missing))
    return list(dict.fromkeys(words))


def _check_clamps(now: Priority, want: Priority, target: Target) -> None:
    """SteadError for clamps that can't be, or that would cross."""
    low = now.uclamp_min if want.uclamp_min is None else want.uclamp_min
    high = now.uclamp_max if want.uclamp_max is None else want.uclamp_max
    if low is not None and high is not None and not 0 <= low <= high <= _FULL:
        what = f"utilisation clamps from {low} to {high} can't be"
        raise SteadError(what, str(target), f"keep 0 <= uclamp_min <= uclamp_max <= {_FULL}", code="priority.clamps")


def _fields(state: Priority) -> dict[str, object]:
    """The levers that are wanted."""
    return {key: value for key, value in msgspec.structs.asdict(state).items() if value is not None and key not in _SEEN_ONLY}


def _changed(now: Priority, want: Priority) -> dict[str, object]:
    """The levers that will move. IO class and level go together: one can't be restored without the other."""
    fields = _fields(want)
    moved = {key for key, value in fields.items() if value != getattr(now, key)}
    if moved & {"ionice_class", "ionice_level"}:
        moved |= {"ionice_class", "ionice_level"}
    return {key: value for key, value in fields.items() if key in moved}


def _lowered(now: Priority, changed: dict[str, object]) -> bool:
    """Would putting this back need CAP_SYS_NICE?"""
    nice, group = changed.get("nice"), changed.get("autogroup_nice")
    return (
        (isinstance(nice, int) and nice > (now.nice or 0))
        or (isinstance(group, int) and (now.autogroup_nice or 0) < 0)
        or ("policy" in changed and changed["policy"] == "idle")
    )


def _clamped(nice: int | None) -> int | None:
    return None if nice is None else max(-20, min(19, nice))


actuator: Callable[..., Actuator[Priority]] = shielded(PriorityActuator)
