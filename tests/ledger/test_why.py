"""`stead why`: each entry in plain words, the chain in order, and no field that only the machine reads; from leaves alone."""

from __future__ import annotations

import hashlib
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.flow import receipt, record, runs
from stead.ledger.leaf import Blob, leaf
from stead.ledger.said import said
from stead.ledger.why import explain
from stead.ledger.words import WORDS, words_of
from stead.model.change import Attempt, Hold, Receipt, Run, Step, Verdict
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.model.ledger_messages import BlobList, EntryPage, SearchEntries, StoredBlob
from stead.model.messages import Explanation
from stead.model.policy import Policy
from stead.model.record import Entry, StoredEntry
from tests.flow.kit import ANN, NOW, approval, counter, decision, dial_step, proposal

NOTE = "applies to the whole session of bash"
STEP = dial_step(note=NOTE, lease_s=600.0)
FINDING = Finding(
    "finding-1", "f", "band", "infra.process_cpu_cores", "process:4711@99", "warning",
    "sh (pid 4711) has used 1.0 cores for 30 s", 1.0, 0.9, "cores", NOW.unix_ms - 30_000, NOW.unix_ms - 1000, NOW.unix_ms,
    evidence=((NOW.unix_ms - 30_000, 0.95), (NOW.unix_ms - 1000, 1.0)), labels={"process": "sh", "pid": "4711"},
)  # fmt: skip


class Book:
    """A log in memory: leaves and what is beside them, and nothing else. A page is two entries, so that pages are turned."""

    def __init__(self) -> None:
        self.stored: list[tuple[StoredEntry, Blob | None]] = []
        self.new_id = counter("entry")
        self.put(record.finding_opened(FINDING, self.at()))

    def at(self) -> record.Stamp:
        return record.Stamp("host1", NOW, self.new_id)

    def put(self, one: Entry) -> None:
        data, blob = leaf(one, b"0" * 16)
        self.stored.append((StoredEntry(len(self.stored) + 1, one.id, one.type, one.subject, one.ts_ms, data), blob))

    def keep(self, move: tuple[Run, tuple[Entry, ...]]) -> Run:
        run, salted = move[0], [msgspec.structs.replace(one, salt=b"0" * 16) for one in move[1]]
        if receipt.due(run, salted):
            salted.append(receipt.issued(run, salted, [row for row, _ in self.stored], 9, self.new_id))
        for one in salted:
            self.put(one)
        return run

    def find(self, query: SearchEntries) -> EntryPage:
        before, found = query.before or len(self.stored) + 1, list[StoredEntry]()
        for row, blob in reversed(self.stored[: before - 1]):
            text = row.leaf + (blob.data if blob else b"")
            named = query.text.lower().encode() in text.lower()
            if named and row.subject.startswith(query.subject) and fnmatchcase(row.type, query.types or "*"):
                found.append(row)
            if len(found) == min(query.limit, 2) or row.seq == max(1, before - 20):
                return EntryPage(tuple(found), row.seq if row.seq > 1 else 0)
        return EntryPage(tuple(found), 0)

    def blobs(self, start: int, end: int) -> BlobList:
        kept = [StoredBlob(row.seq, blob.salt, blob.data) for row, blob in self.stored[start:end] if blob]
        return BlobList(tuple(kept), end)

    def erase(self) -> None:
        self.stored = [(row, None) for row, _ in self.stored]


def begin(book: Book, answer: str = "allow", step: Step = STEP, **more: Any) -> Run:
    return book.keep(runs.start(proposal((step,)), decision(answer, **more), book.at()))


def wrote(book: Book, run: Run, direction: Any = "forward", outcome: Any = "done", error: str = "", **after: Any) -> Run:
    before, want = ({"level": 1}, {"level": 9}) if direction == "forward" else ({"level": 9}, {"level": 1})
    attempt = Attempt(f"{direction}-1", run.id, 0, direction, {**before, "colour": "red"}, want, NOW.unix_ms)
    run = book.keep(runs.attempted(run, attempt, book.at()))
    found = {**want, "colour": "red", **after}
    return book.keep(runs.settled(run, Receipt(attempt.id, 0, direction, outcome, found, error, NOW.unix_ms), book.at()))


def verified(book: Book, result: Any = "helped", reason: str = "infra.delay went from 1 to 0.2; predicted at most 0.7") -> Run:
    run = book.keep(runs.acted(wrote(book, book.keep(runs.begin(begin(book), book.at()))), book.at()))
    return book.keep(runs.verified(run, Verdict(result, reason, 1.0, 0.2, 0.7, NOW.unix_ms), book.at()))


def told(book: Book, thing: str = "run-1") -> str:
    found: Explanation = explain(thing, book)
    text = "\n".join([found.summary, *(f"{link.station} {link.words}" for link in found.chain)])
    assert not re.search(r"_ms|plan_hash|undo_reason|about run-|None|\{|@99", text), text
    return text


def test_advice_says_what_it_would_do_by_which_rule_and_that_nothing_was_changed() -> None:
    book = Book()
    more = {"advised": True, "would": "allow", "mode": "advise", "rules": ("rule:test", "mode:advise")}
    begin(book, "deny", **more)
    text = told(book)
    assert "decide would act, advice only by rule:test, mode:advise: a test" in text
    assert "decide nothing was changed: this is advice only" in text
    assert "in mode advise nothing was changed" in text.splitlines()[0] and "sh (pid 4711)" in text.splitlines()[0]
    assert "observe infra.process_cpu_cores of process:4711 read 0.95 to 1 cores, past the limit of 0.9" in text
    assert f"propose turn: Turn the dial; dial of dial:a: level 1 → 9 ({NOTE})" in text
    assert "deny" not in text


def test_what_would_be_asked_is_not_said_to_be_refused() -> None:
    book = Book()
    begin(book, "deny", advised=True, would="ask", mode="advise")
    assert "would ask, advice only" in told(book)


def test_a_change_is_told_from_the_attempt_to_the_lease() -> None:
    book = Book()
    verified(book)
    lines = told(book).splitlines()
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
    run = book.keep(runs.begin_undo(verified(book), "person", book.at().by(ANN)))
    run = book.keep(runs.finish_undo(wrote(book, run, "undo"), book.at()))
    hold = Hold("turn", run.proposal.steps[0].target.key, "finding-1", ANN, NOW.unix_ms)
    book.put(record.hold_made(hold, run, book.at().by(ANN)))
    text = told(book)
    assert "it is kept off by a person" in text.splitlines()[0]
    assert "is being put back: a person asked for it" in text
    assert "act put back dial of dial:a: level 9 → 1, read back 1" in text
    assert "everything is put back: a person asked for it" in text
    assert "uid:1000 keeps turn off dial:a until the finding clears, or `stead lift turn dial:a`" in text
    book.put(record.hold_lifted(hold, book.at().by(ANN)))
    assert "keeps turn off" not in told(book) and "kept off" not in told(book)


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
    assert f"verify {words}" in told(book)


def test_approvals_and_refusals_by_people() -> None:
    book = Book()
    run = begin(book, "ask", approvals_needed=2)
    assert "asks for 2 approvals by rule:test" in told(book)
    assert "waits for 2 approvals (`stead approve run-1`)" in told(book)
    run = book.keep(runs.approve(run, approval(ANN, run), Policy(), book.at()))
    assert f"uid:1000 approved plan {run.proposal.plan_hash[:12]}" in told(book)
    book.keep(runs.deny(run, ANN, "backup runs", book.at()))
    assert "uid:1000 said no: backup runs" in told(book)


def test_too_late() -> None:
    book = Book()
    book.keep(runs.expire(begin(book, "ask", approvals_needed=1), "nobody approved it within 3600 s", book.at()))
    assert "it lapsed: nobody approved it within 3600 s" in told(book)


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
    wrote(book, book.keep(runs.begin(begin(book), book.at())), outcome=outcome, error=error, **after)
    assert words in told(book)


def test_the_policy_asked_again() -> None:
    book = Book()
    run = begin(book)
    checked = record.policy_checked(run.id, "allow", ("rule:test",), "p1", book.at())
    book.keep((run, (checked,)))
    assert "the policy was asked again: it may still be done by rule:test" in told(book)


def test_a_type_that_nobody_described_is_named_and_not_dumped() -> None:
    book = Book()
    run = begin(book)
    book.keep((run, (record.entry("infrastructure.node_lost", book.at(), {"weird_field": 7}, subject=run.id),)))
    text = told(book)
    assert "infrastructure node lost" in text and "weird" not in text


@pytest.mark.parametrize(
    "thing",
    [
        *("infra.process_cpu_cores", "4711", "process:4711", "sh", "finding-1", "turn", "dial:a", "a", "dial", "dial.level"),
        *("dial of dial:a", "process:4711@99"),
    ],
)
def test_a_thing_may_be_named_in_many_ways_and_leads_to_the_same_chain(thing: str) -> None:
    book = Book()
    verified(book)
    stations = [link.station for link in explain(thing, book).chain]
    assert [one for one in dict.fromkeys(stations)] == ["observe", "find", "propose", "decide", "act", "verify", "record"]


def test_a_thing_with_a_long_past_is_told_from_its_newest_end() -> None:
    book = Book()
    for number in range(9):
        one = msgspec.structs.replace(proposal(), id=f"run-{number}")
        book.keep(runs.start(one, decision(), book.at()))
    found = explain("turn", book)
    assert "(the newest of 9)" in found.summary
    assert sum(link.station == "propose" for link in found.chain) == 5


def test_what_is_not_recorded_says_what_to_give() -> None:
    with pytest.raises(SteadError, match="pid:4711"):
        explain("nonsense", Book())


@pytest.mark.parametrize("thing", ["level", "4", "dial.", "dial.colour", "finding", "run", "%", "process:471", "", '"'])
def test_a_thing_that_only_shares_letters_is_not_meant(thing: str) -> None:
    book = Book()
    verified(book)
    with pytest.raises(SteadError, match="no finding, proposal or change"):
        explain(thing, book)


def test_each_link_names_its_entry_its_leaf_and_its_place_in_the_tree() -> None:
    book = Book()
    verified(book)
    found = explain("process:4711", book)
    rows = {row.id: row for row, _ in book.stored}
    assert len(found.chain) > 8
    for link in found.chain:
        row = rows[link.entry]
        assert link.leaf == "sha256:" + hashlib.sha256(b"\0" + row.leaf).hexdigest() and link.index == row.seq - 1
        assert not link.erased
    receipts = [link for link in found.chain if link.station == "record"]
    assert [rows[link.entry].type for link in receipts] == ["receipt.issued"]
    assert "`stead undo run-1` puts it back" in receipts[0].words and "binds 8 entries" in receipts[0].words


def test_what_was_erased_is_said_to_be_erased_and_the_rest_still_told() -> None:
    book = Book()
    verified(book)
    whole, gone = told(book), (book.erase(), told(book))[1]
    assert "has been erased" not in whole and "sh (pid 4711)" in whole
    assert "sh (pid 4711)" not in gone and "Turn the dial" not in gone
    assert "observe infra.process_cpu_cores of process:4711 read 1 cores, past the limit of 0.9" in gone
    assert "find infra.process_cpu_cores of process:4711 reads 1 (warning) (what was beside it has been erased)" in gone
    assert "act wrote dial of dial:a: level 1 → 9, read back 9" in gone and "verify it helped" in gone
    erased = {link.station for link in explain("run-1", book).chain if link.erased}
    assert {"observe", "find", "propose", "record"} <= erased


def test_an_entry_that_is_not_the_one_its_receipt_binds_is_said_so() -> None:
    book = Book()
    verified(book)
    assert "NOT THE ONE" not in told(book)
    place = next(number for number, (row, _) in enumerate(book.stored) if row.type == "verdict.made")
    row, blob = book.stored[place]
    book.stored[place] = (msgspec.structs.replace(row, leaf=row.leaf.replace(b"helped", b"no_help")), blob)
    (line,) = [line for line in told(book).splitlines() if "NOT THE ONE" in line]
    assert line.startswith("verify it did not help")


def test_a_lease_that_was_renewed_for_long_is_told_in_one_line() -> None:
    book = Book()
    run = verified(book)
    for number in range(40):
        run = book.keep(runs.renewed(run, NOW.unix_ms + 1000 * number, book.at()))
    lines = [line for line in told(book).splitlines() if "renewed" in line]
    assert (
        told(book)
        .splitlines()[0]
        .endswith("turn is in force: dial of dial:a: level 1 → 9 (applies to the whole session of bash)")
    )
    assert lines == [
        "verify its lease was renewed 40 times: stays in force for 39 s, then put back unless its reason still stands"
    ]


def test_a_finding_without_a_proposal_is_told_by_itself() -> None:
    book = Book()
    assert (
        told(book, "finding-1").splitlines()[0]
        == "sh (pid 4711) has used 1.0 cores for 30 s (still so); nothing has been proposed for it"
    )
    book.put(record.finding_cleared(msgspec.structs.replace(FINDING, cleared_ms=NOW.unix_ms), book.at()))
    assert "(cleared); nothing has been proposed" in told(book, "4711") and "find cleared: sh" in told(book, "4711")


def test_a_run_whose_id_begins_anothers_is_told_by_itself() -> None:
    book = Book()
    begin(book)
    alone = explain("run-1", book).chain
    book.keep(runs.start(msgspec.structs.replace(proposal(), id="run-10"), decision(), book.at()))
    assert explain("run-1", book).chain == alone


def test_the_end_of_an_id_is_enough() -> None:
    book = Book()
    one = msgspec.structs.replace(proposal((STEP,)), id="01a1fdf8-a444-7afa-b769-2d5372964a40")
    book.keep(runs.start(one, decision(), book.at()))
    chains = [explain(thing, book).chain for thing in (one.id, one.id[:13], one.id[-12:])]
    assert chains[0] == chains[1] == chains[2] and len(chains[0]) > 3


FIRST = json.loads((Path(__file__).parent.parent / "vectors" / "leaves_v1.json").read_text())["leaves"]


class First:
    """The first release's ledger."""

    def __init__(self) -> None:
        self.rows = [
            StoredEntry(seq, json.loads(one["leaf"])["id"], one["type"], one["subject"], one["ts_ms"], one["leaf"].encode())
            for seq, one in enumerate(FIRST, 1)
        ]

    def find(self, query: SearchEntries) -> EntryPage:
        found = []
        for row, one in zip(self.rows, FIRST, strict=True):
            named = query.text in one["leaf"] + (one["data"] or "")
            if named and (not query.subject or row.subject == query.subject) and fnmatchcase(row.type, query.types or "*"):
                found.append(row)
        return EntryPage(tuple(reversed(found)), 0)

    def blobs(self, start: int, end: int) -> BlobList:
        rows = [
            StoredBlob(seq, bytes.fromhex(one["salt"]), one["data"].encode())
            for seq, one in enumerate(FIRST, 1)
            if one["salt"] is not None and start < seq <= end
        ]
        return BlobList(tuple(rows), end)


def test_every_kind_of_entry_of_the_first_release_can_still_be_told() -> None:
    book = First()
    for row, one in zip(book.rows, FIRST, strict=True):
        words = words_of(said(row, None if one["data"] is None else one["data"].encode()))
        assert words or row.type in ("run.acting", "run.approved"), row.type
        assert row.type in WORDS or row.type.startswith("run."), f"{row.type} is named, not told"
        assert words_of(said(row, None)) is not None


def test_a_chain_of_the_first_release_is_told_whole() -> None:
    found = explain("workload:a", First())
    stations = list(dict.fromkeys(link.station for link in found.chain))
    assert stations == ["observe", "find", "propose", "decide", "act", "verify"]
    text = "\n".join(link.words for link in found.chain)
    for words in (
        "m.load of workload:a read 2 count, past the limit of 1",
        "wrote dial of workload:a: level 1 → 9",
        "it helped",
        "everything is put back",
    ):
        assert words in text
