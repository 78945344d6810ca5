"""Clock steps: what is due at a wall-clock time must neither end early nor last longer because somebody set the clock.

Runs keep Unix times, so that they survive a restart. The monotonic clock tells when the wall clock was set (or the machine
slept): then what was left of a window or a lease is left still, and the hour of the budget goes on where it was.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from stead.flow.runs import lease_ms
from stead.model.change import Run
from stead.model.observe import Now

LEAST_MS: Final = 2_000  # less is a clock that is being slewed, or a tick that came late
HOUR_MS: Final = 3_600_000


class ClockSteps:
    """Watches both clocks, once a tick."""

    def __init__(self) -> None:
        self._apart_ms: int | None = None
        self._forward: deque[tuple[int, int]] = deque()  # (monotonic time, by how much), of the last hour

    def step_ms(self, now: Now) -> int:
        """By how much the wall clock was set since the call before; 0 when it was not."""
        apart_ms = now.unix_ms - now.mono_ms
        by_ms = 0 if self._apart_ms is None else apart_ms - self._apart_ms
        self._apart_ms = apart_ms
        if abs(by_ms) < LEAST_MS:
            return 0
        if by_ms > 0:
            self._forward.append((now.mono_ms, by_ms))
        return by_ms

    def hour_ago_ms(self, now: Now) -> int:
        """The Unix time since when what was done counts as of this hour: a clock set forward lets nothing be forgotten."""
        while self._forward and self._forward[0][0] < now.mono_ms - HOUR_MS:
            self._forward.popleft()
        return now.unix_ms - HOUR_MS - sum(by_ms for _, by_ms in self._forward)


def carried(run: Run, by_ms: int, now: Now) -> Run:
    """The same run after the clock was set: as much of its window and lease is left as before, and never more than all of it."""
    if run.acted_ms is None or run.final:
        return run
    lease, window = lease_ms(run.proposal), round(run.proposal.verify_s * 1000)
    verify_ms, until_ms = run.verify_at_ms, run.lease_until_ms
    return msgspec.structs.replace(
        run,
        acted_ms=min(run.acted_ms + by_ms, now.unix_ms),
        verify_at_ms=None if verify_ms is None else min(verify_ms + by_ms, now.unix_ms + window),
        lease_until_ms=None if until_ms is None or lease is None else min(until_ms + by_ms, now.unix_ms + lease),
    )
