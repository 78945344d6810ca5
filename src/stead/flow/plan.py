"""Plan: a wish against the host as it is. Reads every target and says what would change; writes nothing.

A dry run is this and no more. What can't be planned comes back as a proposal without steps that says why
(`unsupported: …`, `already so`, `gone`, or a refusal), so that it is shown and recorded like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from stead.flow import runs
from stead.flow.propose import BoundSetting, Wish
from stead.flow.record import plan_hash
from stead.flow.wanted import LEASE_S, ImpossibleError, governed, raised, started, wanted
from stead.flow.write import READ_TIMEOUT_S, to_record
from stead.model.catalog import Predict
from stead.model.change import ABSENT, Absent, Control, Govern, Prediction, Proposal, Reason, Step, Target, Twin
from stead.model.errors import SteadError
from stead.model.observe import Now
from stead.model.policy import Policy
from stead.protocols import Actuator, Host, Latest

Mean = Callable[[str, str, float], float | None]  # (metric, subject, the last … seconds) → mean, None when unknown
UNSUPPORTED: Final = "unsupported"
UNREADABLE: Final = "unreadable now"


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
    left_out: list[str] = []
    impossible = f"{UNSUPPORTED}: {wish.playbook.unsupported}" if wish.playbook.unsupported else ""
    if not impossible:
        try:
            for setting in wish.settings:
                try:
                    step = await _step(setting, wish, actuators, host, latest)
                except ImpossibleError as error:
                    if not setting.one_of:
                        raise
                    left_out.append(str(error))
                    continue
                if step is not None:
                    steps.append(step)
            if wish.settings and not steps:
                none = f"{runs.GONE}: none of those that were found can be changed now: {left_out[0]}" if left_out else ""
                impossible = none or f"{runs.ALREADY_SO}: nothing to change"
        except ImpossibleError as error:
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
        prediction=None if impossible else _prediction(wish, steps, latest, mean),
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
        keep_while=tuple(Reason(metric, _bound("subject", wish), above) for metric, above in playbook.keep_while.items()),
        keep_unclear=playbook.keep_unclear,
    )


def _prediction(wish: Wish, steps: tuple[Step, ...], latest: Latest, mean: Mean | None) -> Prediction | None:
    said = wish.playbook.predict
    if said is None:
        return None
    subject = _bound(said.subject, wish)
    baseline = mean(said.metric, subject, said.within_s) if mean else latest(said.metric, subject)
    at_least, relative = _at_least(said, wish, steps, latest)
    return Prediction(
        said.metric,
        subject,
        said.direction,
        at_least,
        relative,
        said.within_s,
        baseline,
        said.meaningful,
        tuple(Control(one.metric, _bound(one.subject, wish), one.at_least_share) for one in said.controls),
        Twin(said.twin.metric or said.metric, said.twin.subject) if said.twin else None,
    )


def _at_least(said: Predict, wish: Wish, steps: tuple[Step, ...], latest: Latest) -> tuple[float, bool]:
    """The smallest move that counts, and whether it is a share of what was before."""
    if said.of_steps:
        return said.at_least * _sum_of(steps, said.of_steps), said.relative
    part = latest(said.of_metric, _bound("subject", wish)) if said.of_metric else None
    return (said.at_least, said.relative) if part is None else (said.at_least * part, False)


def _sum_of(steps: tuple[Step, ...], part: str) -> float:
    """What the targets of all steps have together of this part of their identity: the bytes of files."""
    return float(sum(int(value) for step in steps if (value := step.target.identity.get(part, "")).isdigit()))


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
        raise ImpossibleError(f"{UNSUPPORTED}: the actuator {template.actuator}")
    strange = sorted(set(template.state) - set(actuator.state.__struct_fields__))
    if strange:
        raise ImpossibleError(f"{UNSUPPORTED}: {template.actuator} has no {', '.join(strange)}")
    seen = await _read(actuator, host, setting)
    if isinstance(seen, Absent):
        raise ImpossibleError(f"{runs.GONE}: {target} is not there any more")
    subject = wish.finding.subject if wish.finding else str(target)
    values = to_record(seen) or {}
    fields = wanted(template, values, actuator.state, subject, latest)
    if template.slows:
        fields = _slowing(actuator, seen, fields)
        if not fields:
            return None
    moved = template.govern if template.govern and fields.get(template.govern.field) is not None else None
    rule = governed(moved, fields, values, actuator.state, subject, latest) if moved else None
    fields = _fitted(actuator, target, rule, fields) if rule else fields
    try:
        want = ABSENT if template.absent else msgspec.convert(fields, actuator.state, strict=False)
        if actuator.met(seen, want):
            return None
        step = actuator.plan(target, seen, want)
    except msgspec.ValidationError as error:
        raise ImpossibleError(f"{template.actuator} can't be set so: {error}") from error
    except SteadError as error:
        raise ImpossibleError(f"{UNSUPPORTED}: {error}") from error
    except Exception as error:
        raise ImpossibleError(f"{UNSUPPORTED}: {template.actuator} can't plan this: {error!r}") from error
    if not step.diff:
        return None
    step = msgspec.structs.replace(step, owns=tuple(sorted(set(fields) & set(step.want or {}))))
    if rule is not None:
        return _lent(step, rule, template.lease_s or LEASE_S)
    lease_s = None if step.undo == "none" else template.lease_s  # what can't be put back can't be lent
    return msgspec.structs.replace(step, lease_s=lease_s)


def _slowing(actuator: Actuator[Any], seen: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that give less than there is, as far as the actuator can tell."""
    own = getattr(actuator, "slowing", None)
    return own(seen, fields) if own else dict(fields)


def _fitted(actuator: Actuator[Any], target: Target, rule: Govern, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with a governed one inside its range, and at no less than what its target can be held to by now."""
    least = getattr(actuator, "least", None)
    return raised(rule, started(rule, fields), least(target, rule.field) if least else None)


def _lent(step: Step, rule: Govern, lease_s: float) -> Step:
    """A governed step: under a lease always, and only where it can be put back."""
    if step.undo == "none":
        raise ImpossibleError(f"{UNSUPPORTED}: {rule.field} can't be moved, for it can't be put back: {step.undo_reason}")
    if rule.field not in step.diff:
        raise ImpossibleError(f"{UNSUPPORTED}: {rule.field} is {(step.want or {}).get(rule.field)} by another's hand already")
    return msgspec.structs.replace(step, govern=rule, lease_s=lease_s)


async def _read(actuator: Actuator[Any], host: Host, setting: BoundSetting) -> Any:
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await actuator.read(host, setting.target)
    except TimeoutError as error:
        raise ImpossibleError(f"{UNREADABLE}: {setting.target} could not be read within {READ_TIMEOUT_S:.0f} s") from error
    except Exception as error:
        raise ImpossibleError(f"{UNREADABLE}: {setting.target} could not be read: {error}") from error
