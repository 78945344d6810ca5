"""What can be ordered. Each is one message to the agent, in the name of the token's person; the agent's policy has the last word.

`Idempotency-Key` makes a repeated POST give the first one's answer instead of acting again.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar.params import HeaderParameter, JSONBody, PathParameter

from stead.hub.routes import Agent, order
from stead.model import messages as m
from stead.model.advice import ApplyAdvice
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.policy import Mode

Once = Annotated[str, HeaderParameter(name="Idempotency-Key", max_length=100, description="A new random value for each order")]
IfMatch = Annotated[
    str, HeaderParameter(name="If-Match", max_length=200, description='The plan\'s hash as it was seen, in quotes: "<plan_hash>"')
]
Word = Annotated[str, PathParameter(min_length=1, max_length=200)]
Text = Annotated[str, msgspec.Meta(max_length=500)]


class ReasonOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why, in words, for the record."""

    reason: Text = ""


class ModeOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much stead may do by itself; what is left out stays."""

    mode: Mode | None = None
    ceiling: Annotated[int, msgspec.Meta(ge=0, le=2)] | None = None
    scope: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] = "host"
    locked: bool | None = None


class AdviceOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From which measurements the advice was made; as it was asked for."""

    over_s: Annotated[float, msgspec.Meta(gt=0, le=400 * 86_400)] = 7 * 86_400.0
    at_least_s: Annotated[float, msgspec.Meta(ge=0, le=400 * 86_400)] = 86_400.0


class HoldOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which hold."""

    playbook: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    target: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


@order("/api/v1/proposals/{proposal:str}/approve")
async def approve(gateway: Agent, proposal: Word, if_match: IfMatch = "", once: Once = "") -> m.RunList:
    """Approve one proposal exactly as it was seen: If-Match names its plan's hash."""
    if not if_match.strip():
        fix = 'send If-Match: "<plan_hash>" of the proposal that you saw'
        raise SteadError("an approval must name its plan", "If-Match", fix, code="approval.precondition", exit_code=EXIT_USAGE)
    plan_hash = if_match.strip().removeprefix("W/").strip('"')
    try:
        run = (await gateway.ask(m.GetRun(proposal), m.RunList)).runs[0]
    except IndexError:
        raise SteadError(f"no proposal {proposal}", "proposals", "list them", code="run.unknown") from None
    if run.proposal.plan_hash != plan_hash:
        fix = "look at the proposal again, and approve what it says now"
        raise SteadError("the plan is not the one that was seen", proposal, fix, code="approval.stale")
    return await gateway.order(m.Approve(run.id, plan_hash), m.RunList, once)


@order("/api/v1/proposals/{proposal:str}/deny")
async def deny(gateway: Agent, proposal: Word, data: JSONBody[ReasonOrder], once: Once = "") -> m.RunList:
    """Say no to one proposal."""
    return await gateway.order(m.Deny(proposal, data.reason), m.RunList, once)


@order("/api/v1/runs/{run:str}/undo")
async def undo(gateway: Agent, run: Word, once: Once = "") -> m.RunList:
    """Put back what a run changed, and keep its playbook off that target."""
    return await gateway.order(m.Undo(run), m.RunList, once)


@order("/api/v1/runs/{run:str}/cancel")
async def cancel(gateway: Agent, run: Word, once: Once = "") -> m.RunList:
    """Stop a run between its steps and put back what it did."""
    return await gateway.order(m.Cancel(run), m.RunList, once)


@order("/api/v1/recommendations/{advice:str}/apply")
async def apply(gateway: Agent, advice: Word, data: JSONBody[AdviceOrder], once: Once = "") -> m.RunList:
    """Apply one recommendation, as it is now: it becomes a proposal, and is decided like any other."""
    return await gateway.order(ApplyAdvice(advice, data.over_s, data.at_least_s), m.RunList, once)


@order("/api/v1/holds/lift")
async def lift(gateway: Agent, data: JSONBody[HoldOrder], once: Once = "") -> m.HoldList:
    """Let a playbook act on a target again."""
    return await gateway.order(m.Lift(data.playbook, data.target), m.HoldList, once)


@order("/api/v1/pause")
async def pause(gateway: Agent, data: JSONBody[ReasonOrder], once: Once = "") -> m.Status:
    """Stop all forward acting at once."""
    return await gateway.order(m.Pause(data.reason), m.Status, once)


@order("/api/v1/resume")
async def resume(gateway: Agent, once: Once = "") -> m.Status:
    """Act again."""
    return await gateway.order(m.Resume(), m.Status, once)


@order("/api/v1/mode")
async def mode(
    gateway: Agent,
    data: JSONBody[ModeOrder],
    once: Once = "",
) -> m.Status:
    """Set mode, ceiling or lock. A person's own order is its approval; an unlock needs two people."""
    if data.mode is None and data.ceiling is None and data.locked is None:
        what, fix = "nothing to set", "give mode, ceiling or locked"
        raise SteadError(what, "body: mode, ceiling, locked", fix, code="mode.empty", exit_code=EXIT_USAGE)
    return await gateway.order(m.SetAutonomy(data.mode, data.ceiling, data.scope, data.locked), m.Status, once)


ROUTES = [approve, deny, undo, cancel, apply, lift, pause, resume, mode]
