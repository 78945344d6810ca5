"""Act: carries a run through its steps, puts back what must be put back, and picks up after a crash.

    hands = Hands(host, actuators, ledger, bus, clock, policy, paused, mark=mark, new_id=new_id)
    for run in await hands.recover(ledger.live_runs()): ...   # before the first tick
    run = await hands.run(run)                                # approved → verifying, or a final state
    run = await hands.undo(run, "no_help")                    # → undone, moot, conflict or undo_failed

There is one lock per target. Nothing is written without a durable attempt, and nothing over a value that is neither
planned nor stead's own: then another hand owns it, and stead yields.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from stead.flow import adjust, runs
from stead.flow.record import plan_hash
from stead.flow.write import Entries, Writer, id_source
from stead.model.change import Absent, Run, Step
from stead.model.errors import SteadError
from stead.model.policy import Actor, Policy
from stead.protocols import Actuator, Bus, Clock, Host, Latest, Ledger, Mark

SATISFIED: Final = ("done", "already")
OWNING: Final = frozenset(("acting", "verifying", "held", "undoing"))


class Hands:
    """What changes the host. See the module's description for its use."""

    def __init__(
        self,
        host: Host,
        actuators: Mapping[str, Actuator[Any]],
        ledger: Ledger,
        bus: Bus | None,
        clock: Clock,
        policy: Policy,
        paused: Callable[[], bool],
        latest: Latest | None = None,
        mark: Mark = lambda name: None,
        *,
        new_id: Callable[[], str] | None = None,
        name: str = "",
    ) -> None:
        self.policy, self.ledger, self.latest = policy, ledger, latest
        self.writer = Writer(host, actuators, ledger, bus, clock, paused, new_id or id_source(clock), mark, name)
        self.keeper = self.writer.keeper
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}  # with how many hold it or wait for it
        self._cancelled: set[str] = set()

    def cancel(self, run_id: str) -> None:
        """Stop a run that acts: it takes effect before its next step, and what was done is put back."""
        self._cancelled.add(run_id)

    async def run(self, run: Run) -> Run:
        """Begin an approved run and write its steps. It comes back verifying, or final; or approved still, while paused.

        Raises SteadError when the run is not approved, or when the ledger can't take an entry: then nothing more is written,
        and a later call goes on from what is durable, as after a crash.
        """
        async with self._locked(run):
            run = self._newest(run)
            if run.state in ("acting", "undoing"):
                return await self._recovered(run)
            if run.final and run.id in self.writer.ended:
                return run
            if run.state != "approved":
                runs.begin(run, self.writer.stamp())  # raises, and says why
            late = runs.overdue(run, self.policy, self.writer.stamp().now.unix_ms)
            if late:
                return await self._commit(runs.expire(run, late, self.writer.stamp()))
            if not self.writer.may_write(run):
                return run
            refused = await self._stale(run)
            try:
                return refused if refused is not None else await self._begin(run)
            finally:
                self._cancelled.discard(run.id)  # it came too late, or is done

    async def _begin(self, run: Run) -> Run:
        begun, entries = runs.begin(run, self.writer.stamp())
        try:
            return await self._forward(begun, entries)
        except SteadError as error:
            if not error.problem.code.startswith("approval."):
                raise
            return await self._commit(runs.refuse(run, str(error), self.writer.stamp()))

    async def _stale(self, run: Run) -> Run | None:
        """The run refused or moot, when the host or its approvals are not what the plan says; None when all is as planned."""
        stamp, proposal = self.writer.stamp(), run.proposal
        if plan_hash(proposal.steps) != proposal.plan_hash:
            return await self._commit(runs.refuse(run, "stale: the plan is not the one that was hashed", stamp))
        if any(approval.plan_hash != proposal.plan_hash for approval in run.approvals):
            return await self._commit(runs.refuse(run, "stale: another plan was approved", stamp))
        for step in proposal.steps:
            owner = self._owner(run, step)
            if owner:
                reason = f"run {owner} holds {step.actuator} of {step.target} already"
                return await self._commit(runs.refuse(run, reason, stamp))
        return await self._drifted(run)

    async def _drifted(self, run: Run) -> Run | None:
        for step in run.proposal.steps:
            stamp = self.writer.stamp()
            try:
                seen = await self.writer.look(step)
            except SteadError as error:
                return await self._commit(runs.refuse(run, f"stale: {error}", stamp))
            if isinstance(seen, Absent) and step.before is not None and step.want is not None:
                return await self._commit(runs.gone(run, f"{step.target} is gone", stamp))
            if not (self.writer.met(step, seen, step.want) or self.writer.met(step, seen, step.before)):
                reason = f"stale: {step.actuator} of {step.target} is not as it was planned"
                return await self._commit(runs.refuse(run, reason, stamp))
        return None

    def _owner(self, run: Run, step: Step) -> str:
        """The other run that holds this step's value. Nobody holds stead's own autonomy: a lowering never waits."""
        if step.actuator == "autonomy":
            return ""
        for other in self.ledger.live_runs():
            same = any(one.fights(step) for one in other.proposal.steps)
            if same and other.id != run.id and other.state in OWNING:
                return other.id
        return ""

    def _is_anothers(self, run: Run) -> bool:
        return any(self._owner(run, run.proposal.steps[index]) for index in runs.to_undo(run))

    async def _forward(self, run: Run, pending: Entries, again: frozenset[int] = frozenset()) -> Run:
        """Write the steps that are not yet written; `again` are those that a crash interrupted and that may be repeated."""
        for index in range(len(run.proposal.steps)):
            last = runs.outcome(run, index, "forward")
            if last is not None and last.outcome in SATISFIED:
                continue
            if last is None or index in again:
                if run.id in self._cancelled:
                    return await self._undo(run, "cancel", pending)
                if not self.writer.may_write(run):
                    return await self._undo(run, "paused", pending)
                run, pending = await self.writer.forward(run, index, pending)
                last = runs.outcome(run, index, "forward")
            if last is None or last.outcome not in SATISFIED:
                return await self._stop(run, pending)
            if index + 1 < len(run.proposal.steps):
                await self._record(run, pending, index, "forward")
                pending = ()
        moved, entries = runs.acted(run, self.writer.stamp())
        await self._record(moved, (*pending, *entries), len(run.proposal.steps) - 1, "forward")
        return moved

    async def _stop(self, run: Run, pending: Entries) -> Run:
        """A step did not come about: put back what was done before it."""
        last = run.receipts[-1]
        if last.outcome == "moot" and not runs.to_undo(run):
            moved, entries = runs.gone(run, last.error, self.writer.stamp())
            await self._record(moved, (*pending, *entries), last.step, "forward")
            return moved
        return await self._undo(run, "partial failure", pending)

    async def _record(self, run: Run, entries: Entries, index: int, way: str) -> None:
        await self.writer.commit(run, entries)
        self.writer.mark(f"act.{run.proposal.steps[index].actuator}.{way}.after_receipt")

    async def undo(self, run: Run, reason: str = "person", by: Actor | None = None) -> Run:
        """Put everything back that a run did. Not subject to budget, window, tier or pause.

        `reason` is "person", "no_help", "not_held", "lease", "cleared" or "cancel", or `runs.AGAIN`: then it stays as it is where
        that is forbidden, or another run holds its values by now. A run that is undoing already is continued. Raises SteadError
        when the run's state or a declared loss forbids it.
        """
        async with self._locked(run):
            run = self._newest(run)
            if run.state == "undoing":
                return await self._recovered(run)
            if reason == runs.AGAIN and (not runs.may_try_again(run) or self._is_anothers(run)):
                return run
            run, entries = await self.writer.settle_interrupted(run)
            return await self._undo(run, reason, entries, by)

    async def _undo(self, run: Run, reason: str, pending: Entries, by: Actor | None = None) -> Run:
        stamp = self.writer.stamp()
        run, entries = runs.begin_undo(run, reason, stamp if by is None else stamp.by(by))
        return await self._back(run, (*pending, *entries))

    async def _back(self, run: Run, pending: Entries) -> Run:
        run, told = adjust.told(self.writer, run, at_once=True)
        pending, steps = (*pending, *told), runs.to_undo(run)
        for index in steps:
            run, pending = await self.writer.back(run, index, pending)
            if index != steps[-1]:
                await self._record(run, pending, index, "undo")
                pending = ()
        self._cancelled.discard(run.id)
        moved, entries = runs.finish_undo(run, self.writer.stamp())
        await self.writer.commit(moved, (*pending, *entries))
        if steps:
            self.writer.mark(f"act.{run.proposal.steps[steps[-1]].actuator}.undo.after_receipt")
        return moved

    async def met(self, run: Run) -> list[bool | None]:
        """Does each step still hold? None: it could not be read, or its target is gone."""
        return [await self._holds(run, index) for index in range(len(run.proposal.steps))]

    async def _holds(self, run: Run, index: int) -> bool | None:
        step = run.proposal.steps[index]
        try:
            seen = await self.writer.look(step)
            return None if isinstance(seen, Absent) and step.want is not None else self.writer.as_left(run, index, seen)
        except SteadError:
            return None

    async def is_gone(self, run: Run) -> bool:
        """Are all its targets gone (or of another boot)? Then there is nothing left to verify, hold or put back."""
        for step in run.proposal.steps:
            try:
                if step.want is None or not isinstance(await self.writer.look(step), Absent):
                    return False
            except SteadError:
                return False
        return bool(run.proposal.steps)

    async def moot(self, run: Run) -> Run:
        """Record that a run's targets are gone."""
        run, told = adjust.told(self.writer, run, at_once=True)
        moved, entries = runs.gone(run, "the target is gone", self.writer.stamp())
        return await self._commit((moved, (*told, *entries)))

    async def adjust(self, run: Run, index: int, choose: adjust.Choose) -> Run:
        """Move a governed step's value to where `choose` says, while its run is watched or held; nothing while paused.

        Yields where it is not as stead left it (the run ends as conflict, or moot). The run comes back with where its values
        stand; the ledger is told of that every few minutes, and at the end. Raises SteadError when it can't be.
        """
        async with self._locked(run):
            run = self._newest(run)
            written = runs.outcome(run, index, "forward")
            mine = run.state in ("verifying", "held") and written is not None and written.outcome == "done"
            if not mine or not self.writer.may_write(run):
                return run
            try:
                seen = await self.writer.look(run.proposal.steps[index])
            except SteadError:
                return run
            if isinstance(seen, Absent):
                return await self.moot(run) if await self.is_gone(run) else run
            if not self.writer.as_left(run, index, seen):
                return await self._undo(run, "not_held", ())
            return await self._told(await adjust.adjust(self.writer, run, index, seen, choose))

    async def tell(self, run: Run) -> Run:
        """Let the ledger know where a run's governed values stand, before the process ends."""
        async with self._locked(run):
            return await self._told(self._newest(run), at_once=True)

    async def _told(self, run: Run, at_once: bool = False) -> Run:
        run, entries = adjust.told(self.writer, run, at_once)
        if entries:
            await self._commit((run, entries))
            self.writer.governing.tell(run, run.updated_ms)
        return run

    async def renew(self, run: Run, until_ms: int) -> Run:
        """Extend a held run's lease, if what stead left is still there; else yield: moot, conflict, or undone by another."""
        async with self._locked(run):
            run = self._newest(run)
            if await self.is_gone(run):
                return await self.moot(run)
            if False in await self.met(run):
                return await self._undo(run, "lease", ())
            return await self._commit(runs.renewed(run, until_ms, self.writer.stamp()))

    async def recover(self, live: Iterable[Run]) -> list[Run]:
        """Before the first tick: settle what a crash interrupted, then finish or undo it. Returns every run that moved.

        One whose moves the ledger can't take stays as it is, and is gone on with by the next `run` or `undo`.
        """
        moved = []
        for run in live:
            if run.state not in OWNING:
                continue
            with contextlib.suppress(SteadError):
                async with self._locked(run):
                    after = await self._recovered(run)
                if after is not run:
                    moved.append(after)
        return moved

    async def _recovered(self, run: Run) -> Run:
        attempt = runs.unsettled(run)
        run, entries = await self.writer.settle_interrupted(run)
        if run.state == "acting":
            again = self._repeatable(run) if attempt else frozenset()
            return await self._forward(run, entries, again)
        if run.state == "undoing":
            return await self._back(run, entries)
        if await self.is_gone(run):
            return await self.moot(run)
        now_ms = self.writer.stamp().now.unix_ms
        if run.state == "held" and run.lease_until_ms is not None and run.lease_until_ms <= now_ms:
            return await self._undo(run, "lease", ())
        return run

    def _repeatable(self, run: Run) -> frozenset[int]:
        last = run.receipts[-1]
        step = run.proposal.steps[last.step]
        interrupted = last.outcome == "failed" and last.error == runs.INTERRUPTED and step.repeat
        untouched = interrupted and last.after is not None and self._is_before(step, last.after)
        return frozenset((last.step,)) if untouched else frozenset()

    def _is_before(self, step: Step, values: Any) -> bool:
        actuator = self.writer.actuators[step.actuator]
        return self.writer.met(step, msgspec.convert(values, actuator.state), step.before)

    def _newest(self, run: Run) -> Run:
        """The run as it is durable now: whoever asks may have waited for its lock."""
        live = next((one for one in self.ledger.live_runs() if one.id == run.id), None)
        return self.writer.governing.of(live or self.writer.ended.get(run.id, run))

    async def _commit(self, moved: runs.Moved) -> Run:
        run, entries = moved
        await self.writer.commit(run, entries)
        return run

    @contextlib.asynccontextmanager
    async def _locked(self, run: Run) -> AsyncIterator[None]:
        """Hold the locks of all of a run's targets, in one fixed order. A lock goes when nobody holds it or waits for it."""
        names = sorted({step.target.key for step in run.proposal.steps})
        for name in names:
            lock, users = self._locks.get(name, (asyncio.Lock(), 0))
            self._locks[name] = (lock, users + 1)
        try:
            async with contextlib.AsyncExitStack() as stack:
                for name in names:
                    await stack.enter_async_context(self._locks[name][0])
                yield
        finally:
            for name in names:
                lock, users = self._locks.pop(name)
                if users > 1:
                    self._locks[name] = (lock, users - 1)
