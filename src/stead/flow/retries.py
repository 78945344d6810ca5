"""What could not be put back is tried again: what refused it (a busy file, a slow service manager) has mostly passed by then.

Again after half a minute, two minutes and ten, then each hour, as often as `runs.TRIES_MAX`; after that, and where nothing can
bring it back, a person has to. When is kept in memory alone: after a restart it begins with the first wait. Each try takes the
same way as the first: what another hand owns by now is left to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from stead.flow import runs
from stead.flow.place import Reader
from stead.model.change import Run
from stead.model.observe import Now

if TYPE_CHECKING:
    from stead.flow.pipeline import Road

WAITS_S: Final = (30.0, 120.0, 600.0, 3600.0)
AT_ONCE: Final = 4  # that many in one tick
KNOWN_MAX: Final = 200  # runs


class _Waiting(NamedTuple):
    run: Run
    tries: int = 0  # in this life of the agent
    due_ms: int | None = None  # by the steady clock; None: from the next tick on


class Retries:
    """The runs that could not be put back, and when each of them is tried again."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}

    def know(self, ledger: Reader) -> None:
        """After a restart: those that the ledger tells of."""
        for run in ledger.not_put_back(KNOWN_MAX):
            self.note(run)

    def note(self, run: Run) -> None:
        """Know how a run stands: it waits for its next try, or needs none."""
        known = self._waiting.pop(run.id, _Waiting(run))
        if runs.may_try_again(run) and len(self._waiting) < KNOWN_MAX:
            self._waiting[run.id] = known._replace(run=run)

    def due(self, busy: Callable[[str], bool], now: Now) -> list[Run]:
        """The runs whose time has come, a few at once; each waits longer for its next try than for this one."""
        found: list[Run] = []
        for run_id, one in list(self._waiting.items()):
            if busy(run_id):
                continue
            if one.due_ms is None:
                wait_s = WAITS_S[min(one.tries, len(WAITS_S) - 1)]
                self._waiting[run_id] = one._replace(due_ms=now.mono_ms + round(wait_s * 1000))
            elif now.mono_ms >= one.due_ms and len(found) < AT_ONCE:
                self._waiting[run_id] = one._replace(tries=one.tries + 1, due_ms=None)
                found.append(one.run)
        return found

    def mind(self, road: Road, now: Now) -> None:
        """Try those again whose time has come, each on a task of its own."""
        for run in self.due(road.tasks.busy, now):
            road.put_back(run, runs.AGAIN)
