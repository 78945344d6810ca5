"""The receipt of a run: when it is due, what it says, and that proving it binds all that it names."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

import msgspec
import pytest

from stead.flow import receipt, record, runs
from stead.ledger.leaf import LEAF_MAX_BYTES, leaf
from stead.model.change import Attempt, Receipt, Run, Verdict
from stead.model.find import Finding
from stead.model.policy import Policy
from stead.model.record import Entry, StoredEntry
from tests.flow.kit import ANN, BOB, NOW, PREDICTION, approval, counter, decision, dial_step, proposal, stamp

FINDING = Finding(
    "finding-1", "f", "band", "infra.delay", "process:4711@99", "warning", "sh is slow", 1.0, 0.9, "seconds",
    NOW.unix_ms - 30_000, NOW.unix_ms - 1000, NOW.unix_ms, evidence=((NOW.unix_ms, 1.0),), labels={"process": "sh"},
)  # fmt: skip


class Story:
    """A run's entries as the store keeps them; those of the last move wait, with their salts."""

    def __init__(self, *steps: Any, **more: Any) -> None:
        self.at, self.stored, self.last, self.new_id = stamp(), list[StoredEntry](), list[Entry](), counter("receipt")
        self.put([record.finding_opened(FINDING, self.at)])
        answer = decision("ask", approvals_needed=2, policy_version="policy-7")
        self.run = self.go(runs.start(proposal(steps, prediction=PREDICTION, catalog_version="cat-3", **more), answer, self.at))

    def put(self, entries: list[Entry]) -> None:
        for one in entries:
            data, _ = leaf(one, b"0" * 16)
            self.stored.append(StoredEntry(len(self.stored) + 1, one.id, one.type, one.subject, one.ts_ms, data))

    def go(self, move: runs.Moved) -> Run:
        self.put(self.last)
        self.run, entries = move
        self.last = [msgspec.structs.replace(one, salt=f"salt of {one.id}".encode()[:16].ljust(16)) for one in entries]
        return self.run

    def write(self, index: int = 0, way: Any = "forward", outcome: Any = "done") -> Run:
        step = self.run.proposal.steps[index]
        before, want = (step.before, step.want) if way == "forward" else (step.want, step.before)
        attempt = Attempt(f"t{len(self.run.attempts)}", self.run.id, index, way, before, want, NOW.unix_ms)
        self.go(runs.attempted(self.run, attempt, self.at))
        done = Receipt(attempt.id, index, way, outcome, want, "EIO: /home/ann", NOW.unix_ms, 0.25, 0.5, (f"turn {index}",))
        return self.go(runs.settled(self.run, done, self.at))

    def approve(self) -> None:
        for by in (ANN, BOB):
            self.go(runs.approve(self.run, approval(by, self.run), Policy(), self.at))

    def act(self) -> None:
        self.approve()
        self.go(runs.begin(self.run, self.at))
        for index in range(len(self.run.proposal.steps)):
            self.write(index)
        self.go(runs.acted(self.run, self.at))

    def judge(self, result: Any = "helped") -> None:
        verdict = Verdict(result, "infra.delay went from 1 to 0.2; predicted at most 0.7", 1.0, 0.2, 0.7, NOW.unix_ms)
        self.go(runs.verified(self.run, verdict, self.at))

    def back(self) -> None:
        self.go(runs.begin_undo(self.run, "person", self.at.by(ANN)))
        self.write(way="undo")
        self.go(runs.finish_undo(self.run, self.at))

    def due(self) -> bool:
        return receipt.due(self.run, self.last)

    def issue(self, fsyncs: int = 8) -> dict[str, Any]:
        """The receipt as its leaf says it; it is then stored."""
        made = receipt.issued(self.run, self.last, self.stored, fsyncs, self.new_id)
        data = leaf(made, b"0" * 16)[0]
        self.put(self.last)
        self.put([made])
        self.last = []
        return dict(json.loads(data))


def held() -> Story:
    story = Story(dial_step(lease_s=60.0, note="and the whole session"))
    story.act()
    story.judge()
    return story


def test_it_says_all_that_led_to_the_change_and_what_came_of_it() -> None:
    body = held().issue()["body"]
    assert (body["about"], body["state"], body["playbook"], body["rules"]) == ("run-1", "held", "turn", ["rule:test"])
    assert (body["catalog_version"], body["policy_version"], body["plan_hash"]) == ("cat-3", "policy-7", proposal(
        (dial_step(lease_s=60.0),)).plan_hash)  # fmt: skip
    assert [(one["by"]["id"], one["at_ms"], one["plan_hash"], one["saw"]) for one in body["approvals"]] == [
        (by.id, NOW.unix_ms, body["plan_hash"], ["dial of dial:a: level 1 → 9 (and the whole session)"]) for by in (ANN, BOB)
    ]
    (step,) = body["steps"]
    assert (step["actuator"], step["target"]["name"], step["before"], step["want"]) == ("dial", "a", {"level": 1}, {"level": 9})
    assert [(one["outcome"], one["operations"], one["after"]) for one in step["receipts"]] == [("done", ["turn 0"], {"level": 9})]
    assert body["verdict"]["result"] == "helped" and body["verdict"]["after"] == "0.2"
    assert body["undo"]["command"] == "stead undo run-1" and body["undo"]["steps"][0]["before"] == {"level": 1}
    assert body["cost"] == {"cpu_s": "0.25", "fsyncs": 8, "wall_s": "0.5"} and body["supersedes"] == ""


def test_the_evidence_is_bound_by_the_salted_hash_that_the_findings_leaf_has() -> None:
    story = held()
    evidence = json.loads(story.stored[0].leaf)["blob"]
    finding = story.issue()["body"]["finding"]
    assert finding["evidence"] == evidence and (finding["id"], finding["metric"]) == ("finding-1", "infra.delay")


def test_it_names_every_other_leaf_by_its_hash_also_those_that_are_committed_with_it() -> None:
    story = held()
    pending = [one.id for one in story.last]
    body = story.issue()["body"]
    by_id = {one.id: one for one in story.stored}
    bound = {one["id"]: one for one in body["entries"]}
    for one in bound.values():
        assert one["leaf"] == "sha256:" + hashlib.sha256(b"\0" + by_id[one["id"]].leaf).hexdigest()
        assert one["type"] == by_id[one["id"]].type
    wanted = {one.id for one in story.stored if one.type in receipt.BINDS} - {story.stored[-1].id}
    assert set(bound) == wanted | set(pending) and body["entries_left_out"] == 0
    assert {"verdict.made", "run.held", "finding.opened", "approval.given"} <= {one["type"] for one in bound.values()}


def test_a_later_receipt_says_which_one_it_replaces_and_binds_it() -> None:
    story = held()
    first = story.issue()
    story.back()
    assert story.due()
    second = story.issue(13)
    body = second["body"]
    assert body["supersedes"] == first["id"] and first["id"] in [one["id"] for one in body["entries"]]
    assert (body["state"], body["undo_reason"], body["undo"]["command"]) == ("undone", "person", "")
    assert [one["direction"] for one in body["steps"][0]["receipts"]] == ["forward", "undo"]
    assert body["cost"] == {"cpu_s": "0.5", "fsyncs": 13, "wall_s": "1.0"}


def test_a_person_s_words_and_errors_are_beside_the_leaf() -> None:
    story = held()
    made = receipt.issued(story.run, story.last, story.stored, 1, counter())
    data, blob = leaf(made, b"0" * 16)
    assert blob is not None and b"Turn the dial" in blob.data
    assert b"/home/ann" not in data and b"Turn the dial" not in data


def test_when_it_is_due() -> None:
    story = Story(dial_step(lease_s=60.0))
    assert not story.due()
    story.approve()
    assert not story.due()
    story.go(runs.begin(story.run, story.at))
    story.write()
    assert not story.due()
    story.go(runs.acted(story.run, story.at))
    assert not story.due()
    story.judge()
    assert story.run.state == "held" and story.due()
    story.go(runs.renewed(story.run, NOW.unix_ms + 10, story.at))
    assert not story.due(), "a renewal changes nothing"
    story.back()
    assert story.run.state == "undone" and story.due()


@pytest.mark.parametrize(("result", "state", "due"), [("inconclusive", "kept", True), ("no_help", "undoing", False)])
def test_when_it_is_due_after_a_verdict(result: str, state: str, due: bool) -> None:
    story = Story(dial_step())
    story.act()
    story.judge(result)
    assert (story.run.state, story.due()) == (state, due)


def test_what_touched_nothing_gets_none() -> None:
    story = Story(dial_step())
    story.go(runs.deny(story.run, ANN, "no", story.at))
    assert story.run.final and not story.due()
    refused = runs.start(proposal(), decision("deny"), stamp())
    assert not receipt.due(*refused)


def test_what_ended_in_the_middle_gets_one() -> None:
    story = Story(dial_step(), dial_step("b"))
    story.approve()
    story.go(runs.begin(story.run, story.at))
    story.write()
    story.go(runs.gone(story.run, "gone", story.at))
    assert story.due() and story.issue()["body"]["verdict"] is None


def bound_and_left_out(story: Story) -> tuple[dict[str, Any], Counter[str], Counter[str]]:
    """A receipt's body; how many entries of each kind it binds; and how many there are."""
    data, _ = leaf(receipt.issued(story.run, story.last, story.stored, 9, counter()), b"0" * 16)
    body = json.loads(data)["body"]
    there = Counter(one.type for one in story.stored if one.type in receipt.BINDS) + Counter(one.type for one in story.last)
    bound = Counter(one["type"] for one in body["entries"])
    assert len(data) <= LEAF_MAX_BYTES and "oversize_bytes" not in body
    assert body["entries_left_out"] == (there - bound).total()
    return body, bound, there


def test_a_long_plan_still_fits_a_leaf_and_says_what_it_left_out() -> None:
    story = Story(*(dial_step(f"dial-{number}", note="n" * 400) for number in range(120)))
    story.act()
    story.judge()
    body, bound, there = bound_and_left_out(story)
    assert (body["steps"], body["steps_left_out"], body["undo"]["steps"]) == ([], 120, [])
    assert [one["saw_left_out"] for one in body["approvals"]] == [120, 120]
    assert bound == there


def test_a_very_long_past_leaves_out_what_weighs_least() -> None:
    story = Story(dial_step())
    story.act()
    story.put([record.policy_checked("run-1", "ask", ("budget",), "p", story.at) for _ in range(600)])
    story.judge()
    body, bound, there = bound_and_left_out(story)
    assert body["entries_left_out"] > 100 and set(there - bound) == {"governance.policy.check"}
