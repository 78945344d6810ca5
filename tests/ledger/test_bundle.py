"""A proof as three files: which entry speaks for a thing, under which checkpoint, and that strangers' code is satisfied."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from stead.ledger.bundle import bundle, policy_of, speaks_for
from stead.ledger.read import LedgerReader
from stead.ledger.store import LedgerStore
from stead.ledger.stored import StoreSource, read_witnesses
from stead.ledger.witness import cosigned_note
from stead.model.change import Run
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.model.ledger_messages import SearchEntries
from stead.model.record import Entry
from stead.testing import FakeClock
from stead.tlog.cosignature import cosign
from stead.tlog.keys import COSIGNATURE, new_signing_key, parse_vkey
from stead.tlog.merkle import Unproven
from stead.tlog.note import parse_note
from stead.tlog.policy import TrustPolicy, WitnessLine, format_policy, parse_policy
from stead.tlog.proof import parse_proof, prove
from tests.cli.fake_agent import finding, run
from tests.ledger.kit import AGENT, NOW_MS, note

RUN, FINDING = "0199c7a0-1111-7000-8000-000000000001", "0199c7a0-0000-7000-8000-00000000000f"
WITNESS = new_signing_key("eye/witness", COSIGNATURE, b"w" * 32)
WITNESSES = TrustPolicy((), (WitnessLine("eye", WITNESS.verifier),), (), "eye")


def about(subject: str, type_: str, entry_id: str) -> Entry:
    return Entry(entry_id, type_, "host1", NOW_MS, AGENT, {"about": subject}, subject)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LedgerStore]:
    one = LedgerStore.open(tmp_path / "ledger.db", "host1", FakeClock())
    yield one
    one.close()


def fill(store: LedgerStore, entries: Sequence[Entry], runs: Sequence[Run] = (), findings: Sequence[Finding] = ()) -> None:
    asyncio.run(store.commit(entries, runs=runs, findings=findings))


def prepared(store: LedgerStore) -> None:
    """A finding and a run with a receipt, among other entries."""
    entries = [
        note(),
        about(FINDING, "finding.opened", "0199c7a0-0001-7000-8000-aaaaaaaaaa01"),
        about(RUN, "proposal.made", "0199c7a0-1111-7000-8000-aaaaaaaaaa02"),
        about(RUN, "receipt.issued", "0199c7a0-1112-7000-8000-aaaaaaaaaa03"),
        about(RUN, "run.held", "0199c7a0-1113-7000-8000-aaaaaaaaaa04"),
        about(FINDING, "finding.cleared", "0199c7a0-1114-7000-8000-aaaaaaaaaa05"),
        note(),
    ]
    fill(store, entries, [run("held", RUN)], [finding()])


@pytest.mark.parametrize(
    ("thing", "seq"),
    [
        (RUN, 4),
        (RUN[:13], 4),
        (FINDING, 4),
        (FINDING[-8:], 4),
        ("0199c7a0-1113-7000-8000-aaaaaaaaaa04", 5),
        ("0199c7a0-1114", 6),
        ("aaaaaaaaaa02", 3),
    ],
)
def test_a_thing_is_spoken_for_by_its_receipt_and_an_entry_by_itself(store: LedgerStore, thing: str, seq: int) -> None:
    prepared(store)
    assert speaks_for(store, thing).seq == seq


def test_without_a_receipt_the_newest_entry_speaks(store: LedgerStore) -> None:
    entries = [
        about(FINDING, "finding.opened", "e-1"),
        about(RUN, "proposal.made", "e-2"),
        about(RUN, "run.waiting", "e-3"),
        note(),
    ]
    fill(store, entries, [run("waiting", RUN)], [finding()])
    assert (speaks_for(store, RUN).seq, speaks_for(store, FINDING).seq) == (3, 1)


@pytest.mark.parametrize(("thing", "code"), [("nothing", "entry.unknown"), ("", "entry.unknown"), ("'; --", "entry.unknown")])
def test_an_unknown_thing(store: LedgerStore, thing: str, code: str) -> None:
    prepared(store)
    with pytest.raises(SteadError) as raised:
        speaks_for(store, thing)
    assert raised.value.problem.code == code and raised.value.problem.fix


def test_an_id_that_several_things_have(store: LedgerStore) -> None:
    prepared(store)
    with pytest.raises(SteadError) as raised:
        speaks_for(store, "0199c7a0")
    assert raised.value.problem.code == "entry.ambiguous"


def test_every_entry_is_proven_under_the_newest_checkpoint(store: LedgerStore) -> None:
    fill(store, [note(str(number)) for number in range(300)])
    policy = policy_of([parse_vkey(text) for text in store.vkeys()])
    for entry in store.leaves(0, 300)[::23]:
        made = bundle(store, entry.id, policy)
        proven = prove(made.leaf, parse_proof(made.proof), parse_policy(made.policy))
        assert (proven.origin, proven.index, proven.size, made.note) == ("host1/ledger", entry.seq - 1, 300, "")
        assert made.leaf == entry.leaf and made.index == entry.seq - 1
        with pytest.raises(Unproven):
            prove(made.leaf + b" ", parse_proof(made.proof), parse_policy(made.policy))


def cosigned(store: LedgerStore) -> bytes:
    return cosigned_note(store.checkpoint, None, [cosign(parse_note(store.checkpoint).text, WITNESS, 1_700_000_000)])


def test_a_policy_with_witnesses_gets_the_newest_cosigned_checkpoint_that_covers_the_entry(store: LedgerStore) -> None:
    fill(store, [note("first"), note("second")])
    seen = cosigned(store)
    fill(store, [note("third")])
    policy = policy_of([parse_vkey(text) for text in store.vkeys()], WITNESSES)
    covered, uncovered = (store.leaves(seq - 1, seq)[0].id for seq in (2, 3))
    made = bundle(store, covered, policy, seen)
    proven = prove(made.leaf, parse_proof(made.proof), parse_policy(made.policy))
    assert (proven.size, proven.witnesses, made.note) == (2, (("eye", 1_700_000_000),), "")
    late = bundle(store, uncovered, policy, seen)
    assert "no quorum of witnesses" in late.note
    with pytest.raises(Unproven, match="quorum"):
        prove(late.leaf, parse_proof(late.proof), parse_policy(late.policy))
    assert bundle(store, covered, policy, None).note
    forged = seen.replace(b"eye/witness ", b"eye/witness AAAA")
    assert bundle(store, covered, policy, forged).note


# the store as a source


def test_the_store_hands_over_what_a_verifier_and_a_proof_need(store: LedgerStore, tmp_path: Path) -> None:
    prepared(store)
    fill(store, [note(str(number), b"detail %d" % number) for number in range(40)])
    source = StoreSource(store, lambda: WITNESSES)
    head = source.head()
    assert (head.size, head.origin, head.checkpoint, head.vkeys) == (47, "host1/ledger", store.checkpoint, store.vkeys())
    assert [one.active for one in head.keys] == [True] and head.keys[0].place.startswith(str(tmp_path))
    policy = parse_policy(head.policy)
    assert [log.key.text for log in policy.logs] == list(head.vkeys) and policy.quorum == "eye"
    assert [one.seq for one in source.leaves(45, 99)] == [46, 47]
    found = source.blobs(0, 99)
    assert [one.seq for one in found.blobs] == list(range(8, 48)) and found.end >= 47
    assert source.tile(0, 0, 256) == b"" and source.tile(0, 0, 47) is None
    assert [one.type for one in source.find(SearchEntries(types="receipt.*")).entries] == ["receipt.issued"]
    assert source.bundle(RUN).index == 3


def test_large_blobs_come_in_several_answers(store: LedgerStore) -> None:
    fill(store, [note(str(number), b"x" * (1 << 20)) for number in range(9)])
    source = StoreSource(store)
    start, seen = 0, list[int]()
    while start < 9:
        answer = source.blobs(start, 9)
        assert answer.end > start
        seen += [one.seq for one in answer.blobs]
        start = answer.end
    assert seen == list(range(1, 10))


def test_a_damaged_key_or_checkpoint_is_an_altered_ledger(store: LedgerStore) -> None:
    fill(store, [note()])
    reader = LedgerReader(store.path)
    reader.checkpoint = b"rubbish"
    reader._db = store._db
    with pytest.raises(SteadError) as raised:
        StoreSource(reader).head()
    assert raised.value.problem.code == "ledger.altered"


def test_the_policy_that_the_configuration_names(tmp_path: Path) -> None:
    place = tmp_path / "witnesses.policy"
    place.write_bytes(format_policy(WITNESSES))
    assert read_witnesses(str(place)) == WITNESSES
    assert read_witnesses("").quorum == "none"
    place.write_text("nonsense\n")
    for path in (place, tmp_path / "none"):
        with pytest.raises(SteadError) as raised:
            read_witnesses(str(path))
        assert raised.value.problem.code == "config.witness" and raised.value.problem.where == str(path)


def test_a_bundle_travels_as_it_is(store: LedgerStore) -> None:
    prepared(store)
    made = StoreSource(store).bundle(RUN)
    assert msgspec.json.decode(msgspec.json.encode(made), type=type(made)) == made
