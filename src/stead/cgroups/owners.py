"""Whose control group is this? Told by its path, as container engines and systemd name what they make.

Sources: systemd's cgroup delegation document (a unit's group is its name below its slices; a delegated subtree is its
service's own business), cg_escape in systemd (a leading "_" protects names that look like the kernel's), and the names that
Docker, the kubelet, Podman, containerd, CRI-O, libvirt and LXC give to their groups.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

OwnerKind = Literal[
    "systemd", "user", "docker", "kubelet", "podman", "containerd", "crio", "libvirt", "lxc", "stead", "delegated", "nobody"
]
STEAD: Final = "/stead"
_UNIT: Final = re.compile(r"\.(service|scope|slice|socket|mount|swap)$")
_USER: Final = re.compile(r"^user@(\d+)\.service$")
# who → a pattern over one component of the path, or over the path's beginning
_CONTAINER: Final = re.compile(r"^[0-9a-f]{64}$")  # an engine's own name for one, also below a parent of the owner's choice
_ENGINES: Final[tuple[tuple[OwnerKind, str, re.Pattern[str]], ...]] = (
    ("kubelet", "the kubelet", re.compile(r"^kubepods(\.slice)?$|^kubelet(\.slice|\.service)?$|^kubepods-.*\.slice$")),
    ("docker", "Docker", re.compile(r"^docker$|^docker-[0-9a-f]{12,64}\.scope$|^docker\.slice$|^buildkit$")),
    ("podman", "Podman", re.compile(r"^libpod(_parent)?$|^libpod-.*\.(scope|slice)$|^libpod-[0-9a-f]{12,64}$|^conmon$")),
    ("crio", "CRI-O", re.compile(r"^crio-.*\.scope$")),
    ("containerd", "containerd", re.compile(r"^cri-containerd-.*\.scope$|^nerdctl-.*\.scope$|^containerd$")),
    ("libvirt", "libvirt", re.compile(r"^machine-(qemu|lxc).*\.scope$|^machine$|^libvirt$")),
    ("lxc", "LXC", re.compile(r"^lxc(\.payload.*|\.monitor.*|\.pivot)?$")),
)


class Owner(NamedTuple):
    """Who sets a group's values. `name` in words, `unit`: the systemd unit that it is or is in (None without systemd).

    `whole`: the group is that unit's own, and not something below it.
    """

    kind: OwnerKind
    name: str = ""
    unit: str | None = None
    whole: bool = False

    @property
    def yields(self) -> bool:
        """Is it another controller's, which would set it again? Then stead keeps away from it."""
        return self.kind not in ("systemd", "stead", "delegated", "nobody")


def unit_in(path: str) -> tuple[str, bool] | None:
    """The systemd unit of a group's path, and whether the path ends there: "/system.slice/x.service/sub" is (x.service, False).

    None when it is in none: the root, or below a folder that is no unit.
    """
    found: str | None = None
    parts = [part for part in path.split("/") if part]
    for index, part in enumerate(parts):
        name = part[1:] if part.startswith("_") else part
        if not _UNIT.search(name):
            return (found, False) if found else None
        found = name
        if not name.endswith(".slice"):
            return found, index == len(parts) - 1
    return (found, True) if found else None


def owner_by_path(path: str, systemd: bool) -> Owner:
    """Who owns the group of this path, on a host with systemd as manager or without."""
    unit = unit_in(path) if systemd else None
    name, whole = unit or (None, False)
    if path == STEAD or path.startswith(f"{STEAD}/"):
        return Owner("stead", "stead", name)
    for kind, words, pattern in _ENGINES:
        if any(pattern.search(part) for part in path.split("/") if part):
            return Owner(kind, words, name, whole)
    if any(_CONTAINER.match(part) for part in path.split("/")):
        return Owner("containerd", "a container engine", name, whole)
    if name is None:
        return Owner("nobody")
    if whole:
        return Owner("systemd", name, name, True)
    user = _USER.match(name)
    if user:
        return Owner("user", f"the systemd of user {user.group(1)}", name)
    return Owner("delegated", f"whoever runs in {name}", name)
