"""What the agent answers about its ledger stays within one line of the socket and a moment, whatever is asked."""

from __future__ import annotations

import tracemalloc
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from stead import wire
from stead.agent.answers import Answers
from stead.agent.ledger_answers import LedgerAnswers
from stead.ledger.bundle import NO_WITNESS
from stead.ledger.erasing import scrubbed
from stead.ledger.search import ANSWER_BYTES, TEXT_MAX
from stead.ledger.store import LedgerStore
from stead.model import ledger_messages as lm
from stead.model import messages as m
from stead.model.errors import EXIT_USAGE, SteadError
from tests.ledger.kit import ANN, note, opened
from tests.ledger.test_store import some_run

LARGE = "x" * 60_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LedgerStore]:
    store = opened(tmp_path)
    await store.commit([note(LARGE) for _ in range(150)])
    yield store
    store.close()


async def ask(store: LedgerStore, body: Any) -> Any:
    """The answer, as it comes out of a line of the socket."""
    reply = await LedgerAnswers(store, NO_WITNESS).table()[type(body)](body, ANN)
    assert len(wire.encode(m.Reply(1, reply))) < wire.LINE_LIMIT
    return reply


async def test_large_leaves_come_in_several_answers(store: LedgerStore) -> None:
    seen: list[int] = []
    while entries := (await ask(store, lm.GetLeaves(len(seen), 150))).entries:
        seen += [entry.seq for entry in entries]
    assert seen == list(range(1, 151))


@pytest.mark.parametrize(
    "body", [lm.GetLeaves(0, 512), lm.GetBlobs(0, 512), lm.SearchEntries(limit=512), lm.SearchEntries(text="nowhere")]
)
async def test_no_more_is_read_than_an_answer_carries(store: LedgerStore, body: Any) -> None:
    await store.commit([note(LARGE, bulk=LARGE.encode()) for _ in range(150)])
    tracemalloc.start()
    await LedgerAnswers(store, NO_WITNESS).table()[type(body)](body, ANN)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * ANSWER_BYTES + (1 << 20), "of 18 MB of leaves and 9 MB of blobs"


@pytest.mark.parametrize("query", [lm.SearchEntries(limit=512), lm.SearchEntries(limit=512, subject="s", text="xxx")])
async def test_a_search_that_finds_large_leaves_goes_on_where_it_stopped(store: LedgerStore, query: lm.SearchEntries) -> None:
    seen: list[int] = []
    more = 0
    while not seen or more:
        page = await ask(store, msgspec.structs.replace(query, before=more))
        seen += [entry.seq for entry in page.entries]
        more = page.more
    assert seen == list(range(150, 0, -1))


async def test_a_text_that_nobody_types_is_refused(store: LedgerStore) -> None:
    with pytest.raises(SteadError, match="not looked for"):
        await ask(store, lm.SearchEntries(text="x" * (TEXT_MAX + 1)))


@pytest.mark.parametrize(
    "body",
    [
        *(lm.SearchEntries(**{name: 1 << 70}) for name in ("since_ms", "until_ms", "after", "before", "limit")),
        lm.SearchEntries(before=-(1 << 63)),
        lm.SearchEntries(types="*" * 60_000),
        lm.SearchEntries(subject="x" * 60_000),
        lm.GetProof("e" * 60_000),
        lm.GetProof("%" * (lm.ID_MAX + 1)),
    ],
)
async def test_what_no_database_can_answer_is_a_wrong_call(store: LedgerStore, body: Any) -> None:
    with pytest.raises(SteadError) as caught:
        await ask(store, body)
    assert caught.value.problem.exit_code == EXIT_USAGE and len(str(caught.value)) < 300
    assert store.run("r" * 60_000) is None and store.finding("r" * 60_000) is None and store.entry("r" * 60_000) is None


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 4), (0, 1 << 62)])
async def test_what_is_no_range_is_refused(store: LedgerStore, start: int, end: int) -> None:
    for body in (lm.GetLeaves(start, end), lm.GetBlobs(start, end)):
        with pytest.raises(SteadError, match="no range"):
            await ask(store, body)


async def test_an_erasure_is_answered_with_its_entry_and_told_to_whom_it_concerns(store: LedgerStore) -> None:
    (entry,) = await store.commit([note(bulk=b'"ann"', subject="run-1")])
    forgotten: list[str] = []
    erase = LedgerAnswers(store, NO_WITNESS, forgotten.append).table()[lm.EraseBlob]
    for body, code in (
        (lm.EraseBlob(entry.id, " "), "ledger.reason"),
        (lm.EraseBlob("e" * 60_000, "x"), "entry.id"),
        (lm.EraseBlob("none", "x"), "blob.none"),
    ):
        with pytest.raises(SteadError) as caught:
            await erase(body, ANN)
        assert caught.value.problem.code == code
    assert forgotten == [] and store.bulk(entry.id) == b'"ann"'
    answer = await erase(lm.EraseBlob(entry.id, "asked by ann"), ANN)
    assert isinstance(answer, lm.LeafList) and [one.type for one in answer.entries] == ["blob.erased"]
    assert b'"id":"uid:1000"' in answer.entries[0].leaf and b"asked by" not in answer.entries[0].leaf
    assert forgotten == ["run-1"] and store.bulk(entry.id) is None and store.bulk(answer.entries[0].id) == b'"asked by ann"'


def test_what_was_erased_of_a_finished_run_is_not_in_memory_either() -> None:
    """The undo of a run that was kept begins with the run as it is in memory, and would write its words anew."""
    kept, other = (msgspec.structs.replace(some_run(name), reason="ann") for name in ("run-1", "run-2"))
    answers: Any = object.__new__(Answers)
    ended = {"run-1": kept, "run-2": other}
    hands = SimpleNamespace(writer=SimpleNamespace(ended=ended))
    answers.road = SimpleNamespace(recent=deque([other, kept]), place=SimpleNamespace(hands=hands))
    answers._forget("run-1")
    answers._forget("agent")
    assert ended == {"run-1": scrubbed(kept), "run-2": other} and answers.road.recent == deque([other, scrubbed(kept)])
