"""Files through the whole of act and undo, on a real file system: many steps, another hand, and two rules that want the same."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stead.actuators import files
from stead.flow import runs
from stead.flow.act import Hands
from stead.flow.plan import plan
from stead.flow.propose import BoundSetting, Wish
from stead.ledger.store import LedgerStore
from stead.model.catalog import PlaybookDefinition, SettingTemplate
from stead.model.change import Run, Target, Verdict
from stead.model.policy import Policy
from stead.testing import FakeClock
from tests.files.kit import Place
from tests.flow.kit import ANN, POLICY_ACTOR, counter, decision

NAMES = ("a.log.1", "b.log.1", "c.log.1")


class Cleaning:
    """Three old logs, and stead's hands over them."""

    def __init__(self, tmp_path: Path) -> None:
        self.place, self.clock = Place(tmp_path), FakeClock()
        for name in NAMES:
            self.place.file(f"/var/log/{name}", name.encode() * 1000)
        self.actuators: dict[str, Any] = {"files": files.actuator(self.place.cleaner)}
        self.ledger = LedgerStore.open(tmp_path / "ledger.db", "h", self.clock)
        self.hands = Hands(self.place.host, self.actuators, self.ledger, None, self.clock, Policy(), lambda: False)

    def target(self, name: str, *, inode: bool = True) -> Target:
        return self.place.target(f"/var/log/{name}", inode=inode)

    async def begun(self, setting: SettingTemplate, *targets: Target, name: str = "run") -> Run:
        bound = tuple(BoundSetting(setting, target, one_of=True) for target in targets)
        wish = Wish(PlaybookDefinition(name, settings=(setting,)), None, POLICY_ACTOR, bound)
        ids = counter(name)
        proposal = await plan(wish, self.actuators, self.place.host, lambda m, s: None, Policy(), self.clock.now(), ids)
        assert len(proposal.steps) == len(targets), proposal.impossible
        run, entries = runs.start(proposal, decision(), self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[run])
        return await self.hands.run(run)

    def logs(self) -> set[str]:
        return set(os.listdir(self.place.root / "var/log"))

    def outcomes(self, run: Run, way: str) -> list[str]:
        return [one.outcome for one in run.receipts if one.direction == way]


QUARANTINE = SettingTemplate("files", {"place": "quarantine"})
COMPRESS = SettingTemplate("files", {"place": "compressed"})
PURGE = SettingTemplate("files", absent=True)


@pytest.fixture
async def cleaning(tmp_path: Path) -> AsyncIterator[Cleaning]:
    made = Cleaning(tmp_path)
    yield made
    made.ledger.close()


@pytest.mark.parametrize("setting", [QUARANTINE, COMPRESS], ids=["quarantine", "compress"])
async def test_all_go_and_all_come_back(cleaning: Cleaning, setting: SettingTemplate) -> None:
    inode = setting is QUARANTINE
    run = await cleaning.begun(setting, *(cleaning.target(name, inode=inode) for name in NAMES))
    assert run.state == "verifying" and cleaning.outcomes(run, "forward") == ["done"] * 3
    assert not cleaning.logs() & set(NAMES) and await cleaning.hands.met(run) == [True] * 3
    undone = await cleaning.hands.undo(run, "person", ANN)
    assert undone.state == "undone" and cleaning.logs() == set(NAMES) and cleaning.outcomes(undone, "undo") == ["done"] * 3


async def test_two_rules_that_want_the_same_file(cleaning: Cleaning) -> None:
    target = cleaning.target("a.log.1")
    first = await cleaning.begun(QUARANTINE, target, name="first")
    second = await cleaning.begun(PURGE, target, name="second")
    assert (first.state, second.state) == ("verifying", "refused")
    assert f"run {first.id} holds files of file:/var/log/a.log.1 already" in second.reason
    assert cleaning.place.place(target) == "quarantine"


async def test_one_that_another_run_has_taken_is_gone_for_the_next(cleaning: Cleaning) -> None:
    weak = cleaning.target("a.log.1", inode=False)
    taken = await cleaning.begun(QUARANTINE, cleaning.target("a.log.1"), name="first")
    setting = (BoundSetting(COMPRESS, weak, one_of=True),)
    wish = Wish(PlaybookDefinition("second", settings=(COMPRESS,)), None, POLICY_ACTOR, setting)
    made = await plan(wish, cleaning.actuators, cleaning.place.host, lambda m, s: None, Policy(), cleaning.clock.now(), counter())
    assert made.impossible.startswith("gone: ") and taken.state == "verifying"


async def test_when_one_fails_the_others_come_back(cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [cleaning.target(name) for name in NAMES]
    real = cleaning.place.cleaner.move

    def move(target: Target, *rest: Any, **more: Any) -> None:
        if target == targets[2]:
            raise PermissionError(1, "Operation not permitted")
        real(target, *rest, **more)

    monkeypatch.setattr(cleaning.place.cleaner, "move", move)
    run = await cleaning.begun(QUARANTINE, *targets)
    assert run.state == "failed" and "Operation not permitted" in run.reason
    assert cleaning.logs() == set(NAMES) and cleaning.place.names() == set()


async def test_what_somebody_put_at_the_path_is_not_replaced_and_the_others_come_back(cleaning: Cleaning) -> None:
    run = await cleaning.begun(QUARANTINE, *(cleaning.target(name) for name in NAMES))
    cleaning.place.file("/var/log/b.log.1", b"another")
    ended = await cleaning.hands.undo(run, "person", ANN)
    assert ended.state == "undo_failed" and "something else is at its path by now" in ended.reason
    assert cleaning.logs() == set(NAMES) and (cleaning.place.root / "var/log/b.log.1").read_bytes() == b"another"


async def test_what_somebody_took_out_of_quarantine_is_moot(cleaning: Cleaning) -> None:
    run = await cleaning.begun(QUARANTINE, *(cleaning.target(name) for name in NAMES))
    for name in cleaning.place.names():
        os.unlink(cleaning.place.root / "var/.stead-quarantine" / name)
    assert (await cleaning.hands.undo(run, "person", ANN)).state == "moot"


async def test_a_purge_has_no_way_back_and_says_so(cleaning: Cleaning) -> None:
    moved = await cleaning.begun(QUARANTINE, cleaning.target("a.log.1"), cleaning.target("b.log.1"), name="first")
    targets = [step.target for step in moved.proposal.steps]
    verified, entries = runs.verified(moved, Verdict("helped", ""), cleaning.hands.writer.stamp())
    await cleaning.ledger.commit(entries, runs=[verified])
    assert verified.state == "kept"
    purged = await cleaning.begun(PURGE, *targets, name="second")
    assert purged.state == "verifying" and cleaning.place.names() == set()
    assert [note for one in purged.receipts for note in one.operations if "by statvfs" in note]
    assert (await cleaning.hands.undo(verified, "person", ANN)).state == "moot", "they are gone"
    assert "can't be brought back" in runs.cannot_undo(purged)


async def test_one_that_went_meanwhile_is_no_failure_of_a_purge(cleaning: Cleaning) -> None:
    moved = await cleaning.begun(QUARANTINE, cleaning.target("a.log.1"), cleaning.target("b.log.1"), name="first")
    targets = [step.target for step in moved.proposal.steps]
    verified, entries = runs.verified(moved, Verdict("helped", ""), cleaning.hands.writer.stamp())
    await cleaning.ledger.commit(entries, runs=[verified])
    real = cleaning.hands._drifted

    async def later(run: Run) -> Run | None:
        found = await real(run)
        for name in [name for name in cleaning.place.names() if not name.endswith(".json")][:1]:
            os.unlink(cleaning.place.root / "var/.stead-quarantine" / name)
        return found

    cleaning.hands._drifted = later  # type: ignore[method-assign]
    purged = await cleaning.begun(PURGE, *targets, name="second")
    assert purged.state == "verifying" and sorted(cleaning.outcomes(purged, "forward")) == ["already", "done"]
