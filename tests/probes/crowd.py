"""A recorded host that a test peoples: processes with their times, in control groups of version 2 with pressure."""

from __future__ import annotations

from pathlib import Path

from stead.model.observe import Now
from stead.testing import FakeHost

TREE = "/sys/fs/cgroup"
MOUNTINFO = f"30 24 0:26 / {TREE} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


class Crowd:
    """Processes by pid; `run` lets one run and wait for a while."""

    def __init__(self, root: Path) -> None:
        self.host = FakeHost(root)
        self._times: dict[int, tuple[int, int]] = {}
        self._stats: dict[int, tuple[str, int, int, int]] = {}
        self._last = 0
        self.now = Now(1_700_000_000_000, 1_000_000)
        self.put("/proc/self/mountinfo", MOUNTINFO)
        self.put(f"{TREE}/cgroup.controllers", "cpu io memory pids\n")

    def put(self, path: str, text: str) -> None:
        """Write a file of the host in place: kept descriptors go on reading it."""
        file = Path(f"{self.host.root}{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def group(self, path: str, **files: str) -> None:
        """A control group; a file's name has underscores for its dots."""
        self.put(f"{TREE}{path}/cgroup.procs", "")
        for name, text in files.items():
            self.put(f"{TREE}{path}/{name.replace('__', '.')}", text)

    def pressure(self, path: str, resource: str, total_us: int) -> None:
        """The total of a group's pressure."""
        line = f"avg10=0.00 avg60=0.00 avg300=0.00 total={total_us}\n"
        self.put(f"{TREE}{path}/{resource}.pressure", f"some {line}full {line}")

    def born(self, pid: int, name: str, command: str = "", *, parent: int = 1, group: str = "/", flags: int = 0) -> None:
        """A process begins."""
        self._times[pid], self._stats[pid] = (0, 0), (name, parent, flags, 100)
        self._last = max(self._last, pid)
        self.put(f"/proc/{pid}/cgroup", f"0::{group}\n")
        self.put(f"/proc/{pid}/cmdline", (command or name).replace(" ", "\0") + "\0")
        self.put(f"/proc/{pid}/status", f"Name:\t{name}\nTgid:\t{pid}\nUid:\t0\t0\t0\t0\n")
        self._write(pid)

    def becomes(self, pid: int, name: str) -> None:
        """It executes another program."""
        _, parent, flags, pages = self._stats[pid]
        self._stats[pid] = (name, parent, flags, pages)
        self.put(f"/proc/{pid}/cmdline", f"{name}\0")
        self.run(pid, ran_s=0.001)

    def grow(self, pid: int, pages: int) -> None:
        """It has more memory resident."""
        name, parent, flags, before = self._stats[pid]
        self._stats[pid] = (name, parent, flags, before + pages)
        self.run(pid, ran_s=0.001)

    def run(self, pid: int, ran_s: float = 0.0, waited_s: float = 0.0) -> None:
        """It runs and waits for so long."""
        ran, waited = self._times[pid]
        self._times[pid] = (ran + round(ran_s * 1e9), waited + round(waited_s * 1e9))
        self._write(pid)

    def ends(self, pid: int) -> None:
        """It ends."""
        for name in ("cgroup", "cmdline", "status", "stat", "schedstat"):
            Path(f"{self.host.root}/proc/{pid}/{name}").unlink()
        Path(f"{self.host.root}/proc/{pid}").rmdir()
        self._last += 1
        self._loadavg()

    def tick(self, seconds: float = 1.0) -> Now:
        """Time goes on; the last pid moves with it."""
        self.now = Now(self.now.unix_ms + round(seconds * 1000), self.now.mono_ms + round(seconds * 1000))
        self._loadavg()
        return self.now

    @property
    def last_pid(self) -> int:
        """The last pid that was handed out."""
        return self._last

    def _loadavg(self) -> None:
        self.put("/proc/loadavg", f"0.10 0.10 0.10 1/{len(self._times)} {self._last}\n")

    def _write(self, pid: int) -> None:
        name, parent, flags, pages = self._stats[pid]
        ran, waited = self._times[pid]
        ticks = ran // 10_000_000
        fields = [parent, pid, pid, 0, -1, flags, 0, 0, 0, 0, ticks, 0, 0, 0, 20, 0, 1, 0, 7 * pid, 0, pages]
        self.put(f"/proc/{pid}/stat", f"{pid} ({name}) S {' '.join(map(str, fields))}\n")
        self.put(f"/proc/{pid}/schedstat", f"{ran} {waited} 1\n")
        self._loadavg()
