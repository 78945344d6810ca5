"""How the road is, station by station: what `stead status` shows, and what stands still while the ledger can't be written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from stead.model.find import Observation
from stead.model.messages import Station

STATIONS: Final = ("observe", "find", "propose", "decide", "act", "verify", "record")
STILL: Final = "stands still: what can't be recorded is not done"


def stations(probes: Mapping[str, str | None], ticks: int, failure: str, trouble: str) -> tuple[Station, ...]:
    """Each station's health, then each probe's. `trouble`: why the ledger can't be written now; observing goes on then."""
    if trouble:
        road = [Station("observe", True), *(Station(name, False, STILL) for name in STATIONS[1:-1])]
        road.append(Station("record", False, trouble))
    else:
        road = [Station(name, not failure if ticks else None, failure) for name in STATIONS]
    return (*road, *(Station(f"probe {name}", None if ill is None else not ill, ill or "") for name, ill in probes.items()))


class Missed:
    """The last words of subjects that vanished while findings could not be recorded: they are not said a second time."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Observation] = {}

    def join(self, observations: Sequence[Observation]) -> Sequence[Observation]:
        """What was missed, then what is new. A subject that is back speaks for itself."""
        if not self._kept:
            return observations
        back = {(one.metric, one.subject) for one in observations}
        return [*(one for key, one in self._kept.items() if key not in back), *observations]

    @contextlib.contextmanager
    def unless_recorded(self, observations: Sequence[Observation]) -> Iterator[None]:
        """Keep them for the next tick if what is done with them here fails."""
        try:
            yield
        except BaseException:
            self._kept = {(one.metric, one.subject): one for one in observations if one.value is None}
            raise
        self._kept = {}
