"""This host as a witness of others: what it keeps on record of those that it refused, and when it answers nobody."""

from __future__ import annotations

import msgspec

from stead.agent.witness_door import A_DAY, REFUSED
from stead.flow import record
from stead.model.errors import SteadError
from stead.model.witness_messages import AddCheckpoint
from stead.tlog.checkpoint import Checkpoint
from stead.tlog.note import format_note, sign_note
from stead.tlog.witness import AddCheckpoint as Request
from stead.tlog.witness import format_request
from tests.agent.witnessing import World, world

__all__ = ["world"]

ANN = record.AGENT


async def test_the_same_refusal_is_recorded_once_and_a_log_so_often_a_day(world: World) -> None:
    box, eye, _ = world
    await box.grow(20)
    requests = []
    door = eye.vouching.door
    for _ in range(A_DAY + 5):
        await box.grow(1)
        requests.append(format_request(Request(0, (), box.store.checkpoint)))
    await box.grow(1)
    await box.submit()
    for request in [requests[0]] * 3 + requests:
        assert (await door.answer(request)).status == 409
    assert len(eye.refusals()) == A_DAY
    assert "after 36 were cosigned" in eye.vouching.stations()[0].detail
    bulk = eye.store.bulk(eye.store.entries(1, "", (REFUSED,))[0].id)
    assert bulk is not None and set(msgspec.json.decode(bulk)) == {"cosigned", "request"}
    await box.grow(1)
    await box.submit()
    assert eye.vouching.stations() == ()


async def test_a_fork_is_recorded_however_many_old_checkpoints_came_before(world: World) -> None:
    """A log that is about to show another history could else fill the day's leaves with requests that prove nothing."""
    box, eye, _ = world
    door = eye.vouching.door
    old = []
    for _ in range(A_DAY):
        await box.grow(1)
        old.append(format_request(Request(0, (), box.store.checkpoint)))
    await box.grow(1)
    await box.submit()
    for request in old:
        assert (await door.answer(request)).status == 409
    held = box.store.size
    forged = Checkpoint(box.store.origin, held, b"f" * 32)
    note = format_note(sign_note(forged.text, box.store._ring.signers(0)))
    assert (await door.answer(format_request(Request(held, (), note)))).status == 409
    (newest,) = eye.store.entries(1, "", (REFUSED,))
    assert msgspec.json.decode(newest.leaf)["body"]["reason"] == "forked"


async def test_a_witness_whose_own_ledger_stopped_cosigns_nobody(world: World) -> None:
    box, eye, _ = world
    await box.grow(1)
    eye.store.stop(SteadError("put back", code="ledger.rolled-back"))
    assert (await eye.vouching.door.answer(b"old 0\n\nx")).status == 503
    await box.submit()
    assert box.vouching.stations()[0].ok is None and eye.store.kept_checkpoint("witnessed", "box/ledger") is None


async def test_a_log_that_nobody_named_is_not_cosigned(world: World) -> None:
    box, eye, _ = world
    await eye.grow(1)
    reply = await box.vouching._add_checkpoint(AddCheckpoint(b"old 0\n\n" + eye.store.checkpoint), ANN)
    assert reply.status == 404  # type: ignore[union-attr]
