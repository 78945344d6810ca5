"""Observe: what fails or hangs is unknown and named, and never stops the others."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from stead.flow.observe import MAX_OUTSTANDING, Observer
from stead.model.config import ProbeConfig
from stead.model.observe import MetricSpec, Now, Reading, Sample


class Steady:
    name, interval_s, timeout_s, blocking = "steady", 1.0, 1.0, False
    metrics = (MetricSpec("steady.value", "count", "one"),)

    def __init__(self) -> None:
        self.reads = 0

    def read(self, host: Any, now: Now) -> Reading:
        self.reads += 1
        return Reading((Sample("steady.value", "host", 1.0),))


class Broken(Steady):
    name = "broken"
    metrics = (MetricSpec("broken.value", "count", "never"),)

    def read(self, host: Any, now: Now) -> Reading:
        raise OSError(5, "Input/output error")


class Piped(Steady):
    """Reads a pipe that nobody writes to: the read really blocks."""

    name, blocking, timeout_s, interval_s = "piped", True, 0.5, 1.0
    metrics = (MetricSpec("piped.value", "count", "what came through the pipe"),)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def read(self, host: Any, now: Now) -> Reading:
        self.reads += 1
        return Reading((Sample("piped.value", "host", float(self.path.read_text())),))


def at(second: float) -> Now:
    return Now(int(1_700_000_000_000 + second * 1000), int(second * 1000))


def values(observer: Observer, second: float) -> dict[tuple[str, str], Sample]:
    return {(s.metric, s.subject): s for s in observer.observe(at(second)).samples}


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited 10 s"
        time.sleep(0.01)


def test_a_probe_that_raises_is_unknown_and_the_others_go_on() -> None:
    steady = Steady()
    seen = values(Observer([Broken(), steady], host=None), 0)  # type: ignore[arg-type]
    assert seen["broken.value", "host"].value is None
    assert "Input/output error" in seen["broken.value", "host"].reason
    assert seen["stead.probe_up", "probe:broken"].value == 0.0
    assert seen["stead.probe_up", "probe:steady"].value == 1.0
    assert seen["steady.value", "host"].value == 1.0


def test_a_read_that_blocks_is_unknown_after_its_timeout_and_is_not_called_again(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    piped, steady = Piped(pipe), Steady()
    observer = Observer([piped, steady], host=None)  # type: ignore[arg-type]
    assert ("steady.value", "host") in values(observer, 0)
    wait_for(lambda: piped.reads == 1)
    seen = values(observer, 1)
    assert seen["piped.value", "host"].value is None
    assert "hangs" in seen["stead.probe_up", "probe:piped"].reason
    assert seen["steady.value", "host"].value == 1.0
    for second in range(2, 20):
        values(observer, second)
    assert piped.reads == 1, "one outstanding call a probe"
    assert steady.reads == 20
    pipe.write_text("7")
    call = observer.watches[0].call
    assert call is not None and call.done.wait(10)
    assert values(observer, 21)["piped.value", "host"].value == 7.0


def test_eight_hanging_calls_at_most(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    probes = [Piped(pipe) for _ in range(MAX_OUTSTANDING + 4)]
    observer = Observer(probes, host=None)  # type: ignore[arg-type]
    observer.observe(at(0))
    observer.observe(at(1))
    assert sum(w.call is not None for w in observer.watches) == MAX_OUTSTANDING
    keep = os.open(pipe, os.O_RDWR)
    os.write(keep, b"1")
    for watch in observer.watches:  # whoever comes to the pipe late must find it open, and then closed
        while watch.call is not None and not watch.call.done.is_set():
            os.close(keep)
            keep = os.open(pipe, os.O_RDWR)
            watch.call.done.wait(0.05)
    os.close(keep)


def test_each_probe_has_its_own_interval_and_may_be_off() -> None:
    slow, fast, off = Steady(), Steady(), Steady()
    slow.name, fast.name, off.name = "slow", "fast", "off"
    config = {"slow": ProbeConfig(interval_s=5.0), "off": ProbeConfig(enabled=False)}
    observer = Observer([slow, fast, off], host=None, config=config)  # type: ignore[arg-type]
    for second in range(10):
        observer.observe(at(second))
    assert (slow.reads, fast.reads, off.reads) == (2, 10, 0)
    assert set(observer.health()) == {"slow", "fast"}


def test_a_tick_that_comes_a_little_soon_still_reads() -> None:
    steady = Steady()
    observer = Observer([steady], None)  # type: ignore[arg-type]
    for number in range(60):
        observer.observe(at(number + (0.004 if number % 7 == 0 else 0.001)))
    assert steady.reads == 60


def test_a_probe_that_is_called_for_is_read_before_its_time_and_alone() -> None:
    class Called(Steady):
        name = "called"
        metrics = (MetricSpec("called.value", "count", "one"),)

    calm, called = Steady(), Called()
    observer = Observer([calm, called], None)  # type: ignore[arg-type]
    observer.observe(at(0))
    observer.observe(at(0.3))
    assert (calm.reads, called.reads) == (1, 1)
    observer.hasten("called")
    observer.hasten("no such probe")
    observer.observe(at(0.35))
    assert (calm.reads, called.reads) == (1, 2)
    observer.observe(at(1.0))
    assert calm.reads == 2, "the grid of the others is as it was"
