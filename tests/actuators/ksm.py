"""The real KSM of this machine for one test at a time, as it was afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

FOLDER = Path("/sys/kernel/mm/ksm")
KNOBS = (  # in an order in which they can be written: the advisor's mode resets pages_to_scan
    "advisor_mode",
    "advisor_max_cpu",
    "advisor_target_scan_time",
    "advisor_min_pages_to_scan",
    "advisor_max_pages_to_scan",
    "pages_to_scan",
    "sleep_millisecs",
    "smart_scan",
)


def read(name: str) -> str:
    return (FOLDER / name).read_text().strip()


def number(name: str) -> int:
    return int(read(name))


def write(name: str, value: str) -> None:
    (FOLDER / name).write_text(value)


@contextlib.contextmanager
def alone(what: str) -> Iterator[None]:
    """One test of this machine at a time, whichever process it runs in."""
    with open(Path(tempfile.gettempdir()) / f"stead-test-{what}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def ksm_as_found() -> Iterator[None]:
    """KSM stopped with nothing merged, for this test alone; skipped where there is none to change, or somebody uses it."""
    if not (FOLDER / "run").exists() or os.geteuid() != 0:
        pytest.skip("no KSM here that could be changed")
    with alone("ksm"):
        if read("run") == "1" or number("pages_shared"):
            pytest.skip("somebody uses KSM here")
        found = {name: read(name) for name in ("run", *KNOBS) if (FOLDER / name).exists()}
        mode = found.get("advisor_mode")
        if mode is not None:
            found["advisor_mode"] = mode.partition("[")[2].partition("]")[0]
        try:
            yield
        finally:
            write("run", "2")
            for name in KNOBS:
                if name in found and not (name == "pages_to_scan" and found.get("advisor_mode") == "scan-time"):
                    write(name, found[name])
            write("run", found["run"])


EQUAL = "import random; held = random.Random(7).randbytes({mib} << 20)"
OWN = "import os; held = os.urandom({mib} << 20)"


@contextlib.contextmanager
def opted_in(count: int, *programs: str) -> Iterator[Sequence[int]]:
    """Processes whose whole memory may be merged, each holding what the programs make; yields their pids when it is there.

    The flag is inherited from the one that starts them (Linux 6.7), which takes it back at once.
    """
    from stead.host.memory_merge import merging

    code = "; ".join((*programs, "print('ready', flush=True)", "import time; time.sleep(600)"))
    children = []
    try:
        with merging():
            for _ in range(count):
                children.append(subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE))
        for child in children:
            assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        yield [child.pid for child in children]
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()
            assert child.stdout is not None
            child.stdout.close()
