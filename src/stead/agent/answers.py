"""What the agent answers at its door: views of the road, and orders passed on to it."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from stead import __version__
from stead.agent.ledger_answers import LedgerAnswers
from stead.agent.wiring import Wired
from stead.ledger.erasing import scrubbed
from stead.ledger.stored import StoreSource, read_witnesses
from stead.model import messages as m
from stead.model.advice import ApplyAdvice, GetAdvice
from stead.model.change import Run
from stead.model.cleaning import ListFiles
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.intent import LOST, Matched
from stead.model.policy import Actor
from stead.model.workload import WorkloadStatus

PAGE: Final = 500


class Answers:
    """One method an order or question; `answer` finds it by the request's type."""

    def __init__(self, wired: Wired, started_ms: int) -> None:
        self.wired, self.road, self.orders = wired, wired.road, wired.orders
        self.started_ms = started_ms
        self._table: dict[type[Any], Callable[[Any, Actor], Awaitable[m.ReplyBody]]] = {
            m.GetStatus: self._status,
            m.GetTop: self._top,
            m.GetMetrics: self._metrics,
            m.QuerySeries: self._series,
            m.ListFindings: self._findings,
            m.ListRuns: self._runs,
            m.GetRun: self._run,
            m.ListHolds: self._holds,
            m.ListEntries: self._entries,
            m.Why: self._why,
            GetAdvice: self._advice,
            ApplyAdvice: self._apply,
            m.Approve: self._approve,
            m.Deny: self._deny,
            m.Undo: self._undo,
            m.Cancel: self._cancel,
            m.Lift: self._lift,
            m.Pause: self._pause,
            m.Resume: self._resume,
            m.SetAutonomy: self._autonomy,
            ListFiles: self._files,
            **LedgerAnswers(wired.ledger, read_witnesses(wired.config.ledger.policy), self._forget).table(),
            **wired.vouching.table(),
        }

    async def answer(self, body: Any, person: Actor) -> m.ReplyBody:
        """The answer to one request of one person."""
        return await self._table[type(body)](body, person)

    def status(self) -> m.Status:
        """The agent in one look."""
        road, wired = self.road, self.wired
        now = wired.clock.now()
        autonomy = road.autonomy()
        return m.Status(
            host=wired.host_name,
            version=__version__,
            pid=os.getpid(),
            started_ms=self.started_ms,
            now_ms=now.unix_ms,
            autonomy=autonomy,
            profile=wired.config.safety.profile,
            mode=autonomy.mode,
            paused=autonomy.paused,
            pause_reason=road.pause_reason(),
            findings_open=len(road.findings),
            proposals_waiting=road.waiting(),
            runs_active=sum(1 for run in road.runs.values() if run.state not in ("waiting", "advised")),
            ticks=road.ticks,
            tick_cpu_ms=road.tick_cpu_ms(),
            rss_bytes=_rss_bytes(),
            stations=wired.stations(),
            workloads=tuple(s for d in wired.drivers.values() for n in d.names() if isinstance(s := d.status(n), WorkloadStatus)),
            policy_version=road.policy.version,
            catalog_version=road.catalog.version,
            state_dir=wired.paths.state,
            facts=road.facts(),
            limits=tuple(run for run in road.runs.values() if run.governed),
            intent=tuple(self._with_losses(one) for one in wired.members.matched()),
        )

    def _with_losses(self, one: Matched) -> Matched:
        """What a protected thing loses now, beside what it stands for."""
        if one.role != "protect":
            return one
        value, subject = self.road.series.value, f"protect:{one.name}"
        lost = {resource: value(metric, subject) for resource, metric in LOST.items()}
        return msgspec.structs.replace(one, lost=lost, miss=value("infra.objective_miss", subject))

    async def _status(self, _: m.GetStatus, __: Actor) -> m.ReplyBody:
        return self.status()

    async def _top(self, _: m.GetTop, __: Actor) -> m.ReplyBody:
        return m.TopAnswer(self.road.top)

    async def _metrics(self, _: m.GetMetrics, __: Actor) -> m.ReplyBody:
        return m.MetricList(tuple(self.road.series.views()), self._missing())

    def _missing(self) -> dict[str, str]:
        return {entry.metric_id: entry.unsupported for entry in self.road.catalog.metrics.values() if entry.unsupported}

    async def _series(self, body: m.QuerySeries, _: Actor) -> m.ReplyBody:
        if body.to_ms <= body.from_ms or not 1 <= body.points <= 10_000:
            raise SteadError(
                "the range is empty or too long", "series query", "give from < to and 1 to 10000 points", exit_code=EXIT_USAGE
            )
        return await self.wired.query(body)

    async def _findings(self, body: m.ListFindings, _: Actor) -> m.ReplyBody:
        return m.FindingList(tuple(self.wired.ledger.findings(body.cleared, _page(body.limit))))

    async def _runs(self, body: m.ListRuns, _: Actor) -> m.ReplyBody:
        return m.RunList(tuple(self._live(run) for run in self.wired.ledger.runs(body.which, _page(body.limit))))

    async def _run(self, body: m.GetRun, _: Actor) -> m.ReplyBody:
        return m.RunList((self._live(self.orders.find(body.id)),))

    def _live(self, run: Run) -> Run:
        """With where its governed values stand now: the ledger is told of that but every few minutes."""
        known = self.road.runs.get(run.id)
        return msgspec.structs.replace(run, governed=known.governed) if known else run

    async def _files(self, _: ListFiles, __: Actor) -> m.ReplyBody:
        from stead.agent.files import files  # here, for an agent that nobody asks does not need it

        return await files(self.wired)

    async def _holds(self, _: m.ListHolds, __: Actor) -> m.ReplyBody:
        return m.HoldList(tuple(self.road.holds))

    async def _entries(self, body: m.ListEntries, _: Actor) -> m.ReplyBody:
        rows = self.wired.ledger.entries(_page(body.limit), body.subject)
        return m.EntryList(tuple(m.EntryView(e.seq, e.id, e.type, e.subject, e.ts_ms, e.leaf.decode()) for e in rows))

    async def _why(self, body: m.Why, _: Actor) -> m.ReplyBody:
        from stead.agent.explain import at_rest, with_limits  # here, for an agent that nobody asks needs neither
        from stead.ledger.why import explain

        try:
            told = await asyncio.to_thread(explain, body.thing, StoreSource(self.wired.ledger))
            return with_limits(told, tuple(self.road.runs.values()))
        except SteadError:
            quiet = at_rest(body.thing, self.road.series.views(), self._missing())
            if quiet is None:
                raise
            return quiet

    async def _advice(self, body: GetAdvice, _: Actor) -> m.ReplyBody:
        from stead.agent.advice import advice  # here, for an agent that nobody asks needs none of it

        return await advice(self.wired, body)

    async def _apply(self, body: ApplyAdvice, person: Actor) -> m.ReplyBody:
        from stead.agent.advice import apply

        return m.RunList((await apply(self.wired, body, person),))

    async def _approve(self, body: m.Approve, person: Actor) -> m.ReplyBody:
        return m.RunList((await self.orders.approve(body.id, body.plan_hash, person, body.latest),))

    async def _deny(self, body: m.Deny, person: Actor) -> m.ReplyBody:
        return m.RunList((await self.orders.deny(body.id, body.reason, person),))

    async def _undo(self, body: m.Undo, person: Actor) -> m.ReplyBody:
        return m.RunList((await self.orders.undo(body.id, person),))

    async def _cancel(self, body: m.Cancel, person: Actor) -> m.ReplyBody:
        return m.RunList((await self.orders.cancel(body.id, person),))

    async def _lift(self, body: m.Lift, person: Actor) -> m.ReplyBody:
        await self.orders.lift(body.playbook, body.target, person)
        return m.HoldList(tuple(self.road.holds))

    async def _pause(self, body: m.Pause, person: Actor) -> m.ReplyBody:
        await self.orders.pause(body.reason, person)
        return self.status()

    async def _resume(self, _: m.Resume, person: Actor) -> m.ReplyBody:
        await self.orders.autonomy(person, paused=False)
        return self.status()

    async def _autonomy(self, body: m.SetAutonomy, person: Actor) -> m.ReplyBody:
        await self.orders.autonomy(person, mode=body.mode, ceiling=body.ceiling, scope=body.scope, locked=body.locked)
        return self.status()

    def _forget(self, run_id: str) -> None:
        """What was erased of a finished run goes from memory too: its undo would write it anew."""
        ended = self.road.place.hands.writer.ended
        if run_id in ended:
            ended[run_id] = scrubbed(ended[run_id])
        self.road.recent = deque(scrubbed(run) if run.id == run_id else run for run in self.road.recent)


def _page(limit: int) -> int:
    return min(max(1, limit), PAGE)


def _rss_bytes() -> int | None:
    try:
        with open("/proc/self/statm") as statm:  # noqa: PTH123 - one number, each time it is asked for
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
