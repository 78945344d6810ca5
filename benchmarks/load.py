"""The processes that a benchmark needs: an agent of its own, sleepers that fill the process table, and rivals to compare with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from benchmarks.measure import process_count
from stead.config import load_config
from stead.model.errors import SteadError
from stead.model.messages import GetStatus, Status
from stead.wire import Door

START_S = 20.0
SLEEPERS = """
import os, signal, sys
children = []
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if not pid:
        os.close(0)
        while True:
            signal.pause()
    children.append(pid)
print("ready", flush=True)
sys.stdin.read()
for pid in children:
    os.kill(pid, signal.SIGKILL)
for pid in children:
    os.waitpid(pid, 0)
"""
PSUTIL_LOOP = """
import psutil, time
wanted = ["pid", "name", "status", "cpu_times", "memory_info", "num_threads"]
while True:
    started = time.monotonic()
    for process in psutil.process_iter(wanted):
        process.info
    psutil.cpu_times_percent(), psutil.virtual_memory(), psutil.net_io_counters(), psutil.disk_io_counters()
    time.sleep(max(0.0, 1.0 - (time.monotonic() - started)))
"""
LIGHT = """
import ctypes, sys, time
ctypes.CDLL(None).prctl(67, 1, 0, 0, 0)  # PR_SET_MEMORY_MERGE; a kernel without it refuses
share = float(sys.argv[1])
while True:
    until = time.thread_time() + 0.01 * share
    while time.thread_time() < until:
        pass
    time.sleep(0.01 * (1 - share))
"""
ENFORCING = """
protect:
  - {name: shop, match: ["process:%s*"], objective: {pressure: cpu, below: 3}}
  - service:nginx*
best_effort: ["process:%s*", "service:backup*", "cgroup:/batch.slice/*"]
"""
PROTECTED, CONTENDER = f"benchshop{os.getpid()}", f"benchbackup{os.getpid()}"
SHARES = {PROTECTED: 0.1, CONTENDER: 0.2}  # of a core


@contextmanager
def sleepers(total: int) -> Iterator[int]:
    """Fill the process table up to `total` with sleeping processes; yields how many there are. They end with the block."""
    missing = max(0, total - process_count() - 1)
    parent = subprocess.Popen(
        [sys.executable, "-S", "-c", SLEEPERS, str(missing)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdin and parent.stdout
    try:
        parent.stdout.readline()
        yield process_count()
    finally:
        parent.stdin.close()
        parent.wait()
        parent.stdout.close()


def config_text(interval_s: float, every_probe: bool = False) -> str:
    """A configuration with this interval; also for the probes that are slower by themselves if `every_probe`."""
    names = sorted(point.load()().name for point in entry_points(group="stead.probes") if point.name != "workload")
    probes = "".join(f"    {name}: {{interval_s: {interval_s}}}\n" for name in names)
    return f"agent:\n  interval_s: {interval_s}\n" + (f"  probes:\n{probes}" if every_probe else "")


def everything_on(interval_s: float) -> str:
    """A configuration with an intent for the processes of `contending`."""
    return config_text(interval_s) + ENFORCING % (PROTECTED, CONTENDER)


@contextmanager
def contending() -> Iterator[None]:
    """A protected process and a contender that both work a little, and whose memory may be merged."""
    with tempfile.TemporaryDirectory(prefix="stead-bench-") as folder, ExitStack() as stack:
        for name, share in SHARES.items():
            program = Path(folder, f"{name}.py")
            program.write_text(LIGHT, encoding="utf-8")
            stack.enter_context(running([sys.executable, str(program), str(share)]))
        yield


@contextmanager
def agent(
    *, config: str | None = None, state: Path | None = None, mode: str = "advise"
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A real agent with a state directory of its own; yields its process and the path of its socket once it answers."""
    with tempfile.TemporaryDirectory(prefix="stead-bench-") as scratch:
        folder = state or Path(scratch, "state")
        folder.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "stead.agent", "--state", str(folder), "--mode", mode]
        if config is not None:
            Path(scratch, "stead.yaml").write_text(config, encoding="utf-8")
            argv += ["--config", str(Path(scratch, "stead.yaml"))]
        with running(argv) as process:
            socket = load_config(state_dir=str(folder), environ={})[1].socket
            wait_for(socket, process)
            yield process, socket


@contextmanager
def running(argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command while the block lasts; its output is dropped, and it is ended by SIGTERM, then SIGKILL."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("STEAD_")}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=environ, **options
        )
        try:
            yield process
        finally:
            early = process.poll()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if early not in (None, 0):
                errors.seek(0)
                print(f"{argv[0]} ended early ({early}): {errors.read()[-2000:].decode(errors='replace')}", file=sys.stderr)


def wait_for(socket: str, process: subprocess.Popen[bytes]) -> None:
    """Until the agent answers. Raises RuntimeError when it ended or does not within START_S."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            Door(socket).ask(GetStatus(), Status)
        except SteadError:
            time.sleep(0.005)
        else:
            return
    raise RuntimeError("the agent did not open its socket")


def rivals() -> dict[str, list[str]]:
    """What else shows the process table once a second, where it is installed: name → command."""
    found = {"psutil, full table": [sys.executable, "-c", PSUTIL_LOOP], "top -b -d 1": ["top", "-b", "-d", "1"]}
    if not shutil.which("top"):
        del found["top -b -d 1"]
    if glances := shutil.which("glances", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"):
        found["glances -q"] = [
            glances,
            "-q",
            "-t",
            "1",
            "--export",
            "json",
            "--export-json-file",
            "/dev/null",
            "--disable-check-update",
        ]
    return found
