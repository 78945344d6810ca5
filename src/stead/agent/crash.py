"""Named crash points: with STEAD_CRASH_AT the agent kills itself, really and at once, at one of them.

    STEAD_CRASH_AT=act.priority.forward.after_write       the first time that point is passed
    STEAD_CRASH_AT=act.priority.forward.after_write:3     the third time

So the tests of recovery kill a real process by SIGKILL, at every step of every actuator. Unset, it costs nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from typing import Final

from stead.flow.write import POINTS
from stead.protocols import Mark

VARIABLE: Final = "STEAD_CRASH_AT"


def mark_from(environ: Mapping[str, str]) -> Mark:
    """What the environment asks for: a mark that kills this process at the named point, or one that does nothing."""
    wanted, _, nth = environ.get(VARIABLE, "").partition(":")
    if not wanted:
        return lambda name: None
    left = [int(nth) if nth.isdigit() else 1]

    def mark(name: str) -> None:
        if name != wanted:
            return
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    return mark


def list_marks(actuators: Iterable[str] = ("priority", "service", "workload", "autonomy")) -> list[str]:
    """Every point there is, for these actuators: `act.<actuator>.<forward|undo>.<point>`."""
    return [f"act.{name}.{way}.{point}" for name in actuators for way in ("forward", "undo") for point in POINTS]
