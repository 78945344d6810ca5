"""One worker of the demo's job queue. The queue is a directory: a job is a file, and who renames it first has it.

A job's name is `<time in ns>-<number>`, so the newest number seen tells how many arrived. A job takes SERVICE_S, most of it
waiting for something else, as jobs do.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from pathlib import Path

SERVICE_S = 0.15
REPORT_S = 0.5
ARRIVALS_S = 3.0
IDLE_S = 0.02


class Worker:
    """Takes the oldest job, does it, reports."""

    def __init__(self, queue: Path, taken: Path, status: Path) -> None:
        self.queue, self.taken, self.status = queue, taken, status
        self.busy_s, self.done, self.service_s = 0.0, 0, SERVICE_S
        self.reported = time.monotonic()
        self.newest: deque[tuple[float, int]] = deque()

    def step(self) -> None:
        """Do one job, or rest a little."""
        waiting = sorted(os.listdir(self.queue))  # noqa: PTH208 (names only, of thousands)
        now = time.monotonic()
        if waiting:
            self.newest.append((now, int(waiting[-1].partition("-")[2])))
        while self.newest and now - self.newest[0][0] > ARRIVALS_S:
            self.newest.popleft()
        if now - self.reported >= REPORT_S:
            self.report(waiting, now)
        for name in waiting:
            if self.take(name):
                self.work(name)
                return
        time.sleep(IDLE_S)

    def take(self, name: str) -> bool:
        """Claim a job; another may have been quicker."""
        try:
            (self.queue / name).rename(self.taken / name)
        except OSError:
            return False
        return True

    def work(self, name: str) -> None:
        """Do a job."""
        began = time.monotonic()
        time.sleep(SERVICE_S)
        (self.taken / name).unlink()
        took_s = time.monotonic() - began
        self.busy_s += took_s
        self.done += 1
        self.service_s += 0.1 * (took_s - self.service_s)

    def arrivals_per_s(self) -> float | None:
        """How many jobs a second came in, over the last seconds; None when too little was seen."""
        if len(self.newest) < 2 or self.newest[-1][0] - self.newest[0][0] < 1.0:
            return None
        (then, first), (now, last) = self.newest[0], self.newest[-1]
        return (last - first) / (now - then)

    def report(self, waiting: list[str], now: float) -> None:
        """Say how it is."""
        oldest_s = (time.time_ns() - int(waiting[0].partition("-")[0])) / 1e9 if waiting else 0.0
        report = {
            "busy": round(min(self.busy_s / (now - self.reported), 1.0), 3),
            "capacity": 1,
            "queue_depth": len(waiting),
            "oldest_job_s": round(oldest_s, 3),
            "arrival_per_s": self.arrivals_per_s(),
            "service_s": round(self.service_s, 4),
        }
        self.busy_s, self.reported = 0.0, now
        fresh = self.status.with_suffix(".new")
        fresh.write_text(json.dumps(report))
        fresh.replace(self.status)


def main() -> None:
    """Work for ever; first put back what an earlier worker of this place took and did not finish."""
    queue, index = Path(os.environ["STEAD_DEMO_QUEUE"]), os.environ["STEAD_WORKER"]
    taken = queue.with_name(f"taken-{index}")
    queue.mkdir(parents=True, exist_ok=True)
    taken.mkdir(exist_ok=True)
    for left in taken.iterdir():
        left.rename(queue / left.name)
    worker = Worker(queue, taken, Path(os.environ["STEAD_STATUS"]))
    while True:
        worker.step()


if __name__ == "__main__":
    main()
