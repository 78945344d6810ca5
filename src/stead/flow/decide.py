"""The policy's answer to one proposal: allow, ask or deny, with every rule and limit that made it.

The strictest of protection, rule, tier, budget and mode wins. Lowering stead's own autonomy never waits for any of
them; raising it is for people only. Nothing here reads the host: what counts comes in the `DecideContext`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from stead.model.change import Proposal, Step
from stead.model.observe import Now
from stead.model.policy import Answer, Autonomy, Decision, Match, Policy, Rule, Window
from stead.model.protection import globbed, protected

_STRICTNESS: Final[dict[Answer, int]] = {"allow": 0, "ask": 1, "deny": 2}
BY_NAME: Final = frozenset(("files",))  # actuators that an allow must name
_MODES: Final = {"observe": 0, "advise": 1, "act": 2}
_APPROVALS: Final = {4: 2}  # by tier; every other one that asks needs one


class DecideContext(msgspec.Struct, frozen=True):
    """What counts besides proposal and policy.

    `own`: pid, or "pid@start_ticks" → what it is, for stead's own agent, hub and `up`. `approvals`: how many people have
    said yes to this plan, when an approved run is decided again just before it acts. `trust` None: unknown.
    """

    autonomy: Autonomy
    default_ceiling: int
    actions_last_hour: int = 0
    active_runs: int = 0  # runs that change this host now: however many, they count as one host at once
    os: str = "linux"
    labels: Mapping[str, str] = {}  # of this host
    trust: float | None = None
    in_window: Callable[[Window, Now], bool] = lambda window, now: False
    own: Mapping[str, str] = {}
    approvals: int = 0


class Ruling(msgspec.Struct, frozen=True):
    """One thing that had a say: its answer, its name for the record, and the same in words."""

    answer: Answer
    name: str
    reason: str
    approvals: int = 0
    retry: bool = False


def decide(proposal: Proposal, policy: Policy, context: DecideContext, now: Now) -> Decision:
    """Answer one proposal. `Decision.rules` and `.reasons` name whatever made the answer."""
    if proposal.impossible:
        return _decision(proposal, policy, context, now, [Ruling("deny", "unsupported", proposal.impossible)])
    shielded = [_shield(step, proposal, policy, context) for step in proposal.steps]
    rulings = [ruling for ruling in shielded if ruling is not None]
    if rulings:
        return _decision(proposal, policy, context, now, rulings)
    if proposal.steps and all(step.actuator == "autonomy" for step in proposal.steps):
        rulings = _autonomy(proposal, policy, context, now)
        return _decision(proposal, policy, context, now, rulings)
    if not proposal.steps:
        return _decision(proposal, policy, context, now, [Ruling("allow", "read-only", "it changes nothing")])
    rulings = _ruled(proposal, policy, context, now)
    rulings += [*_tier(proposal, policy, context, now), *_limits(policy, context)]
    return _advised(_decision(proposal, policy, context, now, rulings), context.autonomy)


def _raises(step: Step, default_ceiling: int) -> list[str]:
    """What of stead's autonomy a step would raise, in words: judged by what it does, not by what it says of itself."""
    before = step.before or {}
    want = {**before, **{key: value for key, value in (step.want or {}).items() if value is not None}}
    raised: list[str] = []
    if _MODES.get(str(want.get("mode", "observe")), 2) > _MODES.get(str(before.get("mode", "observe")), 0):
        raised.append(f"mode {before.get('mode')} to {want.get('mode')}")
    was, becomes = before.get("ceiling"), want.get("ceiling")
    ceiling = was if isinstance(was, int) else default_ceiling
    if isinstance(becomes, int) and becomes > ceiling:
        raised.append(f"ceiling {ceiling} to {becomes}")
    if before.get("locked") and not want.get("locked"):
        raised.append("unlock")
    if before.get("paused") and not want.get("paused"):
        raised.append("resume")
    return raised


def _autonomy(proposal: Proposal, policy: Policy, context: DecideContext, now: Now) -> list[Ruling]:
    raised = [words for step in proposal.steps for words in _raises(step, context.default_ceiling)]
    if not raised:
        return [Ruling("allow", "lowers autonomy", "lowering autonomy is instant and needs nobody")]
    words = ", ".join(raised)
    if proposal.requester.kind != "user":
        return [Ruling("deny", "raises autonomy", f"only a person raises stead's autonomy ({words})")]
    denied = [ruling for ruling in _ruled(proposal, policy, context, now) if ruling.answer == "deny"]
    if denied:
        return denied
    if "unlock" in raised:
        reason = "an unlock needs two people: the one who asks, and one more"
        return [Ruling("ask", "unlock", reason, approvals=1)]
    return [Ruling("allow", "a person's own order", f"a person's own {words} is request and approval in one")]


def _shield(step: Step, proposal: Proposal, policy: Policy, context: DecideContext) -> Ruling | None:
    why = protected(step.target, {**proposal.labels, **step.labels}, policy, context.own)
    return Ruling("deny", f"protected:{step.target}", why) if why else None


def _ruled(proposal: Proposal, policy: Policy, context: DecideContext, now: Now) -> list[Ruling]:
    """The matching rules of the strictest answer among them; with none, a person is asked."""
    windows = {window.name: window for window in policy.windows}
    asking = _Asking(proposal, context, windows, now)
    matching = [rule for rule in policy.rules if asking.matches(rule)]
    if not matching:
        return [Ruling("ask", "rule:none", "no rule of the policy speaks of this, so a person is asked", _needed(proposal.tier))]
    strictest = max(_STRICTNESS[rule.then] for rule in matching)
    return [_by_rule(rule, proposal) for rule in matching if _STRICTNESS[rule.then] == strictest]


def _by_rule(rule: Rule, proposal: Proposal) -> Ruling:
    said = rule.why or f"the rule says {rule.then}"
    needed = 0
    if rule.then == "ask":
        needed = _needed(proposal.tier) if rule.approvals is None else max(1, rule.approvals)
    retry = rule.then == "deny" and bool(rule.when.window or rule.when.outside)
    return Ruling(rule.then, f"rule:{rule.name}", said, needed, retry)


def _needed(tier: int) -> int:
    return _APPROVALS.get(tier, 1)


def _tier(proposal: Proposal, policy: Policy, context: DecideContext, now: Now) -> list[Ruling]:
    tier, needed = proposal.tier, _needed(proposal.tier)
    if context.autonomy.locked:
        return [Ruling("ask", "locked", "stead is locked: everything needs approval", needed)]
    ceiling = context.autonomy.ceiling(proposal.scope, context.default_ceiling)
    rulings: list[Ruling] = []
    if tier > min(ceiling, 2):
        people = "one approval" if needed == 1 else f"{needed} approvals"
        name = f"tier:{tier} > ceiling:{ceiling}" if tier > ceiling else f"tier:{tier}"
        rulings.append(Ruling("ask", name, f"tier {tier} needs {people} under the ceiling of {ceiling}", needed))
    elif tier == 2 and policy.tier2_window and not _inside(policy.tier2_window, policy, context, now):
        reason = f"tier 2 acts alone only inside the window {policy.tier2_window}"
        rulings.append(Ruling("ask", f"tier:2 outside window:{policy.tier2_window}", reason, needed))
    else:
        rulings.append(
            Ruling("allow", f"tier:{tier} <= ceiling:{ceiling}", f"tier {tier} acts alone under the ceiling of {ceiling}")
        )
    lossy = next((step for step in proposal.steps if step.undo != "exact"), None)
    ends = next((step for step in proposal.steps if step.want is None and step.target.kind == "process"), None)
    if ends is not None:
        reason = f"ending a process is always asked: {ends.note or ends.target}"
        rulings.append(Ruling("ask", "ends:process", reason, needed))
    elif tier <= 1 and lossy is not None:
        because = f": {lossy.undo_reason}" if lossy.undo_reason else ""
        rulings.append(Ruling("ask", f"undo:{lossy.undo}", f"what can't be put back exactly never acts at tier 1{because}", 1))
    return rulings


def _inside(name: str, policy: Policy, context: DecideContext, now: Now) -> bool:
    window = next((window for window in policy.windows if window.name == name), None)
    return window is not None and context.in_window(window, now)


def _limits(policy: Policy, context: DecideContext) -> list[Ruling]:
    rulings: list[Ruling] = []
    if context.autonomy.paused:
        rulings.append(Ruling("deny", "paused", "stead is paused: nothing is changed until a person resumes", retry=True))
    budget = policy.budget
    if context.actions_last_hour >= budget.actions_per_hour:
        done = f"{context.actions_last_hour} of {budget.actions_per_hour} actions of this hour are used up"
        rulings.append(Ruling("deny", f"budget:{budget.actions_per_hour}/h", done, retry=True))
    if budget.hosts_at_once < 1 or budget.per_domain_at_once < 1:
        rulings.append(Ruling("deny", "budget:hosts", "the budget lets no host be changed", retry=True))
    return rulings


def _decision(proposal: Proposal, policy: Policy, context: DecideContext, now: Now, rulings: list[Ruling]) -> Decision:
    strictest = max((ruling.answer for ruling in rulings), key=_STRICTNESS.__getitem__)
    made = [ruling for ruling in rulings if ruling.answer == strictest]
    needed = max(ruling.approvals for ruling in made)
    names, reasons = [ruling.name for ruling in made], [ruling.reason for ruling in made]
    if strictest == "ask" and context.approvals >= needed:
        strictest = "allow"
        names.append(f"approvals:{context.approvals}")
        reasons.append(f"approved by {context.approvals} of the {needed} needed")
    return Decision(
        proposal_id=proposal.id,
        answer=strictest,
        rules=tuple(dict.fromkeys(names)),
        reasons=tuple(dict.fromkeys(reasons)),
        approvals_needed=needed if strictest == "ask" else 0,
        mode=context.autonomy.mode,
        policy_version=policy.version,
        at_ms=now.unix_ms,
        retry=strictest == "deny" and all(ruling.retry for ruling in made),
    )


def _advised(decision: Decision, autonomy: Autonomy) -> Decision:
    """Below mode act nothing is done: say what would be. What is refused anyway stays refused."""
    if autonomy.mode == "act" or decision.answer == "deny":
        return decision
    would = {"allow": "it would act", "ask": "it would ask"}[decision.answer]
    return msgspec.structs.replace(
        decision,
        answer="deny",
        advised=True,
        would=decision.answer,
        approvals_needed=0,
        rules=(*decision.rules, f"mode:{autonomy.mode}"),
        reasons=(*decision.reasons, f"in mode {autonomy.mode} nothing is changed: {would}"),
    )


class _Asking(msgspec.Struct, frozen=True):
    """One proposal before the rules. An allow must fit every step; an ask or deny bites if it fits one.

    What is unknown (trust) never opens and always closes: it fits no allow, and every ask and deny.
    """

    proposal: Proposal
    context: DecideContext
    windows: Mapping[str, Window]
    now: Now

    def matches(self, rule: Rule) -> bool:
        when, opens = rule.when, rule.then == "allow"
        every = all if opens else any
        return (
            (not opens or self._by_name(when))
            and self._whole(when)
            and self._numbers(when, opens)
            and self._in_time(when, opens)
            and (not self._names_steps(when) or every(self._step(when, step) for step in self.proposal.steps))
        )

    def _by_name(self, when: Match) -> bool:
        """Files are people's: a rule that fits everything does not allow to touch them, one that names their actuator does."""
        return all(step.actuator in when.actuator for step in self.proposal.steps if step.actuator in BY_NAME)

    def _whole(self, when: Match) -> bool:
        proposal, context = self.proposal, self.context
        labels = {**context.labels, **proposal.labels}
        return (
            (not when.playbook or globbed(proposal.playbook, when.playbook))
            and (not when.risk or proposal.risk in when.risk)
            and (not when.tier or proposal.tier in when.tier)
            and (not when.os or globbed(context.os, when.os))
            and all(key in labels and globbed(labels[key], (pattern,)) for key, pattern in when.labels.items())
        )

    def _numbers(self, when: Match, opens: bool) -> bool:
        for value, least, most in (
            (self.proposal.confidence, when.min_confidence, when.max_confidence),
            (self.context.trust, when.min_trust, when.max_trust),
        ):
            if least is None and most is None:
                continue
            if value is None:
                if opens:
                    return False
                continue
            if (least is not None and value < least) or (most is not None and value > most):
                return False
        return True

    def _in_time(self, when: Match, opens: bool) -> bool:
        for name, wanted in ((when.window, True), (when.outside, False)):
            if name and (window := self.windows.get(name)) is not None:
                if self.context.in_window(window, self.now) is not wanted:
                    return False
            elif name and opens:  # the loader refuses an unknown window; without one nothing opens
                return False
        return True

    @staticmethod
    def _names_steps(when: Match) -> bool:
        return bool(when.actuator or when.target or when.undo)

    def _step(self, when: Match, step: Step) -> bool:
        names = [str(step.target), step.target.name]
        process = step.labels.get("process") or self.proposal.labels.get("process", "")
        if process and step.target.kind == "process":
            names += [process, f"process:{process}"]
        return (
            (not when.actuator or globbed(step.actuator, when.actuator))
            and (not when.target or any(globbed(name, when.target) for name in names))
            and (not when.undo or step.undo in when.undo)
        )
