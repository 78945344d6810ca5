"""What both laws share: go on in one direction until it turns out bad, retreat, and try again ever more seldom.

Where it began to be bad is remembered (the edge): up to just inside it the way back is walked freely, beyond it only after a
hold-off, which doubles whenever a move of the law's own ended badly, and begins anew when one beyond the edge went well. So in
a steady world the value rests inside the edge and moves less and less; in one that has changed, one good try sets it free.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from stead.model.change import Govern

Why = Literal["begins", "unknown", "bad", "recedes", "waits", "in between", "tries", "at the edge", "at the end"]
MARGIN: Final = 0.05  # of the edge: how far inside it the value rests
LEAST: Final = 0.25  # of the most that one interval may move: a retreat is never smaller
FALLING: Final = 0.7  # of the reading before: so much lower, it recedes already
EASY: Final = 0.25  # of the most: a step beyond the edge


class State(msgspec.Struct, frozen=True):
    """Where a law is. `edge` is None while nothing bad is known; times are monotonic, in ms."""

    rule: Govern
    value: float
    hold_ms: float
    until_ms: float = 0.0  # before this nothing is tried
    beyond_ms: float = 0.0  # before this nothing beyond the edge is tried
    edge: float | None = None
    tried_ms: float | None = None  # when it last moved on: what is bad within a hold-off is blamed on that
    worst: float | None = None  # the newest reading, where that was bad
    why: Why = "begins"


def begin(rule: Govern, value: float) -> State:
    """A law at its start: nothing is known but where the value is."""
    return State(rule, clipped(rule, value), rule.hold_off_s * 1000)


def resumed(rule: Govern, value: float, edge: float | None, hold_off_s: float | None, now_ms: float) -> State:
    """A law after a restart, with what it had learned: what was bad beyond the edge is not tried again at once."""
    state = begin(rule, value)
    if edge is None:
        return state
    hold_ms = 1000 * max(rule.hold_off_s, min(rule.hold_off_max_s, hold_off_s or 0.0))
    return msgspec.structs.replace(state, edge=clipped(rule, edge), hold_ms=hold_ms, beyond_ms=now_ms + hold_ms)


def at(state: State, value: float) -> State:
    """The state with the value as it really is: the system rounds and refuses, and people pause."""
    return msgspec.structs.replace(state, value=clipped(state.rule, value))


def is_bad(rule: Govern, reading: float) -> bool:
    """Is it above the level?"""
    return reading > rule.level


def is_calm(rule: Govern, reading: float) -> bool:
    """Is it so far below the level that something may be tried?"""
    return reading <= rule.level * (1 - rule.dead_band)


def excess(rule: Govern, reading: float) -> float:
    """How far above the level, as a share of it: at least LEAST, at most 1."""
    over = (reading - rule.level) / rule.level if rule.level > 0 else 1.0
    return max(LEAST, min(1.0, over))


def clipped(rule: Govern, value: float) -> float:
    """Within the range that was decided."""
    return max(rule.low, min(rule.high, value))


def backed_off(state: State, now_ms: float) -> State:
    """Nothing is known of the effect: loosen, whatever the edge is, and try nothing for a while."""
    value = clipped(state.rule, state.value * (1 + state.rule.loosen))
    until_ms = max(state.until_ms, now_ms + state.rule.hold_off_s * 1000)
    return msgspec.structs.replace(state, value=value, until_ms=until_ms, tried_ms=None, worst=None, why="unknown")


def rested(state: State) -> State:
    """Neither bad nor calm: where it is, it is well."""
    return msgspec.structs.replace(state, worst=None, why="in between")


def retreated(state: State, value: float, reading: float, now_ms: float, share: float) -> State:
    """It is bad: retreat to `value` and wait. If a move of its own led there, that is the edge, and it costs patience.

    While it recedes by itself, the retreat before is still at work. `share` tells the way that is tried: positive upwards,
    negative downwards.
    """
    rule, hold_ms, edge, beyond_ms = state.rule, state.hold_ms, state.edge, state.beyond_ms
    until_ms = now_ms + rule.hold_off_s * 1000
    if state.worst is not None and reading <= FALLING * state.worst:
        return msgspec.structs.replace(state, worst=reading, until_ms=until_ms, why="recedes")
    own = state.tried_ms is not None and now_ms <= state.tried_ms + rule.hold_off_s * 1000
    if state.worst is None and (own or edge is None):
        edge = state.value if edge is None or _before(state.value, edge, share) else edge
        hold_ms = min(2 * hold_ms, rule.hold_off_max_s * 1000) if own else hold_ms
        beyond_ms = now_ms + hold_ms
    return State(rule, clipped(rule, value), hold_ms, until_ms, beyond_ms, edge, worst=reading, why="bad")


def tried(state: State, share: float, now_ms: float) -> State:
    """It is calm: go on by `share` of the value (negative: downwards), freely up to inside the edge."""
    state = msgspec.structs.replace(state, worst=None)
    if now_ms < state.until_ms:
        return msgspec.structs.replace(state, why="waits")
    target, hold_off_ms = state.value * (1 + share), state.rule.hold_off_s * 1000
    if state.edge is not None and state.tried_ms is not None and not _before(state.value, state.edge, share):
        state = msgspec.structs.replace(state, edge=None, hold_ms=hold_off_ms)  # beyond it a whole hold-off went well
    if state.edge is None:
        return _moved(state, target, now_ms)
    inside = state.edge * (1 - MARGIN if share > 0 else 1 + MARGIN)
    if _before(state.value, inside, share):
        return _moved(state, target if _before(target, inside, share) else inside, now_ms)
    if now_ms < state.beyond_ms:
        return msgspec.structs.replace(state, why="at the edge")
    beyond = _moved(state, state.edge * (1 + share * EASY), now_ms)
    return msgspec.structs.replace(beyond, until_ms=now_ms + hold_off_ms)


def _moved(state: State, value: float, now_ms: float) -> State:
    value = clipped(state.rule, value)
    if value == state.value:
        return msgspec.structs.replace(state, why="at the end")
    return msgspec.structs.replace(state, value=value, tried_ms=now_ms, why="tries")


def _before(one: float, other: float, share: float) -> bool:
    """Does `one` come before `other` on the way?"""
    return one < other if share > 0 else one > other
