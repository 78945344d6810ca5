"""A host of its own in a folder: an allow-list, a state directory, files of any age."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from stead.files.cleaner import Cleaner
from stead.files.paths import shown
from stead.files.way import mount_of
from stead.host import LocalHost
from stead.model.change import Target
from stead.model.cleaning import CleaningRule
from stead.model.observe import Now

DAY_S = 86_400
PACK = CleaningRule(
    "plain", do="compress", folders=("/var/log",), names=("*.log.[0-9]",), depth=3, min_age_s=0.0, quarantine_in="/var"
)
LOGS = msgspec.structs.replace(PACK, category="logs", do="quarantine", names=("*.log.[0-9]", "*.bin"), quarantine_s=0.0)
TEMP = CleaningRule("temp", folders=("/tmp",), names=("*",), min_age_s=0.0, quarantine_s=DAY_S)


class Place:
    """A root with `/var/log`, `/tmp` and `/state`, and a cleaner for it."""

    def __init__(self, root: Path, *rules: CleaningRule) -> None:
        self.root = root
        for folder in ("var/log", "tmp", "state", "proc/self"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "tmp").chmod(0o1777)
        (root / "proc/self/mounts").write_text("/dev/vda / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n")
        self.mounted("rw,relatime")
        self.host = LocalHost(root)
        self.cleaner = Cleaner(self.host, "/state")
        self.cleaner.rule_by(rules or (LOGS, PACK, TEMP))
        self.notes: list[str] = []

    def mounted(self, options: str, table: str = "self", type_: str = "ext4", more: str = "rw") -> None:
        """Say how all of it is mounted, for this process or (`table` "1") for the first one."""
        descriptor = os.open(self.root, os.O_RDONLY)
        number = mount_of(descriptor)
        os.close(descriptor)
        (self.root / "proc" / table).mkdir(exist_ok=True)
        line = f"{number} 1 254:0 / / {options} shared:1 - {type_} /dev/vda {more}\n"
        (self.root / "proc" / table / "mountinfo").write_text(line)

    def file(self, path: str | bytes, data: bytes = b"line\n" * 50_000, age_s: float = 0.0) -> bytes:
        """Make a file; returns its path under the root."""
        inner = os.fsencode(path)
        whole = self.real(inner)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        with open(whole, "wb") as file:
            file.write(data)
        if age_s:
            found = os.stat(whole)
            os.utime(whole, ns=(found.st_atime_ns - int(age_s * 1e9), found.st_mtime_ns - int(age_s * 1e9)))
        return inner

    def real(self, path: str | bytes) -> bytes:
        """Where a path really is."""
        return os.fsencode(self.root) + os.fsencode(path)

    def target(self, path: str | bytes, *, inode: bool = True) -> Target:
        """The file as a target."""
        found = os.lstat(self.real(path))
        identity = {"mtime_ns": str(found.st_mtime_ns), "bytes": str(found.st_size)}
        return Target("file", shown(os.fsencode(path)), ({"inode": str(found.st_ino)} if inode else {}) | identity)

    def move(self, target: Target, want: str | None) -> None:
        """Bring it there."""
        self.cleaner.move(target, want, self.notes.append, lambda: False)  # type: ignore[arg-type]

    def place(self, target: Target) -> str:
        """Where it is."""
        found = self.cleaner.look(target)
        return "nowhere" if found is None else found.place

    def names(self, folder: str = "/var/.stead-quarantine") -> set[str]:
        """What is in a folder."""
        try:
            return set(os.listdir(self.real(folder).decode()))
        except FileNotFoundError:
            return set()


def everything(path: bytes) -> tuple[object, ...]:
    """All of a file that an undo must bring back, but for the inode and the time of its last change of state."""
    found = os.lstat(path)
    with open(path, "rb") as file:
        data = file.read()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    times = (found.st_atime_ns, found.st_mtime_ns)
    return (data, found.st_mode, found.st_uid, found.st_gid, times, attributes, found.st_nlink)


def now(unix_ms: int = 0) -> Now:
    """A moment; 0: the present one."""
    import time

    return Now(unix_ms or time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000)
