"""Govern: when a governed value is due, what its law says, and who moves it. One loop for each governed step of a live run.

The range was decided and recorded once; a move inside it asks nobody and is no entry of its own. What a law learned is kept with
its run (as durable as where the value stands: every few minutes, and at the end), and after a restart it goes on with that.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Final

import msgspec

from stead.control.laws import LAWS, State, at, resumed
from stead.flow.act import Hands
from stead.flow.adjust import Choice
from stead.flow.govern_state import governed_steps
from stead.flow.measure import Memory
from stead.model.change import Govern, Governed, Run
from stead.model.observe import Now
from stead.protocols import Latest

LIVE: Final = ("verifying", "held")
ROUNDING: Final = 0.02  # of the value: what a system may have rounded does not move the law
WORDS: Final = {
    "unknown": "{metric} is not known, so it loosens",
    "bad": "{metric} is {reading:.4g}, above {level:g}",
    "recedes": "{metric} is {reading:.4g}, above {level:g}, and falls already",
    "waits": "{metric} is {reading:.4g}; it waits after the last time that it was above {level:g}",
    "in between": "{metric} is {reading:.4g}, close to {level:g}",
    "tries": "{metric} is {reading:.4g}, below {level:g}: a step is tried",
    "at the edge": "{metric} is {reading:.4g}; a step further it was above {level:g}",
    "at the end": "{metric} is {reading:.4g}, and this is the end of the range",
}


class Loop(msgspec.Struct):
    """One governed step: its law's memory, and since when readings count for the next move (both times monotonic, in ms)."""

    due_ms: float
    since_ms: float
    state: State | None = None


class Governor:
    """Moves what is governed. `series` gives the mean of a metric over a stretch of time, `latest` its newest value."""

    def __init__(self, hands: Hands, series: Memory, latest: Latest) -> None:
        self._hands, self._series, self._latest = hands, series, latest
        self._loops: dict[tuple[str, int], Loop] = {}

    def due(self, runs: Iterable[Run], busy: Callable[[str], bool], now: Now) -> list[tuple[Run, Coroutine[Any, Any, Run]]]:
        """The runs whose values are to be moved now, each with what moves them. A run that somebody is at work on waits."""
        found, alive = [], set[tuple[str, int]]()
        for run in runs:
            governed = governed_steps(run) if run.state in LIVE else ()
            if not governed:
                continue
            alive |= {(run.id, index) for index in governed}
            steps = [index for index in governed if self._is_due(run, index, now)]
            if steps and not busy(run.id):
                found.append((run, self._move(run, steps, now)))
        if len(self._loops) > len(alive):
            self._loops = {key: loop for key, loop in self._loops.items() if key in alive}
        return found

    def _is_due(self, run: Run, index: int, now: Now) -> bool:
        loop = self._loops.get((run.id, index))
        if loop is None:
            wait_ms = _rule(run, index).interval_s * 1000
            self._loops[run.id, index] = Loop(now.mono_ms + wait_ms, now.mono_ms)
        return loop is not None and now.mono_ms >= loop.due_ms

    async def _move(self, run: Run, steps: list[int], now: Now) -> Run:
        for index in steps:
            rule, loop = _rule(run, index), self._loops[run.id, index]
            loop.due_ms = now.mono_ms + rule.interval_s * 1000
            run = await self._hands.adjust(run, index, partial(self._choice, rule, loop, _known(run, index), now))
            if run.state not in LIVE:
                break
        return run

    def _choice(self, rule: Govern, loop: Loop, known: Governed | None, now: Now, present: float) -> Choice:
        law = LAWS[rule.law]
        reading = self._series.mean(rule.metric, rule.subject, loop.since_ms + 1, now.mono_ms)
        if reading is not None and law.over_s:
            reading *= min(1.0, (now.mono_ms - loop.since_ms) / (1000 * max(law.over_s, rule.interval_s)))
        used = self._used(rule, loop, now) if rule.used_metric else None
        learned = (known.edge, known.hold_off_s) if known else (None, None)
        state = resumed(rule, present, *learned, now.mono_ms) if loop.state is None else loop.state
        if abs(present - state.value) > ROUNDING * state.value:
            state = at(state, present)
        state, value = law.step(state, reading, now.mono_ms, None if used is None else used * rule.used_times)
        told = state.worst is not None or reading is None  # what was bad is answered: the next reading is of what came after it
        next_ms = now.mono_ms + 1000 * (rule.interval_s - law.over_s)
        loop.since_ms = now.mono_ms if told else min(now.mono_ms, max(loop.since_ms, next_ms))
        loop.state = state
        words = WORDS[state.why].format(metric=rule.metric, reading=reading, level=rule.level)
        return Choice(value, reading, words, state.edge, state.hold_ms / 1000)

    def _used(self, rule: Govern, loop: Loop, now: Now) -> float | None:
        """What is used of the field: the newest value, or for a law that asks for it the most over its stretch of time."""
        newest = self._latest(rule.used_metric, rule.used_subject)
        if newest is None or not LAWS[rule.law].peak:
            return newest
        since_ms = now.mono_ms - 1000 * max(rule.interval_s, LAWS[rule.law].over_s)
        points = self._series.points(rule.used_metric, rule.used_subject, since_ms, now.mono_ms)
        return max([newest, *(value for _, value in points)])


def _known(run: Run, index: int) -> Governed | None:
    return next((one for one in run.governed if one.step == index), None)


def _rule(run: Run, index: int) -> Govern:
    rule = run.proposal.steps[index].govern
    assert rule is not None
    return rule
