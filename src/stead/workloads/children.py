"""One supervised process group: started in its own session, known by identity, signalled without ever hitting a stranger.

A child of ours keeps its pid until we reap it, so its group can be signalled by number. An adopted worker (the agent was
killed and came back) is somebody else's child: it is held by a pidfd, and the rest of its group is only signalled after
each member's environment showed the worker's own mark.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from stead.protocols import Host

MARK = "STEAD_SPAWN"


class Child:
    """A running worker's process group leader."""

    def __init__(self, host: Host, pid: int, start_ticks: int, spawn: str, own: bool) -> None:
        self.pid = pid
        self.start_ticks = start_ticks
        self._host = host
        self._spawn = spawn
        self._own = own
        self._ended = False
        self._pidfd = _open_pidfd(pid)

    @property
    def alive(self) -> bool:
        """Is this very process still running? A zombie is not."""
        if self._ended:
            return False
        if self._pidfd is not None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            return not poll.poll(0)
        if self._own:
            with contextlib.suppress(ChildProcessError):
                return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        return self._host.start_ticks(self.pid) == self.start_ticks

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the whole group. Nothing happens to a process that is not of this worker."""
        if self._ended:
            return
        if self._own:  # not reaped yet, so neither its pid nor its group's number can have been given away
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            return
        if self._pidfd is not None and self.alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)
        signal_marked(self._host, self._spawn, self.pid, number)

    def bury(self) -> None:
        """The leader has ended: end what is left of its group, and reap it if it is ours."""
        if self._ended:
            return
        self.signal_group(signal.SIGKILL)
        if self._own:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)
        self._ended = True
        self.let_go()

    def let_go(self) -> None:
        """Close what we hold of it; the process runs on."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def start(host: Host, argv: Sequence[str], env: Mapping[str, str], cwd: str, log: Path, cpus: Sequence[int], spawn: str) -> Child:
    """Start a worker as the leader of its own session. Raises OSError when it can't be started."""
    with open(log, "ab") as output:  # noqa: PTH123 (append mode, so that the log can be truncated under it)
        os.chmod(log, 0o640)  # noqa: PTH101
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd or None,
            start_new_session=True,
        )
    process.returncode = 0  # it is ours to reap, and outlives this object on purpose
    if cpus:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(process.pid, cpus)
    return Child(host, process.pid, host.start_ticks(process.pid) or 0, spawn, own=True)


def adopt(host: Host, pid: int, start_ticks: int, spawn: str) -> Child | None:
    """Take up a worker that an earlier agent started; None when that very process no longer runs."""
    if host.start_ticks(pid) != start_ticks:
        return None
    child = Child(host, pid, start_ticks, spawn, own=False)
    if host.start_ticks(pid) == start_ticks and child.alive:  # asked again: the pidfd is now of this process
        return child
    child.let_go()
    return None


def find_marked(host: Host, variable: str) -> dict[str, list[int]]:
    """All processes whose environment has this variable: its value → their pids."""
    found: dict[str, list[int]] = {}
    prefix = variable.encode() + b"="
    for pid in _pids(host):
        for pair in _environment(host, pid):
            if pair.startswith(prefix):
                found.setdefault(os.fsdecode(pair[len(prefix) :]), []).append(pid)
    return found


def variables(host: Host, pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty when it can't be read."""
    pairs = (pair.decode(errors="surrogateescape").partition("=") for pair in _environment(host, pid))
    return {name: value for name, _, value in pairs}


def lineage(host: Host, pid: int) -> set[int]:
    """A process, its ancestors, and the leaders of all their sessions."""
    found: set[int] = set()
    while pid > 1 and pid not in found:
        found.add(pid)
        with contextlib.suppress(OSError):
            found.add(os.getsid(pid))
        try:
            pid = int(host.read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return found - {0, 1}


def signal_marked(host: Host, spawn: str, group: int | None, number: signal.Signals) -> None:
    """Signal every process whose environment has this worker's mark (and, if given, that is in this group)."""
    mark = f"{MARK}={spawn}".encode()
    for pid in _pids(host):
        if group is not None and _group(pid) != group:
            continue
        pidfd = _open_pidfd(pid)
        if pidfd is None:
            continue
        try:
            if mark in _environment(host, pid):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)


def leads_session(pid: int) -> bool:
    """Is it the process that a worker was started as, not one that it started?"""
    with contextlib.suppress(OSError):
        return os.getsid(pid) == pid
    return False


def _group(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return os.getpgid(pid)
    return None


def _pids(host: Host) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in host.list("/proc") if name.isdecimal()]
    return []


def _environment(host: Host, pid: int) -> list[bytes]:
    with contextlib.suppress(OSError):
        return host.read(f"/proc/{pid}/environ").split(b"\0")
    return []


def _open_pidfd(pid: int) -> int | None:
    with contextlib.suppress(OSError, AttributeError):  # gone already, or a system without pidfds
        return os.pidfd_open(pid)
    return None
