"""Which levers would make a process slower? Only those matter where it is protected, and where a remedy is to slow it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stead.scheduling.cpus import parse_cpus
from stead.scheduling.levers import LEVEL_OF, Priority

_POLICIES: Final = ("other", "batch", "idle")
_CLASSES: Final = {"realtime": 0, "best_effort": 1, "none": 1, "idle": 2}
_PAIR: Final = ("ionice_class", "ionice_level")
_NICE: Final = ("nice", "autogroup_nice")


def lowered(now: Priority, want: Mapping[str, Any]) -> dict[str, Any]:
    """Of the wanted levers those that are lower than they are; IO class and level go together.

    What is not known now is taken to be lower, and so is a policy that is none of the ordinary ones.
    """
    kept = {key: value for key, value in want.items() if key in _LEVERS and value is not None and _lower(key, now, value)}
    if any(want.get(key) is not None for key in _PAIR) and _io_lower(now, want):
        kept |= {key: want[key] for key in _PAIR if want.get(key) is not None}
    return kept


def _lower(key: str, levers: Priority, want: Any) -> bool:
    now = getattr(levers, key)
    if now is None or now == want:
        return now is None
    if key in _NICE:
        return bool(want > now)
    if key == "cpus":
        return not set(parse_cpus(now)) <= set(parse_cpus(want))
    if key == "policy":
        return want not in _POLICIES or (now in _POLICIES and _POLICIES.index(want) > _POLICIES.index(now))
    return bool(want < now)  # a clamp


def _io_lower(now: Priority, want: Mapping[str, Any]) -> bool:
    """Who has no class of its own is as a best-effort one of the level that its nice stands for (ioprio_get(2))."""
    if now.ionice_class is None:
        return True
    wanted = want.get("ionice_class") or now.ionice_class
    level = want.get("ionice_level")
    return _rank(wanted, LEVEL_OF[wanted] if level is None else level, now.nice) > _rank(
        now.ionice_class, now.ionice_level or 0, now.nice
    )


def _rank(io_class: str, level: int, nice: int | None) -> tuple[int, int]:
    """The higher, the later it is served."""
    if io_class == "none":
        level = ((nice or 0) + 20) // 5
    return _CLASSES[io_class], 0 if io_class == "idle" else level


_LEVERS: Final = (*_NICE, "policy", "cpus", "uclamp_min", "uclamp_max")
