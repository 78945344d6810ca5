"""What people see of a governed value: in the status, in the list of runs, and of one run."""

from __future__ import annotations

import msgspec
import pytest

from stead.cli.changes import runs_lines
from stead.cli.look import limit_lines
from stead.cli.plan import run_lines, step_lines
from stead.model.change import Govern, Governed, Run
from tests.flow.kit import NOW, decision, dial_step, proposal

RULE = Govern("level", "infra.cpu_contention", "process:4711@99", 5.0, 10.0, 200.0)
STANDS = Governed(0, "level", 45.0, 20.0, 80.0, 12, 3.2, "infra.cpu_contention is 3.2, close to 5", NOW.unix_ms)


@pytest.fixture
def run() -> Run:
    return Run("run-1", proposal((dial_step(lease_s=600.0, govern=RULE),)), "held", decision(), governed=(STANDS,))


def test_the_status_says_where_each_value_is_in_its_range_and_why(run: Run) -> None:
    (line,) = limit_lines((run,))
    for part in ("dial:a", "level is 45 of 10 to 200", "20 to 80 in 12 moves", "infra.cpu_contention is 3.2, close to 5", "turn"):
        assert part in line


def test_a_live_run_is_listed_with_its_value_and_a_finished_one_with_its_outcome(run: Run) -> None:
    assert any("level is 45 of 10 to 200" in line for line in runs_lines([run], NOW.unix_ms))
    over = msgspec.structs.replace(run, state="undone", undo_reason="lease")
    assert not any("45" in line for line in runs_lines([over], NOW.unix_ms))


def test_one_run_shows_the_range_that_was_decided_and_where_it_is_now(run: Run) -> None:
    text = "\n".join(run_lines(run, NOW.unix_ms))
    assert "then level is moved between 10 and 200, every 5 s, by infra.cpu_contention of process:4711" in text
    assert "its level of 5 (aimd)" in text and "now: level is 45" in text


def test_a_step_that_is_not_governed_has_no_such_line() -> None:
    assert not any("moved between" in line for line in step_lines(dial_step()))
