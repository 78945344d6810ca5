"""Real processes for tests, each in a session of its own and ended by its pid."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from stead.host import LocalHost
from stead.model.change import Target

BUSY = "import sys\nprint(flush=True)\nwhile True: pass"
THREADS = """
import threading, time
for _ in range(3):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print(flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def child(code: str = "import time; print(flush=True); time.sleep(600)", **more: object) -> Iterator[int]:
    """A child that has begun; its pid."""
    process = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE, start_new_session=True, **more)  # type: ignore[call-overload]
    try:
        process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def target(host: LocalHost, pid: int) -> Target:
    """The process as a target."""
    return Target("process", str(pid), {"start_ticks": str(host.start_ticks(pid)), "boot_id": host.boot_id})
