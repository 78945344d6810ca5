"""Which remedy for which finding, now? Maps open findings to wishes; reading the host and planning come after.

For each finding the playbooks that answer it are tried in the catalogue's order, one at a time: a live run keeps all
others waiting; one that did not help gives way to the next in its chain; a person's no, hold or undo is respected;
and where a value that should confirm the finding is unknown, nothing is proposed, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from stead.flow.runs import FAILED
from stead.model.catalog import Catalog, PlaybookDefinition, SettingTemplate
from stead.model.change import Hold, Run, Step, Target
from stead.model.find import Finding
from stead.model.observe import Now
from stead.model.policy import Actor, Mode, Profile

POLICY: Final = Actor("policy", "policy")
RECENT_RUNS: Final = 200
HOUR_MS: Final = 3_600_000
EACH: Final = "each:"
NOTHING_LEFT: Final = "nothing left"
_AGAIN_MS: Final = 60_000  # what budget, window or pause denied is asked again after this
_CHANGING: Final = frozenset(("approved", "acting", "verifying", "held", "undoing"))


class BoundSetting(msgspec.Struct, frozen=True):
    """A setting of a playbook with the very thing that it is for. `template.state` may still be relative.

    `one_of` many: it is left out where it can't be made, and the others are made without it.
    """

    template: SettingTemplate
    target: Target
    one_of: bool = False

    @property
    def fields(self) -> frozenset[str]:
        """The fields that it wants; none where the thing itself should be gone."""
        return frozenset(key for key, value in self.template.state.items() if value is not None)

    def fights(self, other: BoundSetting) -> bool:
        """Would both change one value?"""
        same = self.template.actuator == other.template.actuator and self.target.key == other.target.key
        return same and (not self.fields or not other.fields or bool(self.fields & other.fields))

    def would_fight(self, step: Step) -> bool:
        """Would it change a value that this step of a run holds?"""
        if self.template.actuator != step.actuator:
            return False
        if self.target.key != step.target.key and not step.outlasts(self.target):
            return step.target.reaches(self.target)
        return not self.fields or not step.owns or bool(self.fields & step.touched)


class Wish(msgspec.Struct, frozen=True):
    """A remedy that should be planned: what, for which finding, by whom, and on which things."""

    playbook: PlaybookDefinition
    finding: Finding | None
    requester: Actor
    settings: tuple[BoundSetting, ...]
    chain: tuple[str, ...] = ()
    scope: str = "host"
    labels: dict[str, str] = {}


class Skip(msgspec.Struct, frozen=True):
    """A playbook that is not proposed for a finding now, and why: for `stead why`."""

    finding_id: str
    playbook: str
    reason: str


class Considered(msgspec.Struct, frozen=True):
    """What is wished for now, and what is not, with reasons."""

    wishes: tuple[Wish, ...]
    skipped: tuple[Skip, ...]


class ProposeContext(msgspec.Struct, frozen=True):
    """What else counts. `recent`: every live run, and the finished ones of open findings and of the last hour.

    `each`: (purpose, subject) → the targets of a setting for "each:<purpose>". `spares`: subject → why it is left alone.

    `identities`: subject → identity of its target, e.g. "workload:web" → {"id": …}; a process carries its own in its
    subject. A change of `mode` or `policy_version` lets what was advised or refused under another be proposed anew.
    """

    latest: Callable[[str, str], float | None]
    boot_id: str = ""
    holds: tuple[Hold, ...] = ()
    recent: tuple[Run, ...] = ()
    identities: Mapping[str, Mapping[str, str]] = {}
    each: Callable[[str, str], Sequence[Target]] = lambda purpose, subject: ()
    spares: Callable[[str], str] = lambda subject: ""
    mode: Mode | None = None
    profile: Profile = "balanced"
    ceiling: int = 4  # the highest tier that acts alone here; 0 where everything is asked
    policy_version: str | None = None
    requester: Actor = POLICY


def propose(findings: Sequence[Finding], catalog: Catalog, context: ProposeContext, now: Now) -> list[Wish]:
    """The remedies to plan now, the worst finding first; at most one for each finding."""
    return list(consider(findings, catalog, context, now).wishes)


def consider(findings: Sequence[Finding], catalog: Catalog, context: ProposeContext, now: Now) -> Considered:
    """The same, with the reason for everything that is not proposed."""
    wishes: list[Wish] = []
    skipped: list[Skip] = []
    taken: list[BoundSetting] = []
    worst_first = sorted((f for f in findings if f.open), key=lambda f: (f.band != "critical", f.opened_ms, f.id))
    for finding in worst_first:
        wish = _for_finding(finding, catalog, context, now, skipped)
        if wish is None:
            continue
        if any(one.fights(other) for one in wish.settings for other in taken):
            skipped.append(Skip(finding.id, wish.playbook.playbook_id, "another finding's remedy changes the same thing now"))
            continue
        taken += wish.settings
        wishes.append(wish)
    return Considered(tuple(wishes), tuple(skipped))


def relevant(recent: Iterable[Run], opened: Iterable[Finding], catalog: Catalog, now: Now) -> list[Run]:
    """Of finished runs (newest last) those that `recent` still needs, in the same order.

    Of an open finding each playbook's newest, however old it is: a person's no counts until the finding clears. Of the others
    what may still have to cool down.
    """
    open_ids = {finding.id for finding in opened}
    cooldown_ms = max((playbook.cooldown_s * 1000 for playbook in catalog.playbooks.values()), default=0.0)
    answers: dict[tuple[str, str], Run] = {}
    others: list[Run] = []
    for run in recent:
        finding_id = run.proposal.finding_id
        if finding_id is not None and finding_id in open_ids:
            answers[finding_id, run.proposal.playbook] = run
        elif now.unix_ms - run.updated_ms < max(HOUR_MS, cooldown_ms):
            others.append(run)
    return sorted((*answers.values(), *others[-RECENT_RUNS:]), key=lambda run: run.updated_ms)


def bind(playbook: PlaybookDefinition, finding: Finding | None, context: ProposeContext) -> tuple[BoundSetting, ...] | str:
    """Give each setting that is for this kind of subject its target with identity, or say why that can't be done.

    What the profile in force sets otherwise is laid over the setting's state.
    """
    kind = finding.subject.partition(":")[0] if finding else ""
    meant = [one for one in playbook.settings if not (one.kinds and finding) or kind in one.kinds]
    if playbook.settings and not meant:
        return f"none of its settings is for a {kind}"
    bound: list[BoundSetting] = []
    for given in meant:
        otherwise = given.by_profile.get(context.profile, {})
        template = msgspec.structs.replace(given, state={**given.state, **otherwise}) if otherwise else given
        subject = template.target
        if subject == "subject":
            if finding is None:
                return "it changes a finding's subject, and there is no finding"
            subject = finding.subject
        if subject.startswith(EACH):
            purpose = subject.removeprefix(EACH)
            off = {hold.target for hold in context.holds}  # by whichever playbook: what a person put back stays there
            found = [one for one in context.each(purpose, finding.subject if finding else "host") if one.key not in off]
            if not found:
                return f"{NOTHING_LEFT}: there is nothing to {purpose}"
            bound += [BoundSetting(template, each, one_of=True) for each in found]
            continue
        target = target_of(subject, context)
        if isinstance(target, str):
            return target
        bound.append(BoundSetting(template, target))
    return tuple(bound)


def target_of(subject: str, context: ProposeContext) -> Target | str:
    """The target that a subject names, or why there is none.

    "process:4711@567890", "cgroup:/a.slice/b.service@6012" or, of version 1, "…@memory.6012" (a path may hold @: the last one
    counts), "workload:web", "autonomy:host".
    """
    kind, _, name = subject.partition(":")
    if kind == "process":
        pid, _, start_ticks = name.partition("@")
        if not (pid.isdigit() and start_ticks and context.boot_id):
            return f"the identity of {subject} is not known"
        return Target("process", pid, {"start_ticks": start_ticks, "boot_id": context.boot_id})
    if kind == "cgroup":
        path, _, inode = name.rpartition("@")
        if not (path and inode.rpartition(".")[2].isdigit() and context.boot_id):
            return f"the identity of {subject} is not known"
        return Target("cgroup", path, {"id": inode, "boot_id": context.boot_id})
    if kind in ("kernel", "sysctl", "unit") and name:  # what is set there lasts until the next boot
        return Target(kind, name, {"boot_id": context.boot_id}) if context.boot_id else f"the identity of {subject} is not known"
    if kind == "autonomy" or not name:
        return Target(kind, name or kind)
    identity = context.identities.get(subject)
    if identity is None:
        return f"{subject} is not known here"
    return Target(kind, name, dict(identity))


def _for_finding(finding: Finding, catalog: Catalog, context: ProposeContext, now: Now, skipped: list[Skip]) -> Wish | None:
    history = [run for run in context.recent if run.proposal.finding_id == finding.id]
    alive = next((run for run in history if not run.final), None)
    if alive is not None:
        skipped.append(Skip(finding.id, alive.proposal.playbook, f"its run is {alive.state}"))
        return None
    unconfirmed = _unconfirmed(finding, catalog, context)
    if unconfirmed:
        skipped.append(Skip(finding.id, "", unconfirmed))
        return None
    for playbook in _in_order(finding, catalog, history):
        wish_or_reason = _wish(playbook, finding, catalog, context, now)
        if isinstance(wish_or_reason, Wish):
            return wish_or_reason
        skipped.append(Skip(finding.id, playbook.playbook_id, wish_or_reason))
        if _in_charge(playbook, history) and not wish_or_reason.startswith(NOTHING_LEFT):
            return None  # it was begun and is still the one: the others do not overtake it
    return None


def _wish(playbook: PlaybookDefinition, finding: Finding, catalog: Catalog, context: ProposeContext, now: Now) -> Wish | str:
    if playbook.band == "critical" and finding.band != "critical":
        return "it answers only critical findings"
    if playbook.unasked and playbook.tier > context.ceiling:
        return (
            f"it would wait for a person here (tier {playbook.tier} under a ceiling of {context.ceiling}), and another need not"
        )
    kind = finding.subject.partition(":")[0]
    if playbook.kinds and kind not in playbook.kinds:
        return f"it is for {' and '.join(playbook.kinds)}, and this is a {kind}"
    spared = context.spares(finding.subject) if playbook.settings else ""
    if spared:
        return spared
    unmet = _levels(playbook.when, finding.subject, context)
    if unmet:
        return unmet
    settings = () if playbook.unsupported else bind(playbook, finding, context)
    if isinstance(settings, str):
        return settings
    blocked = _blocked(playbook, finding, settings, context, now)
    if blocked:
        return blocked
    chain = tuple(name for name in playbook.chain if name in catalog.playbooks)
    return Wish(playbook, finding, context.requester, settings, chain, labels=finding.labels)


def _in_order(finding: Finding, catalog: Catalog, history: Sequence[Run]) -> list[PlaybookDefinition]:
    """The chain of what did not help first, then the rest as listed; what can't be done here comes last."""
    listed = list(catalog.answering(finding.metric))
    listed += [catalog.playbooks[name] for name in finding.playbooks if name in catalog.playbooks]
    spent = {run.proposal.playbook for run in history if _did_not_help(run)}
    chained: list[PlaybookDefinition] = []
    for run in sorted(history, key=lambda run: -run.updated_ms):
        if _did_not_help(run):
            chained += [catalog.playbooks[n] for n in run.proposal.chain if n in catalog.playbooks]
    by_id = {playbook.playbook_id: playbook for playbook in (*chained, *listed) if playbook.playbook_id not in spent}
    return sorted(by_id.values(), key=lambda playbook: bool(playbook.unsupported))


def _did_not_help(run: Run) -> bool:
    return run.final and run.verdict is not None and run.verdict.result in FAILED


def _in_charge(playbook: PlaybookDefinition, history: Sequence[Run]) -> bool:
    """Was it begun for this finding? What the host can't do, and what could not be done, leaves the way to the next."""
    mine = (run for run in history if run.proposal.playbook == playbook.playbook_id)
    return any(run.state not in ("unsupported", "failed") and not _did_not_help(run) for run in mine)


def _unconfirmed(finding: Finding, catalog: Catalog, context: ProposeContext) -> str:
    entry = catalog.metrics.get(finding.metric)
    return _levels(entry.confirm, finding.subject, context) if entry else ""


def _levels(levels: Mapping[str, float], subject: str, context: ProposeContext) -> str:
    """Why not all of these metrics are above their levels; empty when they are. Unknown never confirms."""
    for metric, level in levels.items():
        value = context.latest(metric, subject)
        if value is None and subject != "host":
            value = context.latest(metric, "host")
        if value is None:
            return f"{metric} is unknown, and it must be above {level:g} first"
        if value <= level:
            return f"{metric} is {value:g}, and it must be above {level:g} first"
    return ""


def _blocked(
    playbook: PlaybookDefinition,
    finding: Finding,
    settings: Sequence[BoundSetting],
    context: ProposeContext,
    now: Now,
) -> str:
    name = playbook.playbook_id
    keys = {setting.target.key for setting in settings}
    for hold in context.holds:
        if hold.playbook == name and hold.target in keys:
            return f"{hold.by.id} undid it here: held until the finding clears or a person lifts the hold"
    for run in context.recent:
        touched = {step.target.key for step in run.proposal.steps}
        same = run.proposal.playbook == name and (touched & keys or run.proposal.finding_id == finding.id)
        if same and not run.final:
            return f"its run is {run.state}"
        if same and (reason := _after(run, playbook, finding, context, now)):
            return reason
        fought = not same and any(setting.would_fight(step) for setting in settings for step in run.proposal.steps)
        if fought and not playbook.lowers and run.state in _CHANGING:
            return f"{run.proposal.playbook} changes it now ({run.state})"
    return ""


def _after(run: Run, playbook: PlaybookDefinition, finding: Finding, context: ProposeContext, now: Now) -> str:
    """Why a playbook that ran before has to wait, or stay away; empty when it may be proposed again."""
    age_ms = now.unix_ms - run.updated_ms
    this = run.proposal.finding_id == finding.id
    if run.state == "advised":
        stale = not this or now.unix_ms >= run.proposal.expires_ms or _decided_otherwise(run, context)
        return "" if stale else "advised already"
    if run.state == "refused":
        if _decided_otherwise(run, context) or not this:
            return ""
        waits = playbook.ttl_s * 1000 if _denied_for_good(run) else _AGAIN_MS
        return "" if age_ms >= waits else f"refused: {run.reason}"
    if run.state == "unsupported":
        return run.reason or "unsupported" if this else ""
    if this and run.state == "moot" and run.reason.startswith("already so") and age_ms < playbook.ttl_s * 1000:
        return "it is so already"
    if this and run.state in ("denied", "cancelled"):
        return f"a person said no: {run.reason}"
    if this and run.state == "conflict":
        return "its last run ended as conflict: it needs a person"
    if this and run.state == "undo_failed":
        return "its last run could not be put back so far: that comes first"
    if this and _did_not_help(run):
        return "it did not help this finding"
    if this and run.state == "kept" and playbook.lowers:
        return "it has lowered autonomy for this finding already"
    if age_ms < playbook.cooldown_s * 1000:
        return f"its last run ended {age_ms / 1000:.0f} s ago; it waits {playbook.cooldown_s:.0f} s"
    return _nothing_to_show(playbook, finding, context) if this and _was_inconclusive(run) else ""


def _denied_for_good(run: Run) -> bool:
    """Did the policy say no for a reason that stands? What was stale, or could not be read, is another matter a minute later."""
    return run.decision is not None and run.decision.answer == "deny" and not run.decision.retry


def _was_inconclusive(run: Run) -> bool:
    return run.verdict is not None and run.verdict.result == "inconclusive"


def _nothing_to_show(playbook: PlaybookDefinition, finding: Finding, context: ProposeContext) -> str:
    """Why doing it once more would be inconclusive again; empty when what it predicts can show by now."""
    said = playbook.predict
    if said is None:
        return ""
    value = context.latest(said.metric, finding.subject if said.subject == "subject" else said.subject)
    if value is None:
        return f"it could show no effect last time, and {said.metric} is unknown now"
    if value < said.meaningful:
        return f"it could show no effect last time, and with {said.metric} at {value:.2g} (below {said.meaningful:g}) still can't"
    return ""


def _decided_otherwise(run: Run, context: ProposeContext) -> bool:
    """Was it decided under another mode or policy than the present ones (None: those are not to be compared)?"""
    decision = run.decision
    if decision is None:
        return False
    other_mode = context.mode is not None and decision.mode != context.mode
    return other_mode or (context.policy_version is not None and decision.policy_version != context.policy_version)
