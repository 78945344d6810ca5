"""The one way into the record: durable first, then told; nothing that must be recorded is told without its entry."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stead.flow import receipt, record, runs
from stead.model.change import Verdict
from stead.model.errors import SteadError
from stead.model.find import Finding
from stead.model.messages import Event
from stead.model.record import must_be_recorded
from tests.flow.bench import Bench
from tests.flow.kit import ANN, decision, dial_step, proposal
from tests.flow.road import Lane

MUST = (
    "infrastructure.host.registered",
    "infrastructure.update.completed",
    "metrics.action_recommended",
    "governance.policy.check",
)


@pytest.mark.parametrize("topic", MUST)
def test_such_an_event_can_not_even_be_made_without_its_entry(topic: str) -> None:
    assert must_be_recorded(topic)
    with pytest.raises(ValueError, match="without its entry"):
        Event(topic, "x", 1, 0)
    assert Event(topic, "x", 1, 7).seq == 7


@pytest.mark.parametrize("topic", ["samples", "metrics.infra.cpu_utilization", "finding.changed", "snapshots.taken"])
def test_samples_are_told_without_an_entry(topic: str) -> None:
    assert not must_be_recorded(topic) and Event(topic, "x", 1, 0).seq == 0


async def test_each_event_has_the_number_of_the_entry_that_says_it(bench: Bench) -> None:
    stamp = bench.hands.writer.stamp()
    finding = Finding("finding-1", "f", "band", "m", "host", "warning", "t", 1.0, 0.9, "cores", 1, 2, 3)
    run, entries = runs.start(proposal((dial_step(),)), decision("deny"), stamp)
    site = record.entry("infrastructure.update.proposed", stamp, {"package": "openssl"}, subject="host1")
    checked = record.policy_checked("run-1", "ask", ("r",), "p", stamp)
    await bench.hands.keeper.commit([record.finding_opened(finding, stamp), site], findings=[finding])
    await bench.hands.keeper.commit([*entries, checked], runs=[run])
    stored = {entry.seq: entry for entry in bench.ledger.entries(100)}
    told = [(event.type, stored[event.seq].type, event.subject) for event in bench.bus.events]
    assert told == [
        ("finding.opened", "finding.opened", "finding-1"),
        ("infrastructure.update.proposed", "infrastructure.update.proposed", "host1"),
        ("metrics.action_recommended", "metrics.action_recommended", "run-1"),
        ("governance.policy.check", "decision.made", "run-1"),
        ("run.refused", "run.refused", "run-1"),
        ("governance.policy.check", "governance.policy.check", "run-1"),
    ]
    assert bench.bus.events[0].finding == finding and bench.bus.events[2].run == run


async def test_what_is_not_recorded_is_not_told(bench: Bench) -> None:
    run, entries = runs.start(proposal((dial_step(),)), decision(), bench.hands.writer.stamp())

    async def full(*_: Any, **__: Any) -> None:
        raise SteadError("the disk is full", code="ledger.full")

    bench.ledger.commit = full  # type: ignore[assignment,method-assign]
    with pytest.raises(SteadError):
        await bench.hands.keeper.commit(entries, runs=[run])
    assert bench.bus.events == []


async def test_a_receipt_goes_with_the_move_it_is_due_for(bench: Bench) -> None:
    run = await bench.verdict(await bench.hands.run(await bench.given(dial_step(lease_s=60.0))), "helped")
    entries = bench.ledger.entries(100, run.id)
    assert [one.type for one in entries[:3]] == ["receipt.issued", "run.held", "verdict.made"]
    body = json.loads(entries[0].leaf)["body"]
    assert body["cost"]["fsyncs"] == bench.ledger.commits(run.id)
    assert body["steps"][0]["receipts"][0]["operations"] == ["turn a to 9"]


async def test_two_runs_due_in_one_commit_each_get_a_receipt_whose_hashes_hold(bench: Bench) -> None:
    moved = []
    for name, level in (("a", 1), ("b", 2)):
        run = await bench.hands.run(await bench.given(dial_step(name, level, lease_s=60.0), id=f"run-{name}"))
        moved.append(runs.verified(run, Verdict("helped", "because"), bench.hands.writer.stamp()))
    entries = [one for _, written in moved for one in written]
    await bench.hands.keeper.commit(entries, runs=[run for run, _ in moved])
    stored = {one.id: one for one in bench.ledger.entries(100)}
    given = {one.subject: json.loads(one.leaf)["body"] for one in stored.values() if one.type == receipt.ISSUED}
    assert len(moved) == 2 and given.keys() == {run.id for run, _ in moved}
    for run, written in moved:
        bound = {one["id"]: one["leaf"] for one in given[run.id]["entries"]}
        assert bound.keys() >= {one.id for one in written}
        assert bound == {one: receipt.hashed(stored[one].leaf) for one in bound}
        assert {stored[one].subject for one in bound} == {run.id}


async def test_a_receipt_counts_the_entries_that_were_too_many_to_look_at(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await bench.hands.run(await bench.given(dial_step(lease_s=60.0)))
    known = len(bench.ledger.entries(100, run.id, receipt.BINDS))
    monkeypatch.setattr(receipt, "STORED_MAX", 2)
    await bench.verdict(run, "helped")
    body = json.loads(bench.ledger.entries(1, run.id, (receipt.ISSUED,))[0].leaf)["body"]
    assert known > 2 and body["entries_left_out"] == known - 2
    assert [one["type"] for one in body["entries"]][-2:] == ["verdict.made", "run.held"] and len(body["entries"]) == 4


async def test_a_road_recommends_and_records_in_one_transaction_and_holds_are_recorded(tmp_path: Any) -> None:
    lane = Lane(tmp_path)
    await lane.heal()
    (run,) = lane.runs()
    assert run.state == "held"
    await lane.orders.undo(run.id, ANN)
    await lane.orders.lift("turn", "workload:a", ANN)
    entries = {entry.type: entry for entry in lane.ledger.entries(200)}
    by_seq = {entry.seq: entry for entry in lane.ledger.entries(200)}
    events = lane.road.place.bus.events  # type: ignore[attr-defined]
    recommended = [event for event in events if event.type == "metrics.action_recommended"]
    assert [by_seq[event.seq].type for event in recommended] == ["metrics.action_recommended"] * len(recommended) and recommended
    assert all(by_seq[event.seq].type == "decision.made" for event in events if event.type == "governance.policy.check")
    for type_ in ("hold.made", "hold.lifted"):
        leaf = json.loads(entries[type_].leaf)
        assert (
            leaf["actor"]["id"] == ANN.id
            and leaf["body"]["playbook"] == "turn"
            and entries[type_].subject.startswith("hold:turn:")
        )
    lane.ledger.close()
