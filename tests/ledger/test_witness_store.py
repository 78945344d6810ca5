from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stead.ledger import tables
from stead.ledger.key_files import KeyFiles
from stead.ledger.witness_store import Cosigner, published, witness_key
from stead.model.errors import SteadError
from stead.tlog.keys import COSIGNATURE, ED25519, new_signing_key
from stead.tlog.note import Note, parse_note, verified
from stead.tlog.witness import SIZE_TYPE, cosignatures
from tests.ledger.witnessing import LOG, WITNESS, Log, Rows

NOW_S = 1_790_000_000
KNOWN = {LOG.name: (LOG.verifier,)}


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def cosigner(rows: Rows) -> Cosigner:
    return Cosigner(rows, KNOWN, WITNESS)


async def test_what_it_cosigned_is_kept_before_the_cosignature_leaves(cosigner: Cosigner, rows: Rows) -> None:
    log = Log().grow(3)
    reply, refused = await cosigner.answer(log.request(0), NOW_S)
    assert (reply.status, refused) == (200, None)
    (line,) = cosignatures(log.text, reply.body, [WITNESS.verifier])
    assert [one.time_s for one in verified(Note(log.text, (line,)), [WITNESS.verifier])] == [NOW_S]
    kept = rows.kept_checkpoint("witnessed", LOG.name)
    assert kept == (3, log.note)
    reply, _ = await cosigner.answer(log.grow(5).request(3), NOW_S)
    assert reply.status == 200 and rows.kept_checkpoint("witnessed", LOG.name) == (8, log.note)


async def test_a_store_that_can_not_write_cosigns_nothing(cosigner: Cosigner, rows: Rows) -> None:
    rows.fails = SteadError("the disk is full", code="ledger.full")
    with pytest.raises(SteadError, match="full"):
        await cosigner.answer(Log().grow(3).request(0), NOW_S)
    rows.fails = None
    assert rows.kept_checkpoint("witnessed", LOG.name) is None
    assert (await cosigner.answer(Log().grow(3).request(0), NOW_S))[0].status == 200


async def test_two_requests_at_once_never_roll_a_log_back(cosigner: Cosigner, rows: Rows) -> None:
    log = Log().grow(2)
    await cosigner.answer(log.request(0), NOW_S)
    small, large = log.grow(1).request(2), log.grow(9).request(2)
    statuses = [reply.status for reply, _ in await asyncio.gather(*(cosigner.answer(b, NOW_S) for b in (large, small, large)))]
    assert statuses == [200, 409, 409]
    assert rows.kept_checkpoint("witnessed", LOG.name) == (12, log.note)


async def test_a_row_that_changed_meanwhile_is_not_overwritten(cosigner: Cosigner, rows: Rows) -> None:
    log = Log().grow(2)
    before, seen = rows.kept_checkpoint, []

    def stale(role: str, name: str) -> tuple[int, bytes] | None:
        seen.append(name)
        return None

    await cosigner.answer(log.request(0), NOW_S)
    rows.kept_checkpoint = stale  # type: ignore[method-assign]
    with pytest.raises(SteadError, match="at once"):
        await cosigner.answer(Log().grow(1).request(0), NOW_S)
    rows.kept_checkpoint = before  # type: ignore[method-assign]
    assert seen and rows.kept_checkpoint("witnessed", LOG.name) == (2, log.note)


async def test_each_way_to_lose_history_is_refused_and_named(cosigner: Cosigner, rows: Rows) -> None:
    true = Log().grow(6)
    await cosigner.answer(true.request(0), NOW_S)
    kept = rows.kept_checkpoint("witnessed", LOG.name)
    fork = Log(true.leaves[:4]).grow(2, "fork")
    cut = Log(true.leaves[:4])
    rewritten = Log(["changed", *true.leaves[1:]]).grow(2)
    for log, old, status, reason in (
        (fork, 6, 409, "forked"),
        (fork, 0, 409, "forked"),
        (cut, 4, 409, "rolled-back"),
        (cut, 0, 409, "rolled-back"),
        (rewritten, 6, 422, "rewritten"),
    ):
        reply, refused = await cosigner.answer(log.request(old), NOW_S)
        assert (reply.status, refused and refused.reason) == (status, reason)
        assert refused is not None and refused.body["held_size"] == 6 and refused.body["size"] == log.size
        assert refused.notes["cosigned"] == true.note.decode() and log.note.decode() in refused.notes["request"]
    assert rows.kept_checkpoint("witnessed", LOG.name) == kept
    reply, refused = await cosigner.answer(fork.request(6), NOW_S)
    assert reply.content_type != SIZE_TYPE, "asking again can't help"


async def test_an_honest_log_that_is_behind_is_told_the_size_and_nothing_else(cosigner: Cosigner) -> None:
    log = Log().grow(6)
    await cosigner.answer(log.request(0), NOW_S)
    reply, refused = await cosigner.answer(log.grow(1).request(3), NOW_S)
    assert (reply.status, reply.body, refused) == (409, b"6\n", None)


async def test_strangers_and_rubbish_touch_nothing(cosigner: Cosigner, rows: Rows) -> None:
    stranger = Log(key=new_signing_key("other/ledger", ED25519, b"o" * 32)).grow(1)
    forger = Log(key=new_signing_key(LOG.name, ED25519, b"f" * 32)).grow(1)
    bodies = {stranger.request(0): 404, forger.request(0): 403, b"": 400, b"old 0\n\n": 400, b"old 0\n\nbox/ledger\n": 400}
    for body, status in bodies.items():
        reply, refused = await cosigner.answer(body, NOW_S)
        assert (reply.status, refused) == (status, None)
    assert rows.commits == 0


async def test_a_row_that_can_not_be_read_is_said(cosigner: Cosigner, rows: Rows) -> None:
    tables.put_checkpoint(rows.db, "witnessed", LOG.name, 3, b"rubbish")
    with pytest.raises(SteadError, match=r"box/ledger can't be read"):
        await cosigner.answer(Log().grow(3).request(0), NOW_S)


async def test_a_thousand_checkpoints_without_one_unexplained_refusal(cosigner: Cosigner) -> None:
    """Our log and our witness, 1,000 times: growing by none to many, now and then believing an older size."""
    log, held, answers = Log().grow(1), 0, {200: 0, 409: 0}
    for number in range(1000):
        if number % 10:
            log.grow(number % 7)
        old = 0 if number % 50 == 49 else held
        reply, refused = await cosigner.answer(log.request(old), NOW_S + number)
        answers[reply.status] += 1
        assert refused is None
        if reply.status == 409:
            assert old != held and reply.body == f"{held}\n".encode()
        else:
            assert cosignatures(log.text, reply.body, [WITNESS.verifier])
            held = log.size
    assert answers == {200: 980, 409: 20}
    assert parse_note(log.note).text == log.text


def test_the_witness_key_is_its_own_and_made_once(tmp_path: Path) -> None:
    files = KeyFiles(tmp_path / "keys")
    assert published(files.directory) == []
    key = witness_key(files, "a host+name", b"r" * 40)
    assert (key.name, key.kind) == ("a-host-name/witness", COSIGNATURE)
    assert witness_key(files, "renamed", b"s" * 40) == key and published(files.directory) == [key.verifier]
    assert (tmp_path / "keys" / f"{key.verifier.id.hex()}.key").stat().st_mode & 0o777 == 0o600
