"""Changes to a host, as values: targets with an identity, settings, proposals, runs, receipts and verdicts.

Everything that changes a host is a `Proposal`, and its life is a `Run`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from stead.model.policy import Actor, Approval, Decision

Record = dict[str, str | int | float | bool | list[str] | None]
Risk = Literal["low", "medium", "high", "critical"]
UndoKind = Literal["exact", "lossy", "none"]
Law = Literal["aimd", "senpai"]
Direction = Literal["down", "up"]
FAMILY = "family"  # in `Target.within`
DROP_INS = "drop_ins"  # in what a step wants: systemd keeps it for the unit, whichever group that has


class Absent(msgspec.Struct, frozen=True, tag="absent"):
    """The state of a thing that is not there."""


ABSENT = Absent()


class Target(msgspec.Struct, frozen=True):
    """A thing that can be changed, with what makes it that very thing and no successor of it.

    kind "process": identity {"start_ticks": "567890", "boot_id": "…"}, name is the pid;
    kind "workload": identity {"id": "<uuid of this definition's life>"}; kind "autonomy": name is the scope, no identity.
    """

    kind: str
    name: str
    identity: dict[str, str] = {}
    within: dict[str, str] = {}  # what else a setting reaches, of a process: its session (`leader`, `start_ticks`), who of its
    # family is changed with it (`family`: "pid@start pid@start"), and the start of the last-born there (`youngest`)

    def __str__(self) -> str:
        """Show as kind:name."""
        return f"{self.kind}:{self.name}"

    @property
    def key(self) -> str:
        """The thing with its identity, as a word: what holds and locks are kept under."""
        identity = "@".join(value for _, value in sorted(self.identity.items(), reverse=True))
        return f"{self}@{identity}" if identity else str(self)

    def reaches(self, other: Target) -> bool:
        """Is the other one of the family that is changed with this process?"""
        if self.kind != "process" or other.kind != "process" or self.identity.get("boot_id") != other.identity.get("boot_id"):
            return False
        return f"{other.name}@{other.identity.get('start_ticks', '')}" in self.within.get(FAMILY, "").split()


class Setting(msgspec.Struct, frozen=True):
    """A state that a target should have (`state` None: it should be absent)."""

    actuator: str
    target: Target
    state: Record | None


class Govern(msgspec.Struct, frozen=True):
    """How one numeric field of a step is moved while its run is held, within a range that was decided with it.

    Less is tighter: `low` is the tightest value that may be set, `high` the loosest, in the field's unit; the step's `want` is
    where it starts. A reading of `metric` above `level` is bad. Law `aimd`: bad means that others suffer, so it tightens, and
    loosens again while they don't; `senpai`: bad means that the limited one suffers, so it loosens, and tightens until then.
    A reading that is not known only ever loosens. What is used tells where tightening begins.
    """

    field: str
    metric: str
    subject: str
    level: float
    low: float
    high: float
    law: Law = "aimd"
    interval_s: float = 5.0
    tighten: float = 0.15  # the most that one interval takes away, as a share of the value
    loosen: float = 0.3  # the most that one interval gives back
    dead_band: float = 0.3  # the share of the level below it in which nothing moves
    hold_off_s: float = 30.0  # after a bad reading: this long nothing is tried again; it doubles with every further one
    hold_off_max_s: float = 900.0
    used_metric: str = ""  # what is used of the field, by the same thing
    used_subject: str = ""
    used_times: float = 1.0  # one unit of that metric in units of the field: 100 for cores and percent
    keys: tuple[str, ...] = ()  # of a field of lines ("8:0 rbps=… wbps=…"): these are moved, all to one value


class Step(msgspec.Struct, frozen=True):
    """One setting of a plan: what is, what will be as the system will round it, and whether it can be put back."""

    actuator: str
    target: Target
    before: Record | None
    want: Record | None
    undo: UndoKind
    undo_reason: str = ""  # why it is lossy or none
    duration_s: float = 5.0  # the longest the write may take; then its outcome is unknown and it is read
    lease_s: float | None = None  # time to live; None: until somebody changes it
    repeat: bool = True  # may recovery write it again? never for a generation (a restart)
    note: str = ""  # what else the change touches, in words ("applies to the whole session")
    owns: tuple[str, ...] = ()  # the fields that nobody else may change while its run lives; empty: all of the target's
    labels: dict[str, str] = {}  # what the target is called, where the finding does not say: {"process": "leaker", …}
    govern: Govern | None = None  # one field is moved within a range while the run is held

    @property
    def touched(self) -> frozenset[str]:
        """Every field that it changes, or puts back with what it changes."""
        return frozenset((*self.owns, *(self.before or {}), *(self.want or {})))

    def outlasts(self, other: Target) -> bool:
        """Does what it set hold for this one too, a unit's next group? systemd limits that as its drop-ins say."""
        group = self.target.kind == "cgroup" and (self.target.kind, self.target.name) == (other.kind, other.name)
        return group and DROP_INS in (self.want or {}) and self.target.identity.get("boot_id") == other.identity.get("boot_id")

    def fights(self, other: Step) -> bool:
        """Do both change one value? Two limits of one group that are different fields do not."""
        if self.actuator != other.actuator:
            return False
        outlasts = self.outlasts(other.target) or other.outlasts(self.target)
        if self.target.key != other.target.key and not outlasts:
            return self.target.reaches(other.target) or other.target.reaches(self.target)
        if not self.owns or not other.owns:
            return True
        return bool(self.touched.intersection(other.owns) or other.touched.intersection(self.owns))

    @property
    def diff(self) -> dict[str, tuple[object, object]]:
        """Only what changes: field → (before, want)."""
        before, want = self.before or {}, self.want or {}
        return {key: (before.get(key), want.get(key)) for key in {**before, **want} if before.get(key) != want.get(key)}


class Control(msgspec.Struct, frozen=True):
    """What must have gone on while a change was watched: if it fell by itself, the change gets no credit for what followed."""

    metric: str
    subject: str
    at_least_share: float = 0.7  # of its mean before; below it the verdict is inconclusive


class Twin(msgspec.Struct, frozen=True):
    """What was held back from a change and is otherwise alike: its series says what would have been."""

    metric: str
    subject: str  # "others": every other subject of the metric that is known before and after


class Prediction(msgspec.Struct, frozen=True):
    """What the change should do to which metric, said before it is made."""

    metric: str
    subject: str
    direction: Direction
    at_least: float  # the smallest move that counts, in the metric's unit, or as a share of before if `relative`
    relative: bool = True
    within_s: float = 60.0
    baseline: float | None = None  # the mean over `within_s` before the change
    meaningful: float = 0.0  # a baseline below this can't show anything: inconclusive
    control: tuple[Control, ...] = ()
    twin: Twin | None = None


class Reason(msgspec.Struct, frozen=True):
    """What keeps a change wanted when its finding has cleared because of it: this metric is above this level."""

    metric: str
    subject: str
    above: float


class Proposal(msgspec.Struct, frozen=True):
    """A remedy for a finding (or a person's wish), planned against the host as it is."""

    id: str
    playbook: str
    title: str
    finding_id: str | None
    requester: Actor
    risk: Risk
    tier: int
    confidence: float
    steps: tuple[Step, ...]
    prediction: Prediction | None
    verify_s: float
    plan_hash: str  # sha256 over steps with their before values and identities
    created_ms: int
    expires_ms: int
    lowers: bool = False  # it lowers stead's own autonomy: never waits
    scope: str = "host"
    chain: tuple[str, ...] = ()  # playbooks to try next if this does not help
    labels: dict[str, str] = {}
    catalog_version: str = ""
    impossible: str = ""  # why it can't be planned: `unsupported: <what is missing>`; then it has no steps
    good_readings: int = 1  # how many in a row its verification needs
    keep_while: tuple[Reason, ...] = ()  # all of them so: its lease is renewed though the finding has cleared
    keep_unclear: bool = False  # renewed too where no effect could be told: what it holds back was named for that by its owner


class Attempt(msgspec.Struct, frozen=True):
    """Written durably before a write: what is there, what will be there."""

    id: str
    run_id: str
    step: int
    direction: Literal["forward", "undo"]
    before: Record | None
    want: Record | None
    at_ms: int


class Receipt(msgspec.Struct, frozen=True):
    """Written after a write: what is there now, as read back."""

    attempt_id: str
    step: int
    direction: Literal["forward", "undo"]
    outcome: Literal["done", "already", "failed", "unknown", "moot", "conflict"]
    after: Record | None
    error: str
    at_ms: int
    cpu_s: float = 0.0
    wall_s: float = 0.0
    operations: tuple[str, ...] = ()  # what was really called, in order: "setpriority(process 4711, 10)"


class Governed(msgspec.Struct, frozen=True):
    """Where a governed value is in its range, and why. Durable every few minutes, live in between."""

    step: int
    field: str
    value: float  # as it was read back after the last move
    least: float  # the tightest it has been
    most: float  # the loosest it has been
    moves: int
    reading: float | None  # of the metric that governs it; None: not known
    reason: str  # why it is where it is, in words
    at_ms: int
    edge: float | None = None  # what its law learned: where it began to be bad; None: nowhere so far
    hold_off_s: float | None = None  # and how long it waits by now before it tries beyond that


class Verdict(msgspec.Struct, frozen=True):
    """Did it hold, and did it help?"""

    result: Literal["helped", "no_help", "inconclusive", "not_held"]
    reason: str
    before: float | None = None
    after: float | None = None
    predicted: float | None = None
    at_ms: int = 0
    effect: float | None = None  # what the change did, in the metric's unit: after - counterfactual; negative: it fell
    low: float | None = None  # with 95 % confidence the effect is from low …
    high: float | None = None  # … to high
    counterfactual: float | None = None  # what would have been without the change


RunState = Literal[
    "refused",  # the policy said no
    "advised",  # mode observe or advise: this is what it would do
    "waiting",  # for approval
    "approved",  # allowed or approved, not started (a lock on the target, or paused)
    "acting",  # steps are being written
    "verifying",  # all steps written; the window runs
    "held",  # kept under a lease, which may be renewed
    "kept",  # verified, and final: no lease
    "undoing",
    "undone",  # everything put back
    "undo_failed",  # tried again for some days; then it needs a person
    "failed",  # a step failed and what was done has been put back
    "moot",  # the target is gone: nothing to do, nothing to put back
    "conflict",  # another hand owns the value now: yielded
    "denied",
    "expired",
    "cancelled",
    "unsupported",
]
FINAL: frozenset[str] = frozenset(
    (
        *("refused", "advised", "kept", "undone", "undo_failed", "failed", "moot"),
        *("conflict", "denied", "expired", "cancelled", "unsupported"),
    )
)


class Run(msgspec.Struct, frozen=True):
    """The life of one proposal: a persisted state machine that events move on."""

    id: str  # equals the proposal's id
    proposal: Proposal
    state: RunState
    decision: Decision | None = None
    approvals: tuple[Approval, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    verdict: Verdict | None = None
    reason: str = ""  # why it is in this state, in words
    undo_reason: str = ""  # what began the undo: "person", "no_help", "not_held", "lease", "cleared", "cancel", "paused", …
    acted_ms: int | None = None
    verify_at_ms: int | None = None
    lease_until_ms: int | None = None
    updated_ms: int = 0
    cause: str = ""  # id of the last ledger entry about it
    recoverable: bool = True
    governed: tuple[Governed, ...] = ()  # the fields that are moved within a range
    undo_tries: int = 0  # how often stead by itself has tried again to put it back

    @property
    def final(self) -> bool:
        """Nothing will move it any more (a person may still undo a kept one)."""
        return self.state in FINAL


UNDO_WORDS: dict[str, str] = {  # `undo_reason` for reading
    "person": "a person asked for it",
    "no_help": "it did not help",
    "not_held": "it did not hold",
    "lease": "its lease ended",
    "cleared": "its reason is over",
    "cancel": "it was cancelled",
    "paused": "stead was paused",
    "partial failure": "a step failed",
}


class Hold(msgspec.Struct, frozen=True):
    """A person undid a playbook on a target: it stays off until the finding clears or a person lifts the hold."""

    playbook: str
    target: str  # str(Target) with identity
    finding_id: str | None
    by: Actor
    at_ms: int
