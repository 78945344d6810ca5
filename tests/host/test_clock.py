from __future__ import annotations

import time

from stead.host import SystemClock


def test_reads_unix_time_and_time_since_boot_in_milliseconds() -> None:
    before_unix_ms, before_boot_ms = time.time_ns() // 1_000_000, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    now = SystemClock().now()
    after_unix_ms, after_boot_ms = time.time_ns() // 1_000_000, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    assert before_unix_ms <= now.unix_ms <= after_unix_ms
    assert before_boot_ms <= now.mono_ms <= after_boot_ms
