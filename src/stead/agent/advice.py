"""Advice, put together for whoever asks: what was measured is merged from the store, what is set now is read from the host."""

from __future__ import annotations

import os

from stead.agent.wiring import Wired
from stead.flow import advise
from stead.flow.act import OWNING
from stead.flow.propose import ProposeContext, target_of
from stead.flow.write import to_record
from stead.model.advice import Advice, AdviceList, ApplyAdvice, GetAdvice, Use
from stead.model.change import Absent, Record, Run
from stead.model.errors import EXIT_USAGE, SteadError
from stead.model.observe import MetricsSnapshot, ProcessUse
from stead.model.policy import Actor
from stead.model.workload import WorkloadStatus

LIMIT = "limit"


async def advice(wired: Wired, body: GetAdvice) -> AdviceList:
    """All advice from the last `over_s`. SteadError for a span that is none."""
    if not (0 < body.over_s <= 400 * 86_400 and 0 <= body.at_least_s <= body.over_s):
        fix = "ask over some days, of which at least some part is measured"
        raise SteadError("the span is empty, or longer than what is kept", "advice", fix, exit_code=EXIT_USAGE)
    now_ms = wired.clock.now().unix_ms
    rows = await wired.raw.merged(advise.METRICS, now_ms - round(body.over_s * 1000), now_ms)
    uses = {(use.metric, use.subject): use for row in rows if (use := use_of(row)) is not None}
    top = wired.road.top
    processes: dict[str, ProcessUse] = {one.subject: one for one in top.by_cpu if not dear(wired, one)} if top else {}
    present = {key: use for key, use in uses.items() if not use.subject.startswith("process:") or use.subject in processes}
    present = {key: use for key, use in present.items() if key[0] != advise.ALIKE or wired.road.series.value(*key) is not None}
    measured = advise.Measured(
        uses=present,
        limits=await limits(wired, {use.subject for use in present.values() if use.subject.startswith("cgroup:")}),
        workloads=[s for d in wired.drivers.values() for n in d.names() if isinstance(s := d.status(n), WorkloadStatus)],
        processes=tuple(processes.values()),
        cores=float(os.cpu_count() or 1),
    )
    found, short = advise.advise(measured, body.at_least_s)
    enough = {use.subject for use in present.values() if use.covered_s >= body.at_least_s}
    return AdviceList(found, body.over_s, body.at_least_s, short, top, len(enough))


def dear(wired: Wired, process: ProcessUse) -> bool:
    """Is it stead's own, or part of what the owner protects? Nobody is advised to slow that."""
    protected = (task.subject for thing in wired.members.protected for task in thing.tasks)
    return str(process.pid) in wired.own() or process.subject in protected


def use_of(row: MetricsSnapshot) -> Use | None:
    """What one merged snapshot says; None when it holds no known value."""
    if row.avg is None or row.p95 is None or row.p99 is None or row.max is None:
        return None
    known_s = (row.end_ms - row.start_ms) / 1000 * row.count / (row.count + row.unknown)
    return Use(row.metric_id, row.subject, row.avg, row.p95, row.p99, row.max, known_s)


async def limits(wired: Wired, subjects: set[str]) -> dict[str, Record]:
    """What is set now for each of these groups, but for what stead itself holds there: that is nobody's choice to be mended.

    Those that are gone, or can't be read, are left out.
    """
    steps = [step for run in wired.road.runs.values() if run.state in OWNING for step in run.proposal.steps]
    actuator = wired.road.plugged.actuators.get(LIMIT)
    context = ProposeContext(latest=lambda metric, subject: None, boot_id=wired.host.boot_id)
    found: dict[str, Record] = {}
    for subject in sorted(subjects) if actuator is not None else ():
        target = target_of(subject, context)
        if isinstance(target, str):
            continue
        try:
            state = await actuator.read(wired.host, target)  # type: ignore[union-attr]
        except (SteadError, OSError):
            continue
        if not isinstance(state, Absent):
            own = {
                field for step in steps if step.actuator == LIMIT and step.target.name == target.name for field in step.touched
            }
            values = (to_record(state) or {}).items()
            found[subject] = {key: value for key, value in values if value is not None and key not in own}
    return found


async def apply(wired: Wired, body: ApplyAdvice, person: Actor) -> Run:
    """One piece of advice, as it is now, as this person's proposal. SteadError when there is none of that id."""
    listed = await advice(wired, GetAdvice(body.over_s, body.at_least_s))
    found = [one for one in listed.advice if one.id.startswith(body.id)]
    if len(found) != 1 or not body.id:
        what = f"no advice {body.id!r} now" if not found else f"{body.id!r} is the start of more than one"
        raise SteadError(what, "advice", "see `stead recommend` for ids", code="advice.unknown")
    _refuse(found[0])
    return await wired.orders.apply(found[0], person)


def _refuse(one: Advice) -> None:
    if one.impossible or not one.state:
        raise SteadError(
            f"no command can apply it: {one.impossible or 'it sets nothing'}", one.subject, "do it by hand", code="advice.words"
        )
