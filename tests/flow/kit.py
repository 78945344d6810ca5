"""What the tests of the flow share: a dial that can be turned (a real actuator on a dictionary), and ready-made values."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from stead.flow.record import Stamp, plan_hash
from stead.model.change import ABSENT, Absent, Prediction, Proposal, Run, Step, Target
from stead.model.errors import SteadError
from stead.model.observe import Now
from stead.model.policy import Actor, Approval, Decision
from stead.protocols import Host

NOW = Now(1_700_000_000_000, 1_000_000)
POLICY_ACTOR = Actor("policy", "policy")
ANN, BOB = Actor("user", "uid:1000"), Actor("user", "uid:1001")


def counter(prefix: str = "id") -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{prefix}-{next(numbers)}"


def stamp(now: Now = NOW) -> Stamp:
    return Stamp("host1", now, counter("entry"))


class Dial(msgspec.Struct, frozen=True):
    level: int | None = None
    colour: str | None = None


class Dials:
    """Dials by name. `faults` (by dial) are raised or slept at the next writes; `half` writes only the level."""

    name = "dial"
    state = Dial

    def __init__(self, **dials: Dial) -> None:
        self.dials: dict[str, Dial] = dict(dials)
        self.lives: dict[str, str] = {}
        self.faults: dict[str, list[BaseException | float]] = {}
        self.half: set[str] = set()
        self.unreadable: set[str] = set()
        self.writes: list[tuple[str, Dial | Absent]] = []

    async def read(self, host: Host, target: Target) -> Dial | Absent:
        if target.name in self.unreadable:
            raise OSError(5, "unreadable")
        if target.identity.get("life", "1") != self.lives.get(target.name, "1"):
            return ABSENT
        return self.dials.get(target.name, ABSENT)

    def plan(self, target: Target, now: Dial | Absent, want: Dial | Absent) -> Step:
        if isinstance(now, Absent) or isinstance(want, Absent):
            raise SteadError("a dial can't be absent", str(target), "leave it")
        changed = {k: v for k, v in msgspec.structs.asdict(want).items() if v is not None and getattr(now, k) != v}
        return Step("dial", target, {key: getattr(now, key) for key in changed}, changed, "exact", duration_s=0.2)

    def met(self, now: Dial | Absent, want: Dial | Absent) -> bool:
        if isinstance(now, Absent) or isinstance(want, Absent):
            return now == want
        return all(v is None or getattr(now, k) == v for k, v in msgspec.structs.asdict(want).items())

    async def write(self, host: Host, target: Target, want: Dial | Absent) -> None:
        self.writes.append((target.name, want))
        if isinstance(await self.read(host, target), Absent):
            raise ProcessLookupError("gone")
        fault = self.faults[target.name].pop(0) if self.faults.get(target.name) else None
        if isinstance(fault, BaseException):
            raise fault
        if isinstance(want, Absent):
            del self.dials[target.name]
            return
        if target.name in self.half:
            self.dials[target.name] = msgspec.structs.replace(self.dials[target.name], level=want.level)
            raise OSError(1, "only half of it")
        host.note(f"turn {target.name} to {want.level}")
        old = msgspec.structs.asdict(self.dials[target.name])
        self.dials[target.name] = Dial(**{**old, **{k: v for k, v in msgspec.structs.asdict(want).items() if v is not None}})
        if isinstance(fault, float):
            await asyncio.sleep(fault)


def dial_step(name: str = "a", before: int = 1, want: int = 9, **more: Any) -> Step:
    target = Target("dial", name, {"life": "1"})
    return Step(
        **{
            **dict(actuator="dial", target=target, before={"level": before}, want={"level": want}, undo="exact", duration_s=0.2),
            **more,
        }
    )


def proposal(steps: Sequence[Step] = (), **more: Any) -> Proposal:
    steps = tuple(steps) or (dial_step(),)
    fields: dict[str, Any] = dict(
        id="run-1",
        playbook="turn",
        title="Turn the dial",
        finding_id="finding-1",
        requester=POLICY_ACTOR,
        risk="low",
        tier=1,
        confidence=0.7,
        steps=steps,
        prediction=None,
        verify_s=5.0,
        plan_hash=plan_hash(steps),
        created_ms=NOW.unix_ms,
        expires_ms=NOW.unix_ms + 3_600_000,
    )
    return Proposal(**{**fields, **more})


def decision(answer: str = "allow", **more: Any) -> Decision:
    fields: dict[str, Any] = dict(
        proposal_id="run-1",
        answer=answer,
        rules=("rule:test",),
        reasons=("a test",),
        approvals_needed=0,
        mode="act",
        policy_version="p1",
        at_ms=NOW.unix_ms,
    )
    return Decision(**{**fields, **more})


def approval(by: Actor = ANN, run: Run | None = None, **more: Any) -> Approval:
    hashed = run.proposal.plan_hash if run else proposal().plan_hash
    fields: dict[str, Any] = dict(
        id=f"yes-{by.id}", proposal_id="run-1", plan_hash=hashed, by=by, at_ms=NOW.unix_ms, expires_ms=NOW.unix_ms + 600_000
    )
    return Approval(**{**fields, **more})


PREDICTION = Prediction("infra.delay", "host", "down", at_least=0.3, baseline=1.0, meaningful=0.05)
