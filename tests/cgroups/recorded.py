"""A host whose control groups are a folder of a test, with as much of the kernel's and systemd's behaviour as is needed.

The real ones are tried on this machine (version 1) and in the guest (version 2, systemd); this is their quick stand-in.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from stead.protocols import Completed
from stead.testing import FakeHost

MOUNTS = {
    "v2": "25 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
    "hybrid": "".join(
        f"3{at} 31 0:3{at} / /sys/fs/cgroup/{name} rw - cgroup cgroup rw,{name}\n"
        for at, name in enumerate(("cpu", "memory", "blkio", "pids", "freezer"))
    )
    + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
    "none": "22 1 0:20 / /proc rw - proc proc rw\n",
}
CONTROLLERS = ("cpu", "io", "memory", "pids")
NEW = {
    "cgroup.freeze": "0",
    "cgroup.events": "populated 0\nfrozen 0",
    "cpu.weight": "100",
    "cpu.idle": "0",
    "cpu.max": "max 100000",
    "memory.high": "max",
    "memory.low": "0",
    "memory.max": "max",
    "memory.current": "10485760",
    "memory.stat": "inactive_file 1048576\nactive_file 0\nslab_reclaimable 0\nanon 9437184",
    "io.weight": "default 100",
    "io.max": "",
    "io.latency": "",
    "pids.max": "max",
    "pids.current": "1",
}
CONTROL = "/run/systemd/system.control"
PROPERTY = {
    "CPUQuota": "cpu.max",
    "MemoryHigh": "memory.high",
    "MemoryLow": "memory.low",
    "MemoryMax": "memory.max",
    "TasksMax": "pids.max",
    "IOWeight": "io.weight",
}
IO = {"IOReadBandwidthMax": "rbps", "IOWriteBandwidthMax": "wbps", "IOReadIOPSMax": "riops", "IOWriteIOPSMax": "wiops"}


class RecordedHost(FakeHost):
    """`refuses`: the end of a file's path → the error that writing it raises. `systemd`: its version, 0 where it isn't there."""

    def __init__(self, root: Path, systemd: int = 0, mounts: str = "v2", disk: str = "254:0") -> None:
        super().__init__(root)
        self.refuses: dict[str, OSError] = {}
        self.systemd, self.units = systemd, dict[str, str]()
        self.put("/proc/self/mountinfo", MOUNTS[mounts])
        self.put("/proc/meminfo", "MemAvailable: 1000000 kB\nSwapFree: 0 kB\n")
        self.put("/sys/block/vda/device/vendor", "x")
        self.put("/sys/block/vda/dev", disk)
        self.put("/sys/block/vda/queue/scheduler", "none [bfq]")
        self.put(f"/sys/dev/block/{disk}/uevent", "MAJOR=254\nDEVNAME=vda\n")
        if mounts == "v2":
            self.put("/sys/fs/cgroup/cgroup.controllers", " ".join(CONTROLLERS))
            self.put("/sys/fs/cgroup/cgroup.subtree_control", " ".join(CONTROLLERS))
            self.put("/sys/fs/cgroup/cgroup.procs", "")
        if systemd:
            self.put("/run/systemd/system/.there", "")

    def put(self, path: str, text: str) -> None:
        """Make a file."""
        place = Path(self._under_root(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def group(self, path: str, controllers: Sequence[str] = CONTROLLERS, pids: Sequence[int] = ()) -> str:
        """Make a group of version 2 with these controllers, with processes of these pids."""
        folder = f"/sys/fs/cgroup{path}"
        self.put(f"{folder}/cgroup.controllers", " ".join(controllers))
        self.put(f"{folder}/cgroup.procs", "".join(f"{pid}\n" for pid in pids))
        self.put(f"{folder}/cgroup.subtree_control", "")
        for name, text in NEW.items():
            if name.partition(".")[0] in (*controllers, "cgroup"):
                self.put(f"{folder}/{name}", text + "\n")
        return folder

    def process(self, pid: int, name: str, path: str = "/", ticks: int = 500, flags: int = 0) -> None:
        """Make a process."""
        middle = " ".join(["1", "1", "1", "0", "-1", str(flags), *["0"] * 12])
        self.put(f"/proc/{pid}/stat", f"{pid} ({name}) S {middle} {ticks} 0 0 0\n")
        self.put(f"/proc/{pid}/comm", f"{name}\n")
        self.put(f"/proc/{pid}/cgroup", f"0::{path}\n")
        self.scheduler.add(pid)

    def make_folder(self, path: str) -> None:
        """As the kernel: a new group has its files."""
        super().make_folder(path)
        if path.startswith("/sys/fs/cgroup/"):
            self.group(path.removeprefix("/sys/fs/cgroup"))

    def remove_folder(self, path: str) -> None:
        """As the kernel: a group without processes and groups goes with its files."""
        if not path.startswith("/sys/fs/cgroup/"):
            return super().remove_folder(path)
        place = Path(self._under_root(path))
        if (place / "cgroup.procs").read_text().strip() or any(one.is_dir() for one in place.iterdir()):
            raise OSError(16, "Device or resource busy", path)
        shutil.rmtree(place)

    def write(self, path: str, data: bytes) -> None:
        """As the kernel: a knob takes its own form, a process moves."""
        for end, error in self.refuses.items():
            if path.endswith(end):
                raise error
        name, text = path.rpartition("/")[2], data.decode().strip()
        if name == "cgroup.procs":
            return self._move(path, text)
        self._knob(path, name, text)

    def _knob(self, path: str, name: str, text: str) -> None:
        now = self.read(path).decode().strip() if self.inode(path) is not None else ""
        if name == "cpu.max":
            text = f"{text} {now.split()[1]}" if " " not in text else text
        elif name.startswith("memory.") and text.isdigit():
            text = str(int(text) // 4096 * 4096)
        elif name in ("io.max", "io.latency"):
            text = _lines(now, text)
        super().write(path, text.encode() + b"\n")
        folder = path.rpartition("/")[0]
        if name == "cgroup.freeze":
            super().write(f"{folder}/cgroup.events", f"populated 1\nfrozen {text}\n".encode())
        if name == "cpu.idle":
            super().write(f"{folder}/cpu.weight", b"0\n" if text == "1" else b"100\n")

    def _move(self, path: str, pid: str) -> None:
        if not Path(self._under_root(f"/proc/{pid}/stat")).exists():
            raise ProcessLookupError(3, "No such process", path)
        for place in Path(self._under_root("/sys/fs/cgroup")).rglob("cgroup.procs"):
            place.write_text("".join(f"{one}\n" for one in place.read_text().split() if one != pid))
        super().write(path, self.read(path) + pid.encode() + b"\n")
        group = path.removeprefix("/sys/fs/cgroup").rpartition("/")[0] or "/"
        self.put(f"/proc/{pid}/cgroup", f"0::{group}\n")

    async def run(self, argv: Sequence[str], timeout_s: float, stdin: bytes = b"", limit: int = 1 << 20) -> Completed:
        """systemctl, for what `units` asks of it. `units`: a unit's name → its group."""
        self.commands.append(tuple(argv))
        verb = argv[1]
        if verb == "show":
            return Completed(0, f"Version={self.systemd}.39-1\n", "")
        unit = argv[argv.index("--") + 1]
        if unit not in self.units:
            return Completed(1, "", f"Unit {unit} not found.\n")
        folder = f"/sys/fs/cgroup{self.units[unit]}"
        if verb in ("freeze", "thaw"):
            self._knob(f"{folder}/cgroup.freeze", "cgroup.freeze", "1" if verb == "freeze" else "0")
            return Completed(0, "", "")
        for word in argv[argv.index("--") + 2 :]:
            self._set(unit, folder, *word.split("=", 1))
        return Completed(0, "", "")

    def _set(self, unit: str, folder: str, prop: str, value: str) -> None:
        self.put(f"{CONTROL}/{unit}.d/50-{prop}.conf", f"[Service]\n{prop}={value}\n")
        if prop == "CPUWeight":
            self._knob(f"{folder}/cpu.idle", "cpu.idle", "1" if value == "idle" else "0")
            if value != "idle":
                self._knob(f"{folder}/cpu.weight", "cpu.weight", value or "100")
        elif prop in IO or prop == "IODeviceLatencyTargetSec":
            self._set_io(folder, prop, value)
        elif prop == "CPUQuota":
            self._knob(f"{folder}/cpu.max", "cpu.max", str(round(float(value[:-1]) * 1000)) if value else "max")
        elif prop == "IOWeight":
            self._knob(f"{folder}/io.weight", "io.weight", f"default {value or 100}")
        else:
            self._knob(f"{folder}/{PROPERTY[prop]}", PROPERTY[prop], "max" if value in ("", "infinity") else value)

    def _set_io(self, folder: str, prop: str, value: str) -> None:
        name, key = ("io.max", IO[prop]) if prop in IO else ("io.latency", "target")
        amount = value.split()[1].removesuffix("us") if value else "max" if prop in IO else "0"
        if not value and name == "io.latency":
            raise AssertionError("systemd 252 does not take an empty list of these")
        if value or self.read(f"{folder}/{name}").strip():
            self._knob(f"{folder}/{name}", name, f"254:0 {key}={amount}")


def _lines(now: str, text: str) -> str:
    """io.max and io.latency: one device's keys are merged with what it had; a device without limits has no line."""
    found = {line.split()[0]: dict(part.split("=") for part in line.split()[1:]) for line in now.splitlines()}
    name, *parts = text.split()
    keys = found.setdefault(name, {} if "target" in text else dict.fromkeys(("rbps", "wbps", "riops", "wiops"), "max"))
    keys.update(part.split("=") for part in parts)
    kept = {name: keys for name, keys in found.items() if set(keys.values()) - {"max", "0"}}
    return "\n".join(f"{name} " + " ".join(f"{k}={v}" for k, v in keys.items()) for name, keys in kept.items())
