"""What `stead why` says of a thing about which nothing is recorded: how it is now. What is recorded is told by `ledger.why`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from stead.ledger.words import governed_words, number, plain
from stead.model.change import Run
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


def with_limits(told: Explanation, runs: Sequence[Run]) -> Explanation:
    """The same, with where the governed values of its runs stand this moment: a link of its own, of which no entry speaks."""
    entries = {link.entry for link in told.chain}
    now = [
        Link(one.at_ms, "act", f"now: {governed_words(run.proposal.steps[one.step], one)}")
        for run in runs
        if run.cause in entries
        for one in run.governed
    ]
    return msgspec.structs.replace(told, chain=(*told.chain, *now)) if now else told


def _now_words(one: MetricView) -> str:
    what = f"{one.metric} of {plain(one.subject)}"
    if one.value is None:
        return f"{what} is unknown" + (f": {one.reason}" if one.reason else "")
    return f"{what} is {number(one.value)} {one.unit}".rstrip() + (f", {one.band}" if one.catalogued else "")
