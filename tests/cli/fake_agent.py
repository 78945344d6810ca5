"""An agent's door without an agent: answers from a table on a real Unix socket, and remembers what was asked.

Run as a program (`python fake_agent.py SOCKET [--event-file F] [--die TEXT CODE]`) it is the child of `stead up` in tests.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from stead.model import messages as m
from stead.model import witness_messages as w
from stead.model.advice import Advice, AdviceList, ApplyAdvice, GetAdvice
from stead.model.change import Hold, Prediction, Proposal, Receipt, Run, Step, Target, Verdict
from stead.model.cleaning import Cleanable, FileList, ListFiles, Quarantined
from stead.model.errors import EXIT_APPROVAL, Problem
from stead.model.find import Finding
from stead.model.observe import ProcessUse, Top
from stead.model.policy import Actor, Approval, Autonomy, Decision
from stead.model.workload import Worker, WorkloadStatus
from stead.wire import decode_request, encode, peer_credentials
from tests.cli import fake_ledger

T0 = 1_760_000_000_000  # Unix milliseconds: the fake's "now"
RUN_ID = "0199c7a0-1111-7000-8000-000000000001"
OTHER_ID = "0199c7a0-2222-7000-8000-000000000002"
DONE_ID = "0199c7a0-3333-7000-8000-000000000003"
FINDING_ID = "0199c7a0-0000-7000-8000-00000000000f"
HOG = Target("process", "4711", {"start_ticks": "567890", "boot_id": "b"})
ALICE = Actor("user", "uid:1000")


def step() -> Step:
    before = {"nice": 0, "autogroup": 0, "cpus": ["0", "1"]}
    return Step("priority", HOG, before, {**before, "nice": 10, "autogroup": 19}, "exact", lease_s=600.0)


def proposal(run_id: str = RUN_ID) -> Proposal:
    prediction = Prediction("infra.run_delay", "host", "down", 0.2, within_s=60.0, baseline=1.5)
    return Proposal(
        run_id, "calm-cpu-hog", "Calm sh (pid 4711)", FINDING_ID, Actor("policy", "calm-cpu-hog"), "low", 1, 0.7, (step(),),
        prediction, 300.0, "f" * 64, T0 - 10_000, T0 + 3_600_000, labels={"process": "sh", "pid": "4711"},
    )  # fmt: skip


def decision(answer: str = "ask", *, advised: bool = False) -> Decision:
    return Decision(
        RUN_ID, msgspec.convert(answer, Any), ("rule:calm-hogs", "mode:advise"), ("a hog may be calmed", "the mode is advise"),
        1, "advise" if advised else "act", "v1", T0 - 9_000, advised=advised, would="allow" if advised else None,
    )  # fmt: skip


def run(state: str, run_id: str = RUN_ID, **changes: Any) -> Run:
    """A run in some state, of the one proposal."""
    advised = state == "advised"
    base = Run(run_id, proposal(run_id), state, decision("ask", advised=advised), updated_ms=T0 - 8_000)  # type: ignore[arg-type]
    return msgspec.structs.replace(base, **changes)


def done_run(state: str = "kept") -> Run:
    receipt = Receipt("a1", 0, "forward", "done", {"nice": 10}, "", T0 - 5_000)
    verdict = Verdict("helped", "run delay fell by 60 %", 1.5, 0.6, 0.2, T0 - 1_000)
    return run(state, DONE_ID, receipts=(receipt,), verdict=verdict, acted_ms=T0 - 6_000)


def finding(**changes: Any) -> Finding:
    one = Finding(
        FINDING_ID, "band:infra.process_cpu_cores:process:4711@567890", "band", "infra.process_cpu_cores", "process:4711@567890",
        "warning", "sh (pid 4711) has used 1.0 cores for 30 s", 1.0, 0.9, "cores", T0 - 40_000, T0 - 10_000, T0 - 10_000,
        playbooks=("calm-cpu-hog",), labels={"process": "sh", "pid": "4711"},
    )  # fmt: skip
    return msgspec.structs.replace(one, **changes)


def stations(ok: bool | None = True) -> tuple[m.Station, ...]:
    names = ("observe", "find", "propose", "decide", "act", "verify", "record")
    return (*(m.Station(name, ok) for name in names), m.Station("probe cpu", ok), m.Station("probe disk", False, "hung for 9 s"))


def status(**changes: Any) -> m.Status:
    worker = Worker(0, 99, 1, "b", T0, 0, "healthy")
    workload = WorkloadStatus("web", "w1", 0, 2, (worker,), requests_total=7)
    one = m.Status(
        "box", "0.1.0", 4242, T0 - 7_200_000, T0, Autonomy("advise", {"host": 1}), "balanced", "advise", False, "", 1, 1, 0, 100,
        2.5, 27 << 20, stations(), (workload,), "p1", "c1", "/state",
    )  # fmt: skip
    return msgspec.structs.replace(one, **changes)


def views() -> m.MetricList:
    view = m.MetricView("infra.cpu_utilization", "host", 12.5, "percent", "good", T0, catalogued=True)
    lost = m.MetricView("infra.disk_used", "mount:/srv", None, "percent", "unknown", T0, "hung for 9 s", catalogued=True)
    return m.MetricList((view, lost), {"learning.sources": "no source of learning events"})


def top() -> m.TopAnswer:
    use = ProcessUse(4711, 567890, "sh", "sh -c 'while :; do :; done'", 1000, 0.98, 4 << 20, None, 1, 3, "R")
    return m.TopAnswer(Top(T0, 120, 2, (use,), (use,), ()))


def series() -> m.SeriesAnswer:
    at = tuple(range(T0 - 5_000, T0, 1000))
    return m.SeriesAnswer("infra.cpu_utilization", "host", "percent", "raw", at, (10.0, 20.0, None, 40.0, 15.0))


ADVICE = Advice(
    "4f1c09aa",
    "limit",
    "cgroup:/web.service@71",
    "Lower memory.max of /web.service from 8 GiB to 1 GiB",
    "its highest use in 7 d was 800 MiB (mean 200 MiB)",
    "7 GiB that nothing else may count on now",
    "work larger than any in that time would be ended by the kernel",
    "limit",
    {"memory_max_bytes": 1 << 30},
    {"memory_max_bytes": 8 << 30},
)


def answers() -> dict[type[Any], Any]:
    """Request type → answer, or a function of the request."""
    waiting, advised = run("waiting"), run("advised", OTHER_ID)
    by_id = {one.id: one for one in (waiting, advised, done_run())}
    explanation = m.Explanation("x", "sh is calmed because it took a core", (m.Link(T0, "find", "crossed 0.9 cores", "e1"),))
    return {
        m.Hello: m.Done(),
        m.GetStatus: status(),
        m.GetTop: top(),
        m.GetMetrics: views(),
        m.QuerySeries: series(),
        m.ListFindings: m.FindingList((finding(),)),
        m.ListRuns: lambda ask: m.RunList((done_run(),) if ask.which == "runs" else (waiting, advised)),
        m.GetRun: lambda ask: m.RunList(tuple(one for one in by_id.values() if one.id.startswith(ask.id))),
        GetAdvice: lambda ask: AdviceList((ADVICE,), ask.over_s, ask.at_least_s, {"workload:new": 600.0}),
        ApplyAdvice: m.RunList((done_run("verifying"),)),
        m.Approve: m.RunList((run("approved", approvals=(Approval("p", RUN_ID, "f" * 64, ALICE, T0, T0 + 1),)),)),
        m.Deny: m.RunList((run("denied"),)),
        m.Undo: m.RunList((done_run("undone"),)),
        m.Cancel: m.RunList((run("cancelled"),)),
        m.Lift: m.HoldList(()),
        m.ListHolds: m.HoldList((Hold("calm-cpu-hog", "process:4711", FINDING_ID, ALICE, T0),)),
        ListFiles: FileList(
            (Cleanable("package-cache", "Packages", "quarantine", "/", 12, 5_000_000),),
            (Quarantined("/tmp/old%FF", "temporary", 2_000_000, T0 - 3_600_000, T0 + 7_200_000, "/q/ab", DONE_ID),),
            {"/var/crash": "a folder on the way is a symbolic link"},
        ),
        m.Why: explanation,
        m.Pause: status(paused=True),
        m.Resume: status(),
        m.SetAutonomy: lambda ask: status(mode=ask.mode or "advise"),
        m.ListEntries: m.EntryList((m.EntryView(1, "e1", "finding.opened", FINDING_ID, T0, "{}"),)),
        m.Subscribe: m.Done(),
        w.GetWitnesses: w.WitnessList("host1/ledger", 5, None, False, ()),
        **fake_ledger.answers(fake_ledger.ledger(FINDING_ID, RUN_ID)),
    }


class FakeAgent:
    """The door: serves until closed, in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[Any] = []
        self.people: list[str] = []
        self.peers: list[tuple[int, int, int]] = []
        self.answers = answers()
        self.events: list[m.Event] = []  # sent to each subscriber
        self.raw: bytes | None = None  # sent instead of any answer
        self.silent = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen(8)
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def refuse(self, kind: type[Any], exit_code: int = EXIT_APPROVAL) -> None:
        """Answer this request with a problem."""
        self.answers[kind] = Problem("it needs one more approval", "policy", "ask a colleague", "approval.needed", exit_code)

    def hang_up(self) -> None:
        """End all connections; new ones are still taken."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the server and its connections."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)
        self.hang_up()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._open.append(client)
            self.peers.append(peer_credentials(client))
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines, contextlib.suppress(OSError):
            for line in lines:
                request = decode_request(line)
                self.asked.append(request.body)
                self.people.append(request.person)
                if not self.silent:
                    client.sendall(self.raw if self.raw is not None else self._reply(request))

    def _reply(self, request: m.Request) -> bytes:
        found = self.answers[type(request.body)]
        reply: bytes = encode(m.Reply(request.id, found(request.body) if isinstance(found, Callable) else found))  # type: ignore[arg-type]
        if isinstance(request.body, m.Subscribe):
            reply += b"".join(encode(event) for event in self.events)
        return reply


def main() -> int:
    """Be the agent that `stead up` starts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("socket", type=Path)
    parser.add_argument("--die", nargs=2, metavar=("TEXT", "CODE"))
    parser.add_argument("--live", type=float, default=60.0)
    parser.add_argument(
        "--cut", type=float, default=1e9, help="after so many seconds, hang up once and tell of a cleared finding"
    )
    parser.add_argument("--leased", action="store_true", help="one run is in force under a lease")
    parser.add_argument("--restore", type=int, nargs="?", const=0, metavar="CODE", help="say so, and end")
    given = parser.parse_args()
    if given.restore is not None:
        print("the fake put it back", flush=True)
        return int(given.restore)
    if given.die:
        print(given.die[0], file=sys.stderr)
        return int(given.die[1])
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    agent = FakeAgent(given.socket)
    agent.answers[m.ListFindings] = m.FindingList(())
    agent.answers[m.ListRuns] = m.RunList((run("held", DONE_ID, lease_until_ms=T0 + 60_000),) if given.leased else ())
    agent.events = [
        m.Event("finding.opened", FINDING_ID, T0, 1, finding=finding()),
        m.Event("run.advised", RUN_ID, T0, 2, run=run("advised")),
    ]
    started = time.monotonic()
    while not ended.wait(0.05) and time.monotonic() < started + given.live:
        if time.monotonic() >= started + given.cut:
            given.cut = 1e9
            agent.events = [m.Event("finding.cleared", FINDING_ID, T0, 3, finding=finding(cleared_ms=T0))]
            agent.hang_up()
    agent.close()
    return 0 if ended.is_set() else 9


if __name__ == "__main__":
    raise SystemExit(main())
