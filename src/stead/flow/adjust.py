"""One move of a governed value: look, is it still ours, choose, write, read back. No attempt for each: the range is durable.

The lock of the target is held by whoever calls (`flow.act`); pause and mode are looked at before and right at the write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from stead.flow import runs
from stead.flow.govern_state import clipped, value_of, with_value
from stead.flow.write import Writer, from_record, to_record
from stead.model.change import Record, Run
from stead.model.errors import SteadError


class Choice(msgspec.Struct, frozen=True):
    """Where a law wants the value, by which reading, and why in words; and what the law knows by then (see `Governed`)."""

    value: float
    reading: float | None
    reason: str
    edge: float | None = None
    hold_off_s: float | None = None


Choose = Callable[[float], Choice]  # the value as it is → where it should go


async def adjust(writer: Writer, run: Run, index: int, seen: Any, choose: Choose) -> Run:
    """Move one step's value from what was `seen` (stead's own) to what is chosen, within its range, as the system takes it.

    What the system refuses or fails to do leaves the value as it was, and is said in the run's `governed`. Returns the run with
    where the value stands. Raises nothing for what the system does.
    """
    step = run.proposal.steps[index]
    present = value_of(step, to_record(seen))
    if present is None:
        return run
    choice = choose(present)
    value, trouble = present, ""
    try:
        want = _planned(writer, run, index, seen, with_value(step, clipped(step, choice.value)))
        if want is not None:
            value, trouble = await _write(writer, run, index, present, want)
    except SteadError as error:
        trouble = str(error)
    reason = f"{choice.reason}, but it was not moved: {trouble}" if trouble else choice.reason
    at_ms = writer.stamp().now.unix_ms
    learned = (choice.edge, choice.hold_off_s)
    writer.governing.note(run, index, present, value, choice.reading, reason, at_ms, learned)
    return writer.governing.of(run)


def _planned(writer: Writer, run: Run, index: int, seen: Any, want: Record) -> Record | None:
    """What will be as the system rounds it; None when that is so already. SteadError for what the actuator refuses by now."""
    step = run.proposal.steps[index]
    actuator = writer.actuators[step.actuator]
    try:
        planned = actuator.plan(step.target, seen, from_record(actuator, want))
    except SteadError:
        raise
    except Exception as error:
        raise SteadError(f"{step.actuator} can't plan this: {error!r}", str(step.target)) from error
    return {**want, **(planned.want or {})} if planned.diff else None


async def _write(writer: Writer, run: Run, index: int, present: float, want: Record) -> tuple[float, str]:
    """Write, and read back: the value that is there now, and what went wrong, if anything did."""
    step = run.proposal.steps[index]
    wanted = value_of(step, want)
    writer.governing.leave(run, index, (present,) if wanted is None else (present, wanted))
    trouble, _ = await writer.write_state(run, step, "adjust", want)
    writer.mark_step(step, "adjust", "after_write")
    after = await writer.look(step)
    writer.mark_step(step, "adjust", "after_read")
    value = value_of(step, to_record(after))
    if value is None:
        return present, trouble or "it reads otherwise"
    if writer.met(step, after, want):
        writer.governing.leave(run, index, (value,))
        return value, ""
    return value, trouble or "it reads otherwise"


def told(writer: Writer, run: Run, at_once: bool = False) -> runs.Moved:
    """The run with where its values stand, and the entry that says so when it is time for one."""
    stamp = writer.stamp()
    run = writer.governing.of(run)
    if not writer.governing.untold(run, stamp.now.unix_ms, at_once):
        return run, ()
    return runs.adjusted(run, stamp)
