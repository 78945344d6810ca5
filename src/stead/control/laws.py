"""The laws by name, and what each takes where the catalogue says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from stead.control import aimd, senpai
from stead.control.probing import State, at, begin, resumed
from stead.model.change import Law

__all__ = ["LAWS", "ControlLaw", "State", "at", "begin", "resumed"]

Step = Callable[[State, float | None, float, float | None], tuple[State, float]]  # state, reading, now_ms, used → state, value


class ControlLaw(NamedTuple):
    """One law: its step, and its own values for `model.change.Govern`."""

    step: Step
    own: Mapping[str, float]
    peak: bool = False  # of what is used it takes the most over that stretch, not the newest
    over_s: float = 0.0  # the mean that it takes is of so long, an interval at least; what was bad before it counts as answered


LAWS: Final[Mapping[Law, ControlLaw]] = {
    "aimd": ControlLaw(aimd.step, {"interval_s": 5.0, "tighten": 0.15, "loosen": 0.3}),
    "senpai": ControlLaw(
        senpai.step, {"interval_s": 6.0, "tighten": 0.005, "loosen": 0.5, "hold_off_s": 60.0}, peak=True, over_s=30.0
    ),
}
