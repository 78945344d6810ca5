"""The road, in the order that values take it: observe, find, propose, decide, act, verify, record.

`Road.tick` is the whole of it and never waits for a run: what may act is driven by tasks of its own. Every value is in
the ledger before the next is made from it. Lowering stead's own autonomy is decided and done before anything else of the
same tick. What people ask for enters through `orders.py` and takes the same road.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import msgspec

from stead import __version__
from stead.catalog.windows import in_window
from stead.flow import record, runs
from stead.flow.clock_steps import ClockSteps, carried
from stead.flow.decide import DecideContext, decide
from stead.flow.facts import Facts
from stead.flow.find import find
from stead.flow.follow import follow
from stead.flow.govern import Governor
from stead.flow.health import Missed, stations
from stead.flow.leases import Leases
from stead.flow.measure import measured
from stead.flow.place import Place, Plugged, identities
from stead.flow.plan import plan
from stead.flow.propose import RECENT_RUNS, ProposeContext, Wish, propose, relevant
from stead.flow.record import Stamp
from stead.flow.retries import Retries
from stead.flow.tasks import Tasks
from stead.flow.tell import Teller
from stead.flow.verify import judge
from stead.model.catalog import Catalog
from stead.model.change import Hold, Run
from stead.model.config import Config
from stead.model.errors import SteadError
from stead.model.find import Finding, Observation
from stead.model.messages import Station
from stead.model.observe import Fact, Now, Top
from stead.model.policy import Autonomy, Policy
from stead.model.record import Entry

FORGET_TICKS: Final = 300
RUNGS: Final = 4  # remedies that are tried for one finding in one tick, while the host has none of them
LATER_MAX: Final = 2000  # a week of windows


class Road:
    """One host's road. Holds what is open now; everything durable is in the ledger."""

    def __init__(
        self,
        plugged: Plugged,
        place: Place,
        series: Any,
        catalog: Catalog,
        policy: Policy,
        config: Config,
        *,
        default_ceiling: int,
    ) -> None:
        self.plugged, self.place, self.keeper = plugged, place, place.hands.keeper
        self.series, self.catalog, self.policy, self.config = series, catalog, policy, config
        self.default_ceiling = default_ceiling
        self.findings: dict[str, Finding] = {}  # open, by fingerprint
        self.runs: dict[str, Run] = {}  # not final, by id
        self.recent: deque[Run] = deque()  # final, newest last: of the last hour, and of open findings
        self.holds: list[Hold] = []
        self.top: Top | None = None
        self.ticks = 0
        self.failure = ""
        self.missed, self.later = Missed(), deque[Entry](maxlen=LATER_MAX)  # `later`: for when the ledger can be written
        self._checked: dict[str, str] = {}  # approved run → why it may not begin yet
        self.teller = Teller(place.bus, place.log, catalog, plugged.observer.specs(), config.log.metrics)
        self._facts = Facts(place.ledger)
        self.tasks, self.clock_steps, self.leases = Tasks(), ClockSteps(), Leases()
        self.governor, self.retries = Governor(place.hands, series, series.value), Retries()
        self._cpu_s: deque[float] = deque(maxlen=60)

    async def start(self, now: Now) -> None:
        """Before the first tick: know what is open, and settle what a crash interrupted."""
        ledger = self.place.ledger
        self.findings = {finding.fingerprint: finding for finding in ledger.open_findings()}
        for finding in self.findings.values():
            self.series.expect(finding.metric, finding.subject, now)
        self.holds = list(ledger.holds())
        known = {run.id: run for finding in self.findings.values() for run in ledger.runs_of(finding.id)}
        known.update({run.id: run for run in ledger.runs("all", RECENT_RUNS)})
        self.recent.extend(sorted((run for run in known.values() if run.final), key=lambda run: run.updated_ms))
        self.forget(now)
        live = [carried(run, 0, now) for run in ledger.live_runs()]
        self.runs = {run.id: run for run in live}
        await ledger.commit([record.agent_started(__version__, self.stamp(now), boot_id=self.place.host.boot_id)])
        self.retries.know(ledger)
        for moved in await self.place.hands.recover(live):
            self.learn(moved)

    async def restore_leases(self) -> None:
        """Put back everything that only a lease holds: the agent is not there to renew it."""
        for run in list(self.runs.values()):
            if run.state in ("verifying", "held") and run.lease_until_ms is not None:
                self.learn(await self.place.hands.undo(run, "lease", record.AGENT))

    async def stop(self, now: Now) -> None:
        """Let runs that act come to a rest, and record the end."""
        await self.tasks.finish()
        for run in list(self.runs.values()):
            if run.governed:
                await self.place.hands.tell(run)
        await self.place.ledger.commit([record.agent_stopped(__version__, self.stamp(now))])

    # -- the road ---------------------------------------------------------------------------------------------------

    async def tick(self, now: Now) -> None:
        """Once an interval: everything that this moment asks for, in order."""
        began_s = time.thread_time()
        await self.carry_over(self.clock_steps.step_ms(now), now)
        for driver in self.plugged.drivers.values():
            await driver.tick(now)
        observations = self.missed.join(self.observe(now))
        with self.missed.unless_recorded(observations):
            await self.find(observations, now)
        for _ in range(RUNGS):  # what the host can't do leaves the way to the next at once
            if all([(await self.consider(wish, now)).state != "unsupported" for wish in self.wishes(now)]):
                break
        try:
            await follow(self, now)
        finally:  # what one run is in trouble for keeps no limit from being loosened, and nothing from being put back
            for run, moving in self.governor.due(self.runs.values(), self.tasks.busy, now):
                self.tasks.start(run.id, self._carry(run, moving, "a limit"))
            self.retries.mind(self, now)
        await self.close_window(now)
        if self.ticks % FORGET_TICKS == 0:
            self.forget(now)
        self.ticks += 1
        self.failure = ""
        self._cpu_s.append(time.thread_time() - began_s)

    async def carry_over(self, by_ms: int, now: Now) -> None:
        """The wall clock was set by so much (0: it was not): windows and leases keep what was left of them."""
        if not by_ms:
            return
        self.place.log.warning("the clock was set, or the machine slept", by_s=by_ms / 1000)
        for known in list(self.runs.values()):
            run = carried(known, by_ms, now)
            if run != known and not self.tasks.busy(run.id):
                await self.place.ledger.commit([], runs=(run,))
                self.runs[run.id] = run
        self.recent = deque(msgspec.structs.replace(run, updated_ms=run.updated_ms + by_ms) for run in self.recent)

    def observe(self, now: Now) -> Sequence[Observation]:
        """Samples and facts in; observations of the intervals that just ended out."""
        seen = self.plugged.observer.observe(now)
        self.top = seen.top or self.top
        self.series.add_facts(seen.facts)
        self.later.extend(record.fact_seen(fact, self.stamp(now)) for fact in self._facts.take(seen.facts))
        self.series.add(seen.samples, now)
        self.place.raw.append(now, seen.samples)
        observations: Sequence[Observation] = self.series.observations(now)
        self.teller.metrics(seen.samples, observations, self.top, now)
        return observations

    async def find(self, observations: Sequence[Observation], now: Now) -> None:
        """Findings that opened, grew or cleared; holds of cleared ones fall."""
        changed = find(self.plugged.detectors, observations, self.catalog, self.findings, now, self.place.new_id)
        if not changed:
            return
        stamp = self.stamp(now)
        entries = []
        dropped: list[tuple[str, str]] = []
        for finding in changed:
            known = self.findings.get(finding.fingerprint)
            if not finding.open:
                over = [hold for hold in self.holds if hold.finding_id == finding.id]
                entries += [record.finding_cleared(finding, stamp), *(record.hold_lifted(h, stamp, finding.id) for h in over)]
                dropped += [(hold.playbook, hold.target) for hold in over]
            elif known is None or known.id != finding.id:
                entries.append(record.finding_opened(finding, stamp))
        await self.keeper.commit(entries, findings=changed, drop_holds=dropped)
        recorded = {one.subject for one in entries}
        self.holds = [hold for hold in self.holds if (hold.playbook, hold.target) not in dropped]
        for finding in changed:
            if finding.open:
                self.findings[finding.fingerprint] = finding
            else:
                self.findings.pop(finding.fingerprint, None)
            self.teller.finding(finding, finding.id in recorded, now)

    def wishes(self, now: Now) -> list[Wish]:
        """What playbooks want to do about the open findings; what lowers autonomy first."""
        if self.autonomy().mode == "observe" or not self.findings:
            return []
        context = ProposeContext(
            latest=self.series.value,
            boot_id=self.place.host.boot_id,
            holds=tuple(self.holds),
            recent=(*self.recent, *self.runs.values()),
            identities=identities(self.plugged.drivers),
            each=self.plugged.each,
            spares=self.plugged.spares,
            mode=self.autonomy().mode,
            profile=self.config.safety.profile,
            ceiling=0 if self.autonomy().locked else self.autonomy().ceiling("host", self.default_ceiling),
            policy_version=self.policy.version,
        )
        return sorted(
            propose(tuple(self.findings.values()), self.catalog, context, now), key=lambda wish: not wish.playbook.lowers
        )

    async def consider(self, wish: Wish, now: Now) -> Run:
        """Plan a wish against the host as it is, decide, record, and let it act if it may."""
        place, series = self.place, self.series
        proposal = await plan(
            wish,
            self.plugged.actuators,
            place.host,
            series.value,
            self.policy,
            now,
            place.new_id,
            self.catalog.version,
            lambda metric, subject, last_s: series.mean(metric, subject, now.mono_ms - round(last_s * 1000), now.mono_ms),
        )
        decision = None if proposal.impossible else decide(proposal, self.policy, self.deciding(now), now)
        run, entries = runs.start(proposal, decision, self.stamp(now).by(proposal.requester))
        await self.keep(run, entries, now)
        if run.state == "approved":
            if proposal.lowers:
                with self.tasks.at_work(run.id):
                    await self._carry(run, place.hands.run(run), "a run")
            else:
                self.drive(run)
        return self.runs.get(run.id, run)

    async def admitted(self, run: Run, now: Now) -> str:
        """Ask the policy again before an approved run begins: empty when it may, else why not (refused, or not yet)."""
        context = msgspec.structs.replace(self.deciding(now), approvals=len(run.approvals))
        decision = decide(run.proposal, self.policy, context, now)
        if decision.answer == "allow":
            self._checked.pop(run.id, None)
            return ""
        reason = "; ".join(decision.reasons)
        if self._checked.get(run.id) != reason:
            self._checked[run.id] = reason
            stamp = self.stamp(now)
            entry = record.policy_checked(run.id, decision.answer, decision.rules, decision.policy_version, stamp, run.cause)
            await self.keeper.commit([entry])
        if not decision.retry:
            decided = msgspec.structs.replace(run, decision=decision)
            await self.keep(*runs.refuse(decided, reason, self.stamp(now)), now)
            self._checked.pop(run.id, None)
        return reason

    async def close_window(self, now: Now) -> None:
        """Every five minutes: snapshots to the store, and one leaf with their hash."""
        snapshots = self.series.close_window(now)
        if snapshots:
            self.place.raw.snapshots(snapshots, self.top)
            start_ms, end_ms = min(s.start_ms for s in snapshots), max(s.end_ms for s in snapshots)
            self.later.append(record.snapshots_taken(snapshots, start_ms, end_ms, self.stamp(now)))
            self.teller.snapshots(snapshots, now)
        if self.later:
            await self.place.ledger.commit(waited := tuple(self.later))
            for _ in waited:
                self.later.popleft()

    def forget(self, now: Now) -> None:
        """Let go of finished runs that no decision can depend on any more: the ledger keeps them."""
        self.recent = deque(relevant(self.recent, self.findings.values(), self.catalog, now))

    # -- runs -------------------------------------------------------------------------------------------------------

    def drive(self, run: Run) -> None:
        """Let a run act on a task of its own: the tick never waits for it."""
        self.tasks.start(run.id, self._carry(run, self.place.hands.run(run), "a run"))

    def put_back(self, run: Run, reason: str) -> None:
        """Undo on a task of its own."""
        self.tasks.start(run.id, self._carry(run, self.place.hands.undo(run, reason, record.AGENT), "an undo"))

    async def _carry(self, run: Run, moving: Coroutine[Any, Any, Run], what: str) -> None:
        try:
            self.learn(await moving)
        except SteadError as error:
            self._defect(f"{what} could not go on", run, str(error))
        except Exception as error:
            self._defect(f"{what} failed", run, f"{type(error).__name__}: {error}")

    async def weigh(self, run: Run, now: Now) -> bool:
        """A run whose window has ended: its verdict, and what follows from it. True when it failed."""
        if await self.place.hands.is_gone(run):
            self.learn(await self.place.hands.moot(run))
            return False
        run, seen = measured(run, self.series, now, (*self.recent, *self.runs.values()))
        seen = seen._replace(open=any(finding.id == run.proposal.finding_id for finding in self.findings.values()))
        judged = judge(run, await self.place.hands.met(run), seen, now)
        moved = await self.keep(*runs.verified(run, judged, self.stamp(now)), now)
        if moved.state == "undoing":
            self.put_back(moved, judged.result)
        return judged.result in runs.FAILED

    async def keep(self, run: Run, entries: Sequence[Any], now: Now, **more: Any) -> Run:
        """Record a run's move, then know it."""
        with self.tasks.at_work(run.id):
            await self.keeper.commit(entries, runs=(run,), **more)
            self.learn(run, told=True)
        self.teller.logged(run)
        return run

    def learn(self, run: Run, *, told: bool = False) -> None:
        """Know a run's newest state, which is in the ledger already (and, if `hands` moved it, on the bus)."""
        known = self.runs.get(run.id)
        if known is not None and run.governed and known.state == run.state and known.lease_until_ms == run.lease_until_ms:
            self.runs[run.id] = run  # a governed value was moved: no news
            return
        self.retries.note(run)
        if not told and self.runs.get(run.id) is not run:
            self.teller.logged(run)
        if run.final:
            self.runs.pop(run.id, None)
            self._checked.pop(run.id, None)
            self.recent = deque((*(one for one in self.recent if one.id != run.id), run))
        else:
            self.runs[run.id] = run
        self.place.moved()

    # -- what decisions need ----------------------------------------------------------------------------------------

    def autonomy(self) -> Autonomy:
        """Mode, ceilings, lock and pause as they are now."""
        return self.place.autonomy.read()

    def pause_reason(self) -> str:
        """Why it is paused."""
        return self.place.autonomy.pause_reason()

    def deciding(self, now: Now) -> DecideContext:
        """The present state that policy is applied to."""
        return DecideContext(
            autonomy=self.autonomy(),
            default_ceiling=self.default_ceiling,
            actions_last_hour=self.place.ledger.actions_since(self.clock_steps.hour_ago_ms(now)),
            active_runs=sum(1 for run in self.runs.values() if run.state in ("acting", "undoing")),
            os=self.place.host.system,
            labels=self.config.agent.labels,
            in_window=in_window,
            own=self.place.own(),
        )

    def waiting(self) -> int:
        """Proposals that wait for a person."""
        return sum(1 for run in self.runs.values() if run.state == "waiting")

    def facts(self) -> tuple[Fact, ...]:
        """What is known of the host itself."""
        return tuple(self._facts.of_host.values())

    def stamp(self, now: Now) -> Stamp:
        """Where, when and by whom: by stead itself unless said otherwise."""
        return Stamp(self.place.name, now, self.place.new_id)

    # -- telling ----------------------------------------------------------------------------------------------------

    def note_failure(self, why: str) -> None:
        """A tick failed: shown as the record station's or the road's health until one succeeds."""
        self.failure = why

    def _defect(self, what: str, run: Run, why: str) -> None:
        self.place.log.error(what, run=run.id, why=why)
        self.failure = f"{what}: {why}"

    def tick_cpu_ms(self) -> float | None:
        """Mean CPU of the last minute's ticks."""
        return 1000 * sum(self._cpu_s) / len(self._cpu_s) if self._cpu_s else None

    def stations(self) -> tuple[Station, ...]:
        """Each station's health, then each probe's."""
        return stations(self.plugged.observer.health(), self.ticks, self.failure, self.place.ledger.trouble)
