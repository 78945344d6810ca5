"""Advice from measured use: the tail rules, small differences are not said, nor anything that is measured too briefly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.flow.advise import ALIKE, GROUP_CORES, GROUP_MEMORY, PROCESS_CORES, SATURATION, WORKERS_NEEDED, Measured, advise, span
from stead.model.advice import Use
from stead.model.observe import ProcessUse
from stead.model.workload import WorkloadStatus

GIB, MIB, DAY = 1 << 30, 1 << 20, 86_400.0
WEB = "cgroup:/system.slice/web.service@71"


def use(
    metric: str, subject: str, mean: float, p99: float, most: float, covered_s: float = 7 * DAY
) -> dict[tuple[str, str], Use]:
    return {(metric, subject): Use(metric, subject, mean, p99, p99, most, covered_s)}


def status(name: str = "shop", wanted: int = 4) -> WorkloadStatus:
    return WorkloadStatus(name, "life", 1, wanted, (), min_workers=1, max_workers=8)


def test_a_wide_memory_limit_is_lowered_to_the_highest_use_with_room() -> None:
    measured = Measured(use(GROUP_MEMORY, WEB, 200 * MIB, 900 * MIB, 1 * GIB), {WEB: {"memory_max_bytes": 8 * GIB}})
    (one,), short = advise(measured, DAY)
    assert short == {}
    assert one.state == {"memory_max_bytes": 1232 * MIB} and one.now == {"memory_max_bytes": 8 * GIB}
    assert one.title == "Lower memory.max of /system.slice/web.service from 8 GiB to 1.2 GiB"
    assert "highest use in 7 d was 1 GiB (mean 200 MiB)" in one.reason and "ended by the kernel" in one.risk
    assert one.saves_amount == 8 * GIB - 1232 * MIB


def test_a_limit_that_is_nearly_reached_is_raised() -> None:
    measured = Measured(use(GROUP_MEMORY, WEB, 200 * MIB, 900 * MIB, 1000 * MIB), {WEB: {"memory_high_bytes": 1024 * MIB}})
    (one,), _ = advise(measured, DAY)
    assert one.state == {"memory_high_bytes": 1200 * MIB} and one.title.startswith("Raise memory.high")
    assert one.saves_amount is None


@given(st.floats(0, 64 * GIB), st.integers(64 * MIB, 64 * GIB))
def test_what_is_advised_always_holds_the_highest_use(most: float, limit: int) -> None:
    measured = Measured(use(GROUP_MEMORY, WEB, most / 2, most, most), {WEB: {"memory_max_bytes": limit}})
    for one in advise(measured, DAY)[0]:
        wanted = one.state["memory_max_bytes"]
        assert isinstance(wanted, int) and wanted >= most * 1.2 and wanted != limit
        again = Measured(measured.uses, {WEB: {"memory_max_bytes": wanted}})
        assert advise(again, DAY)[0] == (), "what was advised is not advised away again"


@pytest.mark.parametrize(("quota", "wanted"), [(400.0, 60.0), (52.0, 80.0), (70.0, None), ("max", None), (True, None)])
def test_cpu_goes_by_the_99th_percentile(quota: object, wanted: float | None) -> None:
    limits = {WEB: {"cpu_max_percent": quota}}
    found, _ = advise(Measured(use(GROUP_CORES, WEB, 0.1, 0.5, 3.0), limits), DAY)  # type: ignore[arg-type]
    assert [one.state for one in found] == ([] if wanted is None else [{"cpu_max_percent": wanted}])


def test_what_is_measured_too_briefly_is_named_instead() -> None:
    measured = Measured(use(GROUP_MEMORY, WEB, 1, 2, 3, covered_s=600.0), {WEB: {"memory_max_bytes": 8 * GIB}})
    assert advise(measured, DAY) == ((), {WEB: 600.0})


@pytest.mark.parametrize(
    ("metric", "tail", "wanted"),
    [(WORKERS_NEEDED, 1.4, 2), (WORKERS_NEEDED, 6.1, 7), (WORKERS_NEEDED, 40.0, 8), (SATURATION, 35.0, 2), (SATURATION, 70.0, 4)],
)
def test_workers_follow_the_tail_of_what_was_needed(metric: str, tail: float, wanted: int) -> None:
    found, _ = advise(Measured(use(metric, "workload:shop", 1.0, tail, tail), workloads=[status()]), DAY)
    assert [one.state for one in found] == ([] if wanted == 4 else [{"count": wanted}])
    for one in found:
        assert (one.saves_amount is None) == (wanted > 4)


def test_the_top_consumers_are_named_with_their_share() -> None:
    process = ProcessUse(4711, 99, "encode", "encode -i", 0, 1.0, 1, None, 1, 3)
    idle = ProcessUse(4712, 99, "idle", "idle", 0, 0.0, 1, None, 1, 3)
    uses = {**use(PROCESS_CORES, process.subject, 1.5, 2.0, 2.0), **use(PROCESS_CORES, idle.subject, 0.01, 0.1, 1.0)}
    (one,), _ = advise(Measured(uses, processes=(process, idle), cores=4.0), DAY)
    assert one.title == "Let others go before encode (pid 4711)" and "38 % of this machine" in one.reason
    assert (one.actuator, one.state) == ("priority", {"nice": 10})


def test_ids_are_stable_and_what_frees_most_comes_first() -> None:
    other = "cgroup:/system.slice/other.service@72"
    uses = {**use(GROUP_MEMORY, WEB, 1, 2, 100 * MIB), **use(GROUP_MEMORY, other, 1, 2, 100 * MIB)}
    limits = {WEB: {"memory_max_bytes": 4 * GIB}, other: {"memory_max_bytes": 8 * GIB}}
    first, _ = advise(Measured(uses, limits), DAY)
    assert [one.subject for one in first] == [other, WEB]
    assert [one.id for one in advise(Measured(uses, limits), DAY)[0]] == [one.id for one in first]
    assert len({one.id for one in first}) == 2


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "5 s"), (60, "1 min"), (3660, "1 h 1 min"), (7 * DAY, "7 d"), (90_000, "1 d 1 h")]
)
def test_lengths_of_time(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_units_that_are_alike_may_opt_in_for_merging_and_no_saving_is_promised() -> None:
    (one,), _ = advise(Measured(use(ALIKE, "unit:web.service", 300 * MIB, 400 * MIB, 400 * MIB)), DAY)
    assert (one.kind, one.actuator, one.subject, one.state) == ("merging", "kernel", "unit:web.service", {"memory_ksm": True})
    assert one.title == "Let equal pages of web.service be held once"
    assert one.saves.startswith("at most 300 MiB") and "next start" in one.risk
