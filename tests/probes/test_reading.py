from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.model.observe import MetricSpec, Now, Reading
from stead.probes.reading import FIRST, RESET, Rates, Source, SystemProbe, why
from stead.protocols import Host
from stead.testing import FakeClock, FakeHost


def test_a_rate_needs_two_readings_and_a_counter_that_rises() -> None:
    rates = Rates()
    first = rates.sample("m", "disk:a", 100, 1000)
    assert (first.value, first.reason) == (None, FIRST)
    assert rates.sample("m", "disk:a", 150, 3000).value == 25.0
    back = rates.sample("m", "disk:a", 10, 4000)
    assert (back.value, back.reason) == (None, RESET)
    assert rates.sample("m", "disk:a", 20, 5000, scale=0.1).value == pytest.approx(1.0)
    assert rates.sample("m", "disk:b", 20, 5000).reason == FIRST
    assert rates.sample("n", "disk:a", 20, 5000).reason == FIRST


def test_a_counter_that_stands_still_is_zero_and_no_time_is_unknown() -> None:
    rates = Rates()
    rates.sample("m", "host", 5, 1000)
    assert rates.sample("m", "host", 5, 2000).value == 0.0
    again = rates.sample("m", "host", 9, 2000)
    assert (again.value, again.reason) == (None, "no time passed")
    assert rates.sample("m", "host", 9, 3000).value == 4.0, "the reading without time must not have eaten the difference"


def test_what_is_gone_is_forgotten() -> None:
    rates = Rates()
    rates.sample("m", "disk:a", 5, 1000)
    rates.sample("m", "disk:b", 5, 1000)
    rates.keep({"disk:b"})
    assert rates.sample("m", "disk:a", 6, 2000).reason == FIRST
    assert rates.sample("m", "disk:b", 6, 2000).value == 1.0


@given(st.lists(st.tuples(st.integers(0, 2**64), st.integers(1, 10**7)), min_size=2, max_size=30))
def test_rates_add_up_to_what_the_counter_rose(steps: list[tuple[int, int]]) -> None:
    rates, at_ms, value, total = Rates(), 0, 0, 0.0
    for index, (rise, elapsed_ms) in enumerate(steps):
        at_ms += elapsed_ms
        value += rise
        sample = rates.sample("m", "host", value, at_ms)
        if index:
            assert sample.value is not None
            total += sample.value * elapsed_ms / 1000
    assert total == pytest.approx(sum(rise for rise, _ in steps[1:]), rel=1e-6, abs=1e-6)


def test_a_source_opens_again_after_it_failed(tmp_path: Path) -> None:
    host, source = FakeHost(tmp_path), Source("/file")
    with pytest.raises(FileNotFoundError):
        source.text(host)
    (tmp_path / "file").write_text("here")
    assert source.text(host) == "here"
    (tmp_path / "file").write_text("here again")
    assert source.text(host) == "here again"
    source.close()
    assert source.text(host) == "here again"
    source.close()


class Broken(SystemProbe):
    name = "broken"
    metrics = (MetricSpec("a.b", "count", "help"), MetricSpec("a.c", "count", "help"))

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def read_linux(self, host: Host, now: Now) -> Reading:
        raise self.failure

    read_psutil = read_linux


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (FileNotFoundError(2, "No such file", "/proc/x"), "not on this system: /proc/x"),
        (PermissionError(13, "Permission denied", "/proc/x"), "Permission denied: /proc/x"),
        (ValueError("no cpu line"), "unreadable (ValueError: no cpu line)"),
        (ImportError("psutil"), "psutil is not installed"),
    ],
)
def test_a_failure_makes_every_metric_unknown_and_says_why(failure: Exception, words: str, tmp_path: Path) -> None:
    reading = Broken(failure).read(FakeHost(tmp_path), FakeClock().now())
    assert [(sample.metric, sample.value, sample.reason) for sample in reading.samples] == [
        ("a.b", None, words),
        ("a.c", None, words),
    ]
    assert why(failure) == words


def test_a_mistake_in_a_probe_is_not_hidden_as_missing_data(tmp_path: Path) -> None:
    for system in ("linux", "darwin"):
        with pytest.raises(TypeError):
            Broken(TypeError("a bug")).read(FakeHost(tmp_path, system=system), FakeClock().now())  # type: ignore[arg-type]


def test_psutil_saying_no_is_missing_data(tmp_path: Path) -> None:
    host = FakeHost(tmp_path, system="darwin")
    reading = Broken(host.psutil.AccessDenied("not yours")).read(host, FakeClock().now())
    assert all(sample.value is None and "not yours" in sample.reason for sample in reading.samples)
