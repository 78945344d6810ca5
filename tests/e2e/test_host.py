"""The whole road on this machine: a real hog, a real agent, the kernel's own word for what changed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stead.model import messages as m
from stead.model.change import Run
from stead.model.errors import SteadError
from tests.e2e.place import HOG, Agent, Hog, agent, hog, overlay, policy_for, wait_until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/proc/self/autogroup").exists(), reason="needs root and the autogroup scheduler"
)


@pytest.fixture
def config(tmp_path: Path) -> dict[str, str]:
    return {"catalog": str(overlay(tmp_path, for_s=6)), "policy": str(policy_for(tmp_path, (HOG,)))}


@pytest.fixture
def one_hog(tmp_path: Path) -> Iterator[Hog]:
    with hog(tmp_path) as found:
        yield found


def run_of(one: Agent, pid: int, *states: str, timeout_s: float = 30) -> Run:
    def find() -> Run | None:
        mine = [run for run in one.runs("calm-cpu-hog") if run.proposal.steps and run.proposal.steps[0].target.name == str(pid)]
        return next((run for run in mine if run.state in states), None)

    found = wait_until(find, f"a run of pid {pid} is {' or '.join(states)}", timeout_s)
    assert found is not None
    return found


def test_in_advise_a_hog_is_found_proposed_and_decided_and_nothing_changes(
    tmp_path: Path, config: dict[str, str], one_hog: Hog
) -> None:
    with agent(tmp_path, config=config) as one:
        run = run_of(one, one_hog.pid, "advised")
        finding = next(f for f in one.findings("infra.process_cpu_cores") if f.id == run.proposal.finding_id)
        assert HOG in finding.title and str(one_hog.pid) in finding.title
        assert run.decision is not None and run.decision.would == "allow"
        assert "rule:only-the-tests-own" in run.decision.rules and "mode:advise" in run.decision.rules
        assert run.proposal.steps[0].diff["autogroup_nice"] == (0, 19)
        with pytest.raises(SteadError, match="stead mode act"):
            one.ask(m.Approve(run.id, run.proposal.plan_hash))
        assert (one_hog.nice(), one_hog.autogroup()) == (0, 0)
        assert not run.attempts
        why = one.ask(m.Why(str(one_hog.pid)))
        assert [link.station for link in why.chain][:3] == ["observe", "find", "propose"]
        assert one.stop() == 0
    assert (one_hog.nice(), one_hog.autogroup()) == (0, 0)


@pytest.mark.alone
def test_in_act_the_hog_gives_way_and_undo_restores_it_and_it_is_not_done_again(
    tmp_path: Path, config: dict[str, str], one_hog: Hog
) -> None:
    with hog(tmp_path, "victim") as victim, agent(tmp_path, config=config, mode="act") as one:
        run = run_of(one, one_hog.pid, "verifying", "held")
        assert (one_hog.nice(), one_hog.autogroup()) == (19, 19)
        began, hog_s, victim_s = time.monotonic(), one_hog.cpu_s(), victim.cpu_s()
        held = run_of(one, one_hog.pid, "held")
        wait_until(lambda: time.monotonic() - began > 4, "four seconds passed")
        got, took = victim.cpu_s() - victim_s, one_hog.cpu_s() - hog_s
        assert got / (got + took) >= 0.9
        assert held.verdict is not None and held.verdict.result == "helped", held.verdict
        assert (victim.nice(), victim.autogroup()) == (0, 0)
        undone = one.ask(m.Undo(run.id)).runs[0]
        assert undone.state == "undone"
        assert (one_hog.nice(), one_hog.autogroup()) == (0, 0)
        time.sleep(6)
        assert (one_hog.nice(), one_hog.autogroup()) == (0, 0), "a person's undo holds"
        assert one.ask(m.ListHolds()).holds
        one.ask(m.Lift("calm-cpu-hog", f"process:{one_hog.pid}"))
        wait_until(lambda: one_hog.autogroup() == 19, "it acts again once the hold is lifted")
        one.stop()


@pytest.mark.alone
def test_a_lone_hog_is_inconclusive_and_counts_as_no_failure(tmp_path: Path, config: dict[str, str], one_hog: Hog) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(one_hog.pid, {cpus[-1]})
    with agent(tmp_path, config=config, mode="act") as one:
        run = run_of(one, one_hog.pid, "held", "undoing", "undone")
        assert run.verdict is not None
        if run.verdict.result != "inconclusive":
            pytest.skip(f"somebody else contended on this machine: {run.verdict.reason}")
        assert run.state == "held"
        one.stop()


def test_another_hand_that_renices_in_mid_lease_is_yielded_to(tmp_path: Path, config: dict[str, str], one_hog: Hog) -> None:
    with agent(tmp_path, config=config, mode="act") as one:
        run = run_of(one, one_hog.pid, "verifying", "held")
        os.setpriority(os.PRIO_PROCESS, one_hog.pid, 7)
        ended = run_of(one, one_hog.pid, "conflict")
        assert ended.id == run.id
        assert one_hog.nice() == 7, "stead does not fight"
        time.sleep(3)
        seen = [e for e in one.ask(m.ListEntries(500)).entries if e.type == "conflict.seen"]
        assert len(seen) == 1
        one.stop()


def test_pause_stops_acting_at_once_and_resume_lets_it_go_on(tmp_path: Path, config: dict[str, str]) -> None:
    with agent(tmp_path, config=config, mode="act") as one:
        assert one.ask(m.Pause("a test")).paused
        with hog(tmp_path) as late:
            run_of(one, late.pid, "refused", "approved")
            time.sleep(2)
            assert late.autogroup() == 0
            assert not one.ask(m.Resume()).paused
            wait_until(lambda: late.autogroup() == 19, "it acts after the resume", 90)
        one.stop()


def test_a_gone_target_ends_its_run(tmp_path: Path, config: dict[str, str]) -> None:
    with agent(tmp_path, config=config, mode="act") as one:
        with hog(tmp_path) as short_lived:
            run = run_of(one, short_lived.pid, "verifying", "held")
        ended = wait_until(lambda: next((r for r in one.runs() if r.id == run.id and r.final), None), "its run ends", 90)
        assert ended is not None and ended.state == "moot"
        one.stop()


def test_leases_are_put_back_by_the_service_managers_restore(tmp_path: Path, config: dict[str, str], one_hog: Hog) -> None:
    with agent(tmp_path, config=config, mode="act") as one:
        run_of(one, one_hog.pid, "verifying", "held")
        one.stop()
        assert one_hog.autogroup() == 19
    import subprocess
    import sys

    argv = [sys.executable, "-m", "stead.agent", "--state", str(one.state), "--config", str(one.config), "--restore"]
    assert subprocess.run(argv, check=False, timeout=60).returncode == 0
    assert (one_hog.nice(), one_hog.autogroup()) == (0, 0)
