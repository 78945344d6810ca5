"""Weights, targets and caps of IO on a recorded tree of version 2, straight and through systemd.

The real thing: tests/guest/test_io.py, and tests/guest/test_limits.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.actuators.limit import Limit
from stead.model.errors import SteadError
from tests.actuators.test_limit import hosted, made, planned

BOTH = pytest.mark.parametrize("systemd", [0, 252], ids=["straight", "systemd"])


def text(host: Any, path: str, file: str) -> str:
    return str(host.read(f"/sys/fs/cgroup{path}/{file}").decode().strip())


async def back(host: Any, limit: Any, step: Any) -> None:
    await limit.put_back(host, step.target, msgspec.convert(step.before, Limit))


@BOTH
@pytest.mark.parametrize("weight", [1, 20, 99, 100, 101, 5000, 10_000])
async def test_a_weight_is_set_and_comes_back(tmp_path: Path, systemd: int, weight: int) -> None:
    host, limit, path = hosted(tmp_path, systemd)
    await made(limit, host, path, io_weight=350)
    step = await made(limit, host, path, io_weight=weight)
    assert text(host, path, "io.weight") == f"default {weight}"
    assert step.before is not None and step.before["io_weight"] == 350 and "weighs among the groups" in step.note
    await back(host, limit, step)
    assert text(host, path, "io.weight") == "default 350"


async def test_a_weight_of_a_single_device_stays(tmp_path: Path) -> None:
    host, limit, path = hosted(tmp_path)
    host.put(f"/sys/fs/cgroup{path}/io.weight", "default 100\n254:0 700\n")
    step = await planned(limit, host, path, io_weight=1)
    assert step.diff == {"io_weight": (100, 1)}
    await limit.write(host, step.target, msgspec.convert(step.want, Limit))
    assert "700" not in step.note and (await limit.read(host, step.target)).io_weight == 1


@pytest.mark.parametrize(("weight", "bfq"), [(1, 1), (20, 20), (100, 100), (1000, 181), (10_000, 1000)])
async def test_where_a_disk_has_bfqs_own_weight_that_goes_with_it(tmp_path: Path, weight: int, bfq: int) -> None:
    host, limit, path = hosted(tmp_path)
    host.put(f"/sys/fs/cgroup{path}/io.bfq.weight", "default 100\n")
    other = 50 if weight == 100 else 100
    if other != 100:
        await made(limit, host, path, io_weight=other)
    step = await made(limit, host, path, io_weight=weight)
    assert (text(host, path, "io.weight"), text(host, path, "io.bfq.weight")) == (f"default {weight}", f"default {bfq}")
    await back(host, limit, step)
    assert (text(host, path, "io.weight"), text(host, path, "io.bfq.weight")) == (f"default {other}", f"default {other}")


async def test_a_weight_of_bfqs_that_another_hand_set_alone_is_no_weight_that_can_be_said(tmp_path: Path) -> None:
    host, limit, path = hosted(tmp_path)
    host.put(f"/sys/fs/cgroup{path}/io.bfq.weight", "default 300\n")
    with pytest.raises(SteadError, match="io_weight can't be read"):
        await planned(limit, host, path, io_weight=20)
    assert text(host, path, "io.weight") == "default 100"


@BOTH
async def test_where_no_disk_weighs_io_this_is_said(tmp_path: Path, systemd: int) -> None:
    host, limit, path = hosted(tmp_path, systemd)
    host.put("/sys/block/vda/queue/scheduler", "[none] mq-deadline")
    host.remove(f"/sys/fs/cgroup{path}/io.weight")
    if systemd:
        host.put(f"/sys/fs/cgroup{path}/cgroup.controllers", "cpu io memory pids")
    with pytest.raises(SteadError, match="no disk here weighs IO"):
        await planned(limit, host, path, io_weight=1)


@BOTH
async def test_a_target_of_latency_is_set_moved_and_taken_off(tmp_path: Path, systemd: int) -> None:
    host, limit, path = hosted(tmp_path, systemd)
    first = await made(limit, host, path, io_latency=["254:0 target=10000"])
    assert text(host, path, "io.latency") == "254:0 target=10000" and first.diff["io_latency"] == ([], ["254:0 target=10000"])
    second = await made(limit, host, path, io_latency=["* target=2500"])
    assert text(host, path, "io.latency") == "254:0 target=2500"
    await back(host, limit, second)
    assert text(host, path, "io.latency") == "254:0 target=10000"
    await back(host, limit, first)
    assert text(host, path, "io.latency") == ""


async def test_targets_of_other_disks_are_part_of_what_is_wanted_and_of_what_comes_back(tmp_path: Path) -> None:
    host, limit, path = hosted(tmp_path)
    host.put(f"/sys/fs/cgroup{path}/io.latency", "254:0 target=9000\n254:16 target=8000\n")
    step = await made(limit, host, path, io_latency=["254:0 target=100"])
    assert text(host, path, "io.latency") == "254:0 target=100"
    await back(host, limit, step)
    assert sorted(text(host, path, "io.latency").splitlines()) == ["254:0 target=9000", "254:16 target=8000"]


async def test_a_kernel_without_targets_says_so(tmp_path: Path) -> None:
    host, limit, path = hosted(tmp_path)
    host.remove(f"/sys/fs/cgroup{path}/io.latency")
    with pytest.raises(SteadError, match=r"this kernel has no io\.latency"):
        await planned(limit, host, path, io_latency=["254:0 target=1000"])


@pytest.mark.parametrize(
    "state",
    [
        {"io_latency": ["254:0 target=fast"]},
        {"io_max": ["vda rbps=1"]},
        {"io_max": ["254:0 rbps=0"]},
        {"io_max": ["254:0 bps=9"]},
    ],
)
async def test_what_is_no_line_is_refused_by_name(tmp_path: Path, state: dict[str, Any]) -> None:
    host, limit, path = hosted(tmp_path)
    before = text(host, path, "io.max"), text(host, path, "io.latency")
    with pytest.raises(SteadError, match="not an IO limit") as refused:
        await planned(limit, host, path, **state)
    assert refused.value.problem.code == "limit.value"
    assert (text(host, path, "io.max"), text(host, path, "io.latency")) == before


@BOTH
async def test_all_of_io_at_once_is_put_back_to_what_somebody_had_set(tmp_path: Path, systemd: int) -> None:
    host, limit, path = hosted(tmp_path, systemd)
    theirs = dict(io_weight=80, io_max=["254:0 wbps=7000000"], io_latency=["254:0 target=5000"])
    await made(limit, host, path, **theirs)
    before = {name: text(host, path, name) for name in ("io.weight", "io.max", "io.latency")}
    step = await made(limit, host, path, io_weight=1, io_max=["* rbps=1000000 wbps=1000000"], io_latency=["254:0 target=90000"])
    assert text(host, path, "io.max") == "254:0 rbps=1000000 wbps=1000000 riops=max wiops=max"
    await back(host, limit, step)
    assert {name: text(host, path, name) for name in before} == before
