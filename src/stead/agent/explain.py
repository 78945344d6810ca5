"""What `stead why` says of a thing about which nothing is recorded: how it is now. What is recorded is told by `ledger.why`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stead.ledger.words import number, plain
from stead.model.messages import Explanation, Link, MetricView


def at_rest(thing: str, views: Sequence[MetricView], missing: Mapping[str, str]) -> Explanation | None:
    """What is known of a metric or subject about which nothing is recorded: its values now. None when it is neither."""
    if thing in missing:
        return Explanation(thing, f"{thing} is not measured here: {missing[thing]}", ())
    about = [one for one in views if thing in (one.metric, one.subject, plain(one.subject), plain(one.subject).partition(":")[2])]
    if not about:
        return None
    links = tuple(Link(one.at_ms, "observe", _now_words(one)) for one in about)
    return Explanation(thing, f"no finding, proposal or change is recorded about {thing}; this is how it is now", links)


def _now_words(one: MetricView) -> str:
    what = f"{one.metric} of {plain(one.subject)}"
    if one.value is None:
        return f"{what} is unknown" + (f": {one.reason}" if one.reason else "")
    return f"{what} is {number(one.value)} {one.unit}".rstrip() + (f", {one.band}" if one.catalogued else "")
