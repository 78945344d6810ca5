"""One fault from its cause to its end, told line by line as the agent lives it."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from stead.demo.faults import Fault
from stead.demo.gauge import Gauge
from stead.demo.scene import Scene
from stead.model.change import Record, Run, Step
from stead.model.find import Finding
from stead.model.messages import FindingList, ListFindings, ListRuns, RunList

Echo = Callable[[str], None]
LOOK_S = 0.25
GAVE_UP = ("refused", "advised", "denied", "expired", "unsupported", "failed", "undo_failed", "conflict")


class Healing(msgspec.Struct, frozen=True):
    """What came of one fault. Seconds count from its cause; None: it did not come to that."""

    fault: str
    playbook: str
    healed: bool
    found_s: float | None = None
    acted_s: float | None = None
    verified_s: float | None = None
    decided_by: tuple[str, ...] = ()
    verdict: str = ""
    before: float | None = None
    after: float | None = None
    unit: str = ""
    why_not: str = ""


def tell(fault: Fault, scene: Scene, gauge: Gauge, echo: Echo, deadline_s: float) -> Healing:
    """Cause a fault, follow what stead does about it, measure the effect, and clear up. `deadline_s` is Unix time."""
    began_s = time.time()
    echo(f"\n■ {fault.name}: {fault.words}")
    try:
        fault.cause()
        tale = Tale(fault, scene, echo, began_s)
        tale.follow(deadline_s)
        time.sleep(fault.settle_s if tale.helped else 0.0)
        return tale.ending(gauge)
    finally:
        fault.end()


class Tale:
    """What has been told of one fault so far."""

    def __init__(self, fault: Fault, scene: Scene, echo: Echo, began_s: float) -> None:
        self.fault, self.scene, self.echo, self.began_s = fault, scene, echo, began_s
        self.finding: Finding | None = None
        self.run: Run | None = None
        self._said: set[tuple[str, str]] = set()

    @property
    def helped(self) -> bool:
        """Was a remedy applied and verified?"""
        return self.run is not None and self.run.verdict is not None and self.run.verdict.result == "helped"

    def follow(self, deadline_s: float) -> None:
        """Tell everything as it happens, until it is healed or time is up."""
        since_ms = int(self.began_s * 1000)
        while time.time() < deadline_s and not self.helped:
            if self.finding is None:
                found = self.scene.door.ask(ListFindings(cleared=True), FindingList).findings
                of_it = [one for one in found if self.fault.is_of(one, since_ms)]
                self.finding = min(of_it, key=lambda one: one.opened_ms, default=None)
                if self.finding is not None:
                    self._say("found", self.finding.opened_ms, self.finding.title)
            answers = self.scene.door.ask(ListRuns("all", 50), RunList).runs
            mine = sorted(
                (run for run in answers if self.fault.is_answer(run, since_ms)), key=lambda run: run.proposal.created_ms
            )
            for run in mine:
                self.run = run
                self._tell(run)
            time.sleep(LOOK_S)

    def ending(self, gauge: Gauge) -> Healing:
        """Measure what changed, by the demo's own eyes, and say how it ended."""
        fault, run = self.fault, self.run
        found_s = self._after(self.finding.opened_ms) if self.finding else None
        if run is None or run.acted_ms is None or run.verdict is None:
            missing = "not found" if self.finding is None else "no remedy was applied and verified in time"
            self.echo(f"  ✗ {missing}{f' ({run.state}: {run.reason})' if run else ''}")
            return Healing(fault.name, fault.playbook, False, found_s, why_not=missing)
        acted_s, end_s = run.acted_ms / 1000, time.time()
        before = gauge.mean(fault.effect, max(self.began_s + 1.0, acted_s - 3.0), acted_s)
        after = gauge.mean(fault.effect, end_s - 2.5, end_s)
        better = before is not None and after is not None and after <= before * fault.at_most
        shown = [None if value is None else round(value * fault.scale, 1) for value in (before, after)]
        self.echo(f"  effect     {fault.effect_words}: {shown[0]} → {shown[1]} {fault.unit} (measured by the demo itself)")
        healed = self.helped and better
        why_not = "" if healed else ("the demo itself measured no effect" if self.helped else run.verdict.reason)
        self.echo(f"  {'✓ healed and verified' if healed else f'✗ not healed: {why_not}'}")
        return Healing(
            fault=fault.name,
            playbook=fault.playbook,
            healed=healed,
            found_s=found_s,
            acted_s=round(acted_s - self.began_s, 1),
            verified_s=self._after(run.verdict.at_ms),
            decided_by=run.decision.rules if run.decision else (),
            verdict=run.verdict.result,
            before=shown[0],
            after=shown[1],
            unit=fault.unit,
            why_not=why_not,
        )

    def _tell(self, run: Run) -> None:
        proposal, decision, verdict = run.proposal, run.decision, run.verdict
        planned = "; ".join(_diff(step) for step in proposal.steps) or proposal.impossible
        self._say(
            "proposed", proposal.created_ms, f"{proposal.playbook} (risk {proposal.risk}, tier {proposal.tier}): {planned}", run
        )
        if decision is not None:
            self._say("decided", decision.at_ms, f"{decision.answer} by {', '.join(decision.rules)}", run)
        if run.acted_ms is not None:
            self._say("acted", run.acted_ms, _outcome(run), run)
        if verdict is not None:
            self._say("verified", verdict.at_ms, f"{verdict.result}: {verdict.reason}", run)
        if run.state in GAVE_UP or run.undo_reason:
            self._say(run.state, run.updated_ms, run.reason, run)

    def _say(self, station: str, at_ms: int, words: str, run: Run | None = None) -> None:
        key = (station, run.id if run else "")
        if key not in self._said:
            self._said.add(key)
            self.echo(f"  {station:<10} {self._after(at_ms):5.1f} s  {words}")

    def _after(self, at_ms: int) -> float:
        return round(max(at_ms / 1000 - self.began_s, 0.0), 1)


def _diff(step: Step) -> str:
    changes = ", ".join(f"{name} {before} → {want}" for name, (before, want) in step.diff.items())
    return f"{step.actuator} of {step.target}: {changes} (undo {step.undo})"


def _outcome(run: Run) -> str:
    done = [f"{run.proposal.steps[one.step].actuator} {one.outcome}, reads {_state(one.after)}" for one in run.receipts]
    return "; ".join(done)


def _state(state: Record | None) -> str:
    if state is None:
        return "absent"
    return ", ".join(f"{name} {value}" for name, value in state.items() if value is not None)
