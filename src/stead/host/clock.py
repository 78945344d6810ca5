"""The system's clocks, read once a tick: wall time for records, time since boot for durations."""

from __future__ import annotations

import time

from stead.model.observe import Now

# Counts suspended time too, where the system has such a clock: leases and rates must not stand still in a sleeping laptop.
_SINCE_BOOT = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


class SystemClock:
    """protocols.Clock on the real clocks."""

    def now(self) -> Now:
        """Read Unix milliseconds and milliseconds since boot."""
        since_boot_ns = time.monotonic_ns() if _SINCE_BOOT is None else time.clock_gettime_ns(_SINCE_BOOT)
        return Now(unix_ms=time.time_ns() // 1_000_000, mono_ms=since_boot_ns // 1_000_000)
