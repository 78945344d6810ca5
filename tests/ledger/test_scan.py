"""A log without an index can be searched, and tells the same chain as the store that it was exported from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from stead.ledger.export import export
from stead.ledger.exported import ExportSource
from stead.ledger.offline import open_offline
from stead.ledger.scan import Scanned
from stead.ledger.stored import StoreSource
from stead.ledger.why import explain
from stead.model.errors import SteadError
from stead.model.ledger_messages import SearchEntries
from stead.model.record import StoredEntry
from tests.flow.kit import ANN
from tests.flow.road import Lane


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """The state of an agent that healed something, was told by a person to put it back, and ended."""
    lane = Lane(tmp_path)
    await lane.heal()
    await lane.orders.undo(lane.runs()[0].id, ANN)
    await lane.road.stop(lane.clock.now())
    lane.ledger.close()
    return tmp_path


def scanned(folder: Path) -> Scanned:
    source = ExportSource(folder)
    return Scanned(source, source.head().size)


def test_an_export_tells_the_same_chain_as_the_store(state: Path) -> None:
    with open_offline(state / "ledger.db") as ledger:
        source = StoreSource(ledger)
        export(source, state / "whole", blobs=True)
        export(source, state / "bare")
        for thing in ("workload:a", "turn", "dial.level", "m.load"):
            told = explain(thing, source)
            assert explain(thing, scanned(state / "whole")) == told
            assert [link.entry for link in explain(thing, scanned(state / "bare")).chain] == [link.entry for link in told.chain]
        assert {"observe", "find", "propose", "decide", "act", "verify", "record"} == {link.station for link in told.chain}
        bare = explain("workload:a", scanned(state / "bare"), "was not exported").chain
        assert any(link.erased and link.words.endswith("(what was beside it was not exported)") for link in bare)
        assert all(link.leaf == other.leaf and link.index == other.index for link, other in zip(bare, told.chain, strict=False))


def test_a_search_is_answered_in_pages_newest_first(state: Path) -> None:
    with open_offline(state / "ledger.db") as ledger:
        source = StoreSource(ledger)
        log = Scanned(source, ledger.size)
        everything = log.find(SearchEntries(types="run.*", limit=512)).entries
        pages, before = list[StoredEntry](), 0
        while True:
            page = log.find(SearchEntries(types="run.*", limit=2, before=before))
            pages += page.entries
            before = page.more
            if not before:
                break
        assert tuple(pages) == everything and [one.seq for one in pages] == sorted((one.seq for one in pages), reverse=True)
        assert everything == source.find(SearchEntries(types="run.*", limit=512)).entries
        beside = log.find(SearchEntries(text="M.LOAD OF A"))
        assert {one.type for one in beside.entries} == {"finding.opened", "finding.cleared"} & {
            one.type for one in beside.entries
        }
        assert beside.entries, "what is beside a leaf is looked at, whatever its case"
        assert not log.find(SearchEntries(text="m.load of a", subject="agent")).entries


class Shrinking:
    """A source that loses an entry after it was read."""

    place = "somewhere"

    def __init__(self, entries: Sequence[StoredEntry]) -> None:
        self.entries = list(entries)

    def leaves(self, start: int, end: int) -> Sequence[StoredEntry]:
        return self.entries[start:end]

    def blobs(self, start: int, end: int) -> object:
        raise AssertionError


def test_an_entry_that_went_meanwhile_is_an_error_with_its_place() -> None:
    source = Shrinking([StoredEntry(1, "e1", "t", "s", 1, b'{"body":{}}')])
    log = Scanned(source, 1)  # type: ignore[arg-type]
    source.entries.clear()
    with pytest.raises(SteadError, match="entry 1 can't be read"):
        log.find(SearchEntries())


def test_what_is_no_leaf_is_an_error(tmp_path: Path) -> None:
    log = Scanned(Shrinking([StoredEntry(1, "e1", "finding.opened", "s", 1, b"{")]), 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no leaf"):
        explain("s", log)
    assert msgspec
