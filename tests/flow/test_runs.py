from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from stead.flow import runs
from stead.model.change import FINAL, Attempt, Receipt, Run, Verdict
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.model.observe import Now
from stead.model.policy import Policy
from stead.model.record import Entry
from tests.flow.kit import ANN, BOB, NOW, approval, counter, decision, dial_step, proposal, stamp

WAITING = decision("ask", approvals_needed=1)


def started(answer: str = "allow", **more: object) -> Run:
    return runs.start(proposal(**more), decision(answer, approvals_needed=int(answer == "ask")), stamp())[0]


def acting(**more: object) -> Run:
    return runs.begin(started(**more), stamp())[0]


def written(run: Run, index: int = 0, outcome: str = "done", way: str = "forward") -> Run:
    attempt = Attempt(f"t{len(run.attempts)}", run.id, index, way, {"level": 1}, {"level": 9}, NOW.unix_ms)  # type: ignore[arg-type]
    run, _ = runs.attempted(run, attempt, stamp())
    receipt = Receipt(attempt.id, index, way, outcome, {"level": 9}, "", NOW.unix_ms)  # type: ignore[arg-type]
    return runs.settled(run, receipt, stamp())[0]


def verifying(**more: object) -> Run:
    return runs.acted(written(acting(**more)), stamp())[0]


@pytest.mark.parametrize(
    ("impossible", "state"),
    [
        ("unsupported: no driver", "unsupported"),
        ("already so: nothing to change", "moot"),
        ("gone: it ended", "moot"),
        ("the plan is silly", "refused"),
    ],
)
def test_an_impossible_proposal_ends_at_once(impossible: str, state: str) -> None:
    run, entries = runs.start(proposal(impossible=impossible), None, stamp())
    assert run.state == state and run.final and run.reason == impossible
    assert [entry.type for entry in entries] == ["proposal.made", f"run.{state}"]


@pytest.mark.parametrize(
    ("answer", "advised", "state"),
    [("allow", False, "approved"), ("ask", False, "waiting"), ("deny", False, "refused"), ("deny", True, "advised")],
)
def test_the_decision_gives_the_first_state(answer: str, advised: bool, state: str) -> None:
    run, entries = runs.start(proposal(), decision(answer, advised=advised), stamp())
    assert run.state == state
    assert [entry.type for entry in entries] == ["proposal.made", "metrics.action_recommended", "decision.made", f"run.{state}"]
    assert [entry.prev_cause for entry in entries] == ["finding-1", *(entry.id for entry in entries[:-1])]
    assert run.cause == entries[-1].id


def test_what_a_person_wants_is_not_recommended_by_a_metric() -> None:
    _, entries = runs.start(proposal(finding_id=None), decision("allow"), stamp())
    assert [entry.type for entry in entries] == ["proposal.made", "decision.made", "run.approved"]


def test_no_start_without_a_decision() -> None:
    with pytest.raises(SteadError, match="without a decision"):
        runs.start(proposal(), None, stamp())


def test_an_approval_binds_to_the_plan_that_was_seen() -> None:
    run = started("ask")
    with pytest.raises(SteadError, match="not the one that was approved"):
        runs.approve(run, approval(plan_hash="another"), Policy(), stamp())
    run, entries = runs.approve(run, approval(), Policy(), stamp())
    assert run.state == "approved" and [entry.type for entry in entries] == ["approval.given", "run.approved"]
    assert entries[0].actor == ANN


def test_two_approvals_need_two_people_unless_solo() -> None:
    run, _ = runs.start(proposal(), decision("ask", approvals_needed=2), stamp())
    run, _ = runs.approve(run, approval(), Policy(), stamp())
    assert run.state == "waiting"
    with pytest.raises(SteadError, match="one person counts once"):
        runs.approve(run, approval(id="again"), Policy(), stamp())
    assert runs.approve(run, approval(BOB), Policy(), stamp())[0].state == "approved"
    solo, _ = runs.approve(run, approval(id="again"), Policy(solo=True), stamp())
    assert solo.state == "approved" and [one.solo for one in solo.approvals] == [False, True]


def test_who_asked_can_not_approve() -> None:
    with pytest.raises(SteadError, match="one person counts once"):
        runs.approve(started("ask", requester=ANN), approval(), Policy(), stamp())
    assert runs.approve(started("ask", requester=ANN), approval(), Policy(solo=True), stamp())[0].approvals[0].solo


def test_what_nobody_approves_or_begins_in_time_expires() -> None:
    policy = Policy(approval_pending_s=60, approval_valid_s=10)
    run = started("ask")
    assert runs.overdue(run, policy, NOW.unix_ms + 59_999) == ""
    assert "nobody approved" in runs.overdue(run, policy, NOW.unix_ms + 60_000)
    given_, _ = runs.approve(run, approval(expires_ms=NOW.unix_ms + 10_000), policy, stamp())
    assert runs.overdue(given_, policy, NOW.unix_ms + 9_999) == ""
    assert "expired" in runs.overdue(given_, policy, NOW.unix_ms + 10_000)
    assert "time to live" in runs.overdue(started(), policy, NOW.unix_ms + 3_600_000)
    assert runs.overdue(verifying(), policy, NOW.unix_ms + 10**9) == ""
    assert runs.expire(run, "late", stamp())[0].state == "expired"


def test_all_written_starts_window_and_the_shortest_lease() -> None:
    steps = (dial_step("a", lease_s=60.0), dial_step("b", lease_s=30.0))
    run = written(written(acting(steps=steps)), 1)
    run, _ = runs.acted(run, stamp())
    assert (run.state, run.verify_at_ms, run.lease_until_ms) == ("verifying", NOW.unix_ms + 5_000, NOW.unix_ms + 30_000)


@pytest.mark.parametrize(
    ("result", "lease", "more", "state"),
    [
        ("helped", 60.0, {}, "held"),
        ("helped", None, {}, "kept"),
        ("inconclusive", 60.0, {}, "held"),
        ("inconclusive", None, {}, "kept"),
        ("no_help", 60.0, {}, "undoing"),
        ("not_held", None, {}, "undoing"),
        ("no_help", None, {"lowers": True}, "kept"),
    ],
)
def test_the_verdict_decides(result: str, lease: float | None, more: dict[str, object], state: str) -> None:
    run = verifying(steps=(dial_step(lease_s=lease),), **more)
    run, entries = runs.verified(run, Verdict(result, "because"), stamp())  # type: ignore[arg-type]
    assert run.state == state
    assert [entry.type for entry in entries] == ["verdict.made", f"run.{state}"]
    assert run.undo_reason == (result if state == "undoing" else "")


def test_what_did_not_help_and_has_no_undo_fails_and_says_so() -> None:
    run = verifying(steps=(dial_step(undo="none", undo_reason="it was restarted"),))
    run, _ = runs.verified(run, Verdict("no_help", "no better"), stamp())
    assert run.state == "failed" and "it was restarted" in run.reason
    kept, _ = runs.verified(verifying(steps=(dial_step(undo="none", undo_reason="gone"),)), Verdict("helped", ""), stamp())
    with pytest.raises(SteadError, match="can't be put back: gone"):
        runs.begin_undo(kept, "person", stamp())


def test_only_a_person_undoes_what_was_kept() -> None:
    kept, _ = runs.verified(verifying(), Verdict("helped", ""), stamp())
    for reason in ("lease", "no_help", "cancel"):
        with pytest.raises(SteadError):
            runs.begin_undo(kept, reason, stamp())
    assert runs.begin_undo(kept, "person", stamp())[0].state == "undoing"


def undone(outcomes: list[str], reason: str = "person", forward: tuple[str, ...] = ("done", "done")) -> Run:
    run = acting(steps=(dial_step("a"), dial_step("b")))
    for index, outcome in enumerate(forward):
        run = written(run, index, outcome)
    run, _ = runs.begin_undo(run, reason, stamp())
    for index, outcome in zip(runs.to_undo(run), outcomes, strict=True):
        run = written(run, index, outcome, "undo")
    return runs.finish_undo(run, stamp())[0]


@pytest.mark.parametrize(
    ("outcomes", "reason", "state"),
    [
        (["done", "done"], "person", "undone"),
        (["done", "already"], "lease", "undone"),
        (["moot", "done"], "no_help", "undone"),
        (["moot", "moot"], "person", "moot"),
        (["conflict", "done"], "person", "conflict"),
        (["conflict", "failed"], "person", "undo_failed"),
        (["unknown", "done"], "person", "undo_failed"),
        (["done", "done"], "cancel", "cancelled"),
    ],
)
def test_the_end_of_an_undo_follows_from_its_receipts(outcomes: list[str], reason: str, state: str) -> None:
    assert undone(outcomes, reason).state == state


def test_a_partial_failure_ends_as_failed_and_undoes_in_reverse() -> None:
    run = written(written(acting(steps=(dial_step("a"), dial_step("b"), dial_step("c")))), 1, "failed")
    assert runs.to_undo(run) == [1, 0]
    assert undone(["already", "done"], "partial failure", ("done", "failed")).state == "failed"


def test_an_interrupted_undo_is_tried_again() -> None:
    run, _ = runs.begin_undo(written(acting()), "person", stamp())
    attempt = Attempt("u1", run.id, 0, "undo", {"level": 9}, {"level": 1}, NOW.unix_ms)
    run, _ = runs.attempted(run, attempt, stamp())
    assert runs.unsettled(run) == attempt
    run, _ = runs.settled(run, Receipt("u1", 0, "undo", "failed", {"level": 9}, runs.INTERRUPTED, NOW.unix_ms), stamp())
    assert runs.to_undo(run) == [0]
    assert runs.finish_undo(written(run, 0, "done", "undo"), stamp())[0].state == "undone"


def test_a_conflict_is_recorded_once() -> None:
    run = acting()
    _, entries = runs.settled(run, Receipt("", 0, "forward", "conflict", {"level": 5}, "", NOW.unix_ms), stamp())
    assert [entry.type for entry in entries] == ["receipt.made", "conflict.seen"]


def test_entries_never_share_an_actor_by_mistake() -> None:
    run, entries = runs.deny(started("ask"), ANN, "not now", stamp())
    assert run.state == "denied" and {entry.actor for entry in entries} == {ANN}
    assert b"not now" not in str(entries[0].body).encode() and entries[0].bulk == b'"not now"'


class Lives(RuleBasedStateMachine):
    """Any order of events: the invariants hold, and what is impossible raises and changes nothing."""

    @initialize(answer=st.sampled_from(["allow", "ask", "deny"]), lease=st.sampled_from([None, 30.0]), steps=st.integers(1, 3))
    def begin_life(self, answer: str, lease: float | None, steps: int) -> None:
        self.ids = counter("e")
        self.people = counter("uid:9")
        planned = tuple(dial_step(f"d{index}", lease_s=lease) for index in range(steps))
        self.run, entries = runs.start(proposal(planned), decision(answer, approvals_needed=2 * (answer == "ask")), stamp())
        self.entries: list[Entry] = list(entries)
        self.used: list[str] = []

    def step(self, verb: str, *arguments: object, person: bool = False) -> None:
        before = self.run
        try:
            after, entries = getattr(runs, verb)(self.run, *arguments, stamp(Now(NOW.unix_ms + len(self.entries), 0)))
        except SteadError:
            return
        again = arguments == (runs.AGAIN,) and before.state == "undo_failed"
        by_hand = person and before.state in ("kept", "undo_failed")
        assert not before.final or by_hand or again, f"{before.state} was final, and {verb} moved it"
        self.used += [one.id for one in after.approvals if one.used_ms and one not in before.approvals]
        self.run = after
        self.entries += entries

    @rule(plan=st.sampled_from(["right", "wrong"]))
    def approve(self, plan: str) -> None:
        person = msgspec.structs.replace(ANN, id=self.people())
        hashed = self.run.proposal.plan_hash if plan == "right" else "x"
        self.step("approve", approval(person, plan_hash=hashed, id=person.id), Policy())

    @rule(verb=st.sampled_from(["begin", "acted", "finish_undo"]))
    def move(self, verb: str) -> None:
        complete = [runs.outcome(self.run, i, "forward") for i in range(len(self.run.proposal.steps))]
        if verb == "acted" and not all(one and one.outcome == "done" for one in complete):
            return
        if verb == "finish_undo" and runs.to_undo(self.run):
            return
        self.step(verb)

    @rule(direction=st.sampled_from(["forward", "undo"]), index=st.integers(0, 2))
    def attempt(self, direction: str, index: int) -> None:
        index = min(index, len(self.run.proposal.steps) - 1)
        self.step("attempted", Attempt(self.ids(), self.run.id, index, direction, {}, {}, 0))  # type: ignore[arg-type]

    @rule(outcome=st.sampled_from(["done", "failed", "moot", "conflict", "unknown", "already"]), known=st.booleans())
    def settle(self, outcome: str, known: bool) -> None:
        attempt = runs.unsettled(self.run)
        if attempt is None:
            self.step("settled", Receipt("nobody" if known else "", 0, "forward", outcome, {}, "", 0))  # type: ignore[arg-type]
        else:
            self.step("settled", Receipt(attempt.id, attempt.step, attempt.direction, outcome, {}, "", 0))  # type: ignore[arg-type]

    @rule(result=st.sampled_from(["helped", "no_help", "inconclusive", "not_held"]))
    def verify(self, result: str) -> None:
        self.step("verified", Verdict(result, ""))  # type: ignore[arg-type]

    @rule(reason=st.sampled_from(["person", "lease", "no_help", "cancel", "partial failure", runs.AGAIN]))
    def undo(self, reason: str) -> None:
        self.step("begin_undo", reason, person=reason == "person")

    @rule(verb=st.sampled_from(["deny", "cancel", "expire", "refuse", "gone", "renewed"]))
    def other(self, verb: str) -> None:
        arguments = {"deny": (BOB, ""), "cancel": (BOB,), "renewed": (NOW.unix_ms + 10**6,)}.get(verb, ("why",))
        self.step(verb, *arguments)

    @invariant()
    def no_write_without_an_attempt(self) -> None:
        if hasattr(self, "run"):
            made = {attempt.id for attempt in self.run.attempts}
            assert {receipt.attempt_id for receipt in self.run.receipts if receipt.outcome == "done"} <= made

    @invariant()
    def approvals_are_used_once_and_before_anything_is_written(self) -> None:
        if hasattr(self, "run"):
            assert len(self.used) == len(set(self.used))
            needed = self.run.decision.approvals_needed if self.run.decision else 0
            if any(one.direction == "forward" for one in self.run.attempts):
                assert len([one for one in self.run.approvals if one.used_ms]) >= needed

    @invariant()
    def the_entries_are_one_chain(self) -> None:
        if hasattr(self, "run"):
            assert self.run.cause == self.entries[-1].id
            assert self.run.final == (self.run.state in FINAL)


Lives.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestLives = Lives.TestCase


@given(st.sampled_from(sorted(FINAL)), st.sampled_from(["begin", "acted", "finish_undo"]))
def test_final_states_refuse_everything(state: str, verb: str) -> None:
    run = msgspec.structs.replace(started(), state=state)
    with pytest.raises(SteadError, match="can't be"):
        getattr(runs, verb)(run, stamp())


def test_a_run_that_waits_lapses_with_its_finding() -> None:
    here = Finding("finding-1", "f", "band", "m", "host", "warning", "it is too much", 1.0, 0.9, "", 0, 0, 0)
    waits = started("ask")
    assert runs.outlived(waits, [here]) == ""
    reason = runs.outlived(waits, [msgspec.structs.replace(here, id="finding-2")])
    assert reason == "what it answers has cleared"
    assert runs.expire(waits, reason, stamp())[0].state == "expired"
    assert runs.outlived(started("ask", finding_id=None), []) == "", "a person's own wish answers no finding"
    assert runs.outlived(started(), []) == "", "what was allowed or approved goes on"
