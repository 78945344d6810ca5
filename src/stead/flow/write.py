"""One step, written once: read, durable attempt, write, read back, receipt. The same code goes forward and puts back.

Between a read and a write nothing else of stead runs on that target (`flow.act` holds its lock). Whatever a plugin does
(raise, hang, leave a half-written value) comes back from here as a receipt. `mark` names the points where a crash is
tried in tests.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from stead.flow import runs
from stead.flow.govern_state import GovernedRuns, value_of, with_value
from stead.flow.keep import Keeper
from stead.flow.record import AGENT, Stamp
from stead.flow.wanted import raised
from stead.host.operations import NotedHost
from stead.ledger.leaf import uuid7
from stead.model.change import ABSENT, Absent, Attempt, Receipt, Record, Run, Step
from stead.model.errors import SteadError
from stead.model.record import Entry
from stead.protocols import Actuator, Bus, Clock, Host, Ledger, Mark

READ_TIMEOUT_S: Final = 5.0
LOOK_AGAIN_S: Final = 0.1
ENDED_MAX: Final = 256
POINTS: Final = ("before_attempt", "after_attempt", "before_write", "after_write", "after_read", "after_receipt")
State = Any
Way = Literal["forward", "undo"]
AnyWay = Literal["forward", "undo", "adjust"]
Outcome = Literal["done", "already", "failed", "unknown", "moot", "conflict"]
NOT_NOTED: Final = "not known: stead ended in the middle of the write, and read afterwards what was there"
Entries = tuple[Entry, ...]


def id_source(clock: Clock) -> Callable[[], str]:
    """Where new ids come from: uuid7 by this clock and the system's randomness."""
    return lambda: uuid7(clock.now().unix_ms, os.urandom(10))


def to_record(state: State | Absent) -> Record | None:
    """A state as plain values (None: absent)."""
    return None if isinstance(state, Absent) else cast(Record, msgspec.to_builtins(state))


def from_record(actuator: Actuator[Any], values: Record | None) -> State | Absent:
    """Plain values as the actuator's state. Raises msgspec.ValidationError when they are not one."""
    return ABSENT if values is None else msgspec.convert(values, actuator.state)


def between(seen: Record | None, before: Record | None, want: Record | None) -> bool:
    """Is this what an interrupted write leaves: each field that was to change has its old value or its new one?"""
    if seen is None or want is None:
        return seen in (before, want)
    old = before or {}
    return all(seen.get(key) in (old.get(key), value) for key, value in want.items() if value is not None)


class Writer:
    """Reads and writes single steps on one host. `paused`: nothing may be written forward now (a pause, or a mode below act).

    `name` is what the record calls the host; empty: as the host calls itself.
    """

    def __init__(
        self,
        host: Host,
        actuators: Mapping[str, Actuator[Any]],
        ledger: Ledger,
        bus: Bus | None,
        clock: Clock,
        paused: Callable[[], bool],
        new_id: Callable[[], str],
        mark: Mark = lambda name: None,
        name: str = "",
    ) -> None:
        self.name = name or host.name
        self.host, self.actuators, self.keeper = host, actuators, Keeper(ledger, bus, new_id)
        self.clock, self.paused, self.new_id, self.mark = clock, paused, new_id, mark
        self.ended: dict[str, Run] = {}  # the newest runs that became final here
        self.governing = GovernedRuns()

    def stamp(self) -> Stamp:
        """Here and now, by the agent."""
        return Stamp(self.name, self.clock.now(), self.new_id, AGENT)

    async def commit(self, run: Run, entries: Sequence[Entry], use_approvals: Sequence[str] = ()) -> None:
        """Make a run's transitions durable, then tell whoever listens. Raises SteadError, and then nothing is recorded."""
        await self.keeper.commit(entries, runs=(run,), use_approvals=use_approvals)
        if run.final:
            self.governing.forget(run)
            self.ended[run.id] = run
            for oldest in list(self.ended)[:-ENDED_MAX]:
                del self.ended[oldest]

    async def look(self, step: Step) -> State | Absent:
        """The present state of a step's target. Raises SteadError when it can't be read: then it is unknown."""
        actuator = self._actuator(step)
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await actuator.read(self.host, step.target)
        except SteadError:
            raise
        except TimeoutError as error:
            raise SteadError(f"reading {step.actuator} took longer than {READ_TIMEOUT_S:.0f} s", str(step.target)) from error
        except Exception as error:
            raise SteadError(f"{step.actuator} can't be read: {error!r}", str(step.target)) from error

    async def _look_for(self, step: Step, patience_s: float) -> State | Absent:
        """The same, tried again for a while: what the interrupted write started may still be under way."""
        loop = asyncio.get_running_loop()
        until = loop.time() + patience_s
        while True:
            try:
                return await self.look(step)
            except SteadError:
                if loop.time() >= until:
                    raise
            await asyncio.sleep(LOOK_AGAIN_S)

    def _actuator(self, step: Step) -> Actuator[Any]:
        found = self.actuators.get(step.actuator)
        if found is None:
            raise SteadError(f"there is no actuator {step.actuator}", str(step.target), "install the plugin that had it")
        return found

    def met(self, step: Step, seen: State | Absent, want: Record | None) -> bool:
        """Is it as wanted, as the actuator judges? One that can't judge says no: then nothing is written over what is there."""
        try:
            actuator = self._actuator(step)
            return bool(actuator.met(seen, from_record(actuator, want)))
        except Exception:
            return False

    def _between(self, step: Step, seen: State | Absent, before: Record | None, want: Record | None) -> bool:
        """Is it what an interrupted write leaves, as the actuator itself judges where it can?"""
        own = getattr(self.actuators.get(step.actuator), "between", between)
        return bool(own(to_record(seen), before, want))

    def may_write(self, run: Run) -> bool:
        """Pause stops every forward write, but for those that change stead's own autonomy: lowering it, or a person's resume."""
        proposal = run.proposal
        own = all(step.actuator == "autonomy" for step in proposal.steps)
        exempt = own and (proposal.lowers or proposal.requester.kind in ("user", "hub"))
        return exempt or not self.paused()

    async def forward(self, run: Run, index: int, pending: Entries) -> runs.Moved:
        """Write one step, unless it is met, gone or another's by now. Returns the run and entries that are not committed yet."""
        step = run.proposal.steps[index]
        try:
            seen = await self.look(step)
        except SteadError as error:
            return self._settle(run, index, "forward", "failed", None, str(error), pending)
        if self.met(step, seen, step.want):
            return self._settle(run, index, "forward", "already", seen, "", pending)
        if isinstance(seen, Absent) and step.before is not None:
            return self._settle(run, index, "forward", "moot", seen, "the target is gone", pending)
        if not self.met(step, seen, step.before):
            return self._settle(run, index, "forward", "conflict", seen, "not as it was when this was planned", pending)
        return await self._set(run, index, "forward", seen, self._fitted(step), pending)

    def _fitted(self, step: Step) -> Record | None:
        """What is wanted: where a target has outgrown its plan, a governed value in its range that it can be held to by now."""
        rule, value = step.govern, value_of(step, step.want)
        least = getattr(self._actuator(step), "least", None)
        if rule is None or value is None or least is None:
            return step.want
        try:
            fitted = raised(rule, {rule.field: value}, least(step.target, rule.field))[rule.field]
        except Exception:  # beyond the range, or not to be told: then the write says what comes of it
            return step.want
        return step.want if fitted == value else with_value(step, fitted)

    async def back(self, run: Run, index: int, pending: Entries) -> runs.Moved:
        """Restore one step's own before, if what stead left is still there. Neither budget, window, tier nor pause matter."""
        step = run.proposal.steps[index]
        try:
            seen = await self.look(step)
        except SteadError as error:
            return self._settle(run, index, "undo", "unknown", None, str(error), pending)
        if self.met(step, seen, step.before):
            return self._settle(run, index, "undo", "already", seen, "", pending)
        if isinstance(seen, Absent) and step.want is not None:
            return self._settle(run, index, "undo", "moot", seen, "the target is gone", pending)
        if step.undo == "none":
            return self._settle(run, index, "undo", "failed", seen, f"can't be put back: {step.undo_reason}", pending)
        if not self._ours(run, index, seen):
            return self._settle(run, index, "undo", "conflict", seen, "not as stead left it", pending)
        return await self._set(run, index, "undo", seen, step.before, pending)

    def as_left(self, run: Run, index: int, seen: State | Absent) -> bool:
        """Is a step as stead left it: as it was written, or where a governed value was moved to?"""
        step = run.proposal.steps[index]
        return self.met(step, seen, self.governing.wanted(run, index, to_record(seen)))

    def _ours(self, run: Run, index: int, seen: State | Absent) -> bool:
        step = run.proposal.steps[index]
        done = runs.outcome(run, index, "forward")
        partly = done is None or done.outcome != "done" or runs.outcome(run, index, "undo") is not None
        want = self.governing.wanted(run, index, to_record(seen))
        return self.met(step, seen, want) or (partly and self._between(step, seen, step.before, want))

    async def _set(
        self, run: Run, index: int, way: Way, seen: State | Absent, want: Record | None, pending: Entries
    ) -> runs.Moved:
        step = run.proposal.steps[index]
        self.mark_step(step, way, "before_attempt")
        run, attempt = await self._attempt(run, index, way, seen, want, pending)
        self.mark_step(step, way, "after_attempt")
        cpu_s, began = time.thread_time(), self.clock.now().mono_ms
        error, operations = await self.write_state(run, step, way, want)
        self.mark_step(step, way, "after_write")
        outcome, after, why = await self._read_back(step, want, error)
        self.mark_step(step, way, "after_read")
        cost = (time.thread_time() - cpu_s, (self.clock.now().mono_ms - began) / 1000)
        return self._settle(run, index, way, outcome, after, why, (), attempt.id, cost, operations)

    def mark_step(self, step: Step, way: AnyWay, point: str) -> None:
        """Name a point at which tests try a crash."""
        self.mark(f"act.{step.actuator}.{way}.{point}")

    async def _attempt(
        self, run: Run, index: int, way: Way, seen: State | Absent, want: Record | None, pending: Entries
    ) -> tuple[Run, Attempt]:
        stamp = self.stamp()
        attempt = Attempt(self.new_id(), run.id, index, way, to_record(seen), want, stamp.now.unix_ms)
        unused = [approval.id for approval in run.approvals if approval.used_ms is None] if way == "forward" else []
        run, entries = runs.attempted(run, attempt, stamp)
        await self.commit(run, (*pending, *entries), unused)
        return run, attempt

    async def write_state(self, run: Run, step: Step, way: AnyWay, want: Record | None) -> tuple[str, tuple[str, ...]]:
        """Write; returns what went wrong (or nothing) and what was really done. Pause is looked at right before it."""
        actuator, door = self._actuator(step), NotedHost(self.host)
        if way != "undo" and not self.may_write(run):
            return "paused before it was written", ()
        self.mark_step(step, way, "before_write")
        wrong = ""
        write = getattr(actuator, "put_back", actuator.write) if way == "undo" else actuator.write
        try:
            async with asyncio.timeout(step.duration_s):
                await write(door, step.target, from_record(actuator, want))
        except TimeoutError:
            wrong = f"the write took longer than {step.duration_s:g} s, so its outcome was read"
        except Exception as error:
            wrong = str(error) or repr(error)
        finally:
            door.close()
        return wrong, door.operations

    async def _read_back(
        self, step: Step, want: Record | None, error: str
    ) -> tuple[Literal["done", "failed", "unknown", "moot"], State | Absent | None, str]:
        try:
            after = await self.look(step)
        except SteadError as unreadable:
            return "unknown", None, "; ".join(filter(None, (error, str(unreadable))))
        if self.met(step, after, want):
            return "done", after, error
        if isinstance(after, Absent):
            return "moot", after, error or "the target is gone"
        return "failed", after, error or "it was written, but reads otherwise"

    def _settle(
        self,
        run: Run,
        index: int,
        way: Way,
        outcome: Outcome,
        after: State | Absent | None,
        error: str,
        pending: Entries,
        attempt_id: str = "",
        cost: tuple[float, float] = (0.0, 0.0),
        operations: tuple[str, ...] = (),
    ) -> runs.Moved:
        stamp = self.stamp()
        seen = None if after is None else to_record(after)
        receipt = Receipt(attempt_id, index, way, outcome, seen, error, stamp.now.unix_ms, *cost, operations)
        run, entries = runs.settled(run, receipt, stamp)
        return run, (*pending, *entries)

    async def settle_interrupted(self, run: Run) -> runs.Moved:
        """After a crash: read what the attempt without a receipt left, and settle it. Writes nothing. No attempt: no entries."""
        attempt = runs.unsettled(run)
        if attempt is None:
            return run, ()
        step, index, way = run.proposal.steps[attempt.step], attempt.step, attempt.direction

        def settle(outcome: Outcome, seen: State | Absent | None, why: str = "") -> runs.Moved:
            return self._settle(run, index, way, outcome, seen, why, (), attempt.id, operations=(NOT_NOTED,))

        try:
            seen = await self._look_for(step, step.duration_s)
        except SteadError as error:
            return settle("unknown", None, str(error))
        if self.met(step, seen, attempt.want):
            return settle("done", seen)
        if isinstance(seen, Absent):
            return settle("moot", seen, "the target is gone")
        if self.met(step, seen, attempt.before) or self._between(step, seen, attempt.before, attempt.want):
            return settle("failed", seen, runs.INTERRUPTED)
        return settle("conflict", seen, "not as stead left it")
