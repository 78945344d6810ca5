"""A running guest: commands, files, its power, and its memory saved. What it changes is its own and is gone with it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.guest.image import PROJECT_BYTES, Image, run

BOOT_S = 240.0
KERNEL_LINE = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr no_timer_check tsc=reliable systemd.show_status=0 psi=1"


class Done(NamedTuple):
    """A finished command of the guest."""

    rc: int
    out: str
    err: str


class Machine:
    """One guest. `disk` is written to where it is given; else an overlay that lives as long as this object.

    It starts from the image's saved memory, or with `cold` by a boot; `project` is the disk that holds stead (empty: none),
    `kernel` what its kernel is told besides, which needs a boot.
    """

    def __init__(
        self, image: Image, project: str | Path, *, cold: bool = False, disk: Path | None = None, kernel: str = ""
    ) -> None:
        self.image, self.project, self.kernel = image, project, kernel
        self.folder = Path(tempfile.mkdtemp(prefix="steadguest-", dir="/var/tmp"))
        self.disk = disk or self.folder / "disk"
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0
        self._open: tuple[Any, ...] = ()
        try:
            if disk is None:
                backing = ["-b", str(image.folder / "disk"), "-F", "qcow2"]
                run("qemu-img", "create", "-q", "-f", "qcow2", *backing, str(self.disk))
            self._start(cold or bool(kernel))
        except BaseException:
            self.close()
            raise

    def run(self, command: str, *, timeout_s: float = 120.0, check: bool = True) -> Done:
        """A line of shell, as root. AssertionError when `check` and it failed; rc 124 when it took too long."""
        done = self._ask({"run": command, "timeout_s": timeout_s}, timeout_s + 60)
        assert not check or done.rc == 0, f"{command}\n{done.out[-4000:]}\n{done.err[-4000:]}"
        return done

    def out(self, command: str, *, timeout_s: float = 120.0) -> str:
        """What a command that succeeds prints, stripped."""
        return self.run(command, timeout_s=timeout_s).out.strip()

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file with this text."""
        data = text.encode()
        for start in range(0, max(len(data), 1), 1 << 20):
            part = base64.b64encode(data[start : start + (1 << 20)]).decode()
            done = self._ask({"put": path, "mode": mode, "more": start > 0, "data": part}, 60)
            assert done.rc == 0, done.err

    def get(self, path: str) -> str:
        """What is in a file, or in a file of the kernel's. AssertionError when it can't be read."""
        done = self._ask({"get": path}, 60)
        assert done.rc == 0, done.err
        return done.out

    def relay(self, path: str, line: bytes) -> bytes:
        """One line to a Unix socket of the guest, and the one that comes back. ConnectionError when nobody answers there."""
        done = self._ask({"relay": path, "data": base64.b64encode(line).decode()}, 300)
        if done.rc:
            raise ConnectionError(done.err)
        return done.out.encode()

    def save(self, path: Path) -> None:
        """Save the memory; the guest stands still afterwards."""
        with Monitor(self.folder / "monitor") as monitor:
            monitor.ask("migrate", uri=f"exec:cat > {path}")
            while (status := monitor.ask("query-migrate").get("status")) != "completed":
                assert status in ("setup", "active", "device"), f"the memory could not be saved: {status}"
                time.sleep(0.2)

    def cut(self) -> None:
        """The power fails: what the guest had not written to its disk is lost."""
        assert self._process is not None
        with Monitor(self.folder / "monitor") as monitor:
            monitor.ask("quit")
        self._hang_up()
        self._process.wait(30)

    def boot(self) -> None:
        """Switch it on again after `cut`, with the disk as it was left."""
        self._start(cold=True)

    def close(self) -> None:
        """End it and forget what it wrote."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)
        self._hang_up()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _hang_up(self) -> None:
        for each in self._open:
            each.close()
        self._open = ()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, cold: bool) -> None:
        errors = (self.folder / "errors").open("wb")
        with errors:
            self._process = subprocess.Popen(
                self._argv(cold), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True
            )
        self._connect()
        self._ask({"run": "true", "timeout_s": 60}, BOOT_S)
        self._ask({"now": time.time()}, 60)
        if self.project:
            self.run("blockdev --flushbufs /dev/vdb && mkdir -p /opt/stead && mount -o ro /dev/vdb /opt/stead")

    def _argv(self, cold: bool) -> list[str]:
        files = self.image.folder
        project = self.project or self._empty_project()
        argv = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "qemu-system-x86_64",
            "-M",
            "q35,mem-merge=off",
            "-accel",
            "tcg,thread=multi,tb-size=256",
        ]
        argv += ["-cpu", "Haswell", "-smp", "2", "-m", str(self.image.recipe.memory_mib)]
        argv += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
        argv += ["-kernel", str(files / "vmlinuz"), "-initrd", str(files / "initrd"), "-append", f"{KERNEL_LINE} {self.kernel}"]
        argv += ["-drive", f"file={self.disk},if=none,id=d0,format=qcow2,cache=unsafe", "-device", "virtio-blk-pci,drive=d0"]
        argv += [
            "-drive",
            f"file={project},if=none,id=d1,format=raw,read-only=on",
            "-device",
            "virtio-blk-pci,drive=d1",
        ]
        argv += ["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]
        argv += ["-chardev", f"socket,path={self.folder}/porter,server=on,wait=off,id=p"]
        argv += ["-device", "virtserialport,chardev=p,name=stead.porter"]
        argv += ["-qmp", f"unix:{self.folder}/monitor,server=on,wait=off", "-serial", f"file:{self.folder}/console"]
        return argv if cold else [*argv, "-incoming", f"exec:cat {self.image.state}"]

    def _empty_project(self) -> Path:
        empty = self.folder / "empty"
        empty.touch()
        os.truncate(empty, PROJECT_BYTES)
        return empty

    def _connect(self) -> None:
        self._socket = connected(self.folder / "porter", self._alive)
        self._lines = self._socket.makefile("rb")
        self._open = (self._lines, self._socket)

    def _alive(self) -> None:
        assert self._process is not None and self._process.poll() is None, (self.folder / "errors").read_text()[-2000:]

    def _ask(self, question: dict[str, Any], timeout_s: float) -> Done:
        self._asked += 1
        self._socket.settimeout(timeout_s)
        self._socket.sendall(json.dumps({"id": self._asked, **question}).encode() + b"\n")
        while True:
            line = self._lines.readline()
            assert line, "the guest is gone"
            answer = json.loads(line)
            if answer.get("id") == self._asked:
                return Done(answer["rc"], *(base64.b64decode(answer[key]).decode(errors="replace") for key in ("out", "err")))


class Monitor:
    """The emulator's own door (QMP)."""

    def __init__(self, path: Path) -> None:
        self._socket = connected(path, lambda: None)
        self._lines = self._socket.makefile("rb")
        self._lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """One command and its answer. AssertionError when it is refused."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while line := self._lines.readline():
            answer = json.loads(line)
            assert "error" not in answer, answer
            if "return" in answer:
                return dict(answer["return"])
        assert command == "quit", "the emulator is gone"
        return {}

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()


def connected(path: Path, check: Any, timeout_s: float = 20.0) -> socket.socket:
    """A connection to a socket that appears soon."""
    deadline = time.monotonic() + timeout_s
    while True:
        check()
        door = socket.socket(socket.AF_UNIX)
        door.settimeout(60)
        try:
            door.connect(str(path))
            return door
        except OSError:
            door.close()
            assert time.monotonic() < deadline, f"nobody listens at {path}"
            time.sleep(0.05)
