"""Every registered probe, whoever wrote it, on every kind of host: it declares what it emits, and never invents a value."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import pytest

from stead.catalog import load_catalog
from stead.model.intent import Intent, Protect
from stead.model.observe import UNITS, Reading
from stead.plugins import load
from stead.protocols import Probe
from stead.testing import FakeClock, FakeHost

INTENT = Intent((Protect(("service:*", "process:*sh*")),), ("process:stress*", "cgroup:/batch*"))  # some probes need one to speak
HOSTS = Path(__file__).parents[1] / "hosts"
LOADED = load("stead.probes", drivers={})
PROBES = sorted(LOADED.plugins)
ROOTS = {"debian12": "linux", "macos14": "darwin", "windows11": "windows", "empty": "linux"}


def fresh(name: str) -> Probe:
    probe = load("stead.probes", drivers={}, intent=INTENT).plugins[name]
    assert isinstance(probe, Probe)
    return probe


def host_of(kind: str, tmp_path: Path, system: str | None = None) -> FakeHost:
    root = tmp_path if kind == "empty" else HOSTS / kind
    return FakeHost(root, system=system or ROOTS[kind])  # type: ignore[arg-type]


def read_twice(probe: Probe, host: FakeHost) -> list[Reading]:
    clock = FakeClock()
    first = probe.read(host, clock.now())
    host.psutil.advance()
    return [first, probe.read(host, clock.advance(60_000))]


def test_every_probe_loads() -> None:
    assert LOADED.broken == {}
    expected = {
        "cpu",
        "memory",
        "disk_space",
        "disk_io",
        "network",
        "pressure",
        "cgroup_pressure",
        "process",
        "self",
        "inventory",
        "contention",
    }
    assert set(PROBES) >= expected


def test_no_metric_is_declared_twice() -> None:
    ids = [metric.id for name in PROBES for metric in fresh(name).metrics]
    assert sorted(ids) == sorted(set(ids))


@pytest.mark.parametrize("name", PROBES)
def test_declares_itself(name: str) -> None:
    probe = fresh(name)
    assert probe.name == name
    assert probe.interval_s > 0
    assert 0 < probe.timeout_s <= 60
    for metric in probe.metrics:
        assert metric.unit in UNITS, metric
        assert metric.help, metric


def test_units_are_those_of_the_catalogue() -> None:
    catalogued = load_catalog().metrics
    declared = {metric.id: metric.unit for name in PROBES for metric in fresh(name).metrics}
    shared = declared.keys() & catalogued.keys()
    assert len(shared) >= 10
    assert {id: declared[id] for id in shared} == {id: catalogued[id].unit for id in shared}


@pytest.mark.parametrize("kind", ROOTS)
@pytest.mark.parametrize("name", PROBES)
def test_emits_only_what_it_declares_and_says_why_a_value_is_unknown(name: str, kind: str, tmp_path: Path) -> None:
    probe = fresh(name)
    declared = {metric.id: metric for metric in probe.metrics}
    for reading in read_twice(probe, host_of(kind, tmp_path)):
        seen: set[tuple[str, str]] = set()
        for sample in reading.samples:
            assert sample.metric in declared
            assert sample.subject == "host" or ":" in sample.subject
            assert (sample.metric, sample.subject) not in seen, "two values of one metric and subject in one reading"
            seen.add((sample.metric, sample.subject))
            if sample.value is None:
                assert sample.reason, sample
            else:
                assert math.isfinite(sample.value), sample
                assert sample.reason == "", sample
                if declared[sample.metric].unit == "percent":
                    assert sample.value >= 0, sample


@pytest.mark.parametrize("system", ["linux", "darwin", "windows"])
@pytest.mark.parametrize("name", PROBES)
def test_where_nothing_can_be_read_nothing_is_known(name: str, system: str, tmp_path: Path) -> None:
    own = {"workload"}  # reads stead's own objects, not the host
    for reading in read_twice(fresh(name), host_of("empty", tmp_path, system)):
        assert [sample for sample in reading.samples if sample.value is not None] == []
        assert reading.samples or not fresh(name).metrics or name in own, "silence is not an answer"
        assert reading.top is None


@pytest.mark.parametrize("name", PROBES)
def test_a_torn_file_is_unknown_not_an_error(name: str, tmp_path: Path) -> None:
    """Whatever a file holds, a probe says unknown or reads what is sound in it."""
    torn: dict[str, Any] = {}
    for source in (HOSTS / "debian12").rglob("*"):
        if source.is_file():
            target = tmp_path / source.relative_to(HOSTS / "debian12")
            target.parent.mkdir(parents=True, exist_ok=True)
            data = source.read_bytes()
            torn[str(target)] = len(data)
            target.write_bytes(data[: len(data) // 3] + b"\xff\x00 \n")
    assert torn
    for reading in read_twice(fresh(name), host_of("empty", tmp_path)):
        assert all(sample.value is None or math.isfinite(sample.value) for sample in reading.samples)


def test_reading_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    for name in PROBES:
        read_twice(fresh(name), host_of("debian12", tmp_path))
    assert threading.active_count() <= before
