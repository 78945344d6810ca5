"""The conformance suite of actuators: what every one must do, whoever wrote it. Third parties run it on theirs.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    async def test_mine(check): await check(Case(actuator, host, target, states=(one, another), absent=..., successor=...))

Everything else in stead (undo, recovery, ownership, leases) is built on these promises and on nothing more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from stead.host.operations import NotedHost
from stead.model.change import ABSENT, Absent, Step, Target
from stead.model.errors import SteadError
from stead.protocols import Actuator, Host


class Case(msgspec.Struct, frozen=True):
    """One actuator with a real target to try it on.

    `states`: at least one state to want that is not so now. `absent`: a target that is not there. `successor`: a target of the
    same name with another identity (None where targets have none). `drifting`: fields that change by themselves (a size).
    `outlives`: what is set for a target is kept by somebody for its successor, so that it is read, and put back, when it is gone.
    """

    actuator: Actuator[Any]
    host: Host
    target: Target
    states: tuple[Any, ...]
    absent: Target
    successor: Target | None = None
    drifting: tuple[str, ...] = ()
    outlives: bool = False


def _record(state: Any) -> Any:
    return None if isinstance(state, Absent) else msgspec.to_builtins(state)


def _settled(case: Case, state: Any) -> Any:
    """A state without what changes by itself."""
    values = _record(state)
    return values if values is None else {key: value for key, value in values.items() if key not in case.drifting}


async def _set(case: Case, want: Any) -> Step:
    """Plan and write as the flow does it: what is written is what the plan says will be."""
    step = case.actuator.plan(case.target, await case.actuator.read(case.host, case.target), want)
    await case.actuator.write(case.host, case.target, _state(case, step.want))
    return step


def _state(case: Case, values: Any) -> Any:
    return ABSENT if values is None else msgspec.convert(values, case.actuator.state)


async def names_itself_and_its_state_is_frozen(case: Case) -> None:
    """It has a name, and its states are immutable values that JSON can carry."""
    assert case.actuator.name and case.actuator.state.__struct_config__.frozen
    for state in case.states:
        carried = msgspec.json.decode(msgspec.json.encode(state), type=case.actuator.state)
        assert carried == state, f"{state} does not survive JSON"


async def reads_back_what_it_wrote(case: Case) -> None:
    """read ∘ write = want, as `met` judges, for the plan's want and for the one that was asked for."""
    for want in case.states:
        step = await _set(case, want)
        seen = await case.actuator.read(case.host, case.target)
        assert case.actuator.met(seen, _state(case, step.want)), f"{seen} does not meet {step.want}"
        assert case.actuator.met(seen, want), f"{seen} does not meet {want}, which was asked for"


async def says_before_what_will_be(case: Case) -> None:
    """A plan's before is so now, its want is a state, its diff is not empty, and planning changes nothing."""
    for want in case.states:
        now = await case.actuator.read(case.host, case.target)
        step = case.actuator.plan(case.target, now, want)
        assert step.diff, f"{want} is no change from {now}: give the case another state"
        assert case.actuator.met(now, _state(case, step.before)), "the plan's before is not what is"
        assert not case.actuator.met(now, _state(case, step.want)), "the plan's want is so already"
        assert (step.undo == "exact") or step.undo_reason, "a loss is declared with its reason"
        assert step.actuator == case.actuator.name and step.target.key == case.target.key and step.duration_s > 0
        assert _record(await case.actuator.read(case.host, case.target)) == _record(now), "planning changed something"


async def puts_back_exactly_what_it_says_it_can(case: Case) -> None:
    """undo ∘ act = identity, for every change whose undo is exact."""
    for want in case.states:
        before = await case.actuator.read(case.host, case.target)
        step = await _set(case, want)
        if step.undo != "exact":
            continue
        await case.actuator.write(case.host, case.target, _state(case, step.before))
        after = await case.actuator.read(case.host, case.target)
        assert _record(after) == _record(before), f"{before} came back as {after}"


async def has_nothing_to_do_when_it_is_so(case: Case) -> None:
    """A plan of equal states has an empty diff, and each state meets itself."""
    now = await case.actuator.read(case.host, case.target)
    assert case.actuator.met(now, now)
    assert not case.actuator.plan(case.target, now, now).diff


async def writes_the_same_twice_without_harm(case: Case) -> None:
    """Writing what is so already leaves it so."""
    step = await _set(case, case.states[0])
    await case.actuator.write(case.host, case.target, _state(case, step.want))
    assert case.actuator.met(await case.actuator.read(case.host, case.target), _state(case, step.want))


async def says_what_it_really_did(case: Case) -> None:
    """A write that changed something has noted its operations, through the door or by `host.note`: receipts are made of them."""
    now = await case.actuator.read(case.host, case.target)
    step = case.actuator.plan(case.target, now, case.states[0])
    door = NotedHost(case.host)
    await case.actuator.write(door, case.target, _state(case, step.want))
    assert door.operations, "it changed something, and nothing was noted"


async def knows_what_is_not_there(case: Case) -> None:
    """What is not there reads ABSENT, which meets nothing but ABSENT."""
    assert await case.actuator.read(case.host, case.absent) == ABSENT
    assert case.actuator.met(ABSENT, ABSENT)
    assert not case.actuator.met(ABSENT, case.states[0])
    assert not case.actuator.met(await case.actuator.read(case.host, case.target), ABSENT)


async def never_touches_a_successor(case: Case) -> None:
    """A target of the same name with another identity is absent, and a write to it raises and changes nothing.

    Where what was set outlives its target, it is not absent as long as that lasts; it can be put back, and nothing else.
    """
    if case.successor is None:
        return
    now = await case.actuator.read(case.host, case.target)
    assert case.outlives or await case.actuator.read(case.host, case.successor) == ABSENT
    try:
        await case.actuator.write(case.host, case.successor, case.states[0])
    except (SteadError, OSError):
        after = await case.actuator.read(case.host, case.target)
        assert _settled(case, after) == _settled(case, now)
        assert not case.actuator.met(after, case.states[0]) or case.actuator.met(now, case.states[0])
        return
    raise AssertionError("it wrote to a successor")


CHECKS: Final[tuple[Callable[[Case], Awaitable[None]], ...]] = (
    names_itself_and_its_state_is_frozen,
    reads_back_what_it_wrote,
    says_before_what_will_be,
    puts_back_exactly_what_it_says_it_can,
    has_nothing_to_do_when_it_is_so,
    writes_the_same_twice_without_harm,
    says_what_it_really_did,
    knows_what_is_not_there,
    never_touches_a_successor,
)
