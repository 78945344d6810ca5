"""The captured hosts, as copies that a test may change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from stead.model.observe import Now, Reading, Sample
from stead.protocols import Probe
from stead.testing import FakeClock, FakeHost

CAPTURED = Path(__file__).parents[1] / "hosts"


def debian(tmp_path: Path) -> FakeHost:
    """A Debian 12 whose files may be changed."""
    shutil.copytree(CAPTURED / "debian12", tmp_path / "root")
    return FakeHost(tmp_path / "root", name="web1")


def captured(name: str) -> FakeHost:
    """A macOS or Windows by its recorded psutil."""
    systems = {"macos14": "darwin", "windows11": "windows", "debian12": "linux"}
    return FakeHost(CAPTURED / name, system=systems[name])  # type: ignore[arg-type]


def change(host: FakeHost, path: str, edit: Callable[[str], str]) -> None:
    """Rewrite one file of a host, in place."""
    file = host.root / path.lstrip("/")
    file.write_text(edit(file.read_text()))


def values(reading: Reading) -> dict[tuple[str, str], float | None]:
    """Samples by metric and subject."""
    return {(sample.metric, sample.subject): sample.value for sample in reading.samples}


def one(reading: Reading, metric: str, subject: str = "host") -> Sample:
    """The one sample of a metric and subject."""
    (found,) = [sample for sample in reading.samples if (sample.metric, sample.subject) == (metric, subject)]
    return found


def two_frames(probe: Probe, host: FakeHost, elapsed_ms: int = 5000) -> Reading:
    """The second reading, over the two frames of a recorded psutil."""
    clock = FakeClock()
    probe.read(host, clock.now())
    host.psutil.advance()
    now: Now = clock.advance(elapsed_ms)
    return probe.read(host, now)
