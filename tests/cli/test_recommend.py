"""`stead recommend`: what it shows, what it asks, and how it ends."""

from __future__ import annotations

import pytest

from stead.model.advice import Advice, AdviceList, ApplyAdvice, GetAdvice
from stead.model.errors import EXIT_APPROVAL, EXIT_FAILURE, EXIT_OK, EXIT_USAGE
from stead.model.messages import RunList
from tests.cli.conftest import Call
from tests.cli.fake_agent import FakeAgent, run


def test_the_spans_reach_the_agent_in_seconds(agent: FakeAgent, call: Call) -> None:
    assert call("recommend", "--over", "30d", "--at-least", "12h").exit_code == EXIT_OK
    assert agent.asked[0] == GetAdvice(30 * 86_400.0, 12 * 3600.0)


def test_nothing_is_asked_to_be_known_for_longer_than_the_whole_span(agent: FakeAgent, call: Call) -> None:
    assert call("recommend", "--over", "1h").exit_code == EXIT_OK
    assert agent.asked[0] == GetAdvice(3600.0, 3600.0)


def test_what_is_left_out_is_said(agent: FakeAgent, call: Call) -> None:
    shown = call("recommend").stdout
    assert "why    its highest use in 7 d was 800 MiB" in shown and "risk   work larger" in shown
    assert "1 thing left out: measured for 10 min at most, less than" in shown


def test_no_advice_is_a_sentence(agent: FakeAgent, call: Call) -> None:
    agent.answers[GetAdvice] = AdviceList((), 604_800.0, 86_400.0, measured=3)
    assert "nothing to recommend from the last 7 d: limits and workers fit" in call("recommend").stdout


def test_what_was_not_measured_does_not_fit(agent: FakeAgent, call: Call) -> None:
    agent.answers[GetAdvice] = AdviceList((), 604_800.0, 86_400.0)
    shown = call("recommend").stdout
    assert "too little has been measured yet" in shown and "each 5 min" in shown and "fit what" not in shown


@pytest.mark.parametrize(
    ("over_s", "at_least_s", "options"),
    [(604_800.0, 86_400.0, ""), (300.0, 300.0, " --over 5m"), (86_400.0, 90.0, " --over 1d --at-least 90s")],
)
def test_the_command_that_applies_it_is_whole(
    agent: FakeAgent, call: Call, over_s: float, at_least_s: float, options: str
) -> None:
    """An id belongs to the span that it was found in."""
    advice = Advice("4f1c09aa", "limit", "cgroup:/a.service@7", "Lower it", "unused", "much", "none", "limit", {"pids_max": 9})
    agent.answers[GetAdvice] = AdviceList((advice,), over_s, at_least_s)
    assert f"    apply  stead recommend --apply 4f1c09aa{options}" in call("recommend").stdout.splitlines()


@pytest.mark.parametrize("text", ["7", "a week", "-1d", "1y"])
def test_no_length_of_time(agent: FakeAgent, call: Call, text: str) -> None:
    refused = call("recommend", f"--over={text}")
    assert refused.exit_code == EXIT_USAGE and "12h or 7d" in refused.stderr


def test_an_unknown_id_is_refused_and_nothing_is_applied(agent: FakeAgent, call: Call) -> None:
    refused = call("recommend", "--apply", "ffff", "--yes")
    assert refused.exit_code == EXIT_FAILURE and "no recommendation has the id" in refused.stderr
    assert not any(isinstance(body, ApplyAdvice) for body in agent.asked)


@pytest.mark.parametrize(("ended", "code"), [("refused", EXIT_FAILURE), ("waiting", EXIT_APPROVAL), ("verifying", EXIT_OK)])
def test_the_exit_code_says_what_became_of_it(agent: FakeAgent, call: Call, ended: str, code: int) -> None:
    agent.answers[ApplyAdvice] = RunList((run(ended),))
    assert call("recommend", "--apply", "4f1c09aa", "--yes").exit_code == code
