"""What a process has started by now is lowered too, each as far as it is not that low yet, and comes back as it was.

It is a step of its own, so that it is put back whatever became of the process itself. A playbook wants it as levers alone
(`family: ["nice=19", "policy=idle"]`); the plan has one line for each: "4712@5670 nice=19<0 policy=idle<other", where the number
after @ is its start in clock ticks since boot, and what follows < is what the lever is on the other side of the change. A session
that they have for themselves has one too ("session:4712 autogroup_nice=19<0"), as its weight outlives whoever began it. Who is
protected, who is of a real-time class, and the least near beyond `MOST` are left as they are. A lever that is neither as stead
set it nor as it was is another hand's by now, and stays so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, cast

from stead.cgroups.insiders import Shield, protected_in_session, protected_process
from stead.cgroups.own_groups import descendants
from stead.cgroups.tree import Groups
from stead.host.procfs import parse_stat
from stead.model.change import FAMILY, Target
from stead.model.errors import SteadError
from stead.protocols import Host, Scheduler
from stead.scheduling.family import YOUNGEST, Heirs
from stead.scheduling.levers import IoClass, Priority, leader_levers, read_levers, set_levers
from stead.scheduling.session import name_of, session_of

MOST: Final = 32
_NAMED: Final = 3  # in a plan's note; the others are counted
_SESSION: Final = "session"
_POLICIES: Final = ("other", "batch", "idle")  # from most to least
_LEVERS: Final = ("nice", "policy", "ionice", "autogroup_nice")
_CLASSES: Final = {"none": 1, "best_effort": 1, "idle": 2}
_NO_LEVEL: Final = 4  # what the kernel takes for a process without an IO class of its own, at nice 0
_PROTECTED: Final = "that are protected"
Levers = dict[str, str]


class Member(NamedTuple):
    """One line: whom it is about (a pid, or a session), its start, what each lever is to be, and is on the other side."""

    kind: str
    pid: int
    start: str
    levers: Levers
    others: Levers

    @property
    def line(self) -> str:
        """As it is kept."""
        words = (f"{key}={value}" + (f"<{self.others[key]}" if key in self.others else "") for key, value in self.levers.items())
        return " ".join([f"session:{self.pid}" if self.kind == _SESSION else f"{self.pid}@{self.start}", *words])

    def back(self) -> Member:
        """The way back of the same."""
        return self._replace(levers=self.others, others=self.levers)


class Lowered(NamedTuple):
    """What is planned for a family: the lines before and after, for `Target.within`, and words for people."""

    before: list[str]
    want: list[str]
    within: dict[str, str]
    note: str
    levers: tuple[str, ...] = ()


def parse(lines: Iterable[str]) -> list[Member]:
    """The lines of a `family`."""
    found = []
    for line in lines:
        who, *words = line.split()
        pid, _, start = who.removeprefix("session:").partition("@")
        levers = {key: value.partition("<") for key, _, value in (word.partition("=") for word in words)}
        others = {key: other for key, (_, sign, other) in levers.items() if sign}
        kind = _SESSION if who.startswith("session:") else "process"
        found.append(Member(kind, int(pid), start, {key: value for key, (value, _, _) in levers.items()}, others))
    return found


def unnamed(want: Sequence[str] | None) -> bool:
    """Is a wanted `family` whoever that is when it is planned?"""
    return bool(want) and not any(" " in line for line in want or ())


def wanted(lines: Sequence[str], target: Target) -> Priority:
    """The levers of a wanted `family` without names. SteadError when they are none of a family's."""
    try:
        levers = {key: value for key, _, value in (line.partition("=") for line in lines)}
        found = _priority(levers)
        if (
            not set(levers) <= set(_LEVERS)
            or (found.policy or "idle") not in _POLICIES
            or (found.ionice_class or "idle") not in _CLASSES
        ):
            raise ValueError
    except ValueError as error:
        what, fix = f"no levers of a family: {', '.join(lines)}", f"name {', '.join(_LEVERS)}, each with = and a value"
        raise SteadError(what, str(target), fix, code="priority.family") from error
    return found


def met(now: Sequence[str] | None, want: Sequence[str] | None) -> bool:
    """Is nobody of a family, of those that live, on the other side of the change?"""
    if unnamed(want):
        return False  # whom that means is for a plan to say
    seen = {(one.kind, one.pid, one.start): one.levers for one in parse(now or ())}
    for one in parse(want or ()):
        is_now = seen.get((one.kind, one.pid, one.start), {})
        if any(is_now.get(key) == other != one.levers[key] for key, other in one.others.items()):
            return False
    return True


def planned(host: Host, target: Target, shield: Shield, want: Priority) -> Lowered | None:
    """Whom of its family to lower, and how; None when there is nobody. The session that the process is in is its own affair."""
    pid = int(target.name)
    groups = Groups.of(host)
    left: dict[str, int] = {}

    def apart(one: int) -> bool:
        """Is it protected? Then what it started is none of this family either."""
        why = _why_not(host, groups, shield, one)
        if why:
            left[_PROTECTED] = left.get(_PROTECTED, 0) + 1
        return bool(why)

    family = descendants(host, pid, apart)
    if not family or not host.scheduler.can_raise():  # what is lowered could not come back
        return None
    members: list[Member] = []
    sessions: dict[int, Priority] = {}
    for one in family:
        levers = _levers(host, one)
        if levers is None:
            continue
        if levers.policy not in (*_POLICIES, None) or len(members) == MOST:
            why = f"beyond the nearest {MOST}" if len(members) == MOST else "of a real-time class"
            left[why] = left.get(why, 0) + 1
            continue
        sessions.setdefault(levers.session or 0, levers)
        member = Member("process", one, str(host.start_ticks(one)), *_lowering(levers, want, host.scheduler))
        members += [member] if member.levers else []
    members += _sessions(host, groups, shield, want, pid, sessions, set(family))
    return _told(host, pid, members, left)


def _told(host: Host, pid: int, members: Sequence[Member], left: dict[str, int]) -> Lowered | None:
    names = [f"{name_of(host, one.pid)} ({one.pid})" for one in members if one.kind != _SESSION]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    notes = [f"what it has started is lowered with it: {', '.join(names[:_NAMED])}{more}"] if names else []
    notes += [f"left as they are: {', '.join(f'{count} {why}' for why, count in left.items())}"] if left else []
    if not members:
        return None
    starts = [host.start_ticks(one) or 0 for one in (pid, *descendants(host, pid))]
    who = " ".join(one.line.split()[0] for one in members)
    within = {FAMILY: who, YOUNGEST: str(max(starts))}
    levers = dict.fromkeys("ionice_class" if key == "ionice" else key for one in members for key in one.levers)
    back = [one.back().line for one in members]
    return Lowered(back, [one.line for one in members], within, "; ".join(notes), tuple(levers))


def _why_not(host: Host, groups: Groups, shield: Shield, pid: int) -> str:
    why = protected_process(host, groups, pid, shield)
    return f"process {pid} is {why}" if why else ""


def _levers(host: Host, pid: int) -> Priority | None:
    try:
        return read_levers(host, pid)
    except OSError:
        return None


def _lowering(now: Priority, want: Priority, levers: Scheduler) -> tuple[Levers, Levers]:
    """The levers of one of them that are higher than wanted, as they are to be and as they are. It is never raised."""
    wanted: Levers = {}
    before: Levers = {}
    if want.nice is not None and now.nice is not None and now.nice < want.nice:
        wanted["nice"], before["nice"] = str(want.nice), str(now.nice)
    if want.policy in _POLICIES and now.policy in _POLICIES and _POLICIES.index(now.policy) < _POLICIES.index(want.policy):
        wanted["policy"], before["policy"] = want.policy, now.policy
    if want.ionice_class is not None and now.ionice_class in _CLASSES and want.ionice_class in _CLASSES:
        io_class, level = levers.rounded_ionice(want.ionice_class, _NO_LEVEL if want.ionice_level is None else want.ionice_level)
        if _rank(now.ionice_class, now.ionice_level) < _rank(io_class, level):
            wanted["ionice"], before["ionice"] = f"{io_class}:{level}", f"{now.ionice_class}:{now.ionice_level}"
    for key in [key for key, value in wanted.items() if _mixed(key, value, now)]:
        del wanted[key], before[key]
    return wanted, before


def _mixed(key: str, value: str, now: Priority) -> bool:
    """Have some of its threads that value already? They could not be told apart afterwards."""
    value = f"ionice_class={value.partition(':')[0]}" if key == "ionice" else f"{key}={value}"
    return value in (now.apart or ())


def _rank(io_class: str, level: int | None) -> tuple[int, int]:
    return _CLASSES[io_class], _NO_LEVEL if io_class == "none" or level is None else level


def _sessions(
    host: Host,
    groups: Groups,
    shield: Shield,
    want: Priority,
    pid: int,
    sessions: dict[int, Priority],
    family: set[int],
) -> list[Member]:
    """The sessions that the family has for itself, but for those that others lead or that something protected is in."""
    nice, found = want.autogroup_nice, []
    taken = {0, *(session_of(host, one) for one in ("1", "self", str(pid)))}
    for session, levers in sessions.items() if nice is not None else ():
        now = levers.autogroup_nice
        led_by_others = session not in family and host.start_ticks(session) is not None
        if session in taken or led_by_others or now is None or nice is None or now >= nice:
            continue
        if not protected_in_session(host, groups, session, shield, pid):
            found.append(Member(_SESSION, session, "", {"autogroup_nice": str(nice)}, {"autogroup_nice": str(now)}))
    return found


def seen(host: Host, target: Target) -> list[str] | None:
    """The family that a change is about as it is now: those that live. None where a change is about nobody else."""
    if FAMILY not in target.within or target.identity.get("boot_id") != host.boot_id:
        return None
    lines = []
    for one in parse(target.within[FAMILY].split()):
        levers = _now(host, target, one)
        lines += [one._replace(levers=levers).line] if levers else []
    return lines


def _now(host: Host, target: Target, one: Member) -> Levers:
    """The levers of one of them now; empty when that very one is gone."""
    holder = _holder(host, target, one)
    if holder is None:
        return {}
    try:
        if one.kind == _SESSION:
            weight = host.scheduler.autogroup(holder)
            return {} if weight is None else {"autogroup_nice": str(weight)}
        levers = leader_levers(host.scheduler, holder)
    except OSError:
        return {}
    found = {"nice": levers.nice, "policy": levers.policy}
    found |= {"ionice": None if levers.ionice_class is None else f"{levers.ionice_class}:{levers.ionice_level}"}
    return {key: str(value) for key, value in found.items() if value is not None}


def _holder(host: Host, target: Target, one: Member) -> int | None:
    """The process that a line is about, or one through which its session can be reached. A number is not given anew meanwhile.

    While anybody is in a session its number is no other process's; so whoever has it and is younger began another session.
    """
    ticks = host.start_ticks(one.pid)
    if one.kind != _SESSION:
        return one.pid if ticks is not None and str(ticks) == one.start else None
    if ticks is not None:
        return one.pid if ticks <= int(target.within.get(YOUNGEST, "0")) else None
    for name in host.list("/proc"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = parse_stat(host.read(f"/proc/{name}/stat", 4096)) if name.isdigit() else None
            if stat is not None and stat.session == one.pid and stat.state not in "ZX":
                return int(name)
    return None


def lower(host: Host, target: Target, want: Sequence[str], shield: Shield) -> None:
    """Lower those that are as they were. SteadError, before anything, for one that is protected by now; and at the end for what
    the system refused.
    """
    members, groups = parse(want), Groups.of(host)
    for one in members:
        if _holder(host, target, one) is None:
            continue
        if one.kind == _SESSION:
            why = protected_in_session(host, groups, one.pid, shield, int(target.name))
        else:
            why = _why_not(host, groups, shield, one.pid)
        if why:
            raise SteadError(why, str(target), "leave its family out", code="priority.protected")
    _set_all(host, target, members, back=False)


def put_back(host: Host, target: Target, before: Sequence[str]) -> None:
    """Put back those that are as stead left them, the farthest first, each with what it started meanwhile.

    SteadError, when all else is done, for what the system refuses.
    """
    _set_all(host, target, list(reversed(parse(before))), back=True)


def _set_all(host: Host, target: Target, members: Sequence[Member], *, back: bool) -> None:
    refused: list[str] = []
    for one in members:
        try:
            _set(host, target, one, back=back)
        except ProcessLookupError:
            continue
        except (OSError, SteadError) as error:
            refused.append(f"{one.line.split()[0]}: {error}")
    if refused:
        raise SteadError(
            f"not all that it had started could be {'put back' if back else 'lowered'}: {'; '.join(refused)}", str(target)
        )


def _set(host: Host, target: Target, one: Member, *, back: bool) -> None:
    now, holder = _now(host, target, one), _holder(host, target, one)
    moved = {key: value for key, value in one.levers.items() if now.get(key) == one.others.get(key)}
    if holder is None or not moved:
        return
    want = _priority(moved)
    if not back or one.kind == _SESSION:
        return set_levers(host.scheduler, holder, want)
    member = Target("process", str(holder), target.identity, target.within)
    heirs = Heirs(host, member, leader_levers(host.scheduler, holder), want)
    heirs.put_back()
    set_levers(host.scheduler, holder, want)
    heirs.put_back()  # who was started in between
    heirs.tell()


def _priority(levers: Levers) -> Priority:
    """Levers as they are set."""
    fields: dict[str, Any] = {key: int(value) for key, value in levers.items() if key in ("nice", "autogroup_nice")}
    io_class, _, level = levers.get("ionice", "").partition(":")
    if io_class:
        fields |= {"ionice_class": cast(IoClass, io_class), "ionice_level": int(level) if level else None}
    return Priority(**fields, policy=levers.get("policy"))
