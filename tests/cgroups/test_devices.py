"""IO limits by device, in the kernel's lines and in version 1's four files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.cgroups import devices
from tests.cgroups.recorded import RecordedHost

limits = st.none() | st.integers(1, 1 << 40)
names = st.builds("{}:{}".format, st.integers(0, 300), st.integers(0, 300))
wishes = st.dictionaries(names, st.tuples(limits, limits, limits, limits), max_size=4)


def lines(wish: dict) -> list[str]:
    return [
        f"{name} "
        + " ".join(f"{key}={'max' if value is None else value}" for key, value in zip(devices.KEYS, values, strict=True))
        for name, values in wish.items()
    ]


def kernel(version: str, texts: dict[str, str], written: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """What the kernel shows once this was written."""
    texts = dict(texts)
    for file, text in written:
        name, _, rest = text.partition(" ")
        kept = [line for line in texts.get(file, "").splitlines() if line.split()[0] != name]
        gone = rest == "0" or set(rest.split()) == {f"{key}=max" for key in devices.KEYS}
        texts[file] = "\n".join(kept if gone else [*kept, text])
    return texts


@pytest.mark.parametrize("version", ["v1", "v2"])
@given(wishes, wishes)
def test_whatever_is_wanted_comes_about_from_whatever_is(version, now, want):
    texts = {"io.max": ""} if version == "v2" else dict.fromkeys(devices.V1_FILES, "")
    before = kernel(version, texts, devices.write_max(version, devices.tidy(lines(now)), texts))
    assert devices.parse_max(version, before) == devices.tidy(lines(now))
    after = kernel(version, before, devices.write_max(version, devices.tidy(lines(want)), before))
    assert devices.parse_max(version, after) == devices.tidy(lines(want))
    assert devices.write_max(version, devices.tidy(lines(want)), after) == ()


def test_bfqs_own_weight_goes_with_the_other_and_must_agree_with_it():
    texts = {"io.weight": "default 100\n8:0 30", "io.bfq.weight": "default 100"}
    assert devices.parse_weight("v2", texts) == 100
    assert devices.write_weight("v2", 5000, texts) == (("io.weight", "default 5000"), ("io.bfq.weight", "default 545"))
    with pytest.raises(ValueError, match="says otherwise"):
        devices.parse_weight("v2", {**texts, "io.bfq.weight": "default 300"})


def test_latency_targets_go_too():
    now = {"io.latency": "8:0 target=5000\n8:16 target=100"}
    assert devices.write_latency("v2", ["8:0 target=7000"], now) == (
        ("io.latency", "8:0 target=7000"),
        ("io.latency", "8:16 target=0"),
    )


@pytest.mark.parametrize(
    "line", ["", "8:0", "8:0 rbps", "sda rbps=1", "8:0 speed=1", "8:0 rbps=0", "8:0 rbps=-1", "8:0 rbps=1k", "a:b wbps=1"]
)
def test_what_is_no_line_is_refused(line):
    with pytest.raises(ValueError, match="not an IO limit"):
        devices.tidy([line])


def test_a_line_for_each_disk_of_this_host(tmp_path):
    host = RecordedHost(tmp_path)
    host.put("/sys/block/loop0/dev", "7:0")
    host.put("/sys/block/vdb/device/vendor", "x")
    host.put("/sys/block/vdb/dev", "254:16\n")
    assert devices.disks(host) == ["254:0", "254:16"]
    assert devices.spread(["* wbps=9", "8:0 rbps=1"], devices.disks(host)) == ["254:0 wbps=9", "254:16 wbps=9", "8:0 rbps=1"]
