"""Would these levers make a process slower? Only then does it matter that it is protected: it may be given more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stead.actuators.priority_cpus import parse_cpus
from stead.actuators.priority_levers import Priority

_POLICIES: Final = ("other", "batch", "idle")
_IO: Final = ("realtime", "best_effort", "none", "idle")  # without a class of its own it goes by its nice


def slower(now: Priority, want: Mapping[str, Any]) -> bool:
    """Is one of the wanted levers lower than it is? What is not known is taken to be lower."""
    return any(_lower(key, getattr(now, key), value, now) for key, value in want.items() if key in _COMPARED)


def _lower(key: str, now: Any, want: Any, levers: Priority) -> bool:
    if now is None or now == want:
        return now is None
    if key in ("nice", "autogroup_nice"):
        return bool(want > now)
    if key in ("uclamp_min", "uclamp_max"):
        return bool(want < now)
    if key == "ionice_level":
        return levers.ionice_class in ("realtime", "best_effort") and bool(want > now)
    if key == "cpus":
        return not set(parse_cpus(now)) <= set(parse_cpus(want))
    ranks = _POLICIES if key == "policy" else _IO
    return want not in ranks or (now in ranks and ranks.index(want) > ranks.index(now))


_COMPARED: Final = frozenset(
    ("nice", "autogroup_nice", "ionice_class", "ionice_level", "policy", "cpus", "uclamp_min", "uclamp_max")
)
