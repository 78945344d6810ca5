"""`aimd`: limit one for the sake of others. While they suffer it tightens step by step; while they don't, it loosens again.

The reading is what others lose (pressure, or an objective's miss: up is bad). It tightens in shares of what is used, not of a
limit that nobody feels. The name is that of congestion control, where a sender probes for room in the same way; what keeps it
from swinging is in `probing`: the dead band, the remembered edge, and the hold-off that grows.
"""

from __future__ import annotations

from stead.control.probing import State, backed_off, begin, excess, is_bad, is_calm, rested, retreated, tried

__all__ = ["begin", "step"]


def step(state: State, reading: float | None, now_ms: float, used: float | None = None) -> tuple[State, float]:
    """The next state and value. `reading` is in the metric's unit (None: unknown, which only loosens), `used` in the field's.

    Call it once an interval, with the mean of the readings since the last call.
    """
    rule = state.rule
    if reading is None:
        state = backed_off(state, now_ms)
    elif is_bad(rule, reading):
        felt = state.value if used is None or used <= 0 else min(state.value, used)
        state = retreated(state, felt * (1 - rule.tighten * excess(rule, reading)), reading, now_ms, rule.loosen)
    elif is_calm(rule, reading):
        state = tried(state, rule.loosen, now_ms)
    else:
        state = rested(state)
    return state, state.value
