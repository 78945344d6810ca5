"""The session that a process is in: its autogroup's nice is shared by all of it, and outlives the process."""

from __future__ import annotations

from stead.model.change import Target
from stead.protocols import Host


def session_in(stat: bytes) -> int:
    """The session id of a line of /proc/PID/stat; the name in it may hold anything. ValueError or IndexError for no such line."""
    return int(stat[stat.rindex(b")") + 1 :].split()[3])


def session_of(host: Host, process: str) -> int | None:
    """The session of a process ("self": stead's own); None when it is not known."""
    try:
        return session_in(host.read(f"/proc/{process}/stat", 4096))
    except (OSError, ValueError, IndexError):
        return None


def leader_within(host: Host, leader: int | None, pid: str) -> dict[str, str]:
    """The process that leads a session, for a target to be kept with: what is shared can be put back without the process."""
    ticks = host.start_ticks(leader) if leader and str(leader) != pid else None
    return {} if ticks is None else {"leader": str(leader), "start_ticks": str(ticks)}


def leader_of(host: Host, target: Target) -> int | None:
    """The pid of the session's leader, if it is the very one that it was."""
    pid, ticks = target.within.get("leader", ""), target.within.get("start_ticks")
    alive = pid.isdigit() and target.identity.get("boot_id") == host.boot_id and str(host.start_ticks(int(pid))) == ticks
    return int(pid) if alive else None


def give_back(host: Host, target: Target, want: int | None) -> None:
    """Put the weight of an ended process's session back; taking more from it for the sake of who is gone is no use.

    ProcessLookupError where there is nothing to give back.
    """
    leader = leader_of(host, target)
    now = None if leader is None else host.scheduler.autogroup(leader)
    if leader is None or now is None or want is None or want > now:
        raise ProcessLookupError(f"{target} is gone")
    host.scheduler.set_autogroup(leader, want)


def name_of(host: Host, pid: int | None) -> str:
    """A session's leader in words; it may have ended before the others."""
    try:
        return host.read(f"/proc/{pid}/comm", 64).decode("utf-8", "replace").strip() or "a process without a name"
    except OSError:
        return "a process that has ended"
