"""`priority`: how much of CPU and disk one process gets: nice, autogroup nice, IO class, scheduling class, clamps, CPUs.

Nice alone does nothing between processes of different sessions where autogroups are in force: there the autogroup's nice
decides, and it belongs to the whole session. So a plan says whose session that is, an autogroup that stead itself or PID 1 is
in is left alone, one that something protected is in is not weighed down, and when the process ends before its session does,
the session's weight is still put back. Without CAP_SYS_NICE a lowered priority can't be raised again: then the undo is none.

macOS and Windows have some of these levers (nice or a priority class, IO priority, affinity). What a system lacks is left out of
the plan and said in it; a wish for nothing else is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, cast

import msgspec

from stead.cgroups import rivals
from stead.cgroups.insiders import Shield, protected_in_session
from stead.cgroups.tree import Groups
from stead.model.change import ABSENT, Absent, Record, Step, Target
from stead.model.errors import SteadError
from stead.model.intent import Intent
from stead.protocols import Actuator, Host, Lever, Scheduler

IoClass = Literal["none", "realtime", "best_effort", "idle"]
_LEVEL_OF: Final = {"none": 0, "idle": 0, "best_effort": 4, "realtime": 4}
_SETTABLE: Final = frozenset(("other", "batch", "idle"))
_SEEN_ONLY: Final = frozenset(("session", "apart"))
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


class Priority(msgspec.Struct, frozen=True):
    """The levers of one process; None leaves one as it is, or means that the system has none such.

    `cpus` is a list such as "0-3,6"; the utilisation clamps go from 0 to 1024, a largest core's whole capacity. `session` and
    `apart` are only ever read: the session whose autogroup it is in, and the values that single threads have of their own
    ("nice=19").
    """

    nice: int | None = None
    autogroup_nice: int | None = None
    ionice_class: IoClass | None = None
    ionice_level: int | None = None
    policy: str | None = None
    cpus: str | None = None
    uclamp_min: int | None = None
    uclamp_max: int | None = None
    session: int | None = None
    apart: tuple[str, ...] | None = None


class PriorityActuator:
    """Reads and sets the levers of processes."""

    name = "priority"
    state = Priority

    def __init__(self, host: Host, shield: Shield = Shield()) -> None:  # noqa: B008 (it never changes)
        self._host, self._shield = host, shield

    async def read(self, host: Host, target: Target) -> Priority | Absent:
        """All levers as they are. ABSENT when this very process (pid, start and boot) is not there.

        Of a process that ended, and left a session whose weight was changed for it, that weight alone.
        """
        pid = _pid(host, target)
        if pid is None:
            return _left_behind(host, target)
        try:
            seen = _levers(host, pid)
        except ProcessLookupError:
            return _left_behind(host, target)
        return _left_behind(host, target) if _pid(host, target) is None else seen

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
        other = rivals.yielding(rivals.running(self._host), (f"process.{key}" for key in changed)) if changed else ""
        if other:
            raise SteadError(other, str(target), "leave it to that one", code="priority.owned")
        if "policy" in changed and (now.policy not in _SETTABLE or rounded.policy not in _SETTABLE):
            raise SteadError(
                f"a {now.policy} process is not moved to {rounded.policy}",
                str(target),
                "set it by hand",
                code="priority.realtime",
            )
        note = self._autogroup_note(target, now) if "autogroup_nice" in changed else ""
        note = "; ".join([*([note] if note else []), *lacking])
        undo, reason = self._undo(now, changed)
        before = {key: getattr(now, key) for key in changed}
        if "autogroup_nice" in changed:
            target = _with_session(self._host, target, now.session)
        wait_s = 10.0 if "autogroup_nice" in changed else 5.0
        return Step(self.name, target, cast(Record, before), cast(Record, changed), undo, reason, duration_s=wait_s, note=note)

    def met(self, now: Priority | Absent, want: Priority | Absent) -> bool:
        """Is each lever that is wanted so? A lever that this system lacks, or that went with the process, can't be wanted.

        Where it lacks all of them, though the process is there, nothing is as wanted.
        """
        if isinstance(now, Absent) or isinstance(want, Absent):
            return now == want
        rounded = _fields(_rounded(now, want, self._host.scheduler))
        if _fields(want) and not rounded:
            return now.nice is None
        return all(getattr(now, key) in (None, value) for key, value in rounded.items())

    async def write(self, host: Host, target: Target, want: Priority | Absent) -> None:
        """Set what is wanted on the process and the threads that go with it.

        ProcessLookupError when this very process is gone; PermissionError when the system refuses.
        """
        if isinstance(want, Absent):
            raise SteadError("a priority can't be absent", str(target), code="priority.absent")
        pid = _pid(host, target)
        if pid is None:
            return _give_back(host, target, want)
        levers = host.scheduler
        if want.autogroup_nice is not None:
            shared = self._shared(target, _session_of(host, str(pid)), levers.autogroup(pid), want.autogroup_nice)
            if shared:
                raise SteadError(f"its session can't be weighed down: {shared}", str(target), code="priority.session")
        if want.cpus is not None:
            levers.set_affinity(pid, parse_cpus(want.cpus))
        if want.policy is not None:
            levers.set_policy(pid, want.policy, 0)
        if want.nice is not None:
            levers.set_nice(pid, want.nice)
        if want.ionice_class is not None:
            level = _LEVEL_OF[want.ionice_class] if want.ionice_level is None else want.ionice_level
            levers.set_ionice(pid, want.ionice_class, level)
        if want.uclamp_min is not None or want.uclamp_max is not None:
            levers.set_uclamp(pid, want.uclamp_min, want.uclamp_max)
        if want.autogroup_nice is not None:
            levers.set_autogroup(pid, want.autogroup_nice)

    def _shared(self, target: Target, session: int | None, now: int | None, want: object) -> str:
        """What protected is in its session, and would be weighed down with it; empty when nothing is, or it gets lighter."""
        if session is None or not isinstance(want, int) or want <= (now or 0):
            return ""
        return protected_in_session(self._host, Groups.of(self._host), session, self._shield, int(target.name))

    def _undo(self, now: Priority, changed: dict[str, object]) -> tuple[Literal["exact", "lossy", "none"], str]:
        if not self._host.scheduler.can_raise() and _lowered(now, changed):
            return "none", _NEEDS_CAP
        mixed = [key for key, value in changed.items() if f"{key}={value}" in (now.apart or ())]
        if mixed:
            return "lossy", f"some of its threads have {', '.join(mixed)} so already, and can't be told apart afterwards"
        return "exact", ""

    def _autogroup_note(self, target: Target, now: Priority) -> str:
        """Whom else the autogroup's nice touches. SteadError when that is stead itself, or the system's own."""
        if now.session in (0, None, _session_of(self._host, "1")):
            what, fix = "the system's own", "move it to a session of its own (setsid)"
        elif now.session == _session_of(self._host, "self"):
            what, fix = "stead's own: they share a session", "start one of them in a session of its own (setsid)"
        else:
            return f"autogroup nice is of its whole session: {now.session}, begun by {_name_of(self._host, now.session)}"
        raise SteadError(f"its autogroup is {what}", str(target), fix, code="priority.session")


def _pid(host: Host, target: Target) -> int | None:
    """The pid, if the process there is the one that is meant."""
    if target.kind != "process" or not target.name.isdigit() or target.identity.get("boot_id") != host.boot_id:
        return None
    pid = int(target.name)
    ticks = host.start_ticks(pid)
    return pid if ticks is not None and str(ticks) == target.identity.get("start_ticks") else None


def _with_session(host: Host, target: Target, leader: int | None) -> Target:
    """The target with its session, by the process that leads it, so that what is shared can be put back without the process."""
    ticks = host.start_ticks(leader) if leader and str(leader) != target.name else None
    within = {} if ticks is None else {"leader": str(leader), "start_ticks": str(ticks)}
    return msgspec.structs.replace(target, within=within)


def _leader(host: Host, target: Target) -> int | None:
    """The pid of the session's leader, if it is the very one that it was."""
    pid, ticks = target.within.get("leader", ""), target.within.get("start_ticks")
    alive = pid.isdigit() and target.identity.get("boot_id") == host.boot_id and str(host.start_ticks(int(pid))) == ticks
    return int(pid) if alive else None


def _left_behind(host: Host, target: Target) -> Priority | Absent:
    """What is left of an ended process's levers: its session's weight, while the session's leader lives."""
    leader = _leader(host, target)
    try:
        return ABSENT if leader is None else Priority(autogroup_nice=host.scheduler.autogroup(leader), session=leader)
    except ProcessLookupError:
        return ABSENT


def _give_back(host: Host, target: Target, want: Priority) -> None:
    """Put the weight of an ended process's session back; taking more from it for the sake of who is gone is no use."""
    leader = _leader(host, target)
    now = None if leader is None else host.scheduler.autogroup(leader)
    if leader is None or now is None or want.autogroup_nice is None or want.autogroup_nice > now:
        raise ProcessLookupError(f"{target} is gone")
    host.scheduler.set_autogroup(leader, want.autogroup_nice)


def _levers(host: Host, pid: int) -> Priority:
    levers = host.scheduler
    ionice_class, ionice_level = (None, None) if levers.lacks("ionice") else levers.ionice(pid)
    low, high = levers.uclamp(pid) or (None, None)
    leader = Priority(
        nice=levers.nice(pid),
        autogroup_nice=levers.autogroup(pid),
        ionice_class=cast(IoClass | None, ionice_class),
        ionice_level=ionice_level,
        policy=None if levers.lacks("policy") else levers.policy(pid)[0],
        cpus=None if levers.lacks("affinity") else format_cpus(levers.affinity(pid)),
        uclamp_min=low,
        uclamp_max=high,
    )
    session = None
    if host.system == "linux":
        try:
            session = _session(host.read(f"/proc/{pid}/stat", 4096))
        except (FileNotFoundError, ValueError, IndexError):
            raise ProcessLookupError(f"process {pid} is gone") from None
    return msgspec.structs.replace(leader, session=session, apart=_apart(host, pid, leader))


def _apart(host: Host, pid: int, leader: Priority) -> tuple[str, ...]:
    """What single threads have otherwise than the leader: a setting made for all must not lose it unsaid."""
    if host.system != "linux":
        return ()
    levers, found = host.scheduler, set[str]()
    try:
        threads = [int(tid) for tid in host.list(f"/proc/{pid}/task") if int(tid) != pid]
    except OSError:
        return ()
    for tid in threads:
        try:
            own: dict[str, object] = {
                "nice": levers.nice(tid),
                "ionice_class": levers.ionice(tid)[0],
                "policy": levers.policy(tid)[0],
                "cpus": format_cpus(levers.affinity(tid)),
            }
            if leader.uclamp_max is not None:
                own["uclamp_min"], own["uclamp_max"] = levers.uclamp(tid) or (None, None)
        except ProcessLookupError:
            continue
        found |= {f"{key}={value}" for key, value in own.items() if value != getattr(leader, key)}
    return tuple(sorted(found))


def _rounded(now: Priority, want: Priority, levers: Scheduler) -> Priority:
    """As the system will round it: nice within its range, the level that a class has, only levers that exist here."""
    ionice_class = want.ionice_class or (now.ionice_class if want.ionice_level is not None else None)
    level = want.ionice_level
    if ionice_class is not None and now.ionice_class is not None:
        rounded = levers.rounded_ionice(ionice_class, _LEVEL_OF[ionice_class] if level is None else level)
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


def _session(stat: bytes) -> int:
    """The session id of a line of /proc/PID/stat; the name in it may hold anything."""
    return int(stat[stat.rindex(b")") + 1 :].split()[3])


def _session_of(host: Host, process: str) -> int | None:
    try:
        return _session(host.read(f"/proc/{process}/stat", 4096))
    except (OSError, ValueError, IndexError):
        return None


def _name_of(host: Host, pid: int | None) -> str:
    """A session's leader in words; it may have ended before the others."""
    try:
        return host.read(f"/proc/{pid}/comm", 64).decode("utf-8", "replace").strip() or "a process without a name"
    except OSError:
        return "a process that has ended"


def parse_cpus(text: str) -> list[int]:
    """CPUs of a list such as "0-3,6". SteadError when it is none."""
    cpus: set[int] = set()
    try:
        for part in text.split(","):
            first, _, last = part.strip().partition("-")
            cpus.update(range(int(first), int(last or first) + 1))
    except ValueError:
        cpus.clear()
    if not cpus:
        raise SteadError(f"not a list of CPUs: {text!r}", "cpus", 'write it as "0-3,6"', code="priority.cpus")
    return sorted(cpus)


def format_cpus(cpus: tuple[int, ...] | list[int]) -> str:
    """CPUs as the shortest such list."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def actuator(
    host: Host,
    protected: Sequence[str] = (),
    own: Callable[[], Mapping[str, str]] = dict,
    intent: Intent | None = None,
) -> Actuator[Priority]:
    """The plugin's factory. `protected`: the policy's patterns; `own`: stead's own processes, pid → what it is."""
    return PriorityActuator(host, Shield(protected, own, intent or Intent()))
