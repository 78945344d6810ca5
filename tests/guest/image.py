"""Makes a guest's image: Debian packages into a disk, a boot, and the memory as it is after the boot, all kept in the cache.

A test's guest starts from that memory in a second or two. Everything comes from Debian packages; nothing is fetched later.
"""

from __future__ import annotations

import contextlib
import fcntl
import lzma
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.guest.recipe import ASLEEP, BOOT_MODULES, HERE, SILENT, TOOLS, CannotBuildError, Recipe, cache

DISK = "4G"
PROJECT_BYTES = 96 << 20  # the second disk, which holds stead: its size is part of the saved memory
INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read m; do /bin/busybox insmod /m/$m; done < /order
n=0; while [ ! -b /dev/vda ] && [ $n -lt 500 ]; do /bin/busybox usleep 20000; n=$((n+1)); done
/bin/busybox mount -t ext4 -o noatime /dev/vda /new && /bin/busybox mount --move /dev /new/dev
exec /bin/busybox switch_root /new /sbin/init
"""
PORTER = """[Unit]
Description=carries out what the test outside asks for
After=basic.target
[Service]
ExecStart=/usr/bin/python3 -u /usr/local/lib/porter.py
KillMode=process
Restart=always
OOMScoreAdjust=-1000
[Install]
WantedBy=multi-user.target
"""


class Image(NamedTuple):
    """A guest that can be started: its recipe and the folder with kernel, initrd, disk, memory and the unpacked packages."""

    recipe: Recipe
    folder: Path
    tree: Path

    @property
    def state(self) -> Path:
        """The memory of a booted guest."""
        return self.folder / "state"


def image(recipe: Recipe) -> Image:
    """The image, made if it is not there yet. CannotBuildError where this machine can't."""
    made = Image(recipe, cache() / recipe.key, cache() / recipe.tree_key / "tree")
    if made.state.exists():
        return made
    require_tools()
    made.folder.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(recipe.tree_key):
        if not made.state.exists():
            unpack(recipe, made.tree)
            make(made)
            forget_others(made)
    return made


def require_tools() -> None:
    """Install what is missing. CannotBuildError without root, or where apt brings it not."""
    if os.geteuid() != 0:
        raise CannotBuildError("a guest is built as root")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [package for package, program in TOOLS.items() if not shutil.which(program)]
    if missing and not shutil.which("apt-get"):
        raise CannotBuildError(f"a guest needs {', '.join(missing)}, and there is no apt-get to install it")
    if missing:
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False, timeout=300)
        command = ["apt-get", "install", "-qq", "--no-install-recommends", *missing]
        if subprocess.run(command, env=environ, capture_output=True, check=False, timeout=600).returncode:
            raise CannotBuildError(f"apt-get could not install {', '.join(missing)}")


@contextlib.contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Hold the lock of that name in the cache: test processes that run side by side build an image once."""
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def unpack(recipe: Recipe, tree: Path) -> None:
    """The packages, installed into a folder."""
    if tree.exists():
        return
    with tempfile.TemporaryDirectory(dir=cache()) as folder:
        tar = Path(folder) / "tree.tar"
        lean = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale", "info")]
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(recipe.packages)}"]
        command += ['--aptopt=APT::Install-Recommends "false"', *lean, recipe.suite, str(tar)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
        if done.returncode:
            raise CannotBuildError(f"mmdebstrap could not install {recipe.suite}: {done.stderr.strip()[-300:]}")
        tree.parent.mkdir(parents=True, exist_ok=True)
        fresh = tree.with_name("fresh")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        run("tar", "-C", str(fresh), "-xf", str(tar), "--exclude=./dev/*")
        fresh.rename(tree)


def make(made: Image) -> None:
    """Kernel, initrd and disk from the tree; then one boot, whose memory is saved."""
    from tests.guest.machine import Machine

    made.folder.mkdir(parents=True, exist_ok=True)
    furnish(made.tree)
    kernel = next((made.tree / "usr/lib/modules").iterdir()).name
    shutil.copy(made.tree / f"boot/vmlinuz-{kernel}", made.folder / "vmlinuz")
    (made.folder / "initrd").write_bytes(initrd(made.tree, kernel))
    raw, disk = made.folder / "raw", made.folder / "disk"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-J", "size=32", "-d", str(made.tree), str(raw), DISK)
    run("qemu-img", "convert", "-O", "qcow2", str(raw), str(disk))
    raw.unlink()
    with Machine(made, "", cold=True, disk=disk) as guest:
        guest.run("systemctl is-system-running --wait; sync; echo 3 > /proc/sys/vm/drop_caches", timeout_s=300, check=False)
        guest.save(made.folder / "fresh")
    (made.folder / "fresh").rename(made.state)


def furnish(tree: Path) -> None:
    """What makes a tree of packages a guest: its name, the porter, and quiet."""
    units = tree / "etc/systemd/system"
    files = {
        "usr/local/lib/porter.py": (HERE / "inside/porter.py").read_text(),
        "etc/systemd/system/porter.service": PORTER,
        "etc/hostname": "guest\n",
        "etc/hosts": "127.0.0.1 localhost guest\n",
        "etc/fstab": "",
        "etc/machine-id": "0" * 31 + "1\n",
    }
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    for name in SILENT:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
    for link in units.glob("*.wants/*"):
        if link.stem in ASLEEP:
            link.unlink()
    wants = units / "multi-user.target.wants/porter.service"
    wants.unlink(missing_ok=True)
    wants.symlink_to("../porter.service")


def initrd(tree: Path, kernel: str) -> bytes:
    """A file system that loads the modules of the disk and goes on from there: cpio, gzip."""
    run("depmod", "-b", str(tree), kernel)
    order: list[Path] = []
    for module in BOOT_MODULES:
        shown = run("modprobe", "-d", str(tree), "-S", kernel, "--show-depends", module)
        paths = [Path(line.split()[1]) for line in shown.splitlines() if line.startswith("insmod")]
        order += [path for path in paths if path not in order]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in ("bin", "dev", "new", "m"):
            (folder / each).mkdir()
        for path in order:
            data = path.read_bytes()
            (folder / "m" / path.name.removesuffix(".xz")).write_bytes(lzma.decompress(data) if path.suffix == ".xz" else data)
        (folder / "order").write_text("".join(f"{path.name.removesuffix('.xz')}\n" for path in order))
        shutil.copy(str(shutil.which("busybox")), folder / "bin/busybox")
        (folder / "init").write_text(INIT)
        (folder / "init").chmod(0o755)
        packed = subprocess.run(
            "find . | cpio -o -H newc --quiet | gzip -1", shell=True, cwd=folder, capture_output=True, check=True
        )
        return packed.stdout


def forget_others(made: Image) -> None:
    """Drop images of the same tree that an older recipe made: none can be started by the present tests."""
    for folder in cache().glob(f"{made.recipe.tree_key}-{made.recipe.memory_mib}-*"):
        if folder != made.folder:
            shutil.rmtree(folder, ignore_errors=True)


def run(*argv: str) -> str:
    """A command that must succeed, and what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{argv[0]}: {done.stderr.strip()[-500:]}"
    return done.stdout
