"""What a process starts while it is lowered inherits that (sched(7), ioprio_set(2)): an undo has to reach it as well.

It is told from what was there before by its start: it is younger than everybody who was in the family when the change was
planned. Of those the levers that still are as stead set the process go back with it; one that somebody changed since is left
alone, as a thread with a value of its own is. What an ended process between them had started is not found.
"""

from __future__ import annotations

from typing import Any, Final

from stead.cgroups.own_groups import ROUNDS, descendants
from stead.model.change import Target
from stead.model.errors import SteadError
from stead.protocols import Host
from stead.scheduling.levers import Priority, leader_levers, set_levers

YOUNGEST: Final = "youngest"  # in `Target.within`: the start of the family's last-born, in clock ticks since boot
_ALONE: Final[tuple[str, ...]] = ("nice", "policy", "cpus", "uclamp_min", "uclamp_max")
_PAIR: Final[tuple[str, ...]] = ("ionice_class", "ionice_level")  # of no use one without the other
INHERITED: Final = frozenset((*_ALONE, *_PAIR))


def family_within(host: Host, pid: int) -> dict[str, str]:
    """The start of the youngest of the family by now, for a target to be kept with: who is younger was started afterwards."""
    starts = (host.start_ticks(one) for one in (pid, *descendants(host, pid)))
    known = [ticks for ticks in starts if ticks is not None]
    return {YOUNGEST: str(max(known))} if known else {}


class Heirs:
    """Whoever a process started since a change was planned, and what they inherited of it: put back with it.

    `lowered`: the levers of the process as they are before it is put back itself.
    """

    def __init__(self, host: Host, target: Target, lowered: Priority, want: Priority) -> None:
        self._host, self._pid, self._lowered, self._want = host, int(target.name), lowered, want
        youngest = target.within.get(YOUNGEST, "")
        self._since = int(youngest) if youngest.isdigit() else None
        self.refused: dict[int, str] = {}  # pid → what the system said

    def put_back(self) -> None:
        """Put back what they inherited, until no further one is found that has it."""
        if self._since is None:
            return
        for _ in range(ROUNDS):
            if not any([self._put_one_back(pid) for pid in descendants(self._host, self._pid)]):
                return

    def _put_one_back(self, pid: int) -> bool:
        """True when it had inherited something, and has it no more."""
        ticks = self._host.start_ticks(pid)
        if pid in self.refused or ticks is None or ticks <= (self._since or 0):
            return False
        try:
            inherited = self._inherited(leader_levers(self._host.scheduler, pid))
            if inherited:
                set_levers(self._host.scheduler, pid, Priority(**inherited))
            return bool(inherited)
        except ProcessLookupError:
            return False
        except OSError as error:
            self.refused[pid] = str(error)
            return False

    def _inherited(self, now: Priority) -> dict[str, Any]:
        """What of a process goes back: the levers that go back on the one it comes from, and are the same on both."""
        moved = {key for key in INHERITED if getattr(self._want, key) not in (None, getattr(self._lowered, key))}
        same = {key for key in moved if getattr(now, key) == getattr(self._lowered, key)}
        fields: dict[str, Any] = {key: getattr(self._want, key) for key in _ALONE if key in same}
        if moved.intersection(_PAIR) and all(getattr(now, key) == getattr(self._lowered, key) for key in _PAIR):
            fields.update({key: getattr(self._want, key) for key in _PAIR})
        return fields

    def tell(self) -> None:
        """SteadError when some could not be put back."""
        if self.refused:
            words = "; ".join(f"process {pid}: {why}" for pid, why in self.refused.items())
            raise SteadError(f"not all that it had started could be put back: {words}", f"process:{self._pid}")
