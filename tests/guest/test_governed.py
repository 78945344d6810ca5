"""A cap on a real unit, moved through systemd while it is held: where it stands, killed, stopped, and beside another hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from stead.model import messages as m
from stead.model.change import Run
from tests.guest.machine import Machine
from tests.guest.stead import Stead, wait_until
from tests.guest.units import files_of, installed, left_behind
from tests.style.repository import ROOT

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]
CRITICAL, HOG = "steadtest-critical", "steadtest-hog"
CONFIG = {
    "protect": [f"service:{CRITICAL}"],
    "best_effort": [f"service:{HOG}"],
    "safety": {"mode": "act", "profile": "aggressive"},
}
WORK = BUSY = "exec taskset -c 0 stress-ng -q --cpu 1 --cpu-method int64"  # on one CPU, and the other is left for stead


def capping() -> dict[str, Any]:
    """The shipped cap as the only remedy, judged after a short while."""
    document = yaml.safe_load((ROOT / "src/stead/catalog/contention.yaml").read_text())
    (found,) = (each for each in document["playbooks"] if each["playbook_id"] == "cap-cpu")
    found["settings"] = [{**setting, "lease_s": 600} for setting in found["settings"]]  # a guest takes a minute to start again
    found["verify"]["window_s"] = found["predict"]["within_s"] = 15
    first = {"playbook_id": "let-others-first", "title": "Not here", "unsupported": "a test of the cap alone"}
    return {"playbooks": [first, found]}


@pytest.fixture
def capped(agent: Stead) -> Iterator[tuple[Stead, str, dict[str, str]]]:
    """stead, acting; the path of a hog under a cap that has been moved; and what its files were before."""
    guest = agent.machine
    agent.configure(CONFIG, capping())
    agent.start()
    with installed(guest, CRITICAL, WORK):
        wait_until(lambda: agent.ask(m.GetStatus()).ticks >= 8, "the agent knows how it was without a hog", 90)
        with installed(guest, HOG, BUSY, "CPUWeight=1000") as path:
            before = files_of(guest, path)
            agent.run_in("cap-cpu", "verifying", "held", timeout_s=120)
            wait_until(lambda: moves(agent) >= 2, "the cap is moved", 120, lambda: str(agent.runs("cap-cpu")[0].governed))
            yield agent, path, before
            agent.stop()
            assert left_behind(guest, f"{HOG}.service") == ""


def live(agent: Stead) -> Run:
    return agent.runs("cap-cpu")[0]


def moves(agent: Stead) -> int:
    return sum(one.moves for one in live(agent).governed)


def quota(machine: Machine, path: str) -> float | None:
    """A group's cap in percent of one core."""
    limit, period = files_of(machine, path)["cpu.max"].split()
    return None if limit == "max" else 100 * int(limit) / int(period)


def test_it_is_moved_within_its_range_told_and_taken_off_at_a_stop(capped: tuple[Stead, str, dict[str, str]]) -> None:
    agent, path, before = capped
    run = live(agent)
    rule, stands = run.proposal.steps[0].govern, run.governed[0]
    assert rule is not None and rule.low <= stands.least <= stands.value <= stands.most <= rule.high
    assert quota(agent.machine, path) is not None and rule.metric in stands.reason
    assert [one.id for one in agent.ask(m.GetStatus()).limits] == [run.id]
    attempts = [entry for entry in agent.entries("attempt.made") if entry.subject == run.id]
    agent.stop()
    assert files_of(agent.machine, path) == before
    assert len(attempts) == 1, "a move is no attempt"


def test_killed_it_is_put_back_by_the_service_manager_wherever_it_was(capped: tuple[Stead, str, dict[str, str]]) -> None:
    """Who puts it back knows none of the moves, only the range: `ExecStopPost` runs after a kill too."""
    agent, path, before = capped
    run = live(agent)
    agent.machine.run("systemctl kill -s KILL stead-agent; sleep 1; systemctl stop stead-agent")  # and not begun anew
    assert files_of(agent.machine, path) == before, agent.journal()
    agent.start()
    (ended,) = (one for one in agent.runs("cap-cpu") if one.id == run.id)
    assert (ended.state, ended.undo_reason) == ("undone", "lease") and not agent.entries("conflict.seen")


def test_another_hand_in_its_range_is_yielded_to_once(capped: tuple[Stead, str, dict[str, str]]) -> None:
    agent, path, _ = capped
    agent.machine.run(f"systemctl set-property --runtime {HOG} CPUQuota=33%")
    agent.run_in("cap-cpu", "conflict", timeout_s=60)
    assert quota(agent.machine, path) == 33
    assert len(agent.entries("conflict.seen")) == 1
    agent.machine.run(f"systemctl revert {HOG}; rm -rf /run/systemd/system.control/{HOG}.service.d; systemctl daemon-reload")
