"""Series of which it is known whether anything was changed: noise of several kinds, lulls, cycles, a hog that comes and goes."""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from stead.stats.effect import Control, Effect, interrupted

AT_LEAST = 0.3


class Told(NamedTuple):
    """A series with a control at the same seconds, and the second in which something was changed."""

    values: list[float]
    demand: list[float]
    changed: int


def autoregressive(count: int, rho: float, rng: random.Random) -> list[float]:
    """Normal noise of variance one."""
    value, found = rng.gauss(0, 1), []
    for _ in range(count):
        found.append(value)
        value = rho * value + rng.gauss(0, math.sqrt(1 - rho * rho))
    return found


def noisy(rng: random.Random, rho: float, spread: float, before: int, after: int, drop: float = 0.0) -> Told:
    """A positive level with noise in ratios, and a change that takes away the share `drop`."""
    values = [10 * math.exp(spread * one) for one in autoregressive(before + after, rho, rng)]
    return Told([*values[:before], *((1 - drop) * one for one in values[before:])], [1.0] * (before + after), before)


def cycling(rng: random.Random, period_s: float) -> Told:
    """It goes up and down for ever; nothing is changed."""
    values = [10 + 8 * math.sin(2 * math.pi * second / period_s) + rng.gauss(0, 1) for second in range(900)]
    return Told([max(one, 0.0) for one in values], [2 + rng.gauss(0, 0.2) for _ in values], rng.randrange(320, 700))


def bursting(rng: random.Random, often: float, lasts_s: float) -> Told:
    """Zero, but for bursts that begin so often (a second) and last so long; something is done in one, which changes nothing."""
    while True:
        values, on = [], False
        for _ in range(900):
            on = rng.random() < (1 - 1 / lasts_s if on else often)
            values.append(rng.expovariate(1 / 5.0) if on else 0.0)
        hot = [second for second in range(320, 800) if sum(values[second - 3 : second]) > 5]
        if hot:
            return Told(values, [2 + rng.gauss(0, 0.2) for _ in values], rng.choice(hot))


def peaking(rng: random.Random, rho: float, for_s: int) -> Told:
    """Something is done once the series has been high for so long, which changes nothing: the peak ends by itself."""
    while True:
        values = [max(10 + 8 * one, 0.0) for one in autoregressive(1500, rho, rng)]
        demand = [2 + 0.2 * one for one in autoregressive(1500, 0.5, rng)]
        for second in range(320, 1400):
            if min(values[second - for_s : second]) > 15:
                return Told(values, demand, second)


def hogged(rng: random.Random, for_s: int, drop: float = 0.0, ends_after_s: float = 0.0, rho: float = 0.7) -> Told:
    """A hog begins, and is answered once the loss has been above its level for `for_s`. It ends by itself, or stays.

    Below one core it hurts nobody, above it each core costs 20 %: a lull is more than a proportion.
    """
    while True:
        life = rng.expovariate(1 / ends_after_s) if ends_after_s else math.inf
        demand = [
            max((0.1 if second < 400 or second >= 400 + life else 2.6) * (1 + 0.15 * one), 0.0)
            for second, one in enumerate(autoregressive(700, 0.6, rng))
        ]
        values = [
            max((wanted - 1) * 20, 0.0) * max(1 + 0.25 * one, 0.0) + abs(0.2 * one)
            for wanted, one in zip(demand, autoregressive(700, rho, rng), strict=True)
        ]
        for second in range(400, 500):
            if min(values[second - for_s : second]) > 10:
                return Told([*values[:second], *((1 - drop) * one for one in values[second:])], demand, second)


def failing(rng: random.Random, share: float, per_s: int, lasted_s: int, within: int, mended: bool) -> Told:
    """The share of a service's requests that fail, of the last 5 seconds; nothing fails until `lasted_s` before it is answered.

    What came right after is left out, as where only the last seconds of a longer window are judged.
    """
    shares = [0.0] * 320 + [share] * lasted_s + [0.0 if mended else share] * (5 + within)
    errors = [sum(rng.random() < one for _ in range(per_s)) if one else 0 for one in shares]
    values = [sum(errors[end - 5 : end]) / (5 * per_s) for end in range(5, len(errors) + 1)]
    changed = 316 + lasted_s  # values[0] is of the fifth second
    return Told([*values[:changed], *values[changed + 5 :]], [1.0] * (len(values) - 5), changed)


def judged(told: Told, within: int, after: int, *, controlled: bool) -> str:
    """What is said of it, by the whole of the interval: helped, no_help, inconclusive; or why there is no effect to tell."""
    values, changed = told.values, told.changed
    since = max(changed - 300, 0)
    if controlled:
        control = Control("demand", told.demand[since:changed], told.demand[changed : changed + after], 0.7)
        found = interrupted(values[since:changed], values[changed : changed + after], (control,))
    else:
        start = max(changed - within, 0)
        found = interrupted(values[start:changed], values[changed : changed + after], (), values[since:start])
    return verdict(found) if isinstance(found, Effect) else found


def verdict(found: Effect) -> str:
    """By a prediction of so much less."""
    if found.after <= (1 - AT_LEAST) * found.least and found.least > 0:
        return "helped"
    return "no_help" if found.after > (1 - AT_LEAST) * found.most else "inconclusive"
