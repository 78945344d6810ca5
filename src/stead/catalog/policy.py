"""The policy that people write, read and checked: windows that can be computed, rules that name known things only.

A rule that singles out a protected target and allows it is refused here, so that nobody believes it would hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from stead import documents
from stead.catalog.windows import why_broken
from stead.documents import Document, Place
from stead.model.errors import Problem, SteadError
from stead.model.policy import Policy
from stead.model.protection import would_allow

SHIPPED: Final = Path(__file__).parent / "policy.yaml"
_RISKS: Final = ("low", "medium", "high", "critical")
_UNDOS: Final = ("exact", "lossy", "none")


def load_policy(path: str = "", *, protected: Sequence[str] = (), solo: bool | None = None) -> Policy:
    """Read a policy (empty: the shipped one) and add the configuration's protected patterns. Raises SteadError, exit code 2."""
    document = documents.read(path or SHIPPED)
    found = policy_problems(document, protected)
    if found:
        raise SteadError.of(found[0])
    policy = _policy(document)
    patterns = tuple(dict.fromkeys((*policy.protected, *protected)))
    policy = msgspec.structs.replace(policy, protected=patterns, solo=policy.solo if solo is None else solo, version="")
    version = hashlib.sha256(msgspec.json.encode(policy, order="sorted")).hexdigest()
    return msgspec.structs.replace(policy, version=version)


def policy_problems(document: Document, protected: Sequence[str] = ()) -> list[Problem]:
    """Everything that is wrong with a policy, with file and line."""
    shape = documents.problems(document, Policy, code="policy") if document.value is not None else []
    if shape:
        return shape
    policy = _policy(document)
    patterns = (*policy.protected, *protected)
    found = [*_windows(policy), *_rules(policy), *_allowing(policy, patterns), *_numbers(policy)]
    return [documents.problem(what, document.where(place), fix, "policy.impossible") for place, what, fix in found]


def _policy(document: Document) -> Policy:
    return msgspec.convert(document.value or {}, Policy)


def _windows(policy: Policy) -> Iterator[tuple[Place, str, str]]:
    names: set[str] = set()
    for index, window in enumerate(policy.windows):
        if window.name in names:
            yield ("windows", index), f"two windows are named {window.name}", "rename one"
        names.add(window.name)
        why = why_broken(window)
        if why:
            yield ("windows", index), f"the window {window.name} can't be used: {why}", "mend it"
    if policy.tier2_window and policy.tier2_window not in names:
        fix = documents.did_you_mean(policy.tier2_window, names)
        yield ("tier2_window",), f"tier2_window names an unknown window {policy.tier2_window}", fix
    for index, rule in enumerate(policy.rules):
        for key, name in (("window", rule.when.window), ("outside", rule.when.outside)):
            if name and name not in names:
                what = f"the rule {rule.name} names an unknown window {name}"
                yield ("rules", index, "when", key), what, documents.did_you_mean(name, names)


def _rules(policy: Policy) -> Iterator[tuple[Place, str, str]]:
    names: set[str] = set()
    for index, rule in enumerate(policy.rules):
        place: Place = ("rules", index)
        if rule.name in names:
            yield (*place, "name"), f"two rules are named {rule.name}", "rename one"
        names.add(rule.name)
        for key, given, known in (("risk", rule.when.risk, _RISKS), ("undo", rule.when.undo, _UNDOS)):
            for word in given:
                if word not in known:
                    what = f"the rule {rule.name} names an unknown {key} {word}"
                    yield (*place, "when", key), what, documents.did_you_mean(word, known)
        if any(not 1 <= tier <= 4 for tier in rule.when.tier):
            yield (*place, "when", "tier"), f"the rule {rule.name} names a tier that there is not", "tiers are 1 to 4"
        if rule.approvals is not None and not (rule.then == "ask" and 1 <= rule.approvals <= 9):
            yield (*place, "approvals"), f"the rule {rule.name} can't have approvals: {rule.approvals}", "1 to 9, with then: ask"


def _allowing(policy: Policy, patterns: Sequence[str]) -> Iterator[tuple[Place, str, str]]:
    for index, rule in enumerate(policy.rules):
        target = would_allow(rule, patterns)
        if target:
            what = f"the rule {rule.name} would allow changes to a protected target, {target}"
            yield ("rules", index, "when", "target"), what, "name other targets: no rule can allow these"


def _numbers(policy: Policy) -> Iterator[tuple[Place, str, str]]:
    for key in ("actions_per_hour", "hosts_at_once", "per_domain_at_once"):
        if getattr(policy.budget, key) < 0:
            yield ("budget", key), f"budget.{key} is below 0", "give 0 (nothing at all) or more"
    for key in ("approval_pending_s", "approval_valid_s"):
        if not 0 < getattr(policy, key) < float("inf"):
            yield (key,), f"{key} is {getattr(policy, key):g}", "give a number of seconds above 0"
    if policy.version:
        yield ("version",), "version can't be given: it is the policy's own hash", "remove it"
