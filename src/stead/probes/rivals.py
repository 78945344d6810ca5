"""Which other controllers run on this host: a fact for each, so that people see whom stead yields to, and where."""

from __future__ import annotations

from stead.cgroups.rivals import RIVALS, running
from stead.model.observe import Fact, Now, Reading
from stead.probes.reading import SystemProbe
from stead.protocols import Host


class Rivals(SystemProbe):
    """Looks at the names of processes, every five minutes."""

    name = "rivals"
    interval_s = 300.0

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def read_linux(self, host: Host, now: Now) -> Reading:
        """A fact for each that runs, in words; None for one that ran before and is gone."""
        here = running(host)
        gone = sorted(self._seen - here.keys())
        self._seen = set(here)
        does = {rival.name: f"{rival.does} (sets {', '.join(rival.knobs)})" for rival in RIVALS}
        facts = [Fact(f"rival.{name.lower()}", "host", does[name]) for name in sorted(here)]
        return Reading(facts=(*facts, *(Fact(f"rival.{name.lower()}", "host", None) for name in gone)))

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Those known here are Linux programs."""
        return Reading()


def probe() -> Rivals:
    """Make the probe."""
    return Rivals()
