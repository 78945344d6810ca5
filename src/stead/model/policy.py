"""Who may change what, when: rules, budgets, autonomy, approvals and the decisions made from them."""

from __future__ import annotations

from typing import Literal

import msgspec

Mode = Literal["observe", "advise", "act"]
Answer = Literal["allow", "ask", "deny"]
Profile = Literal["conservative", "balanced", "aggressive"]
PROFILE_CEILINGS: dict[str, int] = {"conservative": 0, "balanced": 1, "aggressive": 2}


class Actor(msgspec.Struct, frozen=True):
    """Who did it. On a lone host a person is a uid by peer credentials: id "uid:1000"."""

    kind: Literal["agent", "policy", "user", "hub"]
    id: str


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A recurring time span: a cron line or an RRULE, a duration and a time zone."""

    name: str
    duration_s: float
    cron: str = ""
    rrule: str = ""
    timezone: str = "UTC"
    cutoff_s: float = 0.0  # nothing starts this close to the end


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All given keys must match; an empty match matches everything. Strings are shell globs."""

    playbook: tuple[str, ...] = ()
    actuator: tuple[str, ...] = ()
    target: tuple[str, ...] = ()  # against "kind:name" and the target's labels' process name
    risk: tuple[str, ...] = ()
    tier: tuple[int, ...] = ()
    os: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    undo: tuple[str, ...] = ()
    window: str = ""  # inside this named window
    outside: str = ""  # outside this named window
    min_confidence: float | None = None
    max_confidence: float | None = None
    min_trust: float | None = None
    max_trust: float | None = None


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One readable line of the policy."""

    name: str
    then: Answer
    when: Match = Match()
    why: str = ""
    approvals: int | None = None  # with `ask`: how many people; else by tier


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much may be done: drawn by everything alike, whoever asked."""

    actions_per_hour: int = 20
    hosts_at_once: int = 1
    per_domain_at_once: int = 1


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What people wrote, and its hash, which every decision names."""

    rules: tuple[Rule, ...] = ()
    windows: tuple[Window, ...] = ()
    tier2_window: str = ""  # tier 2 acts alone only inside this window; empty: always
    budget: Budget = Budget()
    protected: tuple[str, ...] = ()  # patterns over process, unit and workload names, beyond the built-in ones
    solo: bool = False  # a one-person host: two approvals by the same person are recorded as solo
    approval_pending_s: float = 3600.0
    approval_valid_s: float = 600.0
    version: str = ""  # sha256 of the source, filled by the loader


class Autonomy(msgspec.Struct, frozen=True):
    """How much stead may do by itself here. Lowering any of it is instant; raising needs a person."""

    mode: Mode = "advise"
    ceilings: dict[str, int] = {}  # scope → highest tier that acts alone; "host" is the whole host
    locked: bool = False
    paused: bool = False

    def ceiling(self, scope: str, default: int) -> int:
        """The ceiling in a scope: the lower of the scope's own and the host's."""
        if self.locked:
            return 0
        host = self.ceilings.get("host", default)
        return min(host, self.ceilings.get(scope, host))


class Approval(msgspec.Struct, frozen=True):
    """One person's yes to one plan as they saw it. Used up by the Attempt."""

    id: str
    proposal_id: str
    plan_hash: str
    by: Actor
    at_ms: int
    expires_ms: int
    used_ms: int | None = None
    solo: bool = False


class Decision(msgspec.Struct, frozen=True):
    """The policy's answer to one proposal, with the rules and limits that made it."""

    proposal_id: str
    answer: Answer
    rules: tuple[str, ...]  # names of the rules and limits that made it: "rule:calm-hogs", "tier:2 > ceiling:1", "mode:advise"
    reasons: tuple[str, ...]  # the same in words
    approvals_needed: int
    mode: Mode
    policy_version: str
    at_ms: int
    advised: bool = False  # the mode is below act: what it would answer is in `would`
    would: Answer | None = None
    retry: bool = False  # a denial by budget, window or pause: ask again later
