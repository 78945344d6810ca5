"""Does the agent grow? Its resident memory over an hour or so, and the slope of it by least squares after 15 minutes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from benchmarks.agent import RSS_TARGET_MB
from benchmarks.load import agent
from benchmarks.measure import Figure, publish, rss_bytes, slope_per_hour

SETTLING_S = 15 * 60
EVERY_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an agent for a while and look at its memory."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=45.0, help="how long in all; the first 15 settle")
    minutes = parser.parse_args(arguments).minutes
    if minutes <= SETTLING_S / 60:
        parser.error(f"--minutes: more than the {SETTLING_S // 60} that settle")
    points: list[tuple[float, float]] = []
    with agent() as (process, _):
        started = time.monotonic()
        while (at := time.monotonic() - started) < minutes * 60:
            points.append((at, rss_bytes(process.pid) / 1e6))
            time.sleep(EVERY_S)
    settled = [point for point in points if point[0] >= SETTLING_S]
    return publish(
        "soak",
        f"Memory of the agent over {minutes:g} minutes",
        [
            Figure("agent RSS at the end", settled[-1][1], "MB", RSS_TARGET_MB),
            Figure("agent RSS slope after 15 minutes", slope_per_hour(settled), "MB/h", 0.1),
        ],
    )


if __name__ == "__main__":
    raise SystemExit(main())
