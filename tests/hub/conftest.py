"""A fake agent: a real Unix socket that speaks the real messages, with a small host behind it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead import wire
from stead.hub.app import create_app
from stead.hub.gateway import Gateway
from stead.hub.keys import Token, new_token
from stead.model import messages as m
from stead.model import witness_messages as w
from stead.model.advice import Advice, AdviceList, ApplyAdvice, GetAdvice
from stead.model.change import Prediction, Proposal, Run, Step, Target
from stead.model.errors import Problem, SteadError
from stead.model.find import Finding
from stead.model.observe import Fact, ProcessUse, Top
from stead.model.policy import Actor, Autonomy, Decision

NOW = 1_790_000_000_000
PID = Target("process", "4711", {"start_ticks": "99", "boot_id": "b"})


def status(**changes: Any) -> m.Status:
    """A healthy agent's status."""
    stations = (m.Station("observe", True), m.Station("find", True), m.Station("record", None, "not asked yet"))
    base = m.Status(
        host="box",
        version="0.1",
        pid=77,
        started_ms=NOW,
        now_ms=NOW,
        autonomy=Autonomy(),
        profile="balanced",
        mode="advise",
        paused=False,
        pause_reason="",
        findings_open=1,
        proposals_waiting=1,
        runs_active=0,
        ticks=5,
        tick_cpu_ms=1.5,
        rss_bytes=30_000_000,
        stations=stations,
        facts=(Fact("os.name", "host", "Debian"),),
    )
    return msgspec.structs.replace(base, **changes)


def view(metric: str = "infra.cpu_utilization", value: float | None = 12.5, **more: Any) -> m.MetricView:
    """One metric now."""
    more = {"subject": "host", "unit": "percent", "band": "good", "at_ms": NOW, **more}
    return m.MetricView(metric=metric, value=value, **more)


def finding(**changes: Any) -> Finding:
    """A hog."""
    base = Finding(
        id="f1",
        fingerprint="band|infra.process_cpu_cores|process:4711@99",
        detector="band",
        metric="infra.process_cpu_cores",
        subject="process:4711@99",
        band="warning",
        title="<img src=x onerror=alert(1)> (pid 4711) has used 1.0 cores for 30 s",
        value=1.0,
        threshold=0.9,
        unit="cores",
        since_ms=NOW - 30_000,
        opened_ms=NOW,
        updated_ms=NOW,
        evidence=((NOW - 1000, 0.99), (NOW, 1.0)),
        playbooks=("calm-cpu-hog",),
    )
    return msgspec.structs.replace(base, **changes)


def run(id: str = "run-one", state: str = "waiting", **changes: Any) -> Run:
    """A run of calm-cpu-hog."""
    step = Step("priority", PID, {"nice": 0, "autogroup_nice": 0}, {"nice": 0, "autogroup_nice": 19}, "exact", lease_s=600.0)
    proposal = Proposal(
        id=id,
        playbook="calm-cpu-hog",
        title="Calm the CPU hog",
        finding_id="f1",
        requester=Actor("policy", "stead"),
        risk="low",
        tier=1,
        confidence=0.5,
        steps=(step,),
        prediction=Prediction("infra.psi_cpu_some", "host", "down", 0.2),
        verify_s=60.0,
        plan_hash="abc123",
        created_ms=NOW,
        expires_ms=NOW + 3_600_000,
    )
    decision = Decision(id, "ask", ("rule:calm-hogs", "mode:advise"), ("the mode is advise",), 1, "advise", "v1", NOW)
    return msgspec.structs.replace(Run(id, proposal, state, decision, updated_ms=NOW), **changes)  # type: ignore[arg-type]


ADVICE = Advice(
    "4f1c09aa", "workers", "workload:shop", "Run 2 instead of 4 workers", "p99", "2 workers", "a burst", "workload", {"count": 2}
)


class FakeAgent:
    """Answers like an agent, remembers what it was asked, and can be told to refuse, to hang up or to speak."""

    def __init__(self, path: str, key: str = "") -> None:
        self.path, self.key = path, key
        self.status = status()
        self.metrics = m.MetricList(
            (view(), view("infra.swap_used", None, reason="no swap", band="unknown")), {"x.y": "a source"}
        )
        use = ProcessUse(4711, 99, "sh", "sh -c while :; do :; done", 0, 1.0, 1 << 20, None, 1, 4, "R")
        self.top = Top(NOW, 150, 2, (use,), (use,), (use,))
        self.findings: tuple[Finding, ...] = (finding(),)
        self.proposals: tuple[Run, ...] = (run(),)
        self.runs: tuple[Run, ...] = (run("run-two", "held"),)
        self.asked: list[tuple[m.RequestBody, str]] = []
        self.refuse: Problem | None = None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._listeners: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=1 << 20)
        os.chmod(self.path, 0o666)

    async def stop(self) -> None:
        """Go away, as an agent that was killed does."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def say(self, event: m.Event) -> None:
        """Send an event to whoever subscribed."""
        for writer in self._listeners:
            writer.write(wire.encode(event))

    def orders(self, kind: type[Any]) -> list[Any]:
        """The requests of one kind so far."""
        return [body for body, _ in self.asked if isinstance(body, kind)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while line := await reader.readline():
                request = wire.decode_request(line)
                if isinstance(request.body, m.Subscribe):
                    self._listeners.add(writer)
                writer.write(wire.encode(m.Reply(request.id, self.answer(request))))
        self._writers.discard(writer)
        self._listeners.discard(writer)
        writer.close()

    def answer(self, request: m.Request) -> m.ReplyBody:
        """What an agent would say."""
        body = request.body
        if isinstance(body, m.Hello):
            return m.Done() if body.key == self.key else Problem("the hub's key is not this agent's", "hub.key", "", "hub.key")
        self.asked.append((body, request.person))
        if self.refuse is not None and isinstance(body, (m.Approve, m.Deny, m.Undo, m.SetAutonomy, m.Resume)):
            return self.refuse
        answers: dict[type[Any], Callable[[], m.ReplyBody]] = {
            m.GetStatus: lambda: self.status,
            m.GetMetrics: lambda: self.metrics,
            m.GetTop: lambda: m.TopAnswer(self.top),
            m.ListFindings: lambda: m.FindingList(self.findings),
            m.ListRuns: lambda: m.RunList(self.proposals if body.which == "proposals" else self.runs),
            m.QuerySeries: lambda: m.SeriesAnswer(body.metric, body.subject, "percent", "raw", (NOW,), (1.0,)),
            m.ListHolds: lambda: m.HoldList(()),
            GetAdvice: lambda: AdviceList((ADVICE,), body.over_s, body.at_least_s),
            ApplyAdvice: lambda: m.RunList(self.runs[:1]),
            m.Lift: lambda: m.HoldList(()),
            m.Why: lambda: m.Explanation(body.thing, "because", (m.Link(NOW, "find", "it crossed", "e1"),)),
            m.ListEntries: lambda: m.EntryList((m.EntryView(1, "e1", "finding.opened", "f1", NOW, "{}"),)),
            m.Subscribe: m.Done,
            w.AddCheckpoint: lambda: w.WitnessReply(409, "text/x.tlog.size", b"7\n"),
            m.Pause: self._pause,
            m.Resume: lambda: self.status,
            m.SetAutonomy: lambda: self._set(body),
        }
        if type(body) in answers:
            return answers[type(body)]()
        found = [r for r in (*self.proposals, *self.runs) if r.id.startswith(body.id)]
        return m.RunList(tuple(found)) if found else Problem(f"no run {body.id}", "runs", "", "run.unknown")

    def _pause(self) -> m.Status:
        self.status = msgspec.structs.replace(self.status, paused=True)
        return self.status

    def _set(self, body: m.SetAutonomy) -> m.Status:
        self.status = msgspec.structs.replace(self.status, mode=body.mode or self.status.mode)
        return self.status


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, because socket paths are short."""
    with tempfile.TemporaryDirectory(prefix="stead") as name:
        yield Path(name)


@pytest.fixture
async def agent(folder: Path) -> AsyncIterator[FakeAgent]:
    """A fake agent that listens."""
    fake = FakeAgent(str(folder / "agent.sock"))
    await fake.start()
    yield fake
    await fake.stop()


class Hub:
    """The application on the fake agent, with its token."""

    def __init__(self, path: str) -> None:
        self.text = new_token()
        self.token = Token.of(self.text, "uid:1000")
        self.gateway = Gateway(wire.AsyncDoor(path), self.token.person)
        self.app = create_app(self.gateway, self.token, live_period_s=0.05)
        self.headers = {"Authorization": f"Bearer {self.text}"}


@pytest.fixture
def hub(agent: FakeAgent) -> Hub:
    """A hub whose background tasks do not run: for requests in process."""
    return Hub(agent.path)


@pytest.fixture
async def client(hub: Hub) -> AsyncIterator[Any]:
    """Requests in process, with the token."""
    import httpx

    transport = httpx.ASGITransport(app=hub.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers=hub.headers) as made:
        yield made
    await hub.gateway.door.close()


__all__ = ["NOW", "FakeAgent", "Hub", "SteadError", "finding", "run", "status", "view"]
