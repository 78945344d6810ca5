"""What is protected is not made slower by its priority, whoever asks; it may be given more, and gets back what was taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.actuators.priority import Priority, actuator
from stead.model.change import Target
from stead.model.errors import SteadError
from stead.model.intent import Intent, Protect
from stead.scheduling.slower import lowered
from stead.testing import FakeHost
from tests.cgroups.recorded import RecordedHost

NOW = Priority(nice=0, autogroup_nice=0, ionice_class="best_effort", ionice_level=4, policy="batch", cpus="0-3", uclamp_max=512)


@pytest.mark.parametrize(
    ("want", "is_slower"),
    [
        ({"nice": 1}, True),
        ({"nice": -5, "autogroup_nice": -1}, False),
        ({"autogroup_nice": 19}, True),
        ({"policy": "idle"}, True),
        ({"policy": "other"}, False),
        ({"ionice_class": "idle", "ionice_level": 0}, True),
        ({"ionice_class": "best_effort", "ionice_level": 7}, True),
        ({"ionice_class": "best_effort", "ionice_level": 0}, False),
        ({"cpus": "0"}, True),
        ({"cpus": "0-7"}, False),
        ({"uclamp_max": 100}, True),
        ({"uclamp_min": 100}, True),  # not known now
        ({"nice": 0, "policy": "batch", "family": []}, False),
        ({"ionice_level": 5}, True),
        ({"ionice_class": "none"}, False),
        ({"policy": "fifo"}, True),
    ],
)
def test_what_is_slower(want: dict[str, Any], is_slower: bool) -> None:
    assert bool(lowered(NOW, want)) is is_slower


def test_who_has_no_io_class_goes_by_its_nice() -> None:
    for nice, level, is_slower in ((0, 7, True), (0, 4, False), (0, 3, False), (19, 7, False), (-20, 1, True)):
        now = msgspec.structs.replace(NOW, ionice_class="none", ionice_level=0, nice=nice)
        assert bool(lowered(now, {"ionice_class": "best_effort", "ionice_level": level})) is is_slower, (nice, level)


def test_a_remedy_that_slows_gives_nobody_more(tmp_path: Path) -> None:
    low = Priority(nice=19, autogroup_nice=0, ionice_class="idle", ionice_level=0, policy="idle")
    priority: Any = actuator(FakeHost(tmp_path))
    want = {"nice": 10, "policy": "batch", "autogroup_nice": 10, "ionice_class": "best_effort", "ionice_level": 7}
    assert priority.slowing(low, {**want, "family": ["nice=10"]}) == {"autogroup_nice": 10, "family": ["nice=10"]}
    assert priority.slowing(Priority(nice=0, ionice_class="best_effort", ionice_level=4, policy="other"), want) == want


def place(tmp_path: Path) -> tuple[RecordedHost, Target]:
    host = RecordedHost(tmp_path)
    host.process(60, "web")
    (tmp_path / "proc/60/task/60").mkdir(parents=True)
    return host, Target("process", "60", {"start_ticks": "500", "boot_id": host.boot_id})


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"intent": Intent((Protect(("process:web",), name="the shop"),))}, r"web, which is to be protected \(the shop\)"),
        ({"protected": ("we*",)}, r"web, which the policy's pattern we\* protects"),
    ],
    ids=["intent", "policy"],
)
async def test_protected_work_is_never_made_slower(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    host, web = place(tmp_path)
    priority = actuator(host, **more)
    now = await priority.read(host, web)
    for want in (Priority(nice=19), Priority(policy="idle"), Priority(ionice_class="idle")):
        with pytest.raises(SteadError, match=words):
            priority.plan(web, now, want)
        with pytest.raises(SteadError, match=words):
            await priority.write(host, web, want)
    assert host.scheduler.nice(60) == 0
    await priority.write(host, web, Priority(nice=-5))
    assert host.scheduler.nice(60) == -5
    await priority.put_back(host, web, Priority(nice=0))  # type: ignore[attr-defined]
    assert host.scheduler.nice(60) == 0, "putting back is never refused"
