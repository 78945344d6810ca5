"""`stead ledger`: rows with their ids, a search page by page, and verification by this process, with and without an agent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stead.cli.ledger import when_ms
from stead.cli.words import moment
from stead.ledger.state_lock import StateLock
from stead.ledger.store import LedgerStore
from stead.model.errors import EXIT_FAILURE, EXIT_OK, EXIT_UNREACHABLE, EXIT_USAGE, SteadError
from stead.model.ledger_messages import (
    BlobList,
    EntryPage,
    GetBlobs,
    GetCheckpoint,
    GetLeaves,
    LeafList,
    LedgerHead,
    SearchEntries,
)
from stead.testing import FakeClock
from tests.cli import fake_ledger
from tests.cli.conftest import Call
from tests.cli.fake_agent import FINDING_ID, RUN_ID, FakeAgent
from tests.cli.test_command import STEAD
from tests.ledger.kit import note
from tests.ledger.listed import T0, Listed, entry, key

LOG = fake_ledger.ledger(FINDING_ID, RUN_ID)
VKEY, OLD_VKEY = key(2).verifier.text, key(1).verifier.text
ENTRIES = 300


@pytest.fixture
def stored(state: Path) -> Path:
    """A state with a real ledger of 300 entries, and no agent."""
    store = LedgerStore.open(state / "ledger.db", "host1", FakeClock())
    asyncio.run(store.commit([note(str(number), b"detail %d" % number) for number in range(ENTRIES)]))
    store.close()
    return state


def altered(state: Path, statement: str) -> None:
    db = sqlite3.connect(state / "ledger.db")
    db.execute(statement)
    db.commit()
    db.close()


# reading


def test_rows_have_ids_that_are_enough_to_ask_for_a_proof(agent: FakeAgent, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = call("ledger", "tail").stdout.splitlines()
    assert shown[1].split() == ["SEQ", "TIME", "ID", "TYPE", "SUBJECT"] and len(shown) == 7
    row = shown[5].split()
    assert len(row) == 5, "there is no room for words"
    assert row[0] == "4" and (fake_ledger.ENTRY_ID % 4).startswith(row[2]) and len(row[2]) >= 18
    assert RUN_ID.startswith(row[4]) and shown[0] == moment(T0)[:10]
    entries = json.loads(call("ledger", "tail", "-o", "json").stdout)["entries"]
    assert [one["seq"] for one in entries] == [1, 2, 3, 4, 5] and json.loads(entries[1]["leaf"])["type"] == "finding.opened"


def test_words_stand_where_the_terminal_has_room(agent: FakeAgent, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        entry(1, type="agent.started", body={"version": "1.0"}),
        entry(2, type="metrics.action_recommended", body={"about": RUN_ID}),
        entry(3, type="witness.refused", body={"origin": "a/ledger", "size": 1, "held_size": 2, "reason": "rolled-back"}),
        entry(4, type="key.rotated", body={"old": "a+00000001+AA", "new": "a+00000002+AA"}),
        entry(5, type="ledger.renewed", body={"former": ["a/ledger"], "reason": "the disk died"}),
    ]
    agent.answers[SearchEntries] = lambda ask: EntryPage(tuple(reversed(entries)))
    monkeypatch.setenv("COLUMNS", "160")
    head, *rows = call("ledger", "tail").stdout.splitlines()[1:]
    assert head.split()[-1] == "WHAT" and rows[0].endswith("stead 1.0 began") and rows[1].endswith(RUN_ID[:13])
    assert "a/ledger was not cosigned with 1 entry: rolled-back; it had been cosigned with 2" in rows[2]
    assert "made the key a+00000002, and a+00000001 signed for it" in rows[3]
    assert "a new log began after a/ledger: the disk died" in rows[4]
    for columns in range(60, 160, 9):
        monkeypatch.setenv("COLUMNS", str(columns))
        shown = call("ledger", "tail").stdout.splitlines()
        assert "WHAT" not in shown[1] or max(map(len, shown)) <= columns


def test_nothing_about_a_subject_is_no_empty_ledger(agent: FakeAgent, call: Call) -> None:
    for verb in ("tail", "search"):
        shown = call("ledger", verb, "--subject", "pid:4711")
        assert shown.exit_code == EXIT_OK and "empty" not in shown.stdout and "nothing" in shown.stdout
    assert "`stead ledger search process:4711`" in call("ledger", "tail", "--subject", "pid:4711").stdout


def test_a_stretch_of_time_that_ends_before_it_begins_is_refused(agent: FakeAgent, call: Call) -> None:
    refused = call("ledger", "search", "--since", "2h", "--until", "3h")
    assert refused.exit_code == EXIT_USAGE and "--since 2h" in refused.stderr
    assert call("ledger", "search", "--since", "3h", "--until", "2h").exit_code == EXIT_OK


def test_a_search_goes_on_until_all_was_looked_at_or_enough_found(agent: FakeAgent, call: Call) -> None:
    call("ledger", "search")
    asked = [one for one in agent.asked if isinstance(one, SearchEntries)]
    assert [one.before for one in asked] == [0, 5, 4, 3, 2] and [one.limit for one in asked] == [50, 49, 48, 47, 46]
    agent.asked.clear()
    assert call("ledger", "search", "-n", "2", "-o", "json").stdout.count('"seq"') == 2
    assert len([one for one in agent.asked if isinstance(one, SearchEntries)]) == 2
    agent.answers[SearchEntries] = lambda ask: EntryPage((), ask.before - 1 if ask.before else 3)
    assert "nothing like that" in call("ledger", "search", "x").stdout


def test_options_of_a_search_become_its_query(agent: FakeAgent, call: Call) -> None:
    words = ("--type", "run.*", "--subject", RUN_ID[:9], "--actor", "user", "--since", "2026-01-01", "--until", "1h")
    assert call("ledger", "search", "hog", *words).exit_code == EXIT_OK
    asked = next(one for one in agent.asked if isinstance(one, SearchEntries))
    assert (asked.text, asked.types, asked.subject, asked.actor) == ("hog", "run.*", RUN_ID[:9], "user")
    assert asked.since_ms == when_ms("2026-01-01", 0) and 3_590_000 < time.time() * 1000 - asked.until_ms < 3_700_000


def test_times_are_ages_or_dates() -> None:
    assert when_ms("", 5) == 0 and when_ms("90s", 100_000) == 10_000
    assert when_ms("1970-01-02T00:00:00+00:00", 0) == 86_400_000
    for text in ("yesterday", "5", "-3h", "2026-13-01"):
        with pytest.raises(SteadError) as raised:
            when_ms(text, 0)
        assert raised.value.problem.exit_code == EXIT_USAGE


@pytest.fixture
def following(agent: FakeAgent, state: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen([*STEAD, "--state", str(state), "ledger", "tail", "-f"], stdout=subprocess.PIPE, text=True)
    yield child
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=10)
    assert child.returncode == 130


def test_following_tells_what_is_new_and_nothing_twice(agent: FakeAgent, following: subprocess.Popen[str]) -> None:
    assert following.stdout is not None
    shown = [following.stdout.readline() for _ in range(7)]
    assert shown[-1].split()[0] == "5"
    pages = [entry(6, id="0199c7a0-0001-7000-8000-000000000006"), entry(7, id="0199c7a0-0001-7000-8000-000000000007")]
    agent.answers[SearchEntries] = lambda ask: EntryPage(tuple(one for one in reversed(pages) if one.seq > ask.after))
    assert [following.stdout.readline().split()[0] for _ in range(2)] == ["6", "7"]
    pages.append(entry(8, id="0199c7a0-0001\x9b2J", type="note\u202e"))
    told = following.stdout.readline()
    assert told.split()[0] == "8" and told.strip().isprintable()


def test_a_checkpoint_is_printed_as_the_note_that_it_is(agent: FakeAgent, state: Path) -> None:
    done = subprocess.run([*STEAD, "--state", str(state), "ledger", "checkpoint"], capture_output=True, timeout=30)
    assert done.stdout == LOG.note


def test_keys_are_told_with_their_place(agent: FakeAgent, call: Call) -> None:
    shown = call("ledger", "key").stdout
    assert VKEY in shown.splitlines() and OLD_VKEY in shown.splitlines()
    assert "/state/keys/x.key" in shown and "signs no more" in shown and "x.key is not there" in shown
    told = json.loads(call("ledger", "key", "-o", "json").stdout)
    assert [one["vkey"] for one in told["keys"]] == [VKEY, OLD_VKEY] and told["witness"] == ""


# verification by this process


def test_an_agent_is_believed_in_nothing(agent: FakeAgent, call: Call) -> None:
    good = call("ledger", "verify", "--deep")
    assert good.exit_code == EXIT_OK and "5 entries" in good.stdout and "changed 1 time" in good.stdout
    entries = list(LOG.entries)
    entries[2] = entry(3, id=entries[2].id, type="proposal.made", body={"about": RUN_ID, "lie": 1})
    agent.answers[GetLeaves] = lambda ask: LeafList(tuple(entries[ask.start : ask.end]))
    bad = call("ledger", "verify")
    assert bad.exit_code == EXIT_FAILURE and bad.stderr.startswith("stead: altered:")
    agent.answers[GetLeaves] = lambda ask: LeafList(tuple(LOG.entries[ask.start : min(ask.end, 4)]))
    assert call("ledger", "verify").stderr.startswith("stead: truncated:")
    agent.answers[GetLeaves] = lambda ask: LeafList(tuple(LOG.entries[ask.start : min(ask.start + 1, ask.end)]))
    assert call("ledger", "verify").exit_code == EXIT_OK
    agent.answers[GetBlobs] = lambda ask: BlobList((), ask.end)
    assert "no entry says that it was erased" in call("ledger", "verify", "--deep").stderr


def test_an_agent_that_answers_with_rubbish_is_refused_in_words(agent: FakeAgent, call: Call) -> None:
    good = LOG.head()
    for wrong in (
        msgspec.structs.replace(good, checkpoint=b"rubbish"),
        msgspec.structs.replace(good, vkeys=("x",)),
        LedgerHead(b"", (), 0, "", b""),
    ):
        agent.answers[GetCheckpoint] = wrong
        result = call("ledger", "verify")
        assert result.exit_code == EXIT_FAILURE and "unexpected" not in result.stderr


def test_a_kept_checkpoint_is_compared(agent: FakeAgent, call: Call, tmp_path: Path) -> None:
    kept = tmp_path / "kept.note"
    kept.write_bytes(LOG.signed(3))
    proof = tmp_path / "x.tlog-proof"
    proof.write_bytes(fake_ledger.proof_of(LOG, LOG.entries[1]).proof)
    found = call("ledger", "verify", "--against", str(kept), "--against", str(proof), "--key", OLD_VKEY)
    assert found.exit_code == EXIT_OK, found.output
    assert "kept.note, 3 entries" in " ".join(found.stdout.split()) and "--against" not in found.stdout
    report = json.loads(call("ledger", "verify", "--against", str(kept), "--key", VKEY, "-o", "json").stdout)
    assert report["pinned"] and report["continues"] == [{"place": str(kept), "size": 3}] and report["size"] == 5
    longer = Listed([*LOG.entries, entry(6)], (key(2), key(1)))
    kept.write_bytes(longer.note)
    assert call("ledger", "verify", "--against", str(kept)).stderr.startswith("stead: rolled back:")
    other = Listed([entry(1, host="other"), *LOG.entries[1:]], (key(2), key(1)))
    for size, name in ((5, "forked"), (2, "rewritten")):
        kept.write_bytes(other.signed(size))
        refused = call("ledger", "verify", "--against", str(kept))
        assert refused.exit_code == EXIT_FAILURE and refused.stderr.startswith(f"stead: {name}:")


def test_the_readers_own_policy_pins_keys_and_demands_witnesses(agent: FakeAgent, call: Call, tmp_path: Path) -> None:
    mine = tmp_path / "mine.policy"
    mine.write_text(f"log {VKEY}\nquorum none\n")
    assert "(pinned)" in call("ledger", "verify", "--policy", str(mine)).stdout
    mine.write_text(f"log {VKEY}\nwitness eye {key(8, 'eye').verifier.text}\nquorum eye\n")
    refused = call("ledger", "verify", "--policy", str(mine))
    assert refused.exit_code == EXIT_FAILURE and refused.stderr.startswith("stead: unsigned:") and "cosigned" in refused.stderr
    mine.write_text("nonsense")
    for path in (mine, tmp_path / "none"):
        assert call("ledger", "verify", "--policy", str(path)).exit_code == EXIT_USAGE


def test_what_is_no_checkpoint_or_no_key_is_a_wrong_call(agent: FakeAgent, call: Call, tmp_path: Path) -> None:
    place = tmp_path / "notes.txt"
    place.write_text("hello\n")
    for path in (place, tmp_path / "none", tmp_path):
        result = call("ledger", "verify", "--against", str(path))
        assert result.exit_code == EXIT_USAGE and "stead ledger checkpoint" in result.stderr
    assert call("ledger", "verify", "--key", "nonsense").exit_code == EXIT_USAGE
    refused = call("ledger", "verify", "--key", key(9).verifier.text)
    assert refused.exit_code == EXIT_FAILURE and refused.stderr.startswith("stead: unsigned:")


# without an agent


def test_without_an_agent_the_file_itself_is_read(stored: Path, call: Call, tmp_path: Path) -> None:
    assert "300 entries" in call("ledger", "verify", "--deep").stdout
    assert len(call("ledger", "tail", "-n", "7").stdout.splitlines()) == 9
    assert json.loads(call("ledger", "search", "detail 27", "-o", "json").stdout)["entries"][0]["seq"] == 28
    assert call("ledger", "checkpoint").stdout.startswith("host1/ledger\n300\n")
    vkey = call("ledger", "key").stdout.splitlines()[0]
    seen = json.loads(call("ledger", "tail", "-n", "1", "-o", "json").stdout)["entries"][0]["id"]
    assert call("proof", seen, "--dir", str(tmp_path)).exit_code == EXIT_OK
    assert call("proof", "verify", "--dir", str(tmp_path), "--key", vkey).exit_code == EXIT_OK
    assert not list(stored.glob("ledger.db-*"))


def test_reading_changes_nothing(stored: Path, call: Call) -> None:
    before = (stored / "ledger.db").read_bytes()
    for words in (("tail",), ("search", "x"), ("verify", "--deep"), ("key",), ("checkpoint",)):
        assert call("ledger", *words).exit_code == EXIT_OK
    assert (stored / "ledger.db").read_bytes() == before


def test_one_entry_of_the_file_is_changed_and_named(stored: Path, call: Call) -> None:
    altered(stored, "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), 'host1', 'host2') AS BLOB) WHERE seq = 123")
    refused = call("ledger", "verify")
    assert refused.exit_code == EXIT_FAILURE and refused.stderr.startswith("stead: altered:") and "entry 123" in refused.stderr


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("DELETE FROM entries WHERE seq = 300", "truncated"),
        ("DELETE FROM entries WHERE seq = 3", "altered"),
        ("INSERT INTO entries SELECT 301, 'x', type, subject, ts_ms, leaf, NULL FROM entries WHERE seq = 300", "altered"),
        ("UPDATE tiles SET hashes = zeroblob(8192)", "altered"),
        ("DELETE FROM tiles", "altered"),
        ("DELETE FROM checkpoints", "unsigned"),
        ("UPDATE checkpoints SET note = 5", "altered"),
        ("DELETE FROM keys", "unsigned"),
        ("UPDATE keys SET vkey = 'x+00000000+AAAA'", "altered"),
        ("UPDATE entries SET leaf = 'text' WHERE seq = 9", "altered"),
        ("UPDATE entries SET ts_ms = 'text' WHERE seq = 9", "altered"),
    ],
)
def test_whatever_is_done_to_the_file_has_a_name(stored: Path, call: Call, statement: str, name: str) -> None:
    altered(stored, statement)
    refused = call("ledger", "verify", "--deep")
    assert refused.exit_code == EXIT_FAILURE
    assert refused.stderr.startswith((f"stead: {name}:", "stead: altered:")), refused.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the ledger is empty"),
        (b"hello\n", "this file is no ledger"),
        (b"SQLite format 3\0" + bytes(84), "this file is no ledger"),
    ],
)
def test_a_file_that_is_no_ledger_is_called_so(stored: Path, call: Call, content: bytes, words: str) -> None:
    (stored / "ledger.db").write_bytes(content)
    refused = call("ledger", "verify")
    assert refused.exit_code == EXIT_FAILURE and refused.stderr.startswith(f"stead: {words}") and "backup" in refused.stderr


def test_a_private_key_that_is_gone_is_missed(stored: Path, call: Call) -> None:
    assert "not there" not in call("ledger", "key").stdout
    for path in (stored / "keys").iterdir():
        path.unlink()
    assert "is not there: bring keys/ back" in " ".join(call("ledger", "key").stdout.split())


def test_without_a_checkpoint_of_its_own_it_says_that_it_is_missing(stored: Path, call: Call) -> None:
    altered(stored, "DELETE FROM checkpoints")
    assert "checkpoint is missing" in call("ledger", "verify").stderr


def test_a_database_that_was_put_back_alone_is_told_by_what_lies_beside_it(stored: Path, call: Call) -> None:
    old = (stored / "ledger.db").read_bytes()
    store = LedgerStore.open(stored / "ledger.db", "host1", FakeClock())
    asyncio.run(store.commit([note("later")]))
    (stored / "ledger.checkpoint").write_bytes(store.checkpoint)
    store.close()
    assert "ledger.checkpoint, 301 entries" in call("ledger", "verify").stdout
    for path in stored.glob("ledger.db-*"):
        path.unlink()
    (stored / "ledger.db").write_bytes(old)
    refused = call("ledger", "verify")
    assert refused.exit_code == EXIT_FAILURE and refused.stderr.startswith("stead: rolled back:")


def test_an_export_is_written_added_to_and_verified_without_any_state(stored: Path, call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert "300 entries of host1/ledger" in call("ledger", "export", str(folder)).stdout
    again = json.loads(call("ledger", "export", str(folder), "--blobs", "-o", "json").stdout)
    assert (again["added"], again["blobs"]) == (0, ENTRIES)
    (stored / "ledger.db").unlink()
    found = call("ledger", "verify", "--export", str(folder), "--deep")
    assert found.exit_code == EXIT_OK and f"{ENTRIES} blobs" in found.stdout
    (folder / "tile/0/000").write_bytes(b"x" * 8192)
    assert call("ledger", "verify", "--export", str(folder)).exit_code == EXIT_FAILURE
    assert call("ledger", "verify", "--export", str(tmp_path)).exit_code == EXIT_USAGE


@pytest.mark.parametrize(
    "words", [("tail",), ("search", "x"), ("verify",), ("checkpoint",), ("key",), ("export", "out")], ids=" ".join
)
def test_neither_an_agent_nor_a_ledger(
    call: Call, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("ledger", *words)
    assert result.exit_code == EXIT_UNREACHABLE and "there is no ledger" in result.stderr and "`stead agent`" in result.stderr
    assert result.stdout == "" and not os.listdir(tmp_path)


def test_an_agent_that_holds_the_store_and_does_not_answer(stored: Path, call: Call) -> None:
    lock = StateLock.take(stored)
    try:
        result = call("ledger", "verify")
    finally:
        lock.release()
    assert result.exit_code == EXIT_UNREACHABLE and "has this ledger open" in result.stderr


def test_a_new_key_is_an_order_to_the_agent_and_to_nobody_else(stored: Path, call: Call) -> None:
    assert call("ledger", "key", "--rotate").exit_code == EXIT_UNREACHABLE
