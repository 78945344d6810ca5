"""How full each file system is and when it will be full, and how busy each disk is: two probes.

Asking a file system for its sizes can hang for ever (a dead network or FUSE mount), so `disk_space` may block: local
file systems are asked in turn, each of the others on a thread of its own, and one that does not answer is unknown until it does.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from typing import Final, NamedTuple

from stead.host.procfs import unescaped
from stead.model.observe import MetricSpec, Now, Reading, Sample
from stead.probes.reading import Rates, Source, SystemProbe, unknown, why
from stead.protocols import Host

ANSWERS: Final = "infra.disk_answers"
HANGS: Final = "the file system does not answer"
NEVER_HOURS: Final = 8760.0  # a year: not filling, or so slowly that it is no answer
_HISTORY_MS: Final = 3_600_000
_LEAST_HISTORY_MS: Final = 600_000
_POINT_MS: Final = 60_000
_MOST_MOUNTS: Final = 64
_ANSWER_S: Final = 2.0
_LOCAL: Final = frozenset(
    ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "vfat", "exfat", "zfs", "tmpfs", "overlay", "apfs", "hfs", "ntfs")
)
_REMOTE: Final = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "ceph", "glusterfs", "afs", "lustre", "zfs")
)
_IMAGES: Final = frozenset(("squashfs", "iso9660", "erofs", "cramfs", "udf"))  # always full: that is their nature
_SHIMS: Final = frozenset(  # images again, and doors to other file systems that let only their user in
    ("fuse.squashfuse", "fuse.squashfuse_ll", "fuse.snapfuse", "fuse.lxcfs", "fuse.portal", "fuse.gvfsd-fuse")
)
_SUFFIXES: Final = re.compile(r"^(?:(?:sd|vd|xvd|hd)[a-z]+\d+|(?:nvme\d+n\d+|mmcblk\d+)p\d+)$")
_NOT_DISKS: Final = ("loop", "ram", "fd", "sr")


class Mount(NamedTuple):
    """One mounted file system."""

    path: str
    source: str
    type: str


class Io(NamedTuple):
    """One disk's counters since boot; milliseconds and bytes."""

    reads: int
    read_bytes: int
    writes: int
    written_bytes: int
    busy_ms: int | None


def parse_mounts(text: str) -> list[Mount]:
    """Parse /proc/mounts into the real file systems: those that hold data, each device once at its shortest path."""
    chosen: dict[str, Mount] = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        mount = Mount(unescaped(fields[1]), unescaped(fields[0]), fields[2])
        if not _is_real(mount):
            continue
        key = mount.source if mount.source.startswith("/") else f"{mount.source} {mount.path}"
        if key not in chosen or len(mount.path) < len(chosen[key].path):
            chosen[key] = mount
    return sorted(chosen.values())[:_MOST_MOUNTS]


def _is_real(mount: Mount) -> bool:
    if mount.type in _IMAGES or mount.type in _SHIMS or mount.type.lower().endswith(".appimage"):
        return False
    if mount.path in ("/", "/tmp"):  # noqa: S108 (a mount point, whatever holds it)
        return mount.type not in ("rootfs", "autofs")
    return mount.source.startswith("/dev/") or mount.type in _REMOTE or mount.type.startswith(("fuse.", "fuseblk"))


def parse_diskstats(text: str) -> dict[str, Io]:
    """Parse /proc/diskstats: every block device that was ever used, partitions too."""
    disks = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 14 and (fields[3] != "0" or fields[7] != "0"):
            reads, sectors_read, writes, sectors_written, busy_ms = (int(fields[i]) for i in (3, 5, 7, 9, 12))
            disks[fields[2]] = Io(reads, sectors_read * 512, writes, sectors_written * 512, busy_ms)
    return disks


class Space(NamedTuple):
    """Sizes of one file system. `inodes` is (used, total); None where it has no fixed number."""

    used: int
    available: int
    inodes: tuple[int, int] | None


def hours_to_full(history: deque[tuple[int, int]], available: int) -> float | None:
    """Extrapolate (mono_ms, used bytes) points by least squares. None with less than ten minutes of them; at most a year."""
    if len(history) < 2 or history[-1][0] - history[0][0] < _LEAST_HISTORY_MS:
        return None
    mean_ms = sum(at for at, _ in history) / len(history)
    mean_used = sum(used for _, used in history) / len(history)
    spread = sum((at - mean_ms) ** 2 for at, _ in history)
    bytes_per_ms = sum((at - mean_ms) * (used - mean_used) for at, used in history) / spread
    if bytes_per_ms <= 0:
        return NEVER_HOURS
    return min(NEVER_HOURS, available / bytes_per_ms / 3_600_000)


class DiskSpace(SystemProbe):
    """Space, inodes and time to full of each real mount."""

    name = "disk_space"
    interval_s = 30.0
    timeout_s = 10.0
    blocking = True
    metrics = (
        MetricSpec("infra.disk_usage", "percent", "Space in use, of what ordinary users can have", "max"),
        MetricSpec("infra.disk_inodes", "percent", "Inodes in use", "max"),
        MetricSpec(
            "infra.disk_time_to_full",
            "hours",
            "Hours until full at the last hour's rate; 8760 (a year) when it isn't filling",
            "min",
        ),
        MetricSpec("disk.available_bytes", "bytes", "Space that ordinary users can still have", "min"),
        MetricSpec(ANSWERS, "bool", "1 when a file system says its sizes, 0 when it hangs", "min"),
    )

    def __init__(self) -> None:
        self._history: dict[str, deque[tuple[int, int]]] = {}
        self._hung: dict[str, threading.Thread] = {}

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Ask every real mount of /proc/self/mounts."""
        return self._read(host, now, parse_mounts(host.read("/proc/self/mounts").decode("utf-8", "replace")))

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Ask every real mount that psutil lists."""
        mounts = [Mount(part.mountpoint, part.device, part.fstype.lower()) for part in host.psutil.disk_partitions(all=False)]
        return self._read(host, now, [mount for mount in mounts if mount.type and mount.type not in _IMAGES][:_MOST_MOUNTS])

    def _read(self, host: Host, now: Now, mounts: list[Mount]) -> Reading:
        if not mounts:
            return unknown(self.metrics, "no real file system is mounted")
        for gone in self._history.keys() - {mount.path for mount in mounts}:
            del self._history[gone]
        samples: list[Sample] = []
        for mount, space in self._ask_all(host, mounts).items():
            samples += self._samples(mount, space, now)
        return Reading(tuple(samples))

    def _ask_all(self, host: Host, mounts: list[Mount]) -> dict[str, Space | str]:
        """Ask each mount; those that can hang all at the same time, each for at most two seconds."""
        answers: dict[str, Space | str] = {}
        asked: list[str] = []
        for mount in mounts:
            if mount.type in _LOCAL:
                answers[mount.path] = _ask(host, mount.path)
                continue
            asked.append(mount.path)
            if mount.path not in self._hung or not self._hung[mount.path].is_alive():
                thread = threading.Thread(target=lambda path=mount.path: answers.update({path: _ask(host, path)}), daemon=True)
                self._hung[mount.path] = thread
                thread.start()
        patience_s = _ANSWER_S
        for path in asked:
            self._hung[path].join(patience_s)
            if self._hung[path].is_alive():
                patience_s = 0.0  # the others had the same time
        answers = dict(answers)  # a thread that answers from here on answers in vain
        self._hung = {path: thread for path, thread in self._hung.items() if thread.is_alive()}
        return {mount.path: answers.get(mount.path, HANGS) for mount in mounts}

    def _samples(self, path: str, space: Space | str, now: Now) -> list[Sample]:
        subject = f"mount:{path}"
        if isinstance(space, str):
            unknown_ones = [Sample(metric.id, subject, None, space) for metric in self.metrics if metric.id != ANSWERS]
            return [*unknown_ones, Sample(ANSWERS, subject, 0.0) if space == HANGS else Sample(ANSWERS, subject, None, space)]
        history = self._history.setdefault(path, deque())
        if not history or now.mono_ms - history[-1][0] >= _POINT_MS:
            history.append((now.mono_ms, space.used))
        while now.mono_ms - history[0][0] > _HISTORY_MS:
            history.popleft()
        hours = hours_to_full(history, space.available)
        size = space.used + space.available
        inodes = space.inodes
        return [
            Sample(
                "infra.disk_usage", subject, 100.0 * space.used / size if size else None, "" if size else "it reports no size"
            ),
            Sample(
                "infra.disk_inodes",
                subject,
                100.0 * inodes[0] / inodes[1] if inodes else None,
                "" if inodes else "no fixed inodes",
            ),
            Sample("infra.disk_time_to_full", subject, hours, "" if hours is not None else "less than ten minutes of history"),
            Sample("disk.available_bytes", subject, float(space.available)),
            Sample(ANSWERS, subject, 1.0),
        ]


def _ask(host: Host, path: str) -> Space | str:
    try:
        if host.system != "linux":
            usage = host.psutil.disk_usage(path)
            return Space(usage.used, usage.free, None)
        sizes = host.statvfs(path)
    except OSError as failure:
        return why(failure)
    inodes = (sizes.f_files - sizes.f_ffree, sizes.f_files - sizes.f_ffree + sizes.f_favail) if sizes.f_files else None
    return Space((sizes.f_blocks - sizes.f_bfree) * sizes.f_frsize, sizes.f_bavail * sizes.f_frsize, inodes)


class DiskIo(SystemProbe):
    """Traffic and busy time of each whole disk."""

    name = "disk_io"
    metrics = (
        MetricSpec("disk.read_bytes_per_second", "bytes_per_second", "Bytes read from a disk"),
        MetricSpec("disk.written_bytes_per_second", "bytes_per_second", "Bytes written to a disk"),
        MetricSpec("disk.reads_per_second", "per_second", "Reads finished by a disk"),
        MetricSpec("disk.writes_per_second", "per_second", "Writes finished by a disk"),
        MetricSpec("disk.busy_percent", "percent", "Time in which a disk had work"),
    )

    def __init__(self) -> None:
        self._diskstats = Source("/proc/diskstats")
        self._rates = Rates()
        self._whole: dict[str, bool] = {}

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Read /proc/diskstats; /sys/block tells disks from partitions."""
        disks = parse_diskstats(self._diskstats.text(host))
        if disks.keys() - self._whole.keys():
            self._whole = _whole_disks(host, disks)
        return self._read({name: io for name, io in disks.items() if self._whole[name]}, now)

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Read disk_io_counters."""
        counters = host.psutil.disk_io_counters(perdisk=True) or {}
        disks = {
            name: Io(one.read_count, one.read_bytes, one.write_count, one.write_bytes, getattr(one, "busy_time", None))
            for name, one in counters.items()
        }
        return self._read(disks, now)

    def _read(self, disks: dict[str, Io], now: Now) -> Reading:
        if not disks:
            return unknown(self.metrics, "no disk was ever used")
        samples: list[Sample] = []
        for name, io in disks.items():
            subject = f"disk:{name}"
            counters = (io.read_bytes, io.written_bytes, io.reads, io.writes)
            for metric, counter in zip(self.metrics, counters, strict=False):
                samples.append(self._rates.sample(metric.id, subject, counter, now.mono_ms))
            if io.busy_ms is None:
                samples.append(Sample("disk.busy_percent", subject, None, "not counted on this system"))
            else:
                samples.append(self._rates.sample("disk.busy_percent", subject, io.busy_ms, now.mono_ms, 0.1))
        self._rates.keep({f"disk:{name}" for name in disks})
        return Reading(tuple(samples))


def _whole_disks(host: Host, disks: dict[str, Io]) -> dict[str, bool]:
    try:
        blocks = set(host.list("/sys/block"))
    except OSError:
        blocks = {name for name in disks if not _SUFFIXES.match(name)}
    return {name: name in blocks and not name.startswith(_NOT_DISKS) for name in disks}


def space_probe() -> DiskSpace:
    """Make the probe of file systems."""
    return DiskSpace()


def io_probe() -> DiskIo:
    """Make the probe of disks."""
    return DiskIo()
