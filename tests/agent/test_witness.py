from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.agent.witness import BEST, ROLE
from stead.ledger.standing import KEPT, STOPPED
from stead.model.config import Config, LedgerConfig, WitnessConfig
from stead.model.errors import SteadError
from stead.testing import FakeClock
from stead.tlog.note import parse_note
from stead.tlog.policy import check_checkpoint
from stead.tlog.witness import AddCheckpoint, format_request
from tests.agent.witnessing import Network, Place, World, change_a_leaf, cut, policy, remade, world

__all__ = ["world"]


async def test_a_checkpoint_is_cosigned_and_kept(world: World) -> None:
    box, eye, network = world
    await box.grow(3)
    await box.submit()
    kept = box.store.kept_checkpoint(ROLE, BEST)
    assert kept is not None and kept[0] == box.store.size == 3
    accepted = check_checkpoint(parse_note(kept[1]), policy(box))
    assert accepted.checkpoint.size == 3 and [name for name, _ in accepted.witnesses] == ["eye"]
    view = box.vouching.witnesses.view()
    assert (view.cosigned, view.quorum, view.witnesses[0].ok, view.witnesses[0].size) == (3, True, True, 3)
    assert [(one.name, one.ok) for one in box.vouching.stations()] == [("witness eye", True)]
    assert eye.store.size == 0, "a cosignature is no leaf"
    await box.grow(300)
    await box.submit()
    assert network.calls == 2 and box.vouching.witnesses.view().cosigned == 303
    box.reopened()
    assert box.code == "" and box.vouching.witnesses.view().cosigned == 303


async def test_a_size_that_was_forgotten_is_learnt(world: World) -> None:
    box, _, network = world
    await box.grow(5)
    await box.submit()
    await box.store.commit([], work=lambda db: db.execute("DELETE FROM checkpoints WHERE role = 'cosigned'"))
    await box.grow(2)
    await box.submit()
    assert network.calls == 3 and box.vouching.witnesses.view().cosigned == 7 and box.code == ""


async def test_a_witness_that_is_away_is_unknown_and_in_nobodys_way(world: World) -> None:
    box, _, network = world
    network.away.add("eye")
    await box.vouching.witnesses.begin()
    await box.grow(2)
    (station,) = box.vouching.stations()
    assert (station.ok, station.detail) == (None, "no answer within 3 s") and box.code == ""
    with pytest.raises(SteadError, match="no witness answered: eye: no answer"):
        await box.vouching.witnesses.submit()
    network.away.clear()
    assert (await box.vouching.witnesses.submit()).quorum


async def test_a_child_that_fails_is_said_and_stops_nothing(world: World) -> None:
    box, _, network = world
    network.broken = "not json"
    await box.grow(1)
    await box.vouching.witnesses.begin()
    (station,) = box.vouching.stations()
    assert station.ok is None and "Broken: by a test" in station.detail and box.code == ""


async def test_it_hands_in_what_moved_and_nothing_else(world: World) -> None:
    box, _, network = world
    await box.grow(1)
    task = asyncio.create_task(box.vouching.witnesses.run())
    try:
        while box.vouching.witnesses.view().cosigned != 1:
            await asyncio.sleep(0.01)
        calls = network.calls
        await asyncio.sleep(0.1)
        assert network.calls == calls
        await box.grow(1)
        while box.vouching.witnesses.view().cosigned != 2:
            await asyncio.sleep(0.01)
    finally:
        task.cancel()


async def test_a_restored_backup_signs_nothing(world: World) -> None:
    box, eye, _ = world
    await box.grow(4)
    await box.submit()
    box.close()
    shutil.copytree(box.folder, box.folder.with_name("backup"))
    box.open()
    await box.grow(3)
    await box.submit()
    box.close()
    shutil.rmtree(box.folder)
    shutil.copytree(box.folder.with_name("backup"), box.folder)
    box.open()
    assert box.code == "", "the whole state went back: only a witness can know"
    await box.vouching.witnesses.begin()
    assert box.code == "ledger.rolled-back"
    before = box.store.size, box.store.checkpoint
    with pytest.raises(SteadError, match=r"the witness eye holds.*signed for 7 entries.*only 4.*stead ledger renew"):
        await box.grow(1)
    assert (box.store.size, box.store.checkpoint) == before
    (station,) = box.vouching.stations()
    assert station.ok is False and "7 entries" in station.detail
    assert [body["reason"] for body in eye.refusals()] == ["rolled-back"] and eye.vouching.stations()[0].ok is False
    box.reopened()
    assert box.code == "ledger.rolled-back" and "only 4" in box.store.trouble, "also when the witness is away"


async def test_a_database_restored_alone_is_seen_without_a_witness(world: World) -> None:
    box, _, network = world
    network.away.add("eye")
    await box.grow(4)
    box.close()
    shutil.copy(box.folder / "ledger.db", box.folder / "older")
    box.open()
    await box.grow(2)
    box.close()
    (box.folder / "older").replace(box.folder / "ledger.db")
    box.open()
    assert box.code == "ledger.rolled-back" and KEPT in str(box.store.stopped)


async def test_rows_deleted_from_the_end_are_truncated(world: World) -> None:
    box, _, _ = world
    await box.grow(6)
    box.close()
    db = sqlite3.connect(box.folder / "ledger.db")
    db.execute("DELETE FROM entries WHERE seq > 4")
    db.commit()
    db.close()
    with pytest.raises(SteadError) as caught:
        box.open()
    assert caught.value.problem.code == "ledger.truncated" and "stead ledger renew" in caught.value.problem.fix
    shutil.rmtree(box.folder)
    box.open()


@pytest.mark.parametrize(("change", "local"), [(change_a_leaf, "ledger.forked"), (cut, "ledger.rolled-back")])
async def test_what_the_logs_own_key_signed_anew_is_found_beside_it(
    world: World, change: Callable[[Any], None], local: str
) -> None:
    box, _, _ = world
    await box.grow(6)
    remade(box, change)
    box.open()
    assert box.code == local


@pytest.mark.parametrize(
    ("change", "grown", "code", "reason"),
    [
        (change_a_leaf, 0, "ledger.forked", "forked"),
        (change_a_leaf, 2, "ledger.rewritten", "rewritten"),
        (cut, 0, "ledger.rolled-back", "rolled-back"),
        (cut, 2, "ledger.forked", "forked"),
        (cut, 5, "ledger.rewritten", "rewritten"),
    ],
)
async def test_what_the_logs_own_key_signed_anew_is_named_by_the_witness(
    world: World, change: Callable[[Any], None], grown: int, code: str, reason: str
) -> None:
    box, eye, network = world
    await box.grow(6)
    await box.submit()
    remade(box, change)
    (box.folder / KEPT).unlink()
    network.away.add("eye")
    box.open()
    await box.vouching.witnesses.begin()
    await box.grow(grown, "made up")
    assert box.code == "", "nobody who knows could be asked"
    network.away.clear()
    await box.submit()
    assert box.code == code
    assert [body["reason"] for body in eye.refusals()] == [reason]
    with pytest.raises(SteadError) as caught:
        await box.grow(1)
    assert caught.value.problem.code == code


async def test_two_copies_that_ran_apart_are_a_fork(world: World, tmp_path: Path) -> None:
    box, eye, network = world
    await box.grow(3)
    await box.submit()
    box.close()
    shutil.copytree(box.folder, tmp_path / "twin")
    box.open()
    twin = Place(tmp_path / "twin", "box", network, box.clock, box.config)
    await box.grow(2)
    await box.submit()
    await twin.grow(4, "elsewhere")
    await twin.submit()
    assert (box.code, twin.code) == ("", "ledger.forked"), "the first is the one that the witness knows"
    assert "two different ledgers" in str(twin.store.stopped) and "end the other copy" in str(twin.store.stopped)
    assert [body["reason"] for body in eye.refusals()] == ["rewritten"]
    twin.close()


async def test_with_require_nothing_is_recorded_before_a_witness_answered(world: World) -> None:
    box, _, network = world
    ledger = msgspec.structs.replace(box.config.ledger, require_witness_at_start=True)
    box.config = msgspec.structs.replace(box.config, ledger=ledger)
    network.away.add("eye")
    box.reopened()
    await box.vouching.witnesses.begin()
    assert box.code == "ledger.unwitnessed"
    with pytest.raises(SteadError, match="no witness has cosigned since the start"):
        await box.grow(1)
    task = asyncio.create_task(box.vouching.witnesses.run())
    network.away.clear()
    while box.code:
        await asyncio.sleep(0.01)
    await box.grow(1)
    task.cancel()


async def test_two_that_are_each_others_only_witness_start_at_once(tmp_path: Path) -> None:
    network, clock = Network(), FakeClock()
    names = ("box", "eye")
    pair = [Place(tmp_path / name, name, network, clock, Config()) for name in names]
    for place, other in (pair, pair[::-1]):
        (tmp_path / f"{place.name}.policy").write_text(
            f"witness w {other.vouching.door.cosigner.key.verifier.text} http://{other.name}\nquorum w\n"
        )
        path, logs = str(tmp_path / f"{place.name}.policy"), tuple(other.store.vkeys())
        ledger = LedgerConfig(policy=path, witness_interval_s=0.01, require_witness_at_start=True)
        place.config = Config(ledger=ledger, witness=WitnessConfig(logs=logs))
    network.away.update(names)
    for place in pair:
        await place.grow(3)
        place.reopened()
        await place.vouching.witnesses.begin()
        assert place.code == "ledger.unwitnessed"
    network.away.clear()
    tasks = [asyncio.create_task(place.vouching.witnesses.run()) for place in pair]
    async with asyncio.timeout(20):
        while any(place.code for place in pair):
            await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    for place in pair:
        await place.grow(1)
        assert place.vouching.door.view()[0].size == 3
        place.close()


async def test_what_is_refused_while_nothing_may_be_recorded_is_recorded_later(world: World) -> None:
    box, eye, _ = world
    await box.grow(3)
    older = box.store.checkpoint
    await box.grow(3)
    await box.submit()
    eye.store.stop(SteadError("wait", code="ledger.unwitnessed"), remembers=True)
    assert (await eye.vouching.door.answer(format_request(AddCheckpoint(0, (), older)))).status == 409
    assert eye.refusals() == [] and "witness of box/ledger" in [one.name for one in eye.vouching.stations()]
    with pytest.raises(SteadError):
        await eye.grow(1)
    eye.store.go_on()
    await eye.vouching.door.answer(b"")
    assert [one["reason"] for one in eye.refusals()] == ["rolled-back"]


async def test_while_it_waits_for_a_witness_one_that_knows_better_still_ends_the_signing(world: World, tmp_path: Path) -> None:
    """A new witness cosigns anything: it must not set free what another one, also heard at last, holds a later checkpoint of."""
    box, eye, network = world
    ear = Place(tmp_path / "ear", "ear", network, box.clock, eye.config)
    key = ear.vouching.door.cosigner.key.verifier
    with Path(box.config.ledger.policy).open("a") as file:
        file.write(f"witness ear {key.text} http://ear\n")
    ledger = msgspec.structs.replace(box.config.ledger, require_witness_at_start=True)
    box.config = msgspec.structs.replace(box.config, ledger=ledger)
    await box.grow(2)
    box.close()
    older = (box.folder / "ledger.db").read_bytes()
    box.open()
    network.away.add("ear")
    await box.grow(3)
    await box.submit()
    box.close()
    (box.folder / "ledger.db").write_bytes(older)
    (box.folder / KEPT).unlink()
    network.away.add("eye")
    box.open()
    await box.vouching.witnesses.begin()
    assert box.code == "ledger.unwitnessed"
    network.away.clear()
    task = asyncio.create_task(box.vouching.witnesses.run())
    while box.code == "ledger.unwitnessed":
        await asyncio.sleep(0.01)
    task.cancel()
    assert box.code == "ledger.rolled-back" and (box.folder / STOPPED).exists()
    ear.close()


async def test_what_a_witness_said_is_forgotten_when_it_is_trusted_no_more(world: World) -> None:
    box, _, _ = world
    await box.grow(2)
    await box.submit()
    remade(box, change_a_leaf)
    (box.folder / KEPT).unlink()
    box.open()
    await box.vouching.witnesses.begin()
    assert box.code == "ledger.forked" and (box.folder / STOPPED).exists()
    Path(box.config.ledger.policy).write_text("quorum none\n")
    box.reopened()
    assert box.code == ""
