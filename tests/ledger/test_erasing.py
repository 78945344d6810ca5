"""What was erased is nowhere in the database any more: not beside its leaf, not in the tables of the present."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from stead.flow import record, runs
from stead.ledger.erasing import ERASED, check_reason, scrubbed
from stead.ledger.store import LedgerStore
from stead.model.change import Receipt, Run
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.policy import Actor
from tests.flow.kit import NOW, counter, decision, proposal
from tests.ledger.kit import ANN, check_log, note, opened
from tests.ledger.test_store import finding

STAMP = record.Stamp("host1", NOW, counter("0192f0c1"))
SECRET = "mysql -pswordfish"
LABELS = {"command": SECRET}


def raw(store: LedgerStore) -> bytes:
    """All bytes of the database's files."""
    return b"".join(path.read_bytes() for path in store.path.parent.glob("ledger.db*"))


async def denied(store: LedgerStore) -> tuple[Run, dict[str, str]]:
    """A run whose words were in several rows before it ended; and the ids of its entries by type."""
    planned = proposal(title=SECRET, labels=LABELS)
    run, entries = runs.start(planned, decision("ask", approvals_needed=1), STAMP)
    stored = [*await store.commit(entries, runs=[run])]
    receipt = Receipt("", 0, "forward", "failed", None, SECRET, 1)
    for _ in range(5):  # the row moves
        run = msgspec.structs.replace(run, receipts=(*run.receipts, receipt))
        await store.commit([note()], runs=[run])
    run, entries = runs.deny(run, Actor("user", "uid:1000"), SECRET, STAMP)
    stored += await store.commit(entries, runs=[run])
    return run, {entry.type: entry.id for entry in stored}


async def test_a_final_run_keeps_what_its_undo_needs_and_no_word_of_what_was_erased(tmp_path: Path) -> None:
    store = opened(tmp_path)
    run, ids = await denied(store)
    await store.commit([note(str(number)) for number in range(100)])
    for type_ in ("proposal.made", "approval.denied", "run.denied"):
        said = await store.erase(ids[type_], ANN, "asked by the person")
        assert json.loads(store.bulk(said.id) or b"") == "asked by the person"
    kept = store.run(run.id)
    assert kept == scrubbed(run) and (kept.proposal.title, kept.reason, kept.receipts[0].error) == (ERASED,) * 3
    assert kept.proposal.steps == run.proposal.steps and kept.proposal.plan_hash == run.proposal.plan_hash
    assert SECRET.encode() not in raw(store), "nor in a free page, a free cell or the write-ahead log"
    check_log(store)
    store.close()
    store = opened(tmp_path)
    assert store.run(run.id) == kept and SECRET.encode() not in raw(store)
    store.close()


async def test_a_cleared_finding_keeps_its_figures(tmp_path: Path) -> None:
    store = opened(tmp_path)
    told = finding(title=SECRET, labels=LABELS, evidence=((1, 2.5),))
    over = msgspec.structs.replace(told, cleared_ms=9)
    (first,) = await store.commit([record.finding_opened(told, STAMP)], findings=[told])
    (second,) = await store.commit([record.finding_cleared(over, STAMP)], findings=[over])
    await store.erase(first.id, ANN)
    expected = msgspec.structs.replace(over, title=ERASED, labels={}, evidence=())
    assert store.findings(cleared=True) == (expected,) and store.bulk(second.id) is not None
    await store.erase(second.id, ANN)
    assert SECRET.encode() not in raw(store)
    store.close()


async def test_what_is_still_at_work_keeps_its_words_until_it_has_ended(tmp_path: Path) -> None:
    store = opened(tmp_path)
    run, entries = runs.start(proposal(title=SECRET), decision("ask", approvals_needed=1), STAMP)
    stored = await store.commit([*entries, record.finding_opened(finding(), STAMP)], runs=[run], findings=[finding()])
    for entry, what in ((stored[0], f"run {run.id}"), (stored[-1], "finding f1")):
        with pytest.raises(SteadError, match=f"still in use by {what}") as caught:
            await store.erase(entry.id, ANN)
        assert caught.value.problem.code == "blob.in-use" and "when that has ended" in caught.value.problem.fix
        assert store.bulk(entry.id) is not None
    assert store.size == len(stored) and store.trouble == ""
    store.close()


async def test_an_entry_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    store = opened(tmp_path)
    first, second = await store.commit([note(bulk=b'"a"'), note(bulk=b'"b"')])
    with pytest.raises(SteadError, match="several entries"):
        await store.erase(first.id[:2], ANN)
    said = await store.erase(second.id[-6:], ANN)
    assert said.subject == second.id and store.bulk(second.id) is None and store.bulk(first.id) == b'"a"'
    assert json.loads(said.leaf)["body"]["blob"] == json.loads(second.leaf)["blob"] and said.leaf.count(b'"blob"') == 1
    store.close()


@pytest.mark.parametrize("reason", ["", "  ", "x" * 1001])
def test_a_reason_is_given_and_not_a_book(reason: str) -> None:
    with pytest.raises(SteadError, match="needs a reason") as caught:
        check_reason(reason)
    assert caught.value.problem.exit_code == EXIT_USAGE and check_reason(" x ") == "x"
