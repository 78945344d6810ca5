"""`stead why` of what is at rest: nothing is recorded about it, so its present values are told."""

from __future__ import annotations

import pytest

from stead.agent.explain import at_rest
from stead.model.messages import MetricView

VIEWS = [
    MetricView("infra.cpu_utilization", "host", 12.5, "percent", "good", 5, catalogued=True),
    MetricView("infra.swap_used", "host", None, "percent", "unknown", 5, "no swap configured", catalogued=True),
    MetricView("infra.process_cpu_cores", "process:88@7", 0.2, "cores", "good", 5, catalogued=True),
]


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ("infra.cpu_utilization", "infra.cpu_utilization of host is 12.5 percent, good"),
        ("infra.swap_used", "infra.swap_used of host is unknown: no swap configured"),
        ("88", "infra.process_cpu_cores of process:88 is 0.2 cores, good"),
        ("process:88", "infra.process_cpu_cores of process:88 is 0.2 cores, good"),
    ],
)
def test_of_what_is_at_rest_the_present_values_are_told(thing: str, words: str) -> None:
    found = at_rest(thing, VIEWS, {})
    assert found is not None and [link.words for link in found.chain] == [words]
    assert "no finding, proposal or change" in found.summary


def test_of_what_is_not_measured_it_is_told_what_is_missing() -> None:
    found = at_rest("learning.x", VIEWS, {"learning.x": "unsupported: no source"})
    assert found is not None and "no source" in found.summary
    assert at_rest("nonsense", VIEWS, {}) is None
