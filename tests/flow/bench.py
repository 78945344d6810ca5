"""Hands on dials, with a real ledger: where acting and recovery are tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stead.flow import runs
from stead.flow.act import Hands
from stead.ledger.store import LedgerStore
from stead.model.change import Run, Step, Verdict
from stead.model.messages import Event
from stead.model.policy import Policy
from stead.testing import FakeClock, FakeHost
from tests.flow.kit import Dial, Dials, counter, decision, proposal


class Heard:
    """A bus that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def wants(self, topic: str) -> bool:
        return True

    def publish(self, event: Event) -> None:
        self.events.append(event)


class Killed(BaseException):
    """Stands for a crash at a mark, where a real kill would be too slow; tests/crash does the real ones."""


class Bench:
    """Hands on dials, with a real ledger."""

    def __init__(self, tmp_path: Path) -> None:
        self.path, self.clock, self.bus = tmp_path / "ledger.db", FakeClock(), Heard()
        self.dials = Dials(a=Dial(1, "red"), b=Dial(2), c=Dial(3))
        self.host, self.paused, self.crash_at = FakeHost(tmp_path, name="host1"), False, ""
        self.marks: list[str] = []
        self.new_id = counter("i")
        self.open()

    def open(self) -> None:
        self.ledger = LedgerStore.open(self.path, "host1", self.clock)
        self.hands = Hands(
            self.host,
            {"dial": self.dials},
            self.ledger,
            self.bus,
            self.clock,
            Policy(),
            self._paused,
            mark=self._mark,
            new_id=self.new_id,
        )

    def _paused(self) -> bool:
        return self.paused

    def _mark(self, name: str) -> None:
        self.marks.append(name)
        if name == self.crash_at:
            self.crash_at = ""
            raise Killed(name)

    def again(self) -> None:
        """As after a kill: the durable state, and nothing else."""
        self.ledger.close()
        self.open()

    async def given(self, *steps: Step, answer: str = "allow", **more: Any) -> Run:
        asked = {"approvals_needed": 1} if answer == "ask" else {}
        run, entries = runs.start(proposal(steps, **more), decision(answer, **asked), self.hands.writer.stamp())
        await self.ledger.commit(entries, runs=[run])
        return run

    async def verdict(self, run: Run, result: str) -> Run:
        run, entries = runs.verified(run, Verdict(result, "because"), self.hands.writer.stamp())  # type: ignore[arg-type]
        await self.hands.keeper.commit(entries, runs=[run])
        return run

    def types(self) -> list[str]:
        return [entry.type for entry in reversed(self.ledger.entries(100))]
