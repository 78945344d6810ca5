"""Which mounted file system a folder is on, by the name that the disk probe gives it, and what its times of access are worth."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from stead.host.procfs import unescaped
from stead.model.cleaning import DAY_S
from stead.protocols import Host

# Types whose times of access this kernel keeps. Network and FUSE file systems and overlays renew them as somebody else likes.
RENEWING: Final = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "tmpfs", "zfs", "bcachefs", "jfs", "reiserfs"))


class Readings(NamedTuple):
    """What a time of access says of a file's last reading: why nothing (empty: it does), and by how much it may be too old."""

    unknown: str = ""
    renewed_s: float = 0.0  # of a file that was read since it was changed: relatime renews it once in so long
    written_s: float = 0.0  # of every file: lazytime keeps it in memory so long, and a power cut loses it

    def last_s(self, file: os.stat_result) -> float:
        """The latest moment at which the file can have been read, changed or moved, in seconds since 1970.

        With relatime a first reading after a change is told at once, and a later one when the time is a day old
        (mount(2), MS_RELATIME), so it can have been read until a day after what is told.
        """
        changed_s = max(file.st_mtime, file.st_ctime)
        late_s = self.renewed_s if file.st_atime > changed_s else 0.0
        return max(changed_s, file.st_atime + late_s + self.written_s)


def readings(host: Host, mount: str) -> Readings:
    """What times of access say on a mount, by its id: by its own options and those of all mounts of that file system.

    Seen from here and from the first process, which may have it mounted otherwise (proc_pid_mountinfo(5)).
    """
    own = _mounts(host, "/proc/self/mountinfo")
    found = own.get(mount)
    if found is None:
        return Readings("its mount is not known")
    if found.type not in RENEWING:
        return Readings(f"a file system of type {found.type} may not say when a file was last read")
    every = [one for one in (*own.values(), *_mounts(host, "/proc/1/mountinfo").values()) if one.device == found.device]
    off = next((one.at for one in every if "noatime" in one.options), None)
    if off is not None:
        return Readings(f"{off} is mounted with noatime, so when a file was last read is not known")
    relative = any("relatime" in one.options for one in every)
    return Readings("", DAY_S if relative else 0.0, DAY_S if any("lazytime" in one.options for one in every) else 0.0)


class _Mount(NamedTuple):
    device: str
    at: str
    type: str
    options: frozenset[str]


def _mounts(host: Host, table: str) -> dict[str, _Mount]:
    """Mounts by id; none where the table can't be read."""
    try:
        lines = host.read(table).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        own, _, theirs = (part.split() for part in line.partition(" - "))
        if len(own) >= 6 and len(theirs) >= 3:
            options = frozenset((*own[5].split(","), *theirs[2].split(",")))
            found[own[0]] = _Mount(own[2], unescaped(own[4]), theirs[0], options)
    return found


def mount_points(host: Host) -> list[tuple[str, str]]:
    """(mount point, device) of every mount, as /proc/self/mounts has them (proc(5)). Raises OSError."""
    found = []
    for line in host.read("/proc/self/mounts").decode("utf-8", "replace").splitlines():
        fields = line.split()
        if len(fields) >= 2:
            found.append((unescaped(fields[1]), unescaped(fields[0])))
    return found


def mount_of(folder: str, points: list[tuple[str, str]]) -> str:
    """The mount that holds a folder: of several mount points of one device the shortest, as `probes.disk` names them."""
    held = [point for point in points if folder == point[0] or folder.startswith(point[0].rstrip("/") + "/")]
    if not held:
        return "/"
    at, device = max(held, key=lambda point: len(point[0]))
    same = [point for point, other in points if other == device and device.startswith("/")]
    return min(same, key=len) if same else at
