"""Governed steps: what of a step's field is stead's own, and where it has been. Pure.

A range was decided and made durable with the plan, before the first write. While the process lives it knows the very value that
it left; after a crash any value within the range is its own, as no single move was recorded. Anything else is another hand's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from stead.model.change import Govern, Governed, Record, Run, Step
from stead.protocols import Latest

SLACK: Final = 0.01  # of a range's ends: how far a system may round
NEAR: Final = 0.8  # of a limit: what uses less of it does not feel it
TOLD_MS: Final = 300_000  # an entry about a run's moves, at most so often


class _Kept(msgspec.Struct):
    """Of one run: what was left in each governed step, where each stands, and what of it is in the ledger."""

    left: dict[int, tuple[float, ...]]
    live: dict[int, Governed]
    told: tuple[Governed, ...]
    told_ms: int


class GovernedRuns:
    """What this process has left in governed steps. Nothing of it is needed after a crash."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def wanted(self, run: Run, index: int, seen: Record | None) -> Record | None:
        """What a step should read now: its want, with the field as stead left it. `seen` is what it does read."""
        step = run.proposal.steps[index]
        value = value_of(step, seen)
        if step.govern is None or value is None:
            return step.want
        kept = self._kept.get(run.id)
        left = kept.left.get(index, ()) if kept else ()
        if left:
            return with_value(step, min(left, key=lambda one: abs(one - value)))
        return with_value(step, value) if within(step.govern, value) else step.want

    def leave(self, run: Run, index: int, values: Sequence[float]) -> None:
        """One of these is what stead leaves in a step: several, while it is not known which."""
        self._of(run).left[index] = tuple(values)

    def note(
        self,
        run: Run,
        index: int,
        was: float,
        value: float,
        reading: float | None,
        reason: str,
        at_ms: int,
        learned: tuple[float | None, float | None] = (None, None),
    ) -> None:
        """Where a step's value stands after a move, or after none: then it `was` so before. `learned`: its law's edge, wait."""
        step, live = run.proposal.steps[index], self._of(run).live
        before = live.get(index) or Governed(index, _rule(step).field, was, was, was, 0, None, "", at_ms)
        live[index] = msgspec.structs.replace(
            before,
            value=value,
            least=min(before.least, was, value),
            most=max(before.most, was, value),
            moves=before.moves + (value != was),
            reading=reading,
            reason=reason,
            at_ms=at_ms,
            edge=learned[0],
            hold_off_s=learned[1],
        )

    def of(self, run: Run) -> Run:
        """The run with where its values stand now."""
        kept = self._kept.get(run.id)
        return msgspec.structs.replace(run, governed=_ordered(kept)) if kept else run

    def untold(self, run: Run, now_ms: int, at_once: bool = False) -> bool:
        """Has it moved since the ledger was last told, and is it time to say so?"""
        kept = self._kept.get(run.id)
        if kept is None or _moves(_ordered(kept)) == _moves(kept.told):
            return False
        return at_once or now_ms >= kept.told_ms + TOLD_MS or now_ms < kept.told_ms

    def tell(self, run: Run, now_ms: int) -> None:
        """It is in the ledger."""
        kept = self._of(run)
        kept.told, kept.told_ms = _ordered(kept), now_ms

    def forget(self, run: Run) -> None:
        """It is over."""
        self._kept.pop(run.id, None)

    def _of(self, run: Run) -> _Kept:
        kept = self._kept.get(run.id)
        if kept is None:
            known = {one.step: one for one in run.governed}
            kept = self._kept[run.id] = _Kept({}, known, run.governed, run.acted_ms or run.updated_ms)
        return kept


def value_of(step: Step, seen: Record | None) -> float | None:
    """The governed field's value, None when it has no number (the limit was taken off)."""
    return number_of((seen or {}).get(step.govern.field), step.govern.keys) if step.govern else None


def with_value(step: Step, value: float) -> Record:
    """What the step wants, with another value of the governed field, in the type that it had."""
    rule, want = _rule(step), step.want or {}
    return {**want, rule.field: with_number(want.get(rule.field), rule.keys, value)}


def number_of(value: Any, keys: Collection[str] = ()) -> float | None:
    """The number of a field; of lines such as "8:0 rbps=1048576 wbps=max" what all these keys are. None: none, or several."""
    if not keys:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    found = _texts(value, keys)
    text = found.pop() if len(found) == 1 else ""
    return float(text) if text.isdigit() else None


def least_of(value: Any, keys: Collection[str] = ()) -> float | None:
    """The same, but of lines that differ the tightest number. None: there is none."""
    if not keys:
        return number_of(value)
    return min((float(text) for text in _texts(value, keys) if text.isdigit()), default=None)


def _texts(value: Any, keys: Collection[str]) -> set[str]:
    parts = [part.partition("=") for line in value for part in line.split()] if isinstance(value, list | tuple) else []
    return {text for key, _, text in parts if key in keys}


def with_number(value: Any, keys: Collection[str], number: float) -> Any:
    """The same field with another number, in the type that it had; in lines each of these keys has it."""
    if not keys:
        return round(number) if isinstance(value, int) else number

    def moved(part: str) -> str:
        key, sign, _ = part.partition("=")
        return f"{key}={round(number)}" if sign and key in keys else part

    return [" ".join(map(moved, line.split())) for line in value or ()]


def clipped(step: Step, value: float) -> float:
    """Within the range that was decided, whatever a law says."""
    rule = _rule(step)
    return max(rule.low, min(rule.high, value))


def within(rule: Govern, value: float) -> bool:
    """Is it in the range that was decided, as far as systems round?"""
    return rule.low * (1 - SLACK) <= value <= rule.high * (1 + SLACK)


def binds(run: Run, latest: Latest) -> bool:
    """Does a governed value of it limit anything still: is one away from its loose end, and does what it limits come near it?

    Where the rule names what is used, and that is not known, it is not said to.
    """
    stands = {one.step: one.value for one in run.governed}
    rules = ((index, step.govern) for index, step in enumerate(run.proposal.steps) if step.govern)
    return any(_binds(rule, stands.get(index, rule.low), latest) for index, rule in rules)


def _binds(rule: Govern, value: float, latest: Latest) -> bool:
    if value >= rule.high * (1 - SLACK):
        return False
    if not rule.used_metric:
        return True
    used = latest(rule.used_metric, rule.used_subject)
    return used is not None and used * rule.used_times >= NEAR * value


def governed_steps(run: Run) -> list[int]:
    """Its steps that are moved."""
    return [index for index, step in enumerate(run.proposal.steps) if step.govern]


def _rule(step: Step) -> Govern:
    if step.govern is None:
        raise ValueError(f"{step.actuator} of {step.target} is not governed")
    return step.govern


def _ordered(kept: _Kept) -> tuple[Governed, ...]:
    return tuple(kept.live[index] for index in sorted(kept.live))


def _moves(governed: Sequence[Governed]) -> int:
    return sum(one.moves for one in governed)
