"""What the knobs' files say, and what is written into them: the same value comes back, in both versions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.cgroups import devices
from stead.cgroups.knobs import KNOBS, PAGE, V1_NO_LIMIT, rounded, shares_of_weight, weight_of_shares

V1 = {
    "cpu.shares": "1024",
    "cpu.idle": "0",
    "cpu.cfs_quota_us": "-1",
    "cpu.cfs_period_us": "100000",
    "memory.soft_limit_in_bytes": str(V1_NO_LIMIT),
    "memory.limit_in_bytes": str(V1_NO_LIMIT),
    "blkio.bfq.weight": "100",
    **dict.fromkeys(devices.V1_FILES, ""),
    "pids.max": "max",
    "freezer.self_freezing": "0",
}
V2 = {
    "cpu.weight": "100",
    "cpu.idle": "0",
    "cpu.max": "max 100000",
    "memory.high": "max",
    "memory.low": "0",
    "memory.max": "max",
    "io.weight": "default 100\n8:0 200",
    "io.max": "",
    "io.latency": "",
    "pids.max": "max",
    "cgroup.freeze": "0",
}
NEW = {"v1": V1, "v2": V2}


def after(field: str, version: str, value: Any, texts: dict[str, str]) -> Any:
    """What the knob reads once it was written, for knobs that show what was written."""
    texts = dict(texts)
    for file, text in KNOBS[field].write(version, value, texts):
        texts[file] = text if text != "-1" or "quota" in file else str(V1_NO_LIMIT)
    return KNOBS[field].parse(version, texts)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("field", KNOBS)
def test_a_new_group_has_the_default(field, version):
    if KNOBS[field].files(version):
        assert KNOBS[field].parse(version, NEW[version]) == KNOBS[field].default


@given(st.integers(1, 10_000))
def test_a_weight_comes_back_from_its_shares(weight):
    assert weight_of_shares(shares_of_weight(weight)) == weight


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("field", ["memory_max_bytes", "memory_low_bytes"])
@given(st.integers(1, 1 << 50))
def test_bytes_come_back_as_they_are_rounded(version, field, value):
    if value >= PAGE:
        at = rounded(field, value, {}, version)
        assert after(field, version, at, NEW[version]) == at and value - PAGE < at <= value


@pytest.mark.parametrize("version", ["v1", "v2"])
@given(st.floats(1, 6400), st.sampled_from([1000, 10_000, 33_333, 100_000, 1_000_000]))
def test_a_share_of_a_core_comes_back_in_any_period(version, percent, period):
    texts = {"cpu.max": f"max {period}", "cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": str(period)}
    at = rounded("cpu_max_percent", percent, texts, version)
    written = dict(KNOBS["cpu_max_percent"].write(version, at, texts))
    shown = {**texts, **written} if version == "v1" else {"cpu.max": f"{written['cpu.max']} {period}"}
    assert KNOBS["cpu_max_percent"].parse(version, shown) == pytest.approx(at)
    assert int(written.get("cpu.max") or written["cpu.cfs_quota_us"]) >= 1000


@pytest.mark.parametrize(("field", "value"), [("cpu_weight", 0), ("cpu_weight", 20_000), ("io_weight", -5)])
def test_weights_stay_in_their_range(field, value):
    assert rounded(field, value, {}, "v2") == (10_000 if value > 0 else 1)


def test_an_idle_group_has_no_weight():
    assert KNOBS["cpu_weight"].parse("v1", {**V1, "cpu.idle": "1", "cpu.shares": "3"}) is None


def test_a_soft_limit_of_nothing_can_not_be_said():
    with pytest.raises(ValueError, match="soft limit is 0"):
        KNOBS["memory_low_bytes"].parse("v1", {"memory.soft_limit_in_bytes": "0"})


@given(st.integers(1, 1000))
def test_bfqs_weights_come_back_exactly(weight):
    value = devices.parse_weight("v1", {"blkio.bfq.weight": str(weight)})
    assert dict(devices.write_weight("v1", value, {})) == {"blkio.bfq.weight": str(weight)}
