"""How long a relief takes, by stead's own stamps: from when memory's time to full crossed until the first rung was written."""

from __future__ import annotations

from collections.abc import Iterable

from stead.model.change import Run
from stead.model.find import Finding

METRIC = "infra.memory_time_to_full"


def relief_ms(findings: Iterable[Finding], runs: Iterable[Run], level_s: float) -> list[int]:
    """For each finding that was answered: ms from its first reading below the level to the first receipt of a write, sorted."""
    since = {}
    for one in findings:
        below = [at_ms for at_ms, value in one.evidence if value < level_s] if one.metric == METRIC else []
        since |= {one.id: min(below)} if below else {}
    first: dict[str, int] = {}
    for run in runs:
        for receipt in run.receipts:
            finding = run.proposal.finding_id or ""
            if finding in since and receipt.direction == "forward" and receipt.outcome == "done":
                first[finding] = min(receipt.at_ms, first.get(finding, receipt.at_ms))
    return sorted(at_ms - since[finding] for finding, at_ms in first.items())


def told(took_ms: list[int]) -> str:
    """In words."""
    if not took_ms:
        return "no relief"
    within = sum(one <= 2000 for one in took_ms)
    return f"crossing to write: median {took_ms[len(took_ms) // 2]} ms, last {took_ms[-1]} ms, {within} of {len(took_ms)} in 2 s"
