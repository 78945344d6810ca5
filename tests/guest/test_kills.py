"""A run on real groups is killed by SIGKILL at every named point, forward and back: what it touched is verified or put back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from stead.agent.crash import list_marks
from tests.guest.bench import Bench
from tests.guest.machine import Machine
from tests.guest.units import delegated, installed, left_behind

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]
UNIT, TENANT = "steadtest-killed", "steadtest-killed-tenant"
AT_ONCE = 4  # marks in one question, which has minutes to answer


class Place(NamedTuple):
    """What is killed over: a setting, and what another hand does to it."""

    setting: dict[str, Any]
    rival: str
    theirs: tuple[str, Any]


@pytest.fixture(scope="module")
def place(guest: Machine) -> Iterator[dict[str, Place]]:
    """A unit that systemd manages, and a group in a subtree that it does not."""
    state = {"cpu_max_percent": 35.0, "memory_high_bytes": 200 << 20, "pids_max": 60}
    with installed(guest, UNIT) as path, delegated(guest, TENANT) as inner:
        yield {
            "unit": Place(
                {"actuator": "limit", "kind": "cgroup", "name": path, "state": {**state, "frozen": True}},
                f"systemctl set-property --runtime {UNIT} CPUQuota=44%",
                ("cpu_max_percent", 44.0),
            ),
            "delegated": Place(
                {"actuator": "limit", "kind": "cgroup", "name": inner, "state": {**state, "cpu_weight": 20}},
                f"echo 44000 > /sys/fs/cgroup{inner}/cpu.max",
                ("cpu_max_percent", 44.0),
            ),
        }


def killed(bench: Bench, settings: list[dict[str, Any]], marks: list[str], meanwhile: str = "") -> list[dict[str, Any]]:
    """The rows of `inside.crashes.kill_at_each` for all these marks."""
    rows: list[dict[str, Any]] = []
    for start in range(0, len(marks), AT_ONCE):
        rows += bench.ask("crash", settings=settings, marks=marks[start : start + AT_ONCE], meanwhile=meanwhile)["rows"]
    assert len(rows) == len(marks) and all(row["killed"] for row in rows), [row["mark"] for row in rows if not row["killed"]]
    return rows


@pytest.mark.parametrize("name", ["unit", "delegated"])
def test_killed_at_every_point(guest: Machine, bench: Bench, place: dict[str, Place], name: str) -> None:
    setting = place[name].setting
    for row in killed(bench, [setting], list_marks(["limit"])):
        assert row["state"] in ("verifying", "undone", "approved", "failed"), row
        assert not row["unsettled"], row
        before, after = row["before"][0], row["after"][0]
        if row["state"] == "verifying":
            assert {key: after[key] for key in setting["state"]} == setting["state"], row
        else:
            assert after == before, row
    assert left_behind(guest, f"{UNIT}.service") == ""


@pytest.mark.parametrize("name", ["unit", "delegated"])
def test_another_hand_between_death_and_recovery_is_yielded_to(bench: Bench, place: dict[str, Place], name: str) -> None:
    setting, rival, (field, value) = place[name]
    marks = ["act.limit.forward.after_write", "act.limit.undo.before_write"]
    for row in killed(bench, [setting], marks, rival):
        assert row["state"] == "conflict", row
        assert row["after"][0][field] == value, row
