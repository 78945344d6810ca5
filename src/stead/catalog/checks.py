"""What can be wrong with a catalogue beyond its shape: dangling names, unknown units, bands that can't be, and the like."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from math import inf
from typing import Final, get_args

from stead.catalog.cleaning import problems
from stead.catalog.files import Item, Laid
from stead.catalog.govern_checks import check_govern
from stead.documents import did_you_mean, problem
from stead.model.catalog import MetricCatalogEntry, PlaybookDefinition, Range, SettingTemplate, StateChange, StateValue
from stead.model.cleaning import Purpose
from stead.model.errors import Problem
from stead.model.observe import UNITS
from stead.model.policy import PROFILE_CEILINGS

# The states of stead's own actuators. The catalogue lies below them; a test holds the two together.
BUILT_IN_STATES: Final[Mapping[str, Collection[str]]] = {
    "priority": (
        "nice",
        "autogroup_nice",
        "ionice_class",
        "ionice_level",
        "policy",
        "cpus",
        "uclamp_min",
        "uclamp_max",
        "family",
    ),
    "service": ("generation",),
    "workload": ("count",),
    "limit": (
        *("cpu_weight", "cpu_max_percent", "cpu_idle", "memory_high_bytes", "memory_low_bytes", "memory_max_bytes"),
        *("io_weight", "io_max", "io_latency", "pids_max", "frozen"),
    ),
    "placement": ("group", "cpu_max_percent", "frozen"),
    "process": ("stopped",),
    "resident": ("size_bytes",),
    "autonomy": ("mode", "ceiling", "locked", "paused"),
    "files": ("place", "compressed_copy", "objections"),
    "kernel": (
        *("run", "merged", "advisor_mode", "advisor_max_cpu", "advisor_target_scan_time", "advisor_min_pages_to_scan"),
        *("advisor_max_pages_to_scan", "pages_to_scan", "sleep_millisecs", "smart_scan", "value", "memory_ksm"),
    ),
}
Wrong = tuple[tuple[str | int, ...], str, str, str]  # place in the item, what, what to do, code


def check(
    laid: Laid, states: Mapping[str, Collection[str]], *, strict: bool, known_metrics: Collection[str] = ()
) -> list[Problem]:
    """Everything that is wrong. `strict`: an actuator that is not in `states` is wrong too (else it may be a plugin's)."""
    found: list[Problem] = []
    metrics = {*laid.metrics, *known_metrics}
    names = _names(laid, found)
    for item in laid.metrics.values():
        _note(found, item, _metric(item.value, metrics, names))
    for item in laid.cleaning.values():
        _note(found, item, (((key,), what, fix, "catalog.cleaning") for key, what, fix in problems(item.value)))
    for item in laid.playbooks.values():
        _note(found, item, _playbook(item.value))
        _note(found, item, _playbook_names(item.value, metrics, names))
        for index, setting in enumerate(item.value.settings):
            _note(found, item, _setting(setting, index, metrics, states, strict))
    return found


def _note(found: list[Problem], item: Item, wrongs: Iterator[Wrong]) -> None:
    found.extend(problem(what, item.where(*place), fix, code) for place, what, fix, code in wrongs)


def _names(laid: Laid, found: list[Problem]) -> set[str]:
    """Every id and alias of a playbook."""
    names: dict[str, str] = dict.fromkeys(laid.playbooks, "")
    for item in laid.playbooks.values():
        for index, alias in enumerate(item.value.aliases):
            if alias in names and names[alias] != item.value.playbook_id:
                what = f"the alias {alias} of {item.value.playbook_id} is the name of another playbook"
                found.append(problem(what, item.where("aliases", index), "choose another", "catalog.twice"))
            names.setdefault(alias, item.value.playbook_id)
    return set(names)


def _metric(entry: MetricCatalogEntry, metrics: set[str], playbooks: set[str]) -> Iterator[Wrong]:
    name = entry.metric_id
    if entry.unit not in UNITS:
        yield ("unit",), f"unit: {name} has an unknown unit {entry.unit}", did_you_mean(entry.unit, UNITS), "catalog.unit"
    if not 0 < entry.recommended_interval_seconds < inf:
        what = f"recommended_interval_seconds of {name} is {entry.recommended_interval_seconds:g}"
        yield ("recommended_interval_seconds",), what, "give a number of seconds above 0", "catalog.interval"
    for key, value in (("for", entry.for_s), ("clear_s", entry.clear_s), ("min_samples", entry.min_samples)):
        if not 0 <= value < inf:
            yield (key,), f"{key} of {name} is {value:g}", "give 0 or more", "catalog.interval"
    for index, playbook in enumerate(entry.playbooks):
        if playbook not in playbooks:
            what = f"playbooks: {name} names a playbook that is not defined, {playbook}"
            yield ("playbooks", index), what, did_you_mean(playbook, playbooks), "catalog.dangling"
    for metric in entry.confirm:
        if metric not in metrics:
            what = f"confirm: {name} names an unknown metric {metric}"
            yield ("confirm", metric), what, did_you_mean(metric, metrics), "catalog.dangling"
    yield from _bands(entry)


def _bands(entry: MetricCatalogEntry) -> Iterator[Wrong]:
    if entry.thresholds is None:
        return
    spans: list[tuple[float, float, str]] = []
    for band in ("good", "warning", "critical"):
        for one in getattr(entry.thresholds, band):
            low, high = _ends(one)
            if low > high:
                what = f"thresholds.{band} of {entry.metric_id} has lower {low:g} above upper {high:g}"
                yield ("thresholds", band), what, "exchange them", "catalog.bands"
            spans.append((low, high, band))
    spans.sort(key=lambda span: (span[0], span[1]))
    for index, (_, high, band) in enumerate(spans):
        for low, _, other in spans[index + 1 :]:
            if low < high:
                what = f"thresholds of {entry.metric_id}: {band} and {other} overlap from {low:g}"
                yield ("thresholds", other), what, "let one end where the other begins", "catalog.bands"
    yield from _exits(entry, spans)


def _exits(entry: MetricCatalogEntry, spans: list[tuple[float, float, str]]) -> Iterator[Wrong]:
    """An exit level lies on the good side of the level that enters the band."""
    good = [span for span in spans if span[2] == "good"]
    if not good:
        return
    top, bottom = max(span[1] for span in good), min(span[0] for span in good)
    one_sided = top == inf
    for band in ("warning", "critical"):
        enters = min((low for low, _, name in spans if name == band and low >= top), default=None)
        falls = max((high for _, high, name in spans if name == band and high <= bottom), default=None)
        upper, lower = getattr(entry.exit, band), getattr(entry.exit, f"{band}_lower")
        if one_sided and lower is None:
            upper, lower = None, upper
        key = band if one_sided else f"{band}_lower"
        if upper is not None and (enters is None or upper > enters or upper < bottom):
            what = f"exit.{band} of {entry.metric_id} is {upper:g}, which a value can't pass on its way back"
            yield ("exit", band), what, "put it between the good range and the band's own level", "catalog.exit"
        if lower is not None and (falls is None or lower < falls or lower > top):
            what = f"exit.{key} of {entry.metric_id} is {lower:g}, which a value can't pass on its way back"
            yield ("exit", key), what, "put it between the good range and the band's own level", "catalog.exit"


def _ends(one: Range) -> tuple[float, float]:
    return -inf if one.lower is None else one.lower, inf if one.upper is None else one.upper


def _playbook(playbook: PlaybookDefinition) -> Iterator[Wrong]:
    name = playbook.playbook_id
    if not 1 <= playbook.tier <= 4:
        yield ("tier",), f"tier of {name} is {playbook.tier}", "tiers are 1 to 4", "catalog.tier"
    if not 0 <= playbook.confidence <= 1:
        yield ("confidence",), f"confidence of {name} is {playbook.confidence:g}", "give 0 to 1", "catalog.confidence"
    for key in ("cooldown_s", "ttl_s"):
        value = getattr(playbook, key)
        if value < 0 or (key == "ttl_s" and value == 0):
            yield (key,), f"{key} of {name} is {value:g}", "give a number of seconds above 0", "catalog.interval"
    if playbook.verify.window_s <= 0 or playbook.verify.good_readings < 0:
        yield ("verify",), f"verify of {name} has no window", "give window_s above 0", "catalog.interval"
    for control in playbook.predict.controls if playbook.predict else ():
        if not 0 < control.at_least_share <= 1:
            what = f"control of {name} has an at_least_share of {control.at_least_share:g}"
            yield ("predict", "control"), what, "give a share above 0, at most 1", "catalog.control"
    if not (playbook.settings or playbook.read_only or playbook.unsupported):
        yield (), f"{name} has no settings, so it does nothing", "add settings, read_only or unsupported", "catalog.empty"
    if playbook.lowers and any(setting.actuator != "autonomy" for setting in playbook.settings):
        yield ("lowers",), f"{name} says that it lowers autonomy, and sets something else too", "remove lowers", "catalog.lowers"


def _playbook_names(playbook: PlaybookDefinition, metrics: set[str], playbooks: set[str]) -> Iterator[Wrong]:
    name = playbook.playbook_id
    named: list[tuple[tuple[str | int, ...], str]] = [(("answers", i), metric) for i, metric in enumerate(playbook.answers)]
    named += [(("when", metric), metric) for metric in playbook.when]
    named += [(("keep_while", metric), metric) for metric in playbook.keep_while]
    if playbook.predict is not None:
        places = ("metric", *("control" for _ in playbook.predict.controls), "twin")
        named += [(("predict", place), metric) for place, metric in zip(places, playbook.predict.metrics, strict=False)]
        named += [(("predict", "of_metric"), playbook.predict.of_metric)] if playbook.predict.of_metric else []
    for place, metric in named:
        if metric not in metrics:
            what = f"{place[0]}: {name} names an unknown metric {metric}"
            yield place, what, did_you_mean(metric, metrics), "catalog.dangling"
    for index, following in enumerate(playbook.chain):
        if following not in playbooks:
            what = f"chain: {name} names a playbook that is not defined, {following}"
            yield ("chain", index), what, did_you_mean(following, playbooks), "catalog.dangling"


def _setting(
    setting: SettingTemplate, index: int, metrics: set[str], states: Mapping[str, Collection[str]], strict: bool
) -> Iterator[Wrong]:
    place = ("settings", index)
    known = states.get(setting.actuator)
    if known is None:
        if strict:
            what = f"settings: no actuator is named {setting.actuator}"
            yield (*place, "actuator"), what, did_you_mean(setting.actuator, states), "catalog.actuator"
        return
    if setting.target != "subject" and ":" not in setting.target:
        what = f"settings: the target {setting.target} is neither subject nor kind:name"
        yield (*place, "target"), what, "write subject, or e.g. workload:web", "catalog.target"
    if setting.govern is not None:
        wrongs = check_govern(setting, setting.govern, metrics)
        yield from (((*place, *inner), what, fix, code) for inner, what, fix, code in wrongs)
    purpose = setting.target.removeprefix("each:")
    if purpose != setting.target and purpose not in get_args(Purpose):
        what = f"settings: nothing is found for {setting.target}"
        yield (*place, "target"), what, did_you_mean(purpose, get_args(Purpose)), "catalog.target"
    if setting.lease_s is not None and not 0 < setting.lease_s < inf:
        yield (*place, "lease_s"), f"settings: lease_s is {setting.lease_s:g}", "give seconds above 0", "catalog.interval"
    for profile in setting.by_profile.keys() - PROFILE_CEILINGS.keys():
        what = f"settings: by_profile names an unknown profile {profile}"
        yield (*place, "by_profile", profile), what, did_you_mean(profile, PROFILE_CEILINGS), "catalog.profile"
    yield from _fields(setting.state, (*place, "state"), setting.actuator, known, metrics)
    for profile, state in setting.by_profile.items():
        yield from _fields(state, (*place, "by_profile", profile), setting.actuator, known, metrics)


def _fields(
    state: Mapping[str, StateValue], place: tuple[str | int, ...], actuator: str, known: Collection[str], metrics: set[str]
) -> Iterator[Wrong]:
    for field, value in state.items():
        if field not in known:
            what = f"settings: the state of {actuator} has no {field}"
            yield (*place, field), what, did_you_mean(field, known), "catalog.field"
        if isinstance(value, StateChange):
            yield from _change(value, field, (*place, field), metrics)


def _change(change: StateChange, field: str, place: tuple[str | int, ...], metrics: set[str]) -> Iterator[Wrong]:
    given = [change.add is not None, change.multiply is not None and not change.from_metric, bool(change.from_metric)]
    if sum(given) != 1:
        what = f"settings: {field} needs exactly one of add, multiply and from_metric"
        yield place, what, "keep one", "catalog.change"
    if change.from_metric and change.from_metric not in metrics:
        what = f"settings: {field} names an unknown metric {change.from_metric}"
        yield (*place, "from_metric"), what, did_you_mean(change.from_metric, metrics), "catalog.dangling"
    low, high = change.at_least, change.at_most
    if low is not None and high is not None and low > high:
        yield place, f"settings: {field} has at_least {low:g} above at_most {high:g}", "exchange them", "catalog.change"
