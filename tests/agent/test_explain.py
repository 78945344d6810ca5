"""`stead why`: each entry in plain words, the chain in order, and no field that only the machine reads."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from stead.agent.explain import at_rest, explain
from stead.flow import record, runs
from stead.ledger.leaf import leaf
from stead.model.change import Attempt, Hold, Receipt, Run, Step, Verdict
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.model.messages import Explanation, MetricView
from stead.model.policy import Policy
from stead.model.record import Entry, StoredEntry
from tests.flow.kit import ANN, NOW, approval, decision, dial_step, proposal, stamp

NOTE = "applies to the whole session of bash"
STEP = dial_step(note=NOTE, lease_s=600.0)
FINDING = Finding(
    "finding-1", "f", "band", "infra.process_cpu_cores", "process:4711@99", "warning",
    "sh (pid 4711) has used 1.0 cores for 30 s", 1.0, 0.9, "cores", NOW.unix_ms - 30_000, NOW.unix_ms - 1000, NOW.unix_ms,
    evidence=((NOW.unix_ms - 30_000, 0.95), (NOW.unix_ms - 1000, 1.0)), labels={"process": "sh", "pid": "4711"},
)  # fmt: skip


class Book:
    """What is recorded, as the ledger gives it."""

    def __init__(self) -> None:
        self.moved: dict[str, Run] = {}
        self.found: list[Finding] = [FINDING]
        self.kept: list[Hold] = []
        self.stored: list[tuple[StoredEntry, bytes | None]] = []

    def keep(self, move: tuple[Run, tuple[Entry, ...]]) -> Run:
        run, entries = move
        self.moved[run.id] = run
        for one in entries:
            data, blob = leaf(one, b"0" * 16)
            row = StoredEntry(len(self.stored) + 1, f"{one.id}-{len(self.stored)}", one.type, one.subject, one.ts_ms, data)
            self.stored.append((row, blob.data if blob else None))
        return run

    def run(self, prefix: str) -> Run | None:
        return next((run for run in self.moved.values() if run.id.startswith(prefix)), None)

    def runs(self, which: str, limit: int) -> list[Run]:
        return list(reversed(self.moved.values()))[:limit]

    def findings(self, cleared: bool, limit: int) -> list[Finding]:
        return [one for one in self.found if cleared or one.open]

    def entries(self, limit: int, subject: str = "") -> list[StoredEntry]:
        return [row for row, _ in reversed(self.stored) if row.subject == subject]

    def bulk(self, entry_id: str) -> bytes | None:
        return next(data for row, data in self.stored if row.id == entry_id)

    def holds(self) -> list[Hold]:
        return self.kept


def begin(book: Book, answer: str = "allow", step: Step = STEP, **more: Any) -> Run:
    return book.keep(runs.start(proposal((step,)), decision(answer, **more), stamp()))


def wrote(book: Book, run: Run, direction: Any = "forward", outcome: Any = "done", error: str = "", **after: Any) -> Run:
    before, want = ({"level": 1}, {"level": 9}) if direction == "forward" else ({"level": 9}, {"level": 1})
    attempt = Attempt(f"{direction}-1", run.id, 0, direction, {**before, "colour": "red"}, want, NOW.unix_ms)
    run = book.keep(runs.attempted(run, attempt, stamp()))
    found = {**want, "colour": "red", **after}
    return book.keep(runs.settled(run, Receipt(attempt.id, 0, direction, outcome, found, error, NOW.unix_ms), stamp()))


def verified(book: Book, result: Any = "helped", reason: str = "infra.delay went from 1 to 0.2; predicted at most 0.7") -> Run:
    run = book.keep(runs.acted(wrote(book, book.keep(runs.begin(begin(book), stamp()))), stamp()))
    return book.keep(runs.verified(run, Verdict(result, reason, 1.0, 0.2, 0.7, NOW.unix_ms), stamp()))


def said(book: Book, thing: str = "run-1") -> str:
    found: Explanation = explain(thing, book)
    text = "\n".join([found.summary, *(f"{link.station} {link.words}" for link in found.chain)])
    assert not re.search(r"_ms|plan_hash|undo_reason|about run-|None|\{|@99", text), text
    return text


def test_advice_says_what_it_would_do_by_which_rule_and_that_nothing_was_changed() -> None:
    book = Book()
    more = {"advised": True, "would": "allow", "mode": "advise", "rules": ("rule:test", "mode:advise")}
    begin(book, "deny", **more)
    text = said(book)
    assert "decide would act, advice only by rule:test, mode:advise: a test" in text
    assert "decide nothing was changed: this is advice only" in text
    assert "in mode advise nothing was changed" in text.splitlines()[0] and "sh (pid 4711)" in text.splitlines()[0]
    assert "observe infra.process_cpu_cores of process:4711 read 0.95 to 1 cores, past the limit of 0.9" in text
    assert f"propose turn: Turn the dial; dial of dial:a: level 1 → 9 ({NOTE})" in text
    assert "deny" not in text


def test_what_would_be_asked_is_not_said_to_be_refused() -> None:
    book = Book()
    begin(book, "deny", advised=True, would="ask", mode="advise")
    assert "would ask, advice only" in said(book)


def test_a_change_is_told_from_the_attempt_to_the_lease() -> None:
    book = Book()
    verified(book)
    lines = said(book).splitlines()
    expected = [
        "decide may act alone by rule:test: a test",
        "act about to write dial of dial:a: level 1 → 9",
        "act wrote dial of dial:a: level 1 → 9, read back 9",
        "verify all is written; watches for 5 s whether it helps",
        "verify it helped: infra.delay went from 1 to 0.2; predicted at most 0.7",
        "verify stays in force for 10 min, then put back unless its reason still stands",
    ]
    assert [line for line in lines if line in expected] == expected


def test_an_undo_and_its_hold_name_the_person_and_what_was_read_back() -> None:
    book = Book()
    run = book.keep(runs.begin_undo(verified(book), "person", stamp().by(ANN)))
    run = book.keep(runs.finish_undo(wrote(book, run, "undo"), stamp()))
    book.kept = [Hold("turn", run.proposal.steps[0].target.key, "finding-1", ANN, NOW.unix_ms)]
    text = said(book)
    assert "is being put back: a person asked for it" in text
    assert "act put back dial of dial:a: level 9 → 1, read back 1" in text
    assert "everything is put back: a person asked for it" in text
    assert "uid:1000 keeps turn off dial:a until the finding clears, or `stead lift turn dial:a`" in text


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("no_help", "it did not help: it went up"),
        ("inconclusive", "can't tell: it went up"),
        ("not_held", "it did not hold: it went up"),
    ],
)
def test_each_verdict(result: str, words: str) -> None:
    book = Book()
    verified(book, result, "it went up")
    assert f"verify {words}" in said(book)


def test_approvals_and_refusals_by_people() -> None:
    book = Book()
    run = begin(book, "ask", approvals_needed=2)
    assert "asks for 2 approvals by rule:test" in said(book)
    assert "waits for 2 approvals (`stead approve run-1`)" in said(book)
    run = book.keep(runs.approve(run, approval(ANN, run), Policy(), stamp()))
    assert f"uid:1000 approved plan {run.proposal.plan_hash[:12]}" in said(book)
    book.keep(runs.deny(run, ANN, "backup runs", stamp()))
    assert "a person said no: backup runs" in said(book)


def test_too_late() -> None:
    book = Book()
    book.keep(runs.expire(begin(book, "ask", approvals_needed=1), "nobody approved it within 3600 s", stamp()))
    assert "it lapsed: nobody approved it within 3600 s" in said(book)


@pytest.mark.parametrize(
    ("outcome", "error", "after", "words"),
    [
        ("failed", "not permitted", {"level": 1}, "writing dial of dial:a failed: not permitted; it reads 1"),
        ("unknown", "no answer", {}, "whether dial of dial:a was written is unknown: no answer"),
        ("moot", "", {}, "dial of dial:a: the target is gone, nothing was written"),
        ("already", "", {}, "dial of dial:a reads 9 already: nothing was written"),
        ("conflict", "", {"level": 5}, "another hand changed dial of dial:a: level is 5 where stead had left 9"),
    ],
)
def test_each_outcome_of_a_write(outcome: str, error: str, after: dict[str, Any], words: str) -> None:
    book = Book()
    wrote(book, book.keep(runs.begin(begin(book), stamp())), outcome=outcome, error=error, **after)
    assert words in said(book)


def test_the_policy_asked_again() -> None:
    book = Book()
    run = begin(book)
    checked = record.policy_checked(run.id, "allow", ("rule:test",), "p1", stamp())
    book.keep((run, (checked,)))
    assert "the policy was asked again: it may still be done by rule:test" in said(book)


def test_a_type_that_nobody_described_is_named_and_not_dumped() -> None:
    book = Book()
    run = begin(book)
    book.keep((run, (record.entry("infrastructure.node_lost", stamp(), {"weird_field": 7}, subject=run.id),)))
    text = said(book)
    assert "infrastructure node lost" in text and "weird" not in text


@pytest.mark.parametrize(
    "thing", ["infra.process_cpu_cores", "4711", "process:4711", "sh", "finding-1", "turn", "dial:a", "dial"]
)
def test_a_thing_may_be_named_in_many_ways_and_leads_to_the_same_chain(thing: str) -> None:
    book = Book()
    verified(book)
    stations = [link.station for link in explain(thing, book).chain]
    assert [one for one in dict.fromkeys(stations)] == ["observe", "find", "propose", "decide", "act", "verify"]


def test_a_thing_with_a_long_past_is_told_from_its_newest_end() -> None:
    book = Book()
    for number in range(9):
        one = msgspec.structs.replace(proposal(), id=f"run-{number}")
        book.keep(runs.start(one, decision(), stamp()))
    found = explain("turn", book)
    assert "(the newest of 9)" in found.summary
    assert sum(link.station == "propose" for link in found.chain) == 5


def test_what_is_not_recorded_says_what_to_give() -> None:
    with pytest.raises(SteadError, match="pid:4711"):
        explain("nonsense", Book())


VIEWS = [
    MetricView("infra.cpu_utilization", "host", 12.5, "percent", "good", 5, catalogued=True),
    MetricView("infra.swap_used", "host", None, "percent", "unknown", 5, "no swap configured", catalogued=True),
    MetricView("infra.process_cpu_cores", "process:88@7", 0.2, "cores", "good", 5, catalogued=True),
]


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ("infra.cpu_utilization", "infra.cpu_utilization of host is 12.5 percent, good"),
        ("infra.swap_used", "infra.swap_used of host is unknown: no swap configured"),
        ("88", "infra.process_cpu_cores of process:88 is 0.2 cores, good"),
        ("process:88", "infra.process_cpu_cores of process:88 is 0.2 cores, good"),
    ],
)
def test_of_what_is_at_rest_the_present_values_are_told(thing: str, words: str) -> None:
    found = at_rest(thing, VIEWS, {})
    assert found is not None and [link.words for link in found.chain] == [words]
    assert "no finding, proposal or change" in found.summary


def test_of_what_is_not_measured_it_is_told_what_is_missing() -> None:
    found = at_rest("learning.x", VIEWS, {"learning.x": "unsupported: no source"})
    assert found is not None and "no source" in found.summary
    assert at_rest("nonsense", VIEWS, {}) is None
