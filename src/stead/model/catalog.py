"""What the catalogue says: metrics with their bands, and playbooks. Loaded from YAML by `stead.catalog`.

The original keys of the seed catalogues load unchanged; stead's own keys add to them. See `stead/catalog/metrics.yaml`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from stead.model.change import Direction, Law, Risk
from stead.model.cleaning import CleaningRule
from stead.model.observe import Band

Aggregation = Literal["avg", "max", "min", "sum", "last", "p95"]


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A band's extent; a missing end is open."""

    lower: float | None = None
    upper: float | None = None


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The three bands. A value outside `good` is in `warning` or, further out, in `critical`. May be two-sided."""

    good: tuple[Range, ...] = ()
    warning: tuple[Range, ...] = ()
    critical: tuple[Range, ...] = ()


class Exit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hysteresis: the level that a value must pass, on its way back, to leave the band."""

    warning: float | None = None
    critical: float | None = None
    warning_lower: float | None = None  # for the lower side of a two-sided band
    critical_lower: float | None = None


class MetricCatalogEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One metric: what it means, its unit, its bands, and the playbooks that answer a breach."""

    metric_id: str
    category: str
    description: str
    unit: str
    aggregation: Aggregation = "avg"
    source: str = ""
    resource_scope: str = ""
    recommended_interval_seconds: float = 30.0
    thresholds: Thresholds | None = None
    playbooks: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    # stead's own
    title: str = ""
    exit: Exit = Exit()
    for_s: float = msgspec.field(default=0.0, name="for")
    clear_s: float = 10.0  # this long back inside before a finding clears
    min_samples: int = 1
    no_data: Literal["unknown", "breach"] = "unknown"
    confirm: dict[str, float] = {}  # metric id → level it must exceed before anything acts
    export_name: str = ""
    slo_minutes_weight: float = 0.0
    finding: str = ""  # title template: "{process} (pid {pid}) has used {value} cores for {for}"
    unsupported: str = ""  # why it has no live source yet


class StateChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A wanted value relative to the present one. Exactly one of add, multiply, from_metric; then the bounds.

    With `from_metric`, `multiply` brings the metric's unit to the field's.
    """

    add: float | None = None
    multiply: float | None = None
    from_metric: str = ""  # the latest value of this metric of the finding's subject, rounded up
    at_least: float | None = None
    at_most: float | None = None
    at_most_times: float | None = None  # no more than this many times the present value
    at_least_times: float | None = None  # no less than this many times the present value


StateValue = str | int | float | bool | list[str] | StateChange | None


class GovernTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one numeric field of a setting is moved while it is held: see `model.change.Govern`. None: the law's own.

    The setting's `state` gives the field's first value, and it needs a `lease_s`. `low` and `high` may follow the present value
    or a metric, as in a state; a limit that is there already is never loosened beyond what it was. `subject`, `used_subject`
    are "subject" (the finding's) or fixed ("host", "protect:shop").
    """

    field: str
    metric: str
    level: float
    low: float | StateChange
    high: float | StateChange
    law: Law = "aimd"
    subject: str = "host"
    interval_s: float | None = None
    tighten: float | None = None
    loosen: float | None = None
    dead_band: float | None = None
    hold_off_s: float | None = None
    hold_off_max_s: float | None = None
    used_metric: str = ""
    used_subject: str = "subject"
    used_times: float = 1.0
    keys: tuple[str, ...] = ()  # of a field of lines ("8:0 rbps=… wbps=…"): these are moved, all to one value


class SettingTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One setting of a playbook. `target` is "subject" (the finding's), a fixed "kind:name", or "each:<purpose>": every file
    that may be compressed, quarantined or purged on the finding's mount, a step each.

    A field that a profile sets to null is left alone under it.
    """

    actuator: str
    state: dict[str, StateValue] = {}
    target: str = "subject"
    kinds: tuple[str, ...] = ()  # kinds of subject that this setting is for; empty: every kind
    by_profile: dict[str, dict[str, StateValue]] = {}  # what a profile sets otherwise, field by field
    lease_s: float | None = None
    govern: GovernTemplate | None = None  # one field of the state is moved within a range while it is held
    absent: bool = False  # instead of a state: it should be gone (a process that is ended)
    slows: bool = False  # what is lower already stays as it is: a remedy that is to slow one never gives it more


class ControlTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must go on for the change to get the credit, such as the demand of the contender that it limits.

    If its mean falls below `at_least_share` of what it was before, the verdict is inconclusive; above that, what would have
    been follows it. `subject` is "subject" (the finding's) or fixed. Choose what the change itself does not move.
    """

    metric: str
    subject: str = "subject"
    at_least_share: float = 0.7


class TwinTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is held back and otherwise alike. `subject` is fixed, or "others": every other subject of the metric."""

    subject: str = "others"
    metric: str = ""  # empty: the predicted one


class Predict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the playbook expects to move. `subject` is "subject" (the finding's) or fixed."""

    metric: str
    direction: Direction
    at_least: float
    relative: bool = True
    within_s: float = 60.0
    meaningful: float = 0.0
    subject: str = "subject"
    control: ControlTemplate | tuple[ControlTemplate, ...] = ()  # one, or several that must all have gone on
    twin: TwinTemplate | None = None
    of_metric: str = ""  # `at_least` is a share of what this metric of the finding's subject is, in the predicted one's unit
    of_steps: str = ""  # `at_least` is a share of what the targets have in sum of this part of their identity ("bytes")

    @property
    def controls(self) -> tuple[ControlTemplate, ...]:
        """What must have gone on, one or several."""
        return self.control if isinstance(self.control, tuple) else (self.control,)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that its verdict is made from: those are remembered at full rate."""
        twin = (self.twin.metric,) if self.twin and self.twin.metric else ()
        return (self.metric, *(one.metric for one in self.controls), *twin)


class Verify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long a change is watched before its verdict, and how many good readings in a row it needs."""

    window_s: float = 300.0
    good_readings: int = 3


class PlaybookDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A remedy: which findings it answers, the settings it makes, what it predicts, and how it is checked."""

    playbook_id: str
    title: str = ""
    description: str = ""
    risk: Risk = "medium"
    tier: int = 2
    answers: tuple[str, ...] = ()  # metric ids; the metrics' own `playbooks` lists count too
    band: Band = "warning"  # the least band that it answers
    kinds: tuple[str, ...] = ()  # kinds of subject that it applies to (process, cgroup, …); empty: every kind
    when: dict[str, float] = {}  # further metric ids of the same subject → level they must exceed
    settings: tuple[SettingTemplate, ...] = ()
    keep_while: dict[str, float] = {}  # metric ids of the same subject: all above their levels, its lease is renewed
    keep_unclear: bool = False  # and it is renewed too where no effect could be told
    predict: Predict | None = None
    verify: Verify = Verify()
    cooldown_s: float = 600.0
    ttl_s: float = 3600.0
    confidence: float = 0.5  # the prior, until its own record is known
    chain: tuple[str, ...] = ()
    lowers: bool = False  # lowers stead's own autonomy
    unasked: bool = False  # only where it may act alone: it never makes the next of its chain wait for a person
    read_only: bool = False
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    unsupported: str = ""  # what is missing

    @property
    def measured(self) -> tuple[str, ...]:
        """The metrics whose values count second by second: what it predicts by, and what it governs by."""
        predicted = self.predict.metrics if self.predict else ()
        return (*predicted, *(one.govern.metric for one in self.settings if one.govern))


class Catalog(msgspec.Struct, frozen=True):
    """Metrics and playbooks by id, with the hash of their sources. Playbook aliases are resolved."""

    metrics: dict[str, MetricCatalogEntry]
    playbooks: dict[str, PlaybookDefinition]
    version: str
    cleaning: tuple[CleaningRule, ...] = ()  # the allow-list of files that may go

    def answering(self, metric_id: str) -> tuple[PlaybookDefinition, ...]:
        """The playbooks for a metric's findings, in the order they are tried: lowest risk first as listed."""
        entry = self.metrics.get(metric_id)
        named = entry.playbooks if entry else ()
        found = [self.playbooks[name] for name in named if name in self.playbooks]
        found += [p for p in self.playbooks.values() if metric_id in p.answers and p not in found]
        return tuple(found)
