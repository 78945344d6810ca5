"""The lines that `stead up` shows: each thing once, the process named, the rule, the diff, and that nothing was changed."""

from __future__ import annotations

import click
import msgspec

from stead.cli.follow import Follower
from stead.model.change import Run, Step, Target, Verdict
from stead.model.messages import Event
from stead.model.policy import Actor, Autonomy
from tests.cli.fake_agent import T0, decision, finding, run, status


def said(follower: Follower, **what: object) -> str:
    lines = follower.lines(Event("x", "s", T0, 1, **what))  # type: ignore[arg-type]
    return click.unstyle("\n".join(lines))


def test_advice_shows_process_rule_diff_and_that_nothing_was_changed() -> None:
    follower = Follower()
    found = said(follower, finding=finding())
    assert "found" in found and "sh (pid 4711) has used 1.0 cores for 30 s" in found
    text = said(follower, run=run("advised"))
    for part in (
        "calm-cpu-hog on process:4711 (sh)",
        "nice       0 → 10",
        "autogroup  0 → 19",
        "by rule:calm-hogs, mode:advise",
        "in mode act: allow",
        "nothing was changed: `stead mode act` lets it act",
    ):
        assert part in text, text


def test_a_thing_is_said_once_and_again_only_when_it_changes() -> None:
    follower = Follower()
    assert said(follower, finding=finding())
    assert said(follower, finding=finding(folded=3)) == ""
    assert "critical" in said(follower, finding=finding(band="critical"))
    assert "cleared" in said(follower, finding=finding(cleared_ms=T0))
    assert said(follower, finding=finding(cleared_ms=T0)) == ""
    assert said(follower, run=run("waiting"))
    assert said(follower, run=run("waiting")) == ""


def test_what_was_over_before_we_looked_is_not_news() -> None:
    assert said(Follower(), finding=finding(cleared_ms=T0)) == ""


def test_the_whole_road_of_one_run() -> None:
    follower = Follower()
    allowed = msgspec.structs.replace(run("waiting"), decision=decision("allow"))
    waiting = said(follower, run=allowed)
    assert "waits for approval: `stead approve 0199c7a0-1111`" in waiting and "decided   allow" in waiting
    helped = Verdict("helped", "run delay fell", 1.5, 0.6, 0.2, T0)
    steps = [
        (run("acting"), "writing"),
        (run("verifying"), "watching whether it helps"),
        (run("held", verdict=helped), "helped (1.5 → 0.6): run delay fell"),
        (run("undoing", undo_reason="person"), "putting it back: a person asked for it"),
        (run("undone"), "put back"),
    ]
    for state, words in steps:
        text = said(follower, run=state)
        assert words in text, text
        assert "dry run" not in text


def test_what_cannot_be_planned_says_why() -> None:
    impossible = msgspec.structs.replace(run("x").proposal, steps=(), impossible="unsupported: no driver for disks")
    text = said(Follower(), run=msgspec.structs.replace(run("unsupported"), proposal=impossible))
    assert "unsupported: no driver for disks" in text


def test_a_change_of_autonomy() -> None:
    follower = Follower()
    assert said(follower, status=status()) == ""
    text = said(follower, status=status(mode="act", autonomy=Autonomy("act", {"host": 0}, paused=True)))
    assert "mode advise → act" in text and "paused" in text and "ceilings" in text


def test_a_process_cannot_write_to_the_terminal_through_its_name() -> None:
    evil = finding(title="\x1b]0;owned\x07 (pid 1)", labels={"process": "\x1b[2J", "pid": "1"})
    follower = Follower()
    shown = follower.lines(Event("x", "s", T0, 1, finding=evil)) + follower.lines(Event("x", "s", T0, 1, run=run("advised")))
    assert not any(code in line for line in shown for code in ("\x1b]0", "\x1b[2J", "\x07"))


def test_whom_else_a_change_touches_is_said_with_the_dry_run() -> None:
    one = run("advised")
    step = msgspec.structs.replace(one.proposal.steps[0], note="applies to the whole session of bash")
    noted = msgspec.structs.replace(one, proposal=msgspec.structs.replace(one.proposal, steps=(step,)))
    assert "note: applies to the whole session of bash" in said(Follower(), run=noted)


def own(state: str, by: Actor) -> Run:
    """A run about stead's own mode."""
    one = run(state)
    step = Step("autonomy", Target("autonomy", "host"), {"mode": "advise"}, {"mode": "act"}, "exact")
    changed = {"title": "uid:0 sets mode act", "steps": (step,), "requester": by, "finding_id": None, "labels": {}}
    return msgspec.structs.replace(one, proposal=msgspec.structs.replace(one.proposal, **changed))


def test_a_persons_own_order_is_one_line() -> None:
    follower, person = Follower(), Actor("user", "uid:0")
    assert [said(follower, run=own(state, person)) for state in ("approved", "acting", "verifying")] == ["", "", ""]
    text = said(follower, run=own("kept", person))
    assert text.endswith("mode      uid:0 sets mode act") and "\n" not in text
    assert "stead approve 0199c7a0-1111" in said(Follower(), run=own("waiting", person))
    refused = msgspec.structs.replace(own("refused", person), reason="two people are needed")
    assert "refused: two people are needed" in said(Follower(), run=refused)


def test_a_lowered_autonomy_is_not_offered_to_undo() -> None:
    follower = Follower()
    said(follower, run=own("verifying", Actor("agent", "stead")))
    text = said(follower, run=own("kept", Actor("agent", "stead")))
    assert "`stead mode` sets it" in text and "stead undo" not in text


def test_which_runs_only_a_lease_holds() -> None:
    follower = Follower()
    said(follower, run=run("held", lease_until_ms=T0))
    assert len(follower.leased) == 1
    said(follower, run=run("held", lease_until_ms=T0 + 1))
    said(follower, run=run("undone", lease_until_ms=T0))
    assert not follower.leased
    said(follower, run=run("kept"))
    assert not follower.leased
