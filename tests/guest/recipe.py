"""What a guest is made of: a Debian release, its packages, and what its boot needs. Its key names the image in the cache."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PACKAGES = (
    *("linux-image-cloud-amd64", "systemd", "systemd-sysv", "dbus", "udev", "kmod", "procps", "util-linux", "python3"),
    *("stress-ng", "systemd-oomd", "tuned", "earlyoom", "nohang"),
)
TOOLS = {  # Debian package → the program that it brings
    "mmdebstrap": "mmdebstrap",
    "qemu-system-x86": "qemu-system-x86_64",
    "qemu-utils": "qemu-img",
    "busybox-static": "busybox",
    "cpio": "cpio",
    "kmod": "depmod",
    "e2fsprogs": "mke2fs",
}
BOOT_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "ext4")
SILENT = (  # what would run at a time of its own, or asks a terminal that is not there
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "e2scrub_all.timer"),
    *("systemd-tmpfiles-clean.timer", "getty@tty1.service", "serial-getty@ttyS0.service", "systemd-firstboot.service"),
    *("systemd-binfmt.service", "e2scrub_reap.service", "systemd-pstore.service"),
)
ASLEEP = ("systemd-oomd", "tuned", "earlyoom", "nohang", "nohang-desktop")  # a test that wants one of them starts it
PYTHON = {"bookworm": "3.11", "trixie": "3.13"}


class CannotBuildError(Exception):
    """This machine can't make a guest, and why: its tests are skipped with these words."""


class Recipe(NamedTuple):
    """One kind of guest. `more` are further Debian packages."""

    suite: str = "bookworm"
    memory_mib: int = 768
    more: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """All packages by name."""
        return (*PACKAGES, *self.more)

    @property
    def tree_key(self) -> str:
        """Names the unpacked packages: equal keys are equal trees."""
        return f"{self.suite}-{_digest(self.packages)}"

    @property
    def key(self) -> str:
        """Names the image with its saved memory."""
        made_of = [path.read_bytes().hex() for path in (HERE / "recipe.py", HERE / "image.py", HERE / "inside/porter.py")]
        return f"{self.tree_key}-{self.memory_mib}-{_digest(made_of)}"


def cache() -> Path:
    """Where images are kept between runs: STEAD_GUEST_CACHE, else the system's cache folder."""
    return Path(os.environ.get("STEAD_GUEST_CACHE", "/var/cache/stead-guest"))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
