"""What can be read: REST over the agent's own answers, in the agent's own types."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
from litestar import Response
from litestar.params import PathParameter, QueryParameter

from stead.hub.routes import Agent, HubRequest, kept, read
from stead.model import messages as m
from stead.model.advice import AdviceList, GetAdvice
from stead.model.errors import SteadError
from stead.model.observe import Fact, Top

Limit = Annotated[int, QueryParameter(ge=1, le=500, description="At most this many, newest first")]
Subject = Annotated[str, QueryParameter(min_length=1, max_length=200)]
About = Annotated[str, QueryParameter(max_length=200)]
Cleared = Annotated[bool, QueryParameter(description="Also those that are over")]
Name = Annotated[str, PathParameter(min_length=1, max_length=200)]
From = Annotated[int | None, QueryParameter(name="from", ge=0, le=1 << 52, description="Unix milliseconds")]
To = Annotated[int | None, QueryParameter(name="to", ge=0, le=1 << 52, description="Unix milliseconds")]
OverS = Annotated[float, QueryParameter(gt=0, le=400 * 86_400, description="From the measurements of this many seconds")]
AtLeastS = Annotated[float, QueryParameter(ge=0, le=400 * 86_400, description="Leave out what was measured for less")]
SHOWN_MS = 600_000
DAY_S = 86_400.0
WEEK_S = 7 * DAY_S


class Hardware(msgspec.Struct, frozen=True):
    """The machine: what seldom changes, its present loads, and the busiest processes."""

    host: str
    facts: tuple[Fact, ...]
    metrics: tuple[m.MetricView, ...]
    top: Top | None


@read("/api/v1/status")
async def status(request: HubRequest, gateway: Agent) -> Response[m.Status]:
    """The agent in one look."""
    return await kept(request, gateway, "status")


@read(["/api/v1/metrics", "/api/metrics"])
async def metrics(request: HubRequest, gateway: Agent) -> Response[m.MetricList]:
    """The newest value of every metric and subject; a missing one is null, and `reason` says why."""
    return await kept(request, gateway, "metrics")


@read("/api/v1/metrics/{metric:str}")
async def metric(gateway: Agent, metric: Name) -> m.MetricList:
    """The newest values of one metric."""
    everything: m.MetricList = (await gateway.get("metrics")).value
    found = tuple(view for view in everything.metrics if view.metric == metric)
    missing = {metric: everything.unsupported[metric]} if metric in everything.unsupported else {}
    if not found and not missing:
        raise SteadError(f"no metric {metric!r}", "metrics", "list them with GET /api/v1/metrics", code="metric.unknown")
    return m.MetricList(found, missing)


@read("/api/v1/metrics/{metric:str}/series")
async def series(
    gateway: Agent,
    metric: Name,
    subject: Subject = "host",
    from_ms: From = None,
    to_ms: To = None,
    points: Annotated[int, QueryParameter(ge=1, le=10_000)] = 600,
) -> m.SeriesAnswer:
    """One series over [from, to), the last ten minutes by default: raw values where kept, else snapshots."""
    end = int(time.time() * 1000) if to_ms is None else to_ms
    start = end - SHOWN_MS if from_ms is None else from_ms
    if start >= end:
        raise SteadError("`from` must be before `to`", "from, to", "give a range", code="series.range", exit_code=2)
    return await gateway.ask(m.QuerySeries(metric, subject, start, end, points), m.SeriesAnswer)


@read(["/api/v1/hardware", "/api/hardware/status"])
async def hardware(gateway: Agent) -> Hardware:
    """The machine: facts, loads and the busiest processes."""
    now: m.Status = (await gateway.get("status")).value
    loads: m.MetricList = (await gateway.get("metrics")).value
    busiest: m.TopAnswer = (await gateway.get("top")).value
    own = tuple(view for view in loads.metrics if view.metric.startswith("infra."))
    return Hardware(now.host, now.facts, own, busiest.top)


@read("/api/v1/top")
async def top(request: HubRequest, gateway: Agent) -> Response[m.TopAnswer]:
    """The busiest processes by CPU, memory and IO."""
    return await kept(request, gateway, "top")


@read("/api/v1/findings")
async def findings(request: HubRequest, gateway: Agent, cleared: Cleared = False, limit: Limit = 100) -> Response[m.FindingList]:
    """What is wrong; with `cleared` also what was."""
    if not cleared and limit == 100:
        return await kept(request, gateway, "findings")
    return Response(await gateway.ask(m.ListFindings(cleared, limit), m.FindingList))


@read("/api/v1/proposals")
async def proposals(request: HubRequest, gateway: Agent, limit: Limit = 100) -> Response[m.RunList]:
    """Runs that did not act: those that wait for approval, and what was only advised."""
    if limit == 100:
        return await kept(request, gateway, "proposals")
    return Response(await gateway.ask(m.ListRuns("proposals", limit), m.RunList))


@read("/api/v1/runs")
async def runs(request: HubRequest, gateway: Agent, limit: Limit = 100) -> Response[m.RunList]:
    """Runs that acted, newest first."""
    if limit == 100:
        return await kept(request, gateway, "runs")
    return Response(await gateway.ask(m.ListRuns("runs", limit), m.RunList))


@read("/api/v1/runs/{run:str}")
async def run(gateway: Agent, run: Name) -> m.RunList:
    """One run or proposal, by its id or a unique beginning of it."""
    return await gateway.ask(m.GetRun(run), m.RunList)


@read("/api/v1/recommendations")
async def recommendations(gateway: Agent, over_s: OverS = WEEK_S, at_least_s: AtLeastS = DAY_S) -> AdviceList:
    """What measured use asks for: right-sized limits and workers, and the top consumers, what frees most first."""
    return await gateway.ask(GetAdvice(over_s, at_least_s), AdviceList)


@read("/api/v1/holds")
async def holds(gateway: Agent) -> m.HoldList:
    """Playbooks that a person keeps off a target."""
    return await gateway.ask(m.ListHolds(), m.HoldList)


@read("/api/v1/ledger/entries")
async def entries(gateway: Agent, limit: Limit = 50, subject: About = "") -> m.EntryList:
    """The record's newest entries, each exactly as its leaf."""
    return await gateway.ask(m.ListEntries(limit, subject), m.EntryList)


@read("/api/v1/why")
async def why(gateway: Agent, thing: Subject) -> m.Explanation:
    """Why something is so: a finding, run, metric, process, workload or setting, from recorded evidence."""
    return await gateway.ask(m.Why(thing), m.Explanation)


ROUTES = [status, metrics, metric, series, hardware, top, findings, proposals, runs, run, recommendations, holds, entries, why]
