"""Which mounted file system a folder is on, by the name that the disk probe gives it."""

from __future__ import annotations

import re

from stead.protocols import Host


def mount_points(host: Host) -> list[tuple[str, str]]:
    """(mount point, device) of every mount, as /proc/self/mounts has them (proc(5)). Raises OSError."""
    found = []
    for line in host.read("/proc/self/mounts").decode("utf-8", "replace").splitlines():
        fields = line.split()
        if len(fields) >= 2:
            found.append((_unescaped(fields[1]), _unescaped(fields[0])))
    return found


def mount_of(folder: str, points: list[tuple[str, str]]) -> str:
    """The mount that holds a folder: of several mount points of one device the shortest, as `probes.disk` names them."""
    held = [point for point in points if folder == point[0] or folder.startswith(point[0].rstrip("/") + "/")]
    if not held:
        return "/"
    at, device = max(held, key=lambda point: len(point[0]))
    same = [point for point, other in points if other == device and device.startswith("/")]
    return min(same, key=len) if same else at


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
