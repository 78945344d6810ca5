"""The agent in act mode with an intent, on real units: protected work gets its CPU back, and what gave way gets all back."""

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
SOON_S = 240.0  # at most: a guest beside another one, with a hog in it, is slow
INTENT = {"protect": [f"service:{CRITICAL}"], "best_effort": [f"service:{HOG}"]}
WORK, BUSY = "exec stress-ng -q --cpu 1 --cpu-method int64", "exec stress-ng -q --cpu 2 --cpu-method int64"


def shipped(**changes: Any) -> dict[str, Any]:
    """The shipped remedy with shorter spans, and some seconds of contention before it, so that its effect can be told."""
    document = yaml.safe_load((ROOT / "src/stead/catalog/contention.yaml").read_text())
    (metric,) = (each for each in document["metrics"] if each["metric_id"] == "infra.cpu_contention")
    (found,) = (each for each in document["playbooks"] if each["playbook_id"] == "let-others-first")
    found["settings"] = [{**setting, "lease_s": 15} for setting in found["settings"]]
    found["verify"]["window_s"] = found["predict"]["within_s"] = 10
    return {"metrics": [{**metric, "for": 12}], "playbooks": [{**found, "cooldown_s": 5, **changes}]}


@pytest.fixture
def contended(agent: Stead) -> Iterator[tuple[Stead, str]]:
    """stead with an intent, acting, beside protected work and a hog that outweighs it; the path of the hog."""
    guest = agent.machine
    agent.configure({**INTENT, "safety": {"mode": "act"}}, shipped())
    agent.start()
    with installed(guest, CRITICAL, WORK):
        wait_until(lambda: agent.ask(m.GetStatus()).ticks >= 8, "the agent knows how it was without a hog", SOON_S)
        with installed(guest, HOG, BUSY, "CPUWeight=1000") as path:
            yield agent, path
            guest.run(f"systemctl kill -s STOP {HOG} {CRITICAL}")  # what is put back now would take a minute beside them
            agent.stop()
            assert left_behind(guest, f"{HOG}.service") == ""


def cores(machine: Machine, name: str, seconds: int = 6) -> float:
    """The cores that a unit takes."""
    file = f"/sys/fs/cgroup/system.slice/{name}.service/cpu.stat"
    script = f"a=$(awk 'NR==1 {{print $2}}' {file}); sleep {seconds}; b=$(awk 'NR==1 {{print $2}}' {file}); echo $((b - a))"
    return int(machine.out(script)) / (seconds * 1e6)


def test_the_hog_gives_way_it_helps_and_it_is_put_back_when_it_wants_no_more(contended: tuple[Stead, str]) -> None:
    agent, path = contended
    before = files_of(agent.machine, path)
    run = agent.run_in("let-others-first", "verifying", "held", timeout_s=SOON_S)
    assert run.proposal.steps[0].target.name == path
    assert files_of(agent.machine, path)["cpu.idle"] == "1"
    assert cores(agent.machine, CRITICAL) > 0.8, "one core is what it wants; the hog has what is left"
    held = agent.run_in("let-others-first", "held", timeout_s=SOON_S)
    assert held.id == run.id and held.verdict is not None and held.verdict.result == "helped", held.verdict
    assert any("set-property" in each for receipt in held.receipts for each in receipt.operations)
    agent.machine.run(f"systemctl kill -s STOP {HOG}")
    undone = agent.run_in("let-others-first", "undone", timeout_s=SOON_S)
    assert undone.id == run.id and undone.undo_reason in ("cleared", "lease"), undone.reason
    assert files_of(agent.machine, path) == before
    assert files_of(agent.machine, f"/system.slice/{CRITICAL}.service")["cpu.idle"] == "0"


def test_a_stop_of_the_agent_puts_back_what_it_holds(contended: tuple[Stead, str]) -> None:
    agent, path = contended
    before = files_of(agent.machine, path)
    agent.run_in("let-others-first", "verifying", "held", timeout_s=SOON_S)
    assert files_of(agent.machine, path) != before
    agent.stop()
    assert files_of(agent.machine, path) == before
    assert agent.machine.out("systemctl show -P Result stead-agent") == "success", agent.journal()


def test_killed_while_it_holds_its_unit_puts_back_and_it_begins_anew(contended: tuple[Stead, str]) -> None:
    agent, path = contended
    run = agent.run_in("let-others-first", "verifying", "held", timeout_s=SOON_S)
    agent.machine.run("systemctl kill -s KILL stead-agent")
    restarted = "systemctl show -P NRestarts stead-agent"
    wait_until(lambda: agent.machine.out(restarted) != "0", "systemd starts it again", SOON_S)

    def again() -> list[Run]:
        try:
            live = [each for each in agent.live() if each.state in ("verifying", "held")]
            return live if files_of(agent.machine, path)["cpu.idle"] == "1" else []
        except (ConnectionError, AssertionError):
            return []

    (live,) = wait_until(again, "the agent is back and acts", SOON_S, agent.journal)
    ended = next(each for each in agent.runs("let-others-first") if each.id == run.id)
    assert live.id == run.id or ended.state == "undone", ended.reason
    agent.stop()
    assert files_of(agent.machine, path)["cpu.weight"] == "1000"


def test_a_unit_that_is_restarted_while_it_is_held_is_given_free_and_held_anew(contended: tuple[Stead, str]) -> None:
    agent, path = contended
    run = agent.run_in("let-others-first", "verifying", "held", timeout_s=SOON_S)
    agent.machine.run(f"systemctl restart {HOG}")

    def ended() -> Run | None:
        return next((each for each in agent.runs("let-others-first") if each.id == run.id and each.final), None)

    over = wait_until(ended, "what was held is gone, and what is left of its limit too", SOON_S, agent.journal)
    assert over is not None and over.state in ("undone", "moot"), (over.state, over.reason)
    again = agent.run_in("let-others-first", "verifying", "held", timeout_s=SOON_S)
    assert again.id != run.id and again.proposal.steps[0].target != run.proposal.steps[0].target
    agent.stop()
    after = files_of(agent.machine, path)
    assert (after["cpu.weight"], after["cpu.idle"]) == ("1000", "0")


def test_another_hand_is_yielded_to_once(contended: tuple[Stead, str]) -> None:
    agent, path = contended
    run = agent.run_in("let-others-first", "verifying", "held", timeout_s=SOON_S)
    agent.machine.run(f"systemctl set-property --runtime {HOG} CPUWeight=300")
    ended = agent.run_in("let-others-first", "conflict", timeout_s=SOON_S)
    assert ended.id == run.id
    assert files_of(agent.machine, path)["cpu.weight"] == "300"
    ticks = agent.ask(m.GetStatus()).ticks
    wait_until(lambda: agent.ask(m.GetStatus()).ticks >= ticks + 5, "it goes on", SOON_S)
    assert len(agent.entries("conflict.seen")) == 1
    agent.machine.run(f"systemctl revert {HOG}; rm -rf /run/systemd/system.control/{HOG}.service.d")
