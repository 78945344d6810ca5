"""A disk that is full while the agent runs: it stays up, observes, does nothing that it can't record, and resumes by itself."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stead.model import messages as m
from stead.model.errors import SteadError
from tests.e2e.place import HOG, Agent, hog, overlay, policy_for, wait_until
from tests.e2e.test_bad_input import INSIDE

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/proc/self/autogroup").exists(), reason="needs root and the autogroup scheduler"
)


class SmallDisk(Agent):
    """An agent whose state is a small disk of its own, in a mount namespace of its own."""

    def __init__(self, folder: Path) -> None:
        (folder / "run").mkdir()
        (folder / "state").mkdir()
        (folder / "state" / "run").symlink_to(folder / "run")  # what is mounted over it is seen by the agent alone
        kind = f'{{"kind": "tmpfs", "path": "{folder}/state", "run": "{folder}/run", "size": "4m"}}'
        short = overlay(folder)
        short.write_text(short.read_text().replace("0.05", "0.01").replace("0.15", "0.03"))  # also where many run beside it
        config = {"catalog": str(short), "policy": str(policy_for(folder, (HOG,)))}
        super().__init__(folder, config=config, mode="act", before=(sys.executable, INSIDE, kind))

    @property
    def filler(self) -> Path:
        """What fills the disk, as seen from here."""
        assert self.process is not None
        return Path(f"/proc/{self.process.pid}/root{self.state}/filler")

    def fill(self) -> None:
        """Leave no free byte."""
        with self.filler.open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)

    def station(self, name: str) -> m.Station:
        """One station's health."""
        return next(one for one in self.ask(m.GetStatus()).stations if one.name == name)

    def entries(self) -> dict[str, str]:
        """Every entry's leaf, by id."""
        return {one.id: one.leaf for one in self.ask(m.ListEntries(500)).entries}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    one = SmallDisk(tmp_path)
    try:
        one.start()
        yield one
    finally:
        one.kill()


@pytest.mark.long
def test_a_full_disk_stops_acting_and_nothing_else(small: SmallDisk, tmp_path: Path) -> None:
    wait_until(lambda: small.ask(m.GetStatus()).ticks >= 2, "it ticks")
    small.fill()
    acknowledged = small.entries()
    assert acknowledged
    with hog(tmp_path) as one:
        ill = wait_until(lambda: not (now := small.station("record")).ok and now, "the record's trouble is told", 30)
        assert "the disk is full" in ill.detail and str(small.state) in ill.detail and "free some space" in ill.detail
        assert small.station("act").ok is False and small.station("observe").ok is True
        wait_until(lambda: small.station("series").ok is False, "the series' trouble is told", 30)

        def seen_ms() -> int:
            return max(one.at_ms for one in small.ask(m.GetMetrics()).metrics)

        before_ms = seen_ms()
        wait_until(lambda: seen_ms() > before_ms + 2000, "it goes on observing")
        assert (one.nice(), one.autogroup()) == (0, 0), "what can't be recorded is not done"
        assert not small.ask(m.ListRuns()).runs
        assert acknowledged.items() <= small.entries().items()
        assert small.ask(m.Pause("a test")).paused, "a pause works also now"

        small.filler.unlink()
        wait_until(lambda: small.station("record").ok and small.station("series").ok, "it resumes by itself", 30)
        wait_until(lambda: small.findings("infra.process_cpu_cores"), "the hog is found")
        wait_until(lambda: any("autonomy.changed" in leaf for leaf in small.entries().values()), "the pause is recorded")
        assert one.autogroup() == 0
        small.ask(m.Resume())
        wait_until(lambda: one.autogroup() == 19, "it acts", 90)
    kept = small.entries()
    assert acknowledged.items() <= kept.items()
    assert small.stop() == 0 and small.err.read_text() == ""


def test_a_run_in_the_middle_waits_for_the_record_and_is_put_back_after(small: SmallDisk, tmp_path: Path) -> None:
    with hog(tmp_path) as one:
        run = wait_until(lambda: [r for r in small.runs("calm-cpu-hog") if r.state in ("verifying", "held")], "it acted")[0]
        small.fill()
        with pytest.raises(SteadError, match="the disk is full"):
            small.ask(m.Undo(run.id))
        assert (one.nice(), one.autogroup()) == (19, 19), "no attempt was recorded, so nothing was written"
        small.filler.unlink()
        wait_until(lambda: small.station("record").ok, "it resumes", 30)
        assert small.ask(m.Undo(run.id)).runs[0].state == "undone"
        assert (one.nice(), one.autogroup()) == (0, 0)
    assert small.stop() == 0
