"""stead observes itself: how its own plans went, as the catalogue's `autonomy.*` metrics.

Counted from the run record over the last fifty finished runs or 24 hours, whichever is less; unknown while there are too few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from stead.model.change import Run
from stead.model.observe import MetricSpec, Now, Reading, Sample
from stead.protocols import Host

LAST_RUNS: Final = 50
ENOUGH: Final = 10  # of fewer, one failure would look like a bad record, and lower autonomy
LAST_MS: Final = 24 * 3600 * 1000
ENDED: Final = frozenset(("held", "kept", "undone", "undo_failed", "failed"))
BACK: Final = frozenset(("undone", "undo_failed", "failed"))


class RoadProbe:
    """Emits autonomy.* from runs. `recent` gives runs that acted, newest first; `waiting` those that wait for people."""

    name = "road"
    interval_s = 1.0
    timeout_s = 1.0
    blocking = False
    metrics: tuple[MetricSpec, ...] = (
        MetricSpec("autonomy.plan_success_rate", "percent", "runs whose effect was verified, of those that finished", "avg"),
        MetricSpec("autonomy.approvals_pending", "count", "proposals that wait for a person", "max"),
        MetricSpec("autonomy.autonomy_ratio", "percent", "runs that stead decided alone, of all that acted", "avg"),
        MetricSpec("autonomy.rollback_rate", "percent", "runs put back because they did not help, of all that acted", "avg"),
        MetricSpec("autonomy.failed_in_a_row", "count", "failed verifications in a row of one playbook", "max"),
    )

    def __init__(self, recent: Callable[[int], Sequence[Run]], waiting: Callable[[], int]) -> None:
        self.recent, self.waiting = recent, waiting
        self.changed = True
        self.next_ms = 0

    def note_change(self) -> None:
        """A run moved: count again at the next read (otherwise once a minute)."""
        self.changed = True

    def read(self, host: Host, now: Now) -> Reading:
        """Counts only when something moved; one value a minute otherwise."""
        if not self.changed and now.mono_ms < self.next_ms:
            return Reading()
        self.changed, self.next_ms = False, now.mono_ms + 60_000
        runs = [run for run in self.recent(LAST_RUNS) if run.acted_ms and now.unix_ms - run.acted_ms <= LAST_MS]
        rates = tuple(Sample(metric, "host", *value) for metric, value in rates_of(runs).items())
        pending = Sample("autonomy.approvals_pending", "host", float(self.waiting()))
        rows = tuple(Sample("autonomy.failed_in_a_row", f"playbook:{name}", float(n)) for name, n in in_a_row(runs).items())
        return Reading((*rates, pending, *rows))


def rates_of(runs: Sequence[Run]) -> dict[str, tuple[float | None, str]]:
    """The three shares in percent, or None and why."""
    told = [run for run in runs if run.state in ENDED and not gave_way(run)]
    ended = [run for run in told if not (run.verdict and run.verdict.result == "inconclusive")]
    if len(ended) < ENOUGH:
        nothing = (None, f"{len(ended)} finished runs in the last 24 h are too few to tell ({ENOUGH} are needed)")
        return dict.fromkeys(("autonomy.plan_success_rate", "autonomy.autonomy_ratio", "autonomy.rollback_rate"), nothing)
    helped = sum(1 for run in ended if run.verdict is not None and run.verdict.result == "helped")
    alone = sum(1 for run in ended if not run.approvals and run.proposal.requester.kind in ("policy", "agent"))
    back = sum(1 for run in ended if run.state in BACK and run.undo_reason in ("no_help", "partial failure", "not_held"))
    share = 100.0 / len(ended)
    return {
        "autonomy.plan_success_rate": (helped * share, ""),
        "autonomy.autonomy_ratio": (alone * share, ""),
        "autonomy.rollback_rate": (back * share, ""),
    }


def gave_way(run: Run) -> bool:
    """Did it not help against what the owner named to be held back, and leave the way to the next rung of its ladder?

    That is how a ladder is climbed, and says nothing against stead: counted as a failure it would end in a lock, and then nobody
    protects what is to be protected. The last rung counts.
    """
    named = run.proposal.keep_unclear or "pattern" in run.proposal.labels  # of the intent that its contender fits
    return named and bool(run.proposal.chain) and run.verdict is not None and run.verdict.result == "no_help"


def in_a_row(runs: Sequence[Run]) -> dict[str, int]:
    """Playbook → its failed verifications since the last that helped. An inconclusive one neither counts nor resets.

    A change of the ceiling, stead's own or a person's, has taken the failures before it into account: they lower it once.
    """
    counts: dict[str, int] = {}
    closed: set[str] = set()
    heeded = False
    for run in runs:
        name = run.proposal.playbook
        heeded = heeded or any(step.actuator == "autonomy" and "ceiling" in (step.want or {}) for step in run.proposal.steps)
        if run.verdict is None or name in closed or run.verdict.result == "inconclusive":
            continue
        if gave_way(run) and not heeded:
            continue
        if heeded or run.verdict.result == "helped":
            closed.add(name)
            counts.setdefault(name, 0)
        else:
            counts[name] = counts.get(name, 0) + 1
    return counts
