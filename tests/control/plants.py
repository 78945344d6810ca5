"""Synthetic plants: what a limit does to what is read, with delay, smoothing, noise, hysteresis and saturation."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from itertools import pairwise

import msgspec

from stead.control.laws import LAWS, State, begin
from stead.model.change import Govern

Limited = Callable[[float], float]  # what is in force of the limit → reading in the steady state


class Plant:
    """A reading that follows a value late and smoothed.

    `delay` is in intervals, `smooth` the share of the old reading that an interval keeps, `noise` the standard deviation in the
    metric's unit, `silent` the share of readings that are missing.
    """

    def __init__(
        self, answer: Limited, *, delay: int = 0, smooth: float = 0.0, noise: float = 0.0, silent: float = 0.0, seed: int = 1
    ) -> None:
        self.answer, self.smooth, self.noise, self.silent = answer, smooth, noise, silent
        self._late: deque[float] = deque(maxlen=delay + 1)
        self._random = random.Random(seed)
        self._level: float | None = None

    def read(self, value: float) -> float | None:
        self._late.append(value)
        steady = self.answer(self._late[0])
        self._level = steady if self._level is None else self.smooth * self._level + (1 - self.smooth) * steady
        if self._random.random() < self.silent:
            return None
        return max(0.0, self._level + self._random.gauss(0, self.noise))


def shared_cpu(room: float, demand: float, base: float = 1.0, gain: float = 60.0) -> Limited:
    """What others lose (percent) beside a contender that may take so much of a core (percent), where `room` would be left."""
    return lambda value: min(100.0, base + gain * max(0.0, min(value, demand) - room) / room)


def cold_memory(hot: float, gain: float = 40.0) -> Limited:
    """The pressure of a group (percent) that needs so many bytes, under a limit."""
    return lambda value: min(100.0, gain * max(0.0, hot - value) / hot)


class Trace(msgspec.Struct, frozen=True):
    values: list[float]
    readings: list[float | None]
    states: list[State]

    def turns(self, start: int = 0) -> int:
        """How often the value changed its direction."""
        moves = [b - a for a, b in pairwise(self.values[start:]) if b != a]
        return sum(1 for a, b in pairwise(moves) if (a > 0) != (b > 0))

    def bad(self, level: float, start: int = 0) -> float:
        """The share of known readings above a level."""
        known = [one for one in self.readings[start:] if one is not None]
        return sum(1 for one in known if one > level) / len(known)


def drive(
    rule: Govern, plant: Plant | Callable[[int], Plant], start: float, intervals: int, used: Limited | None = None
) -> Trace:
    """Let a law move a plant's value for so many intervals; `plant` may say which plant it is by the interval."""
    state, values, readings, states = begin(rule, start), [start], list[float | None](), list[State]()
    for index in range(intervals):
        present = plant if isinstance(plant, Plant) else plant(index)
        reading, in_use = present.read(values[-1]), used(values[-1]) if used else None
        state, value = LAWS[rule.law].step(state, reading, index * rule.interval_s * 1000, in_use)
        values.append(value)
        readings.append(reading)
        states.append(state)
    return Trace(values, readings, states)
