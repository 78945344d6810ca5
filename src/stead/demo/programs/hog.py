"""The demo's CPU hog: it takes all it can get of one core, until it is ended, its time is up, or who started it is gone.

Usage: hog.py NAME CORE SECONDS. It shows under NAME in the process table, so that a policy can speak of it alone. Where it may
(as root) it also takes more than its fair share: then its effect stands out on a machine that is busy with other things.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

GREED = -15  # nice: three times the weight of the service


def main(name: str, core: int, seconds: float) -> None:
    """Spin."""
    parent, end = os.getppid(), time.monotonic() + seconds
    Path("/proc/self/comm").write_text(name)
    os.sched_setaffinity(0, {core})
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, GREED)
        Path("/proc/self/autogroup").write_text(str(GREED))
    while time.monotonic() < end and os.getppid() == parent:
        sum(range(20_000))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
