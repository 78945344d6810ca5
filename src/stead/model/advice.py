"""Advice: what a thing has, what it was measured to need, and the one setting that would fit it. Applied as a proposal."""

from __future__ import annotations

from typing import Literal

import msgspec

from stead.model.change import Record
from stead.model.observe import Top

AdviceKind = Literal["limit", "workers", "merging", "consumer"]


class Use(msgspec.Struct, frozen=True):
    """What one metric of one subject was measured to be over a span. `covered_s`: for how much of it there are values."""

    metric: str
    subject: str
    mean: float
    p95: float
    p99: float
    max: float
    covered_s: float


class Advice(msgspec.Struct, frozen=True):
    """One recommendation. `id` is made of what it is about, so that it stays the same while the advice does."""

    id: str
    kind: AdviceKind
    subject: str
    title: str
    reason: str  # what was measured, for how long
    saves: str  # what it frees or gains, in words
    risk: str  # what may go wrong, in words
    actuator: str = ""  # with `state`: what applying it would set; empty: nothing here can
    state: Record = {}
    now: Record = {}  # what is set at present, of the same fields
    saves_amount: float | None = None  # in `unit`; sorts the list
    unit: str = ""
    impossible: str = ""  # why no command can apply it


class GetAdvice(msgspec.Struct, frozen=True, tag="advice"):
    """→ AdviceList from what was measured in the last `over_s`; things measured for less than `at_least_s` are left out."""

    over_s: float = 7 * 86_400.0
    at_least_s: float = 86_400.0


class AdviceList(msgspec.Struct, frozen=True, tag="advice"):
    """Answer to GetAdvice. `too_short`: subject → how long it has been measured, in seconds, where that is not enough yet.

    `measured`: how many subjects there was enough of.
    """

    advice: tuple[Advice, ...]
    over_s: float
    at_least_s: float
    too_short: dict[str, float] = {}
    top: Top | None = None
    measured: int = 0


class ApplyAdvice(msgspec.Struct, frozen=True, tag="apply-advice"):
    """→ RunList: the advice with this id, as it is now, becomes this person's proposal and is decided like any other."""

    id: str
    over_s: float = 7 * 86_400.0
    at_least_s: float = 86_400.0
