"""The demo's own eyes: it measures the effect of each remedy itself, not through the agent that made it."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time

import msgspec

from stead.demo.scene import WEB, Scene
from stead.model.errors import SteadError
from stead.model.messages import GetStatus, Status
from stead.wire import Door

EVERY_S = 0.5


class Look(msgspec.Struct, frozen=True):
    """What was seen at one moment. `run_delay`: seconds a second that the web workers waited for a CPU."""

    at_s: float
    run_delay: float | None
    p95_ms: float | None
    error_share: float | None
    queue_depth: float


class Gauge(threading.Thread):
    """Looks twice a second until it is stopped."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(daemon=True)
        self.looks: list[Look] = []
        self._scene = scene
        self._stop_asked = threading.Event()
        self._waited: dict[int, int] = {}
        self._at_s = time.time()

    def run(self) -> None:
        """Look, rest, look again."""
        with Door(self._scene.paths.socket) as door:
            while not self._stop_asked.wait(EVERY_S):
                with contextlib.suppress(SteadError):
                    self.looks.append(self._look(door))

    def stop(self) -> None:
        """Stop looking."""
        self._stop_asked.set()
        self.join(5)

    def mean(self, name: str, from_s: float, to_s: float) -> float | None:
        """The mean of one value over a stretch of Unix time; None when nothing was seen."""
        seen = [getattr(look, name) for look in self.looks if from_s <= look.at_s <= to_s]
        known = [value for value in seen if value is not None]
        return sum(known) / len(known) if known else None

    def _look(self, door: Door) -> Look:
        workloads = {one.name: one for one in door.ask(GetStatus(), Status).workloads}
        waited = {worker.pid: _waited_ns(worker.pid) for worker in workloads[WEB].workers if worker.pid}
        now_s = time.time()
        moved = [ns - self._waited[pid] for pid, ns in waited.items() if pid in self._waited and ns >= self._waited[pid]]
        delay = sum(moved) / 1e9 / (now_s - self._at_s) if moved else None
        self._waited, self._at_s = waited, now_s
        seen = _seen(self._scene)
        requests, errors, p95 = seen.get("requests"), seen.get("errors"), seen.get("p95_ms")
        depth = float(len(os.listdir(self._scene.queue)))  # noqa: PTH208
        share = errors / requests if requests and errors is not None else None
        return Look(now_s, delay, p95, share, depth)


def _waited_ns(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[1])
    return 0


def _seen(scene: Scene) -> dict[str, float]:
    with contextlib.suppress(OSError, ValueError):
        seen: dict[str, float] = json.loads(scene.control.with_name("load.seen.json").read_text())
        return seen
    return {}
