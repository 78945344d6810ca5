"""The levers of one process as values, read and set: nice, autogroup nice, IO class, scheduling class, clamps, CPUs."""

from __future__ import annotations

from typing import Final, Literal, cast

import msgspec

from stead.protocols import Host, Scheduler
from stead.scheduling.cpus import format_cpus, parse_cpus
from stead.scheduling.session import session_in

IoClass = Literal["none", "realtime", "best_effort", "idle"]
LEVEL_OF: Final = {"none": 0, "idle": 0, "best_effort": 4, "realtime": 4}


class Priority(msgspec.Struct, frozen=True):
    """The levers of one process; None leaves one as it is, or means that the system has none such.

    `cpus` is a list such as "0-3,6"; the utilisation clamps go from 0 to 1024, a largest core's whole capacity. `session` and
    `apart` are only ever read: the session whose autogroup it is in, and the values that single threads have of their own
    ("nice=19"). `family` is what it has started by now and how that is lowered (`members`); wanted without names, as in
    ["nice=19", "policy=idle"], it is whoever that is when it is planned.
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
    family: list[str] | None = None


def read_levers(host: Host, pid: int) -> Priority:
    """All levers of a process as they are. ProcessLookupError when it is gone."""
    leader = leader_levers(host.scheduler, pid)
    session = None
    if host.system == "linux":
        try:
            session = session_in(host.read(f"/proc/{pid}/stat", 4096))
        except (FileNotFoundError, ValueError, IndexError):
            raise ProcessLookupError(f"process {pid} is gone") from None
    return msgspec.structs.replace(leader, session=session, apart=_apart(host, pid, leader))


def leader_levers(levers: Scheduler, pid: int) -> Priority:
    """The levers of its first thread. ProcessLookupError when it is gone."""
    ionice_class, ionice_level = (None, None) if levers.lacks("ionice") else levers.ionice(pid)
    low, high = levers.uclamp(pid) or (None, None)
    return Priority(
        nice=levers.nice(pid),
        autogroup_nice=levers.autogroup(pid),
        ionice_class=cast(IoClass | None, ionice_class),
        ionice_level=ionice_level,
        policy=None if levers.lacks("policy") else levers.policy(pid)[0],
        cpus=None if levers.lacks("affinity") else format_cpus(levers.affinity(pid)),
        uclamp_min=low,
        uclamp_max=high,
    )


def set_levers(levers: Scheduler, pid: int, want: Priority) -> None:
    """Set what is wanted, and not None, on a process and the threads that go with it. ProcessLookupError, PermissionError."""
    if want.cpus is not None:
        levers.set_affinity(pid, parse_cpus(want.cpus))
    if want.policy is not None:
        levers.set_policy(pid, want.policy, 0)
    if want.nice is not None:
        levers.set_nice(pid, want.nice)
    if want.ionice_class is not None:
        level = LEVEL_OF[want.ionice_class] if want.ionice_level is None else want.ionice_level
        levers.set_ionice(pid, want.ionice_class, level)
    if want.uclamp_min is not None or want.uclamp_max is not None:
        levers.set_uclamp(pid, want.uclamp_min, want.uclamp_max)
    if want.autogroup_nice is not None:
        levers.set_autogroup(pid, want.autogroup_nice)


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
