"""Metrics for scrapers: OpenMetrics 1.0, base units in the names, the subject as a label. What is unknown is not there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from litestar import Response
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from stead.hub.routes import Agent, read
from stead.model import messages as m
from stead.model.errors import SteadError

BASE_UNITS: Final = {  # stead's unit → unit in the name, factor
    "percent": ("ratio", 0.01),
    "ratio": ("ratio", 1.0),
    "milliseconds": ("seconds", 0.001),
    "seconds": ("seconds", 1.0),
    "hours": ("seconds", 3600.0),
    "bytes": ("bytes", 1.0),
    "bytes_per_second": ("bytes_per_second", 1.0),
    "requests_per_second": ("requests_per_second", 1.0),
    "per_second": ("per_second", 1.0),
    "cores": ("cores", 1.0),
    "processes": ("processes", 1.0),
}
RESERVED: Final = re.compile(r"(_(total|created|bucket|count|sum|info|gcount|gsum))+$")  # belong to other types of metric
OWN_UNITS: Final = re.compile(r"_(percent|ms|milliseconds|hours|hour)$")


def export_name(metric: str, unit: str) -> tuple[str, str, float]:
    """The exported name, its unit and the factor to it: ("infra.cpu", "percent") → ("stead_infra_cpu_ratio", "ratio", 0.01)."""
    base, factor = BASE_UNITS.get(unit, ("", 1.0))
    name = "stead_" + re.sub(r"[^a-zA-Z0-9]+", "_", metric.removeprefix("stead.")).strip("_").lower()
    name = RESERVED.sub("", OWN_UNITS.sub("", name))
    if base and not name.endswith(f"_{base}"):
        name += f"_{base}"
    return name, base, factor


def families(metrics: m.MetricList, status: m.Status) -> Iterator[Metric]:
    """Everything known, one family a metric."""
    yield from _own(status)
    found: dict[str, GaugeMetricFamily] = {}
    for view in metrics.metrics:
        if view.value is None or view.subject.startswith("process:"):  # a label a process would never end
            continue
        name, unit, factor = export_name(view.metric, view.unit)
        if name not in found:
            found[name] = GaugeMetricFamily(name, view.title or view.metric, labels=("subject",), unit=unit)
        found[name].add_metric((view.subject,), view.value * factor)
    yield from found.values()


def _own(status: m.Status) -> Iterator[Metric]:
    """What stead says of itself."""
    info = InfoMetricFamily("stead_agent", "The agent on this host")
    info.add_metric((), {"version": status.version, "host": status.host, "mode": status.mode})
    yield info
    values: tuple[tuple[str, str, str, float | None], ...] = (
        ("stead_agent_up", "Whether the agent answers", "", 1.0),
        ("stead_agent_paused", "Whether all forward acting is stopped", "", float(status.paused)),
        ("stead_agent_findings_open", "Findings that are open", "", status.findings_open),
        ("stead_agent_proposals_waiting", "Proposals that wait for approval", "", status.proposals_waiting),
        ("stead_agent_runs_active", "Runs under way", "", status.runs_active),
        ("stead_agent_resident_memory_bytes", "The agent's resident memory", "bytes", status.rss_bytes),
        ("stead_agent_start_time_seconds", "When the agent started, Unix time", "seconds", status.started_ms / 1000),
        ("stead_agent_tick_cpu_seconds", "Mean CPU time of a tick", "seconds", _seconds(status.tick_cpu_ms)),
    )
    yield from (GaugeMetricFamily(name, text, value=value, unit=unit) for name, text, unit, value in values if value is not None)


def _seconds(millis: float | None) -> float | None:
    return None if millis is None else millis / 1000


class Collected:
    """What prometheus-client's exposition asks for: something to collect from."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._found


@read("/metrics", media_type=CONTENT_TYPE_LATEST)
async def scrape(gateway: Agent) -> Response[bytes]:
    """OpenMetrics 1.0. While the agent is away, only that it is."""
    try:
        found: Iterable[Metric] = families((await gateway.get("metrics")).value, (await gateway.get("status")).value)
    except SteadError:
        found = (GaugeMetricFamily("stead_agent_up", "Whether the agent answers", value=0.0),)
    collected: Any = Collected(found)
    body = generate_latest(collected)  # type: ignore[no-untyped-call]
    return Response(body, media_type=CONTENT_TYPE_LATEST)


ROUTES = [scrape]
