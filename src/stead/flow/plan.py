"""Plan: a wish against the host as it is. Reads every target and says what would change; writes nothing.

A dry run is this and no more. What can't be planned comes back as a proposal without steps that says why
(`unsupported: …`, `already so`, `gone`, or a refusal), so that it is shown and recorded like any other.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from stead.flow import runs
from stead.flow.propose import BoundSetting, Wish
from stead.flow.record import plan_hash
from stead.flow.write import READ_TIMEOUT_S, to_record
from stead.model.catalog import StateChange
from stead.model.change import ABSENT, Absent, Control, Prediction, Proposal, Step, Twin
from stead.model.errors import SteadError
from stead.model.observe import Now
from stead.model.policy import Policy
from stead.protocols import Actuator, Host, Latest

Mean = Callable[[str, str, float], float | None]  # (metric, subject, the last … seconds) → mean, None when unknown
UNSUPPORTED: Final = "unsupported"
UNREADABLE: Final = "unreadable now"


class _ImpossibleError(Exception):
    """Why a wish can't be planned."""


async def plan(
    wish: Wish,
    actuators: Mapping[str, Actuator[Any]],
    host: Host,
    latest: Latest,
    policy: Policy,
    now: Now,
    new_id: Callable[[], str],
    catalog_version: str = "",
    mean: Mean | None = None,
) -> Proposal:
    """Plan a wish. Never raises for what the host or a plugin can't do: the proposal's `impossible` says it.

    `mean` gives a prediction's baseline over the time before; without it the latest value is taken.
    """
    steps: list[Step] = []
    impossible = f"{UNSUPPORTED}: {wish.playbook.unsupported}" if wish.playbook.unsupported else ""
    if not impossible:
        try:
            for setting in wish.settings:
                step = await _step(setting, wish, actuators, host, latest)
                if step is not None:
                    steps.append(step)
            if wish.settings and not steps:
                impossible = f"{runs.ALREADY_SO}: nothing to change"
        except _ImpossibleError as error:
            impossible, steps = str(error), []
    return _proposal(wish, tuple(steps), impossible, latest, mean, policy, now, new_id, catalog_version)


def _proposal(
    wish: Wish,
    steps: tuple[Step, ...],
    impossible: str,
    latest: Latest,
    mean: Mean | None,
    policy: Policy,
    now: Now,
    new_id: Callable[[], str],
    catalog_version: str,
) -> Proposal:
    playbook = wish.playbook
    return Proposal(
        id=new_id(),
        playbook=playbook.playbook_id,
        title=playbook.title or playbook.playbook_id,
        finding_id=wish.finding.id if wish.finding else None,
        requester=wish.requester,
        risk=playbook.risk,
        tier=playbook.tier,
        confidence=playbook.confidence,
        steps=steps,
        prediction=None if impossible else _prediction(wish, latest, mean),
        verify_s=playbook.verify.window_s,
        plan_hash=plan_hash(steps),
        created_ms=now.unix_ms,
        expires_ms=now.unix_ms + round(min(playbook.ttl_s, policy.approval_pending_s + policy.approval_valid_s) * 1000),
        lowers=playbook.lowers,
        scope=wish.scope,
        chain=wish.chain,
        labels=dict(wish.labels),
        catalog_version=catalog_version,
        impossible=impossible,
        good_readings=playbook.verify.good_readings,
    )


def _prediction(wish: Wish, latest: Latest, mean: Mean | None) -> Prediction | None:
    said = wish.playbook.predict
    if said is None:
        return None
    subject = _bound(said.subject, wish)
    baseline = mean(said.metric, subject, said.within_s) if mean else latest(said.metric, subject)
    return Prediction(
        said.metric,
        subject,
        said.direction,
        said.at_least,
        said.relative,
        said.within_s,
        baseline,
        said.meaningful,
        tuple(Control(one.metric, _bound(one.subject, wish), one.at_least_share) for one in said.controls),
        Twin(said.twin.metric or said.metric, said.twin.subject) if said.twin else None,
    )


def _bound(subject: str, wish: Wish) -> str:
    """A subject of the catalogue's as it is called here."""
    if subject != "subject":
        return subject
    return wish.finding.subject if wish.finding else "host"


async def _step(
    setting: BoundSetting, wish: Wish, actuators: Mapping[str, Actuator[Any]], host: Host, latest: Latest
) -> Step | None:
    """One step, or None when it is so already."""
    template, target = setting.template, setting.target
    actuator = actuators.get(template.actuator)
    if actuator is None:
        raise _ImpossibleError(f"{UNSUPPORTED}: the actuator {template.actuator}")
    strange = sorted(set(template.state) - set(actuator.state.__struct_fields__))
    if strange:
        raise _ImpossibleError(f"{UNSUPPORTED}: {template.actuator} has no {', '.join(strange)}")
    seen = await _read(actuator, host, setting)
    if isinstance(seen, Absent):
        raise _ImpossibleError(f"{runs.GONE}: {target} is not there any more")
    subject = wish.finding.subject if wish.finding else str(target)
    values = to_record(seen) or {}
    wanted = {name: _resolved(name, value, values.get(name), subject, latest) for name, value in template.state.items()}
    try:
        want = ABSENT if template.absent else msgspec.convert(wanted, actuator.state, strict=False)
        if actuator.met(seen, want):
            return None
        step = actuator.plan(target, seen, want)
    except msgspec.ValidationError as error:
        raise _ImpossibleError(f"{template.actuator} can't be set so: {error}") from error
    except SteadError as error:
        raise _ImpossibleError(f"{UNSUPPORTED}: {error}") from error
    except Exception as error:
        raise _ImpossibleError(f"{UNSUPPORTED}: {template.actuator} can't plan this: {error!r}") from error
    if not step.diff:
        return None
    lease_s = None if step.undo == "none" else template.lease_s  # what can't be put back can't be lent
    return msgspec.structs.replace(step, lease_s=lease_s)


async def _read(actuator: Actuator[Any], host: Host, setting: BoundSetting) -> Any:
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await actuator.read(host, setting.target)
    except TimeoutError as error:
        raise _ImpossibleError(f"{UNREADABLE}: {setting.target} could not be read within {READ_TIMEOUT_S:.0f} s") from error
    except Exception as error:
        raise _ImpossibleError(f"{UNREADABLE}: {setting.target} could not be read: {error}") from error


def _resolved(name: str, value: Any, present: Any, subject: str, latest: Latest) -> Any:
    """A wanted value, made absolute where it is relative to the present one or to a metric."""
    if not isinstance(value, StateChange):
        return value
    base = _based(name, value, present, subject, latest)
    if value.at_most_times is not None and _number(present):
        base = min(base, present * value.at_most_times)
    if value.at_least_times is not None and _number(present):
        base = max(base, present * value.at_least_times)
    if value.at_most is not None:
        base = min(base, value.at_most)
    if value.at_least is not None:
        base = max(base, value.at_least)
    whole = isinstance(present, int) or (present is None and float(base).is_integer())
    return math.ceil(base) if whole else base


def _based(name: str, change: StateChange, present: Any, subject: str, latest: Latest) -> float:
    if change.from_metric:
        found = latest(change.from_metric, subject)
        if found is None:
            raise _ImpossibleError(f"{change.from_metric} of {subject} is unknown, and {name} follows it")
        return found
    if not _number(present):
        raise _ImpossibleError(f"{name} is unknown now, so it can't be changed relative to that")
    return float(present) * (1.0 if change.multiply is None else change.multiply) + (change.add or 0.0)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
