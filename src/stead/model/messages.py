"""The messages on the agent's socket: one JSON object a line, one tagged union each way.

A client sends `Request(id, body)`; the agent answers `Reply(id, result | problem)`. After `Subscribe` the agent also
sends `Event`s, each a copy: control never travels on them. The fleet's link will carry these same messages.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from stead.model.advice import AdviceList, ApplyAdvice, GetAdvice
from stead.model.change import Hold, Run
from stead.model.cleaning import FileList, ListFiles
from stead.model.errors import Problem
from stead.model.find import Finding
from stead.model.intent import Matched
from stead.model.ledger_messages import (
    BlobList,
    EntryPage,
    EraseBlob,
    GetBlobs,
    GetCheckpoint,
    GetLeaves,
    GetProof,
    LeafList,
    LedgerHead,
    ProofBundle,
    RotateKey,
    SearchEntries,
)
from stead.model.observe import Band, Fact, MetricEvent, MetricsSnapshot, Top
from stead.model.policy import Actor, Autonomy, Mode
from stead.model.record import must_be_recorded
from stead.model.witness_messages import AddCheckpoint, GetWitnesses, WitnessList, WitnessReply
from stead.model.workload import WorkloadStatus


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Said by the hub first: it proves itself with the hub key, and may then speak for a token's person."""

    key: str


class GetStatus(msgspec.Struct, frozen=True, tag="status"):
    """→ Status."""


class GetTop(msgspec.Struct, frozen=True, tag="top"):
    """→ Top."""


class GetMetrics(msgspec.Struct, frozen=True, tag="metrics"):
    """→ MetricList: the latest value of every metric and subject."""


class QuerySeries(msgspec.Struct, frozen=True, tag="series"):
    """→ SeriesAnswer over [from_ms, to_ms): raw values where kept, else snapshots; at most `points` rows."""

    metric: str
    subject: str
    from_ms: int
    to_ms: int
    points: int = 600


class ListFindings(msgspec.Struct, frozen=True, tag="findings"):
    """→ FindingList."""

    cleared: bool = False
    limit: int = 100


Which = Literal["all", "proposals", "runs"]


class ListRuns(msgspec.Struct, frozen=True, tag="runs"):
    """→ RunList, newest first. `which`: proposals are those that wait or were advised; runs those that acted."""

    which: Which = "all"
    limit: int = 100


class GetRun(msgspec.Struct, frozen=True, tag="run"):
    """→ RunList with one (a unique prefix of the id is enough)."""

    id: str


class Approve(msgspec.Struct, frozen=True, tag="approve"):
    """→ RunList. The plan hash is what the person saw; empty is refused unless `latest`."""

    id: str
    plan_hash: str
    latest: bool = False


class Deny(msgspec.Struct, frozen=True, tag="deny"):
    """→ RunList."""

    id: str
    reason: str = ""


class Undo(msgspec.Struct, frozen=True, tag="undo"):
    """→ RunList: put a run's own before back, and hold its playbook off that target."""

    id: str


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """→ RunList: takes effect between steps."""

    id: str


class Lift(msgspec.Struct, frozen=True, tag="lift"):
    """→ HoldList: let a playbook act on a target again."""

    playbook: str
    target: str


class ListHolds(msgspec.Struct, frozen=True, tag="holds"):
    """→ HoldList."""


class Why(msgspec.Struct, frozen=True, tag="why"):
    """→ Explanation of a finding, run, metric, process, workload or setting, from recorded evidence."""

    thing: str


class Pause(msgspec.Struct, frozen=True, tag="pause"):
    """→ Status. Anyone may."""

    reason: str = ""


class Resume(msgspec.Struct, frozen=True, tag="resume"):
    """→ Status. A person must."""


class SetAutonomy(msgspec.Struct, frozen=True, tag="autonomy"):
    """→ Status. What is None stays. A person's own request is its approval; an unlock needs two people."""

    mode: Mode | None = None
    ceiling: int | None = None
    scope: str = "host"
    locked: bool | None = None


class ListEntries(msgspec.Struct, frozen=True, tag="entries"):
    """→ EntryList: the ledger's newest."""

    limit: int = 50
    subject: str = ""


class Subscribe(msgspec.Struct, frozen=True, tag="subscribe"):
    """→ Done, then Events whose type matches one of the globs."""

    topics: tuple[str, ...] = ("*",)


RequestBody = (
    Hello | GetStatus | GetTop | GetMetrics | QuerySeries | ListFindings | ListRuns | GetRun | Approve | Deny | Undo | Cancel
    | Lift | ListHolds | Why | Pause | Resume | SetAutonomy | ListEntries | Subscribe
    | AddCheckpoint | GetWitnesses | GetCheckpoint | GetLeaves | GetBlobs | SearchEntries | GetProof | RotateKey | EraseBlob
    | GetAdvice | ApplyAdvice | ListFiles
)  # fmt: skip


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One question or order. `person` is honoured only from the hub."""

    id: int
    body: RequestBody
    person: str = ""


class Station(msgspec.Struct, frozen=True):
    """The health of one station of the road, or of one probe."""

    name: str
    ok: bool | None  # None: unknown
    detail: str = ""


class Status(msgspec.Struct, frozen=True, tag="status"):
    """The agent in one look."""

    host: str
    version: str
    pid: int
    started_ms: int
    now_ms: int
    autonomy: Autonomy
    profile: str
    mode: Mode
    paused: bool
    pause_reason: str
    findings_open: int
    proposals_waiting: int
    runs_active: int
    ticks: int
    tick_cpu_ms: float | None  # mean CPU of the last minute's ticks
    rss_bytes: int | None
    stations: tuple[Station, ...]
    workloads: tuple[WorkloadStatus, ...] = ()
    policy_version: str = ""
    catalog_version: str = ""
    state_dir: str = ""
    facts: tuple[Fact, ...] = ()
    limits: tuple[Run, ...] = ()  # runs whose values are moved within a range, with where they stand
    intent: tuple[Matched, ...] = ()  # what is protected and what may be slowed for it, as it matches now


class MetricView(msgspec.Struct, frozen=True):
    """One metric of one subject, now."""

    metric: str
    subject: str
    value: float | None
    unit: str
    band: Band
    at_ms: int
    reason: str = ""
    category: str = ""
    title: str = ""
    catalogued: bool = False


class MetricList(msgspec.Struct, frozen=True, tag="metrics"):
    """Answer to GetMetrics. `unsupported`: catalogued metric id → what is missing."""

    metrics: tuple[MetricView, ...]
    unsupported: dict[str, str] = {}


class SeriesAnswer(msgspec.Struct, frozen=True, tag="series"):
    """Columns of one series: times, and values or their min/avg/max where snapshots answer."""

    metric: str
    subject: str
    unit: str
    source: Literal["raw", "snapshot", "hour", "day"]
    at_ms: tuple[int, ...]
    avg: tuple[float | None, ...]
    min: tuple[float | None, ...] = ()
    max: tuple[float | None, ...] = ()
    p95: tuple[float | None, ...] = ()


class TopAnswer(msgspec.Struct, frozen=True, tag="top"):
    """Answer to GetTop."""

    top: Top | None


class FindingList(msgspec.Struct, frozen=True, tag="findings"):
    """Answer to ListFindings."""

    findings: tuple[Finding, ...]


class RunList(msgspec.Struct, frozen=True, tag="runs"):
    """Answer to everything about runs."""

    runs: tuple[Run, ...]


class HoldList(msgspec.Struct, frozen=True, tag="holds"):
    """Answer to ListHolds and Lift."""

    holds: tuple[Hold, ...]


class Link(msgspec.Struct, frozen=True):
    """One link of an explanation: what happened, in words, and the ledger entry that says so (`stead proof <entry>`)."""

    at_ms: int
    station: str  # observe find propose decide act verify record
    words: str
    entry: str = ""
    leaf: str = ""  # hash of its leaf, RFC 6962: "sha256:<hex>"
    index: int | None = None  # its place in the tree, from 0
    erased: bool = False  # what was kept beside the leaf is gone


class Explanation(msgspec.Struct, frozen=True, tag="why"):
    """Why something is so: from samples to finding, proposal, rule, change, verdict."""

    thing: str
    summary: str
    chain: tuple[Link, ...]


class EntryView(msgspec.Struct, frozen=True):
    """One ledger entry, decoded."""

    seq: int
    id: str
    type: str
    subject: str
    ts_ms: int
    leaf: str


class EntryList(msgspec.Struct, frozen=True, tag="entries"):
    """Answer to ListEntries."""

    entries: tuple[EntryView, ...]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """Nothing more to say."""


ReplyBody = (
    Status | MetricList | SeriesAnswer | TopAnswer | FindingList | RunList | HoldList | Explanation | EntryList | Done | Problem
    | WitnessReply | WitnessList | LedgerHead | LeafList | BlobList | EntryPage | ProofBundle | AdviceList
    | FileList
)  # fmt: skip


class Reply(msgspec.Struct, frozen=True, tag_field="kind", tag="reply"):
    """The answer to the request of the same id."""

    id: int
    body: ReplyBody


class Event(msgspec.Struct, frozen=True, tag_field="kind", tag="event", omit_defaults=True):
    """A copy of what happened. `type` is the topic, verbatim the CloudEvents type; `seq` its entry's number, 0 without one."""

    type: str
    subject: str
    at_ms: int
    seq: int
    finding: Finding | None = None
    run: Run | None = None
    metrics: tuple[MetricEvent, ...] = ()
    snapshots: tuple[MetricsSnapshot, ...] = ()
    top: Top | None = None
    status: Status | None = None
    by: Actor | None = None

    def __post_init__(self) -> None:
        """Refuse what nobody could prove afterwards. Raises ValueError."""
        if self.seq < 1 and must_be_recorded(self.type):
            raise ValueError(f"an event {self.type} without its entry in the ledger: commit it, and it is told")


Outgoing = Reply | Event
