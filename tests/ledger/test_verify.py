"""Recomputing a log: what holds is told, and what does not is refused by its name, with the place where it was seen."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stead.ledger.bundle import policy_of
from stead.ledger.offline import open_offline
from stead.ledger.source import LogSource
from stead.ledger.stored import StoreSource
from stead.ledger.verify import SPAN, Kept, Verification, verify
from stead.model.errors import SteadError
from stead.model.record import StoredEntry
from stead.tlog.cosignature import cosign
from stead.tlog.keys import COSIGNATURE, SigningKey, new_signing_key
from stead.tlog.note import Note, format_note, parse_note
from stead.tlog.policy import TrustPolicy, WitnessLine
from stead.tlog.strict import encode64
from tests.ledger.kit import opened, tree_hash
from tests.ledger.listed import Listed, blob_ref, changed, entry, key, leaf, log, rotated

SALT = b"s" * 16
WITNESS = new_signing_key("eye/witness", COSIGNATURE, b"w" * 32)
WITNESSES = TrustPolicy((), (WitnessLine("eye", WITNESS.verifier),), (), "eye")


def refused(source: LogSource, code: str, **options: Any) -> str:
    """The words of the refusal, which must have this name and say where, and what to do."""
    with pytest.raises(SteadError) as raised:
        verify(source, **options)
    problem = raised.value.problem
    assert problem.code == code and problem.where and problem.fix
    return str(problem)


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 600])
def test_a_sound_log_is_recomputed_whole(size: int) -> None:
    source = log(size)
    found = verify(source, deep=True)
    root = encode64(tree_hash([one.leaf for one in source.entries]))
    assert (found.origin, found.size, found.root) == ("host1/ledger", size, root)
    assert found.signed_by == (key(1).verifier.text,) and not found.pinned and found.tiles == 0


def test_what_the_store_keeps_of_the_tree_is_compared_too() -> None:
    entries = [entry(seq) for seq in range(1, 601)]
    assert verify(Listed(entries, tiles_of=entries)).tiles == 2


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    verify(log(SPAN + 600), watch=lambda at, of: told.append((at, of)))
    assert told == [(SPAN, SPAN + 600), (SPAN + 600, SPAN + 600)]


@pytest.mark.parametrize("seq", [1, 255, 256, 257, 600])
def test_a_changed_leaf_is_named_by_its_number_where_tiles_are_shown(seq: int) -> None:
    entries = [entry(number) for number in range(1, 601)]
    source = Listed(entries, tiles_of=list(entries))
    source.entries[seq - 1] = entry(seq, actor={"id": "mallory", "kind": "user"})
    said = refused(source, "ledger.altered")
    assert f"entry {seq})" in said if seq <= 512 else "entries 513 to 600" in said


def test_a_changed_leaf_behind_a_socket_is_noticed_by_the_root() -> None:
    source = log(600)
    source.entries[300] = entry(301, host="other")
    assert "entries 1 to 600" in refused(source, "ledger.altered")


@pytest.mark.parametrize(
    ("columns", "deep", "name"),
    [
        ({"id": "e9999"}, False, "id"),
        ({"type": "test.other"}, False, "type"),
        ({"subject": "another"}, True, "subject"),
        ({"ts_ms": 5}, True, "time"),
    ],
)
def test_a_column_that_says_something_else_than_its_leaf(columns: dict[str, Any], deep: bool, name: str) -> None:
    source = log(9)
    source.entries[4] = changed(source.entries[4], **columns)
    said = refused(source, "ledger.altered", deep=deep)
    assert f"the column with its {name}" in said and "entry 5)" in said


@pytest.mark.parametrize(
    "columns", [{"id": 7}, {"type": 7}, {"leaf": 7}, {"ts_ms": 1.5}, {"ts_ms": "x"}, {"ts_ms": 2**63 - 1}, {"ts_ms": -(2**63)}]
)
def test_a_column_of_another_type_is_refused_and_not_a_crash(columns: dict[str, Any]) -> None:
    source = log(9)
    source.entries[4] = changed(source.entries[4], **columns)
    assert "entry 5)" in refused(source, "ledger.altered", deep=True)


def test_an_entry_that_nobody_signed_for_is_named_also_behind_a_gap(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.close()
    db = sqlite3.connect(tmp_path / "ledger.db")
    db.execute("INSERT INTO entries VALUES (700, 'planted', 'test.noted', 's', 1, x'7b7d', NULL)")
    db.commit()
    db.close()
    with open_offline(tmp_path / "ledger.db") as ledger:
        assert "entry 700 is in the ledger" in refused(StoreSource(ledger), "ledger.altered")


def test_an_entry_that_was_taken_out_or_put_in() -> None:
    source = log(9)
    del source.entries[3]
    assert "entry 4 is missing: number 5" in refused(source, "ledger.altered")
    source = log(9)
    source.entries.append(entry(10))
    assert "entry 10" in refused(source, "ledger.altered")


def test_entries_missing_at_the_end() -> None:
    source = log(300)
    del source.entries[280:]
    said = refused(source, "ledger.truncated")
    assert "300 entries" in said and "280" in said


def test_a_log_that_grows_while_it_is_read_is_sound() -> None:
    source = log(20)
    old = source.note
    source.entries.append(entry(21))
    heads = iter([old, source.signed(21)])
    head = source.head
    source.head = lambda: changed(head(), checkpoint=next(heads))  # type: ignore[method-assign, type-var]
    assert verify(source).size == 20


@pytest.mark.parametrize("data", [b"", b"{}", b"[", leaf(5)[:-1], leaf(5).replace(b'"v":1', b'"v":1.5')])
def test_a_leaf_that_is_none(data: bytes) -> None:
    whole = log(9)
    whole.entries[4] = changed(whole.entries[4], leaf=data)
    source = Listed(whole.entries)
    assert "entry 5)" in refused(source, "ledger.altered", deep=True)


# keys


def test_another_key_than_the_logs_own_is_no_signature() -> None:
    refused(log(5, keys=(key(1),), signers=(key(2),)), "ledger.unsigned")
    source = log(5)
    source.note = source.note[:-10] + b"AAAAAAAA\n\n"
    refused(source, "ledger.unsigned")
    refused(log(5, keys=(key(1),)), "ledger.unsigned", pins=[key(2).verifier])


def test_a_pinned_key_is_said_to_be_one() -> None:
    assert verify(log(5), pins=[key(1).verifier]).pinned


def rotation(sign: Callable[[], StoredEntry], **more: Any) -> Listed:
    entries = [entry(seq) for seq in range(1, 12)]
    entries[5] = sign()
    return Listed(entries, (key(2), key(1)), **more)


def test_a_changed_key_is_followed_from_the_old_one() -> None:
    source = rotation(lambda: rotated(6, key(1), key(2)))
    found = verify(source, pins=[key(1).verifier], deep=True)
    assert found.rotations == 1 and found.signed_by == (key(2).verifier.text,)
    assert verify(source).rotations == 1
    both = rotation(lambda: rotated(6, key(1), key(2)), signers=(key(2), key(1)))
    assert len(verify(both).signed_by) == 2


def test_a_key_that_the_old_one_did_not_sign_for_is_not_believed() -> None:
    source = rotation(lambda: rotated(6, key(1), key(2), signers=(key(3), key(2))))
    assert "not signed by both keys" in refused(source, "ledger.altered")
    refused(rotation(lambda: rotated(6, key(3), key(2))), "ledger.unsigned", pins=[key(1).verifier])
    refused(rotation(lambda: entry(6)), "ledger.unsigned")
    refused(rotation(lambda: entry(6, type="key.rotated")), "ledger.altered")


def test_a_new_key_does_not_vouch_for_an_older_one() -> None:
    source = rotation(lambda: rotated(6, key(1), key(2)), signers=(key(1),))
    refused(source, "ledger.unsigned", pins=[key(2).verifier])


def test_a_checkpoint_from_before_a_rotation_asks_for_the_key_of_then() -> None:
    source, before = rotation(lambda: rotated(6, key(1), key(2))), log(5).checkpoint(5)
    for more in ({"kept": [before]}, {"beside": [before]}):
        said = refused(source, "ledger.unsigned", pins=[key(2).verifier], **more)
        assert key(1).verifier.text in said and "an earlier key" in said and "--key" in said
        assert verify(source, pins=[key(2).verifier, key(1).verifier], **more).pinned
    assert "an earlier key" not in refused(source, "ledger.unsigned", kept=[log(5, keys=(key(3),)).checkpoint(5)])


# checkpoints that were kept


def test_a_log_continues_what_was_kept_of_it() -> None:
    source = log(600)
    kept = [source.checkpoint(size) for size in (1, 255, 256, 600)]
    found = verify(source, kept=kept, beside=[source.checkpoint(17, "beside")])
    assert [one.size for one in found.continues] == [1, 255, 256, 600]
    assert [(one.place, one.size) for one in found.beside] == [("beside", 17)]


def test_a_later_checkpoint_shows_that_an_older_state_was_put_back() -> None:
    said = refused(log(300), "ledger.rolled-back", kept=[log(301).checkpoint(301)])
    assert "kept.note was signed for 301 entries" in said and "only 300" in said
    refused(log(300), "ledger.rolled-back", beside=[log(301).checkpoint(301)])


@pytest.mark.parametrize(("size", "code"), [(300, "ledger.forked"), (299, "ledger.rewritten"), (2, "ledger.rewritten")])
def test_another_history_with_the_logs_own_key(size: int, code: str) -> None:
    before = log(300)
    entries = list(before.entries)
    entries[1] = entry(2, host="another")
    after = Listed(entries)
    verify(after)
    assert f"{size} entries" in refused(after, code, kept=[before.checkpoint(size)])


def test_a_checkpoint_that_the_log_did_not_sign_says_nothing_against_it() -> None:
    other = log(9, keys=(key(2),))
    said = refused(log(5), "ledger.unsigned", kept=[other.checkpoint(9, "rumour.note")])
    assert "rumour.note" in said
    refused(log(5), "ledger.unsigned", kept=[Kept("rubbish", b"rubbish")])


def test_a_checkpoint_of_another_log_is_named_or_passed_over() -> None:
    theirs = log(9, keys=(key(1, "host2/ledger"),)).checkpoint(9)
    with pytest.raises(SteadError) as raised:
        verify(log(5), kept=[theirs])
    assert raised.value.problem.code == "ledger.other-log" and raised.value.problem.exit_code == 2
    assert verify(log(5), beside=[theirs, Kept("rubbish", b"rubbish")]).beside == ()


def test_a_checkpoint_by_an_old_key_counts_where_the_chain_leads_to_it() -> None:
    entries = [entry(seq) for seq in range(1, 6)]
    early = Listed(entries).checkpoint(5)
    late = Listed([*entries, rotated(6, key(1), key(2))], (key(2), key(1)))
    assert verify(late, kept=[early]).continues[0].size == 5


# witnesses


def witnessed(size: int, cosigned: int, *, signer: SigningKey = WITNESS) -> Listed:
    """A log whose witness has cosigned the first so many of its entries."""
    source = log(size, witnesses=WITNESSES)
    note = parse_note(log(cosigned).signed(cosigned))
    source.cosigned = format_note(Note(note.text, (*note.signatures, cosign(note.text, signer, 1_700_000_000))))
    return source


def test_what_witnesses_cosigned_is_continued() -> None:
    found = verify(witnessed(300, 200))
    assert found.witnessed == 200 and verify(log(300)).witnessed == 0
    assert [(one.place, one.size) for one in found.beside] == [("what eye cosigned", 200)]
    trusted = policy_of([key(1).verifier], WITNESSES)
    assert verify(witnessed(300, 200), policy=trusted).pinned
    assert verify(log(300)).beside == verify(log(300), policy=policy_of([key(1).verifier])).beside == ()


def test_a_witness_that_saw_more_shows_that_an_older_state_was_put_back() -> None:
    assert "what eye cosigned was signed for 301" in refused(witnessed(300, 301), "ledger.rolled-back")


def test_cosignatures_that_are_none_are_not_passed_off_as_such() -> None:
    refused(witnessed(300, 200, signer=new_signing_key("eye/witness", COSIGNATURE, b"x" * 32)), "ledger.unsigned")
    source = log(300, witnesses=WITNESSES)
    source.cosigned = source.signed(200)
    refused(source, "ledger.unsigned")


def test_the_readers_own_policy_is_what_counts() -> None:
    trusted = policy_of([key(1).verifier], WITNESSES)
    assert "nobody has cosigned" in refused(log(300), "ledger.unsigned", policy=trusted)
    refused(witnessed(300, 200), "ledger.unsigned", policy=policy_of([key(2).verifier], WITNESSES))
    other = WITNESSES._replace(witnesses=(WitnessLine("eye", new_signing_key("e", COSIGNATURE, b"y" * 32).verifier),))
    refused(witnessed(300, 200), "ledger.unsigned", policy=policy_of([key(1).verifier], other))


# blobs


def test_blobs_are_what_their_leaves_have_the_hash_of() -> None:
    entries = [entry(seq, blob=blob_ref(SALT, b"%d" % seq)) if seq % 2 else entry(seq) for seq in range(1, 31)]
    blobs = {seq: (SALT, b"%d" % seq) for seq in range(1, 31, 2)}
    found: Verification = verify(Listed(entries, blobs=blobs), deep=True)
    assert (found.blobs, found.erased) == (15, 0)
    assert "entry 7)" in refused(Listed(entries, blobs={**blobs, 7: (SALT, b"8")}), "ledger.altered", deep=True)
    assert "entry 7)" in refused(Listed(entries, blobs={**blobs, 7: (b"t" * 16, b"7")}), "ledger.altered", deep=True)
    assert "entry 8)" in refused(Listed(entries, blobs={**blobs, 8: (SALT, b"8")}), "ledger.altered", deep=True)
