"""What people ask for: approvals, denials, undo, cancel, pause, mode. Each becomes a move on the one road.

Whoever asks is recorded with what they did. An order that can't be carried out is refused with what to do instead.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from stead.flow import runs
from stead.flow.decide import decide
from stead.flow.pipeline import Road
from stead.flow.place import identities
from stead.flow.propose import BoundSetting, ProposeContext, Wish, target_of
from stead.flow.record import autonomy_changed, hold_lifted, hold_made
from stead.model.advice import Advice
from stead.model.catalog import PlaybookDefinition, SettingTemplate, Verify
from stead.model.change import Hold, Run, Target
from stead.model.errors import EXIT_APPROVAL, EXIT_FAILURE, EXIT_PAUSED, EXIT_WINDOW, SteadError
from stead.model.observe import Now
from stead.model.policy import Actor, Approval

ORDERED: Final = {
    ("paused", False): "resumes",
    ("locked", True): "locks autonomy",
    ("locked", False): "unlocks autonomy",
}
RIGHT_SIZE: Final = "right-size"
RIGHT_SIZE_S: Final = 60.0
SET_AUTONOMY: Final = "set-autonomy"
SETTLE_S: Final = 20.0


class Orders:
    """People's side of one road."""

    def __init__(self, road: Road) -> None:
        self.road = road

    def find(self, prefix: str) -> Run:
        """A run by its id or a unique part of it. Raises SteadError when there is none, or more than one."""
        known = self.road.runs.get(prefix) or self.road.place.ledger.run(prefix)
        if known is None:
            raise SteadError(
                f"no run or proposal {prefix!r}", "ledger", "see `stead proposals` and `stead runs` for ids", code="run.unknown"
            )
        return self.road.runs.get(known.id, known)

    async def approve(self, prefix: str, plan_hash: str, person: Actor, latest: bool = False) -> Run:
        """One person's yes to the plan with this hash; with enough of them it begins to act."""
        run, now = await self._settled(self.find(prefix)), self.road.place.clock.now()
        if run.state == "advised":
            mode = self.road.autonomy().mode
            fix = "say `stead mode act` first; the proposal is then made anew"
            raise SteadError(
                f"in mode {mode} nothing is changed, so there is nothing to approve",
                f"run {run.id}",
                fix,
                exit_code=EXIT_APPROVAL,
            )
        if not plan_hash and not latest:
            raise SteadError(
                "an approval must name the plan that was seen", f"run {run.id}", "give its hash", exit_code=EXIT_APPROVAL
            )
        valid_ms = now.unix_ms + round(self.road.policy.approval_valid_s * 1000)
        seen = plan_hash or run.proposal.plan_hash
        approval = Approval(self.road.place.new_id(), run.id, seen, person, now.unix_ms, valid_ms)
        stamp = self.road.stamp(now)
        moved, entries = runs.approve(run, approval, self.road.policy, stamp)
        await self.road.keep(moved, entries, now, approvals=(moved.approvals[-1],))
        if moved.state != "approved":
            return moved
        refused = await self.road.admitted(moved, now)
        if refused:
            after = self.find(moved.id)
            if after.state == "refused":
                return after
            what, fix = f"approved, but not begun: {refused}", "it begins by itself when that has passed, within its time to live"
            raise SteadError(what, f"run {run.id}", fix, exit_code=self._why_later(moved, now))
        self.road.drive(moved)
        return moved

    def _why_later(self, run: Run, now: Now) -> int:
        """The exit code of what may not begin yet: outside its window, else paused or over the budget."""
        context = msgspec.structs.replace(self.road.deciding(now), approvals=len(run.approvals))
        made_by = decide(run.proposal, self.road.policy, context, now).rules
        timed = {f"rule:{rule.name}" for rule in self.road.policy.rules if rule.when.window or rule.when.outside}
        return EXIT_WINDOW if timed.intersection(made_by) else EXIT_PAUSED

    async def deny(self, prefix: str, reason: str, person: Actor) -> Run:
        """A person's no."""
        run, now = await self._settled(self.find(prefix)), self.road.place.clock.now()
        moved, entries = runs.deny(run, person, reason, self.road.stamp(now))
        return await self.road.keep(moved, entries, now)

    async def cancel(self, prefix: str, person: Actor) -> Run:
        """Stop a run: at once while it waits, between its steps when it acts."""
        run, now = self.find(prefix), self.road.place.clock.now()
        if run.state == "acting":
            self.road.place.hands.cancel(run.id)
            return await self._settled(run)
        run = await self._settled(run)
        moved, entries = runs.cancel(run, person, self.road.stamp(now))
        return await self.road.keep(moved, entries, now)

    async def undo(self, prefix: str, person: Actor) -> Run:
        """Put a run's own before back, and hold its playbook off that target until the finding clears or a person lifts it."""
        run = await self._settled(self.find(self._latest() if prefix == "latest" else prefix))
        if run.state not in runs.UNDOABLE:
            what = f"a run that is {run.state} has nothing to put back"
            raise SteadError(
                what, f"run {run.id}", "`stead runs` shows what is held or kept", code="run.impossible", exit_code=EXIT_FAILURE
            )
        if _is_autonomy(run):  # putting a lock back would be an unlock by one person
            what, fix = "stead's own autonomy is set, not put back", "`stead mode` sets it; an unlock needs two people"
            raise SteadError(what, f"run {run.id}", fix, code="run.impossible", exit_code=EXIT_FAILURE)
        with self.road.tasks.at_work(run.id):
            return await self._put_back(run, person)

    async def _put_back(self, run: Run, person: Actor) -> Run:
        now = self.road.place.clock.now()
        runs.begin_undo(run, "person", self.road.stamp(now))  # raises what forbids it, before a hold is recorded
        keys = dict.fromkeys(step.target.key for step in run.proposal.steps)
        holds = [Hold(run.proposal.playbook, key, run.proposal.finding_id, person, now.unix_ms) for key in keys]
        stamp = self.road.stamp(now).by(person)
        await self.road.keeper.commit([hold_made(hold, run, stamp) for hold in holds], holds=holds)
        self.road.holds = [
            h for h in self.road.holds if (h.playbook, h.target) not in {(n.playbook, n.target) for n in holds}
        ] + holds
        moved = await self.road.place.hands.undo(run, "person", person)
        self.road.learn(moved)
        return moved

    def _latest(self) -> str:
        every = (*self.road.runs.values(), *self.road.place.ledger.runs("runs", 50))
        candidates = [run for run in every if run.state in runs.UNDOABLE and not _is_autonomy(run)]
        if not candidates:
            raise SteadError("nothing is held or kept", "runs", "there is nothing to undo", code="run.impossible")
        return max(candidates, key=lambda run: run.updated_ms).id

    async def lift(self, playbook: str, target: str, person: Actor) -> None:
        """Let a playbook act on a target again. `target` may be its short form ("process:4711")."""
        found = [
            h for h in self.road.holds if h.playbook == playbook and (h.target == target or h.target.split("@")[0] == target)
        ]
        if not found:
            raise SteadError(f"no hold of {playbook} on {target}", "holds", "see `stead holds`", code="hold.unknown")
        stamp = self.road.stamp(self.road.place.clock.now()).by(person)
        lifted = [hold_lifted(hold, stamp) for hold in found]
        await self.road.keeper.commit(lifted, drop_holds=[(hold.playbook, hold.target) for hold in found])
        self.road.holds = [hold for hold in self.road.holds if hold not in found]

    async def pause(self, reason: str, person: Actor) -> None:
        """Stop all forward acting at once: the file comes first, whatever the ledger's health; the record follows."""
        before = self.road.autonomy()
        self.road.place.autonomy.pause(reason or f"by {person.id}")
        now = self.road.place.clock.now()
        changed = autonomy_changed(before, self.road.autonomy(), self.road.stamp(now).by(person))
        try:
            await self.road.place.ledger.commit([changed])
        except SteadError:  # it is paused all the same, and recorded as soon as that can be
            self.road.later.append(changed)
        self.road.teller.event("autonomy.changed", "autonomy", now, by=person)

    async def autonomy(self, person: Actor, *, scope: str = "host", **want: Any) -> Run | None:
        """A person's own order about mode, ceiling, lock or pause. Raises SteadError while it waits for a second person."""
        state = {key: value for key, value in want.items() if value is not None}
        if not state:
            return None
        definition = PlaybookDefinition(
            playbook_id=SET_AUTONOMY,
            title=f"{person.id} "
            + " and ".join(ORDERED.get((key, value), f"sets {key} {value}") for key, value in state.items()),
            risk="low",
            tier=1,
            verify=Verify(window_s=0.0, good_readings=0),
            confidence=1.0,
        )
        setting = BoundSetting(SettingTemplate("autonomy", state, f"autonomy:{scope}"), Target("autonomy", scope))
        wish = Wish(definition, None, person, (setting,), scope=scope)
        run = await self.road.consider(wish, self.road.place.clock.now())
        if run.state == "waiting":
            fix = f"another person says `stead approve {run.id[:13]}`"
            raise SteadError(
                "; ".join(run.decision.reasons if run.decision else ()), f"run {run.id}", fix, exit_code=EXIT_APPROVAL
            )
        run = await self._settled(run)
        if run.state in ("refused", "failed", "conflict", "undo_failed"):
            raise SteadError(f"not set: {run.reason}", f"run {run.id}", "see `stead why " + run.id[:13] + "`")
        return run

    async def apply(self, advice: Advice, person: Actor) -> Run:
        """A piece of advice as a person's own proposal, planned and decided like any other."""
        place = self.road.place
        known = identities(self.road.plugged.drivers)
        context = ProposeContext(latest=self.road.series.value, boot_id=place.host.boot_id, identities=known)
        target = target_of(advice.subject, context)
        if isinstance(target, str):
            raise SteadError(f"it can't be applied: {target}", advice.subject, "ask for advice again", code="advice.gone")
        definition = PlaybookDefinition(
            playbook_id=RIGHT_SIZE,
            title=advice.title,
            risk="low",
            tier=1,
            verify=Verify(window_s=RIGHT_SIZE_S, good_readings=0),
            confidence=1.0,
        )
        setting = BoundSetting(
            SettingTemplate(advice.actuator, dict(advice.state), advice.subject, slows=advice.kind == "consumer"), target
        )
        labels = self._labels(advice.subject)
        run = await self.road.consider(Wish(definition, None, person, (setting,), labels=labels), place.clock.now())
        return await self._settled(run)

    def _labels(self, subject: str) -> dict[str, str]:
        """What policies know a subject by: a process's name and command."""
        top = self.road.top
        found = [one for one in (*top.by_cpu, *top.by_memory) if one.subject == subject] if top else []
        return {"process": found[0].name, "command": found[0].command, "pid": str(found[0].pid)} if found else {}

    async def _settled(self, run: Run) -> Run:
        """The run once nobody is at work on it. SteadError when that takes too long."""
        try:
            async with asyncio.timeout(SETTLE_S):
                while self.road.tasks.busy(run.id):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            what, fix = f"it is still being worked on after {SETTLE_S:.0f} s", "see `stead runs`, and ask again when it is done"
            raise SteadError(what, f"run {run.id}", fix, code="run.busy") from None
        return self.find(run.id)


def _is_autonomy(run: Run) -> bool:
    """Is it about what stead itself may do?"""
    return any(step.actuator == "autonomy" for step in run.proposal.steps)
