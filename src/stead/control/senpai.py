"""`senpai`: find what one does not need, without hurting it. It tightens a little at a time until its own pressure shows.

The reading is the pressure of the limited one itself. The nearer it is to the level, the smaller the step; above the level it
gives back at once, more the further above. After the daemon of that name, which finds memory that is held and not used by
lowering a group's memory limit until reclaim begins to cost (https://github.com/facebookincubator/senpai). That one takes at
most a hundredth each 6 s, its successor a twentieth of that (Transparent Memory Offloading, ASPLOS 2022); here it is half a
hundredth. It walks from a little above the most that was used of late: a limit that the peaks of an ordinary load run into makes
the limited one itself reclaim, each time. What is lowered is taken back by whoever lowers it (`actuators.limit`).
"""

from __future__ import annotations

from typing import Final

from stead.control.probing import State, at, backed_off, begin, excess, is_bad, is_calm, rested, retreated, tried

__all__ = ["begin", "step"]

HEADROOM: Final = 0.02  # above what is used: that is free to be taken, and taking it makes nobody reclaim
KNOWN: Final = 4.0  # times as fast it goes back to the edge, over what was no harm before


def step(state: State, reading: float | None, now_ms: float, used: float | None = None) -> tuple[State, float]:
    """The next state and value. `reading` is in the metric's unit (None: unknown, which only loosens), `used` in the field's.

    Where less is used than is allowed, it begins at what is used (the most of late). Call it once an interval, with
    the mean over the last half minute, in which what is answered already counts as none: a single short stall is no edge.
    """
    rule = state.rule
    if reading is None:
        state = backed_off(state, now_ms)
    elif is_bad(rule, reading):
        state = retreated(state, state.value * (1 + rule.loosen * excess(rule, reading)), reading, now_ms, -rule.tighten)
    elif is_calm(rule, reading):
        share = rule.tighten * (1 - reading / rule.level if rule.level > 0 else 1.0)
        if used is not None and used > 0 and now_ms >= state.until_ms:
            state = at(state, min(state.value, used * (1 + HEADROOM)))
        known = state.edge is not None and state.value > state.edge
        state = tried(state, -share * (KNOWN if known else 1.0), now_ms)
    else:
        state = rested(state)
    return state, state.value
