"""Several processes look at one ledger: what they find is what one would have found."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from stead.cli import ledger_workers
from stead.cli.ledger_workers import workers
from stead.ledger.export import export
from stead.ledger.exported import ExportSource
from stead.ledger.offline import open_offline
from stead.ledger.span import Seen, look
from stead.ledger.store import LedgerStore
from stead.ledger.stored import StoreSource
from stead.model.errors import SteadError
from stead.testing import FakeClock
from tests.cli.conftest import Call
from tests.ledger.kit import note

ENTRIES = 1000
SPANS = [(0, 300), (300, 600), (600, 900), (900, 1000)]


@pytest.fixture(autouse=True)
def _two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_workers, "_cpus", lambda: 2)
    monkeypatch.setattr(ledger_workers, "LEAST", ENTRIES)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    store = LedgerStore.open(folder / "ledger.db", "host1", FakeClock())
    asyncio.run(store.commit([note(str(number), b"detail %d" % number) for number in range(ENTRIES)]))
    export(StoreSource(store), folder / "export", blobs=True)
    store.close()
    return folder


@pytest.fixture
def stored(made: Path, state: Path) -> Iterator[Path]:
    shutil.copytree(made, state, dirs_exist_ok=True)
    yield state


def test_they_see_what_one_sees_of_a_file_and_of_a_folder(stored: Path) -> None:
    with open_offline(stored / "ledger.db") as ledger:
        expected = [look(StoreSource(ledger), *span, deep=True) for span in SPANS]
    assert isinstance(expected[0], Seen) and expected[0].blobs == 300
    for place in (stored / "ledger.db", stored / "export"):
        with workers(place, ENTRIES, deep=True) as looks:
            assert looks is not None and list(looks(SPANS)) == expected
    assert look(ExportSource(stored / "export"), 0, 300, deep=True) == expected[0]


def test_what_one_of_them_refuses_is_refused(stored: Path) -> None:
    db = sqlite3.connect(stored / "ledger.db")
    db.execute("UPDATE entries SET id = 'another' WHERE seq = 777")
    db.commit()
    db.close()
    with workers(stored / "ledger.db", ENTRIES, deep=False) as looks, pytest.raises(SteadError) as raised:
        assert looks is not None
        list(looks(SPANS))
    assert raised.value.problem.code == "ledger.altered" and "entry 777" in raised.value.problem.where


def test_the_verb_uses_them_for_a_long_ledger(stored: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stead.ledger.verify.SPAN", 256)
    for words in ((), ("--export", str(stored / "export"))):
        found = json.loads(call("ledger", "verify", "--deep", "-o", "json", *words).stdout)
        assert (found["size"], found["blobs"]) == (ENTRIES, ENTRIES) and found["tiles"] >= 3


def test_a_short_ledger_or_one_cpu_needs_none(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with workers(stored / "ledger.db", ENTRIES - 1, deep=False) as looks:
        assert looks is None
    monkeypatch.setattr(ledger_workers, "_cpus", lambda: 1)
    with workers(stored / "ledger.db", ENTRIES, deep=False) as looks:
        assert looks is None
