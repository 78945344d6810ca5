"""What the allow-list of files would let go, and what is in quarantine: by rule and by mount, and when it is due.

The look itself is made by `stead.files`, a quarter of an hour apart (sooner after a change), and may take a while: so it is made
on a daemon thread. What it finds is what the playbooks for a full disk propose.
"""

from __future__ import annotations

from collections import Counter

from stead.files.cleaner import Cleaner
from stead.files.scan import Found
from stead.model.observe import Fact, MetricSpec, Now, Reading, Sample
from stead.probes.reading import unknown, why
from stead.protocols import Host


class Cleanable:
    """The planner's results as samples."""

    name = "cleanable"
    interval_s = 60.0
    timeout_s = 60.0
    blocking = True
    metrics = (
        MetricSpec("disk.cleanable_bytes", "bytes", "What rules of the allow-list would move into quarantine", "last"),
        MetricSpec("disk.compressible_bytes", "bytes", "What rules of the allow-list would compress in place", "last"),
        MetricSpec("disk.quarantine_bytes", "bytes", "What is in quarantine", "last"),
        MetricSpec("disk.quarantine_due_bytes", "bytes", "What is in quarantine, and its time there is over", "last"),
    )

    def __init__(self, cleaner: Cleaner | None) -> None:
        self._cleaner = cleaner

    def read(self, host: Host, now: Now) -> Reading:
        """Sizes by mount, and as facts by rule. Unknown where nothing may be looked at."""
        if self._cleaner is None or host.system != "linux":
            return unknown(self.metrics, "this process keeps no list of what may be cleaned")
        try:
            found = self._cleaner.refresh(now)
        except OSError as failure:
            return unknown(self.metrics, why(failure))
        if not found.mounts:
            return unknown(self.metrics, "no rule's folder is on this system")
        return Reading(tuple(samples(found, now)), tuple(facts(found)))


def samples(found: Found, now: Now) -> list[Sample]:
    """Four sums for each mount that a rule speaks of."""
    sums: dict[str, Counter[str]] = {mount: Counter() for mount in found.mounts}
    for one in found.cleanable:
        sums[one.mount]["disk.cleanable_bytes" if one.do == "quarantine" else "disk.compressible_bytes"] += one.bytes
    for held in found.held:
        sums[held.mount]["disk.quarantine_bytes"] += held.item.bytes
        if held.item.due_ms <= now.unix_ms:
            sums[held.mount]["disk.quarantine_due_bytes"] += held.item.bytes
    return [Sample(spec.id, f"mount:{mount}", float(of[spec.id])) for mount, of in sums.items() for spec in Cleanable.metrics]


def facts(found: Found) -> list[Fact]:
    """Bytes by rule and mount, and the folders of which nothing can be cleaned, or put back, now."""
    bytes_ = [Fact(f"cleanable.{one.category}", f"mount:{one.mount}", one.bytes) for one in found.cleanable]
    return [*bytes_, *(Fact(f"cleanable.refused.{folder}", "host", reason) for folder, reason in found.refused.items())]


def probe(cleaner: Cleaner | None = None) -> Cleanable:
    """Make the probe."""
    return Cleanable(cleaner)
