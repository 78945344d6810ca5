"""The host's control groups: which hierarchies there are, where a group's folder is, who is in it.

    groups = Groups.of(host)                    # reads /proc/self/mountinfo once
    groups.folder("/system.slice", "memory")    # "/sys/fs/cgroup/system.slice", or v1: "/sys/fs/cgroup/memory/system.slice"

A path is a group's name as /proc/PID/cgroup has it. With version 1 each controller has a tree of its own, and the same path in
each is taken for one group; its identity is then the inode of the first tree that has it, with that tree's name
("cpu.31"). Sources: kernel cgroup-v1/cgroups.rst, cgroup-v2.rst, proc_pid_mountinfo(5), sd_booted(3).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from stead.cgroups.owners import Owner, owner_by_path, unit_in
from stead.host.procfs import unescaped
from stead.model.change import Target
from stead.protocols import Host

Version = Literal["v2", "v1", "hybrid", "none"]
KINDS: Final = ("cpu", "memory", "blkio", "pids", "freezer", "cpuset")  # of version 1, in the order that identities are taken
_V1_NAME: Final = {"io": "blkio", "cgroup": "freezer"}
_MOST: Final = 1 << 20
_DEEPEST: Final = 64


class Mount(NamedTuple):
    """One mounted hierarchy: `root` is the path that is mounted there ("/" unless a container shows a part)."""

    point: str
    root: str


class Groups:
    """One host's hierarchies. Holds no descriptors; every answer but the mounts is read when it is asked for."""

    def __init__(self, host: Host, v1: dict[str, Mount], v2: Mount | None, systemd: bool) -> None:
        self._host, self._v1, self._v2, self.systemd = host, v1, v2, systemd
        self._files: dict[str, set[str]] = {}  # by tree, names that are the kernel's files and so never a group's
        self.controllers: frozenset[str] = self._of_v2()  # those of version 2 that the root offers
        real = [name for name in v1 if not name.startswith("name=")]
        self.version: Version = "hybrid" if real and v2 else "v1" if real else "v2" if v2 else "none"

    @classmethod
    def of(cls, host: Host) -> Groups:
        """What is mounted on this host. Never raises: a host without control groups has version "none"."""
        try:
            v1, v2 = parse_mounts(host.read("/proc/self/mountinfo").decode("utf-8", "replace"))
        except OSError:
            v1, v2 = {}, None
        return cls(host, v1, v2, host.inode("/run/systemd/system") is not None)

    def kind(self, controller: str) -> Literal["v1", "v2", ""]:
        """Which version a controller is in here ("memory", "io", …; "" is the groups themselves). Empty: nowhere."""
        if not controller:
            return "v2" if self._v2 else "v1" if self._v1 else ""
        if _V1_NAME.get(controller, controller) in self._v1:
            return "v1"
        return "v2" if self._v2 and (controller in self.controllers or controller in ("cgroup", "freezer")) else ""

    def folder(self, path: str, controller: str = "") -> str | None:
        """The absolute folder of a group in a controller's tree, there or not. None: no such tree, or the path is not in it.

        Without a controller: the folder that the group's identity is taken from; None when the group is in no tree.
        """
        if not controller:
            lead = self._lead(path)
            return lead[1] if lead else None
        kind = self.kind(controller)
        mount = self._v1.get(_V1_NAME.get(controller, controller)) if kind == "v1" else self._v2 if kind else None
        return None if mount is None else _below(mount, path)

    def unified(self, path: str) -> str | None:
        """The group's folder in version 2's tree, which a hybrid host has too (pressure, freezing). None: no such tree."""
        return _below(self._v2, path) if self._v2 else None

    def path_of(self, pid: int, controller: str = "") -> str | None:
        """The group that a process is in. Without a controller on version 1: the first tree's where it isn't at the root.

        None when the process is gone, or when there is no such tree.
        """
        try:
            text = self._host.read(f"/proc/{pid}/cgroup", _MOST).decode("utf-8", "surrogateescape")
        except OSError:
            return None
        return self.path_in(text, controller)

    def path_in(self, text: str, controller: str = "") -> str | None:
        """The same, from what /proc/PID/cgroup says: lines of "number:controllers:path"."""
        paths = parse_membership(text)
        if controller:
            kind = self.kind(controller)
            return paths.get(_V1_NAME.get(controller, controller)) if kind == "v1" else paths.get("") if kind else None
        if self.version == "v2":
            return paths.get("")
        names = [*KINDS, "name=systemd", ""]
        return next((paths[name] for name in names if paths.get(name, "/") != "/"), "/" if paths else None)

    def id_of(self, path: str) -> str | None:
        """What makes the group this very one and no successor of its name. None when there is none."""
        lead = self._lead(path)
        return None if lead is None else lead[2]

    def target(self, path: str) -> Target | None:
        """The group as a thing that can be changed. None when there is none."""
        found = self.id_of(path)
        return None if found is None else Target("cgroup", path, {"id": found, "boot_id": self._host.boot_id})

    def is_there(self, target: Target) -> bool:
        """Is the very group that a target means there now?"""
        if target.kind != "cgroup" or target.identity.get("boot_id") != self._host.boot_id:
            return False
        known = target.identity.get("id", "")
        name, dot, number = known.rpartition(".")
        folder = (self.folder(target.name, name) if name else self.unified(target.name)) if known else None
        return folder is not None and bool(number) and str(self._host.inode(folder)) == number and bool(dot) == bool(name)

    def pids(self, path: str, deep: bool = False) -> tuple[int, ...]:
        """The processes in a group in any tree, and with `deep` below it too. Empty when it is gone."""
        found: set[int] = set()
        for place, tree in self._places(path).items():
            self._collect(place, tree, deep, found, _DEEPEST)
        return tuple(sorted(found))

    def folders(self, path: str) -> tuple[str, ...]:
        """The group's folder in each tree that has it; controllers that share a tree have it once."""
        return tuple(self._places(path))

    def children(self, path: str) -> tuple[str, ...]:
        """The paths of the groups right below a group, in any tree."""
        names: set[str] = set()
        for place, tree in self._places(path).items():
            names.update(self._below(place, tree))
        return tuple(f"{path.rstrip('/')}/{name}" for name in sorted(names))

    def unit_of(self, path: str) -> str | None:
        """The systemd unit that a group is, or is in. None where systemd is not the manager."""
        found = unit_in(path) if self.systemd else None
        return found[0] if found else None

    def owner_of(self, path: str) -> Owner:
        """Who sets this group's values."""
        return owner_by_path(path, self.systemd)

    def lacks(self, field: str, path: str = "") -> str:
        """Why a limit's field is not to be had here (in this group); empty when it is. See `knobs.lacking`."""
        from stead.cgroups.knobs import lacking

        return lacking(self._host, self, field, path)

    def _of_v2(self) -> frozenset[str]:
        if self._v2 is None:
            return frozenset()
        try:
            return frozenset(self._host.read(f"{self._v2.point}/cgroup.controllers", 4096).decode("ascii", "replace").split())
        except OSError:
            return frozenset()

    def _lead(self, path: str) -> tuple[str, str, str] | None:
        """The tree that a group's identity is from: its name, the folder in it, and the identity."""
        trees = [] if self.version == "v2" else [(name, mount) for name in (*KINDS, *self._v1) if (mount := self._v1.get(name))]
        for name, mount in [*trees, *([("", self._v2)] if self._v2 else [])]:
            place = _below(mount, path)
            number = None if place is None else self._host.inode(place)
            if place is not None and number is not None:
                return name, place, f"{name}.{number}" if name else str(number)
        return None

    def _places(self, path: str) -> dict[str, str]:
        """The group's folder in each tree that has it → where that tree is mounted."""
        mounts = [*self._v1.values(), *([self._v2] if self._v2 else [])]
        places = {place: mount.point for mount in mounts if (place := _below(mount, path)) is not None}
        return {place: tree for place, tree in places.items() if self._host.inode(place) is not None}

    def _collect(self, place: str, tree: str, deep: bool, found: set[int], depth: int) -> None:
        try:
            found.update(int(pid) for pid in self._host.read(f"{place}/cgroup.procs", _MOST).split())
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                found.update(self._of_threads(place))
        if deep and depth:
            for name in self._below(place, tree):
                self._collect(f"{place}/{name}", tree, True, found, depth - 1)

    def _of_threads(self, place: str) -> Iterator[int]:
        """The processes that the threads of a threaded group are of: the kernel lists such a group's threads alone."""
        with contextlib.suppress(OSError):
            for tid in self._host.read(f"{place}/cgroup.threads", _MOST).split():
                with contextlib.suppress(OSError):
                    lines = self._host.read(f"/proc/{int(tid)}/status", 1 << 16).splitlines()
                    yield from (int(line.split()[1]) for line in lines if line.startswith(b"Tgid:"))

    def _below(self, place: str, tree: str) -> list[str]:
        """The groups right below a folder: what has processes of its own to tell of."""
        files = self._files.setdefault(tree, set())
        try:
            names = [name for name in self._host.list(place) if name not in files]
        except OSError:
            return []
        groups = [name for name in names if self._host.inode(f"{place}/{name}/cgroup.procs") is not None]
        others = (name for name in names if name not in groups)
        files.update(name for name in others if self._host.inode(f"{place}/{name}") is not None)
        return groups


def parse_mounts(text: str) -> tuple[dict[str, Mount], Mount | None]:
    """The hierarchies of a mountinfo: version 1 by controller (or "name=…"), and version 2. The first mount of each counts."""
    v1: dict[str, Mount] = {}
    v2: Mount | None = None
    for line in text.splitlines():
        fields, dash, rest = line.partition(" - ")
        parts, kind = fields.split(" "), rest.split(" ")
        if not dash or len(parts) < 6 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        mount = Mount(unescaped(parts[4]), unescaped(parts[3]))
        if mount.root.startswith("/.."):
            continue  # seen from another namespace: its groups are not the ones that paths name
        if kind[0] == "cgroup2":
            v2 = v2 or mount
            continue
        for option in kind[-1].split(","):
            if option in _CONTROLLERS or option.startswith("name="):
                v1.setdefault(option, mount)
    return v1, v2


_CONTROLLERS: Final = frozenset((*KINDS, "cpuacct", "devices", "net_cls", "net_prio", "perf_event", "hugetlb", "rdma", "misc"))


@lru_cache(maxsize=128)  # many processes have theirs in common, and most never move
def parse_membership(text: str) -> Mapping[str, str]:
    """Controller (or "name=…", or "" for version 2) → path, of a /proc/PID/cgroup."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        names, colon, path = rest.partition(":")
        if number.isdigit() and colon:
            paths.update(dict.fromkeys(names.split(","), path.removesuffix(" (deleted)")))
    return paths


def _below(mount: Mount, path: str) -> str | None:
    """Where a path is under a mount. None when it is not shown there, or is no path of a group."""
    if not path.startswith("/") or ".." in path.split("/"):
        return None
    if mount.root != "/":
        if path != mount.root and not path.startswith(f"{mount.root}/"):
            return None
        path = path[len(mount.root) :]
    return mount.point + path.rstrip("/")
