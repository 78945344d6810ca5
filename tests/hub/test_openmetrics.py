from __future__ import annotations

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from stead.hub.openmetrics import Collected, export_name, families, generate_latest
from stead.model import messages as m
from stead.model.observe import UNITS
from tests.hub.conftest import FakeAgent, status, view


def parsed(text: str) -> dict[tuple[str, str], float]:
    found = list(text_string_to_metric_families(text))
    return {(s.name, s.labels.get("subject", "")): s.value for family in found for s in family.samples}


async def test_the_exposition_is_openmetrics_and_unknown_is_absent(client, agent: FakeAgent):
    agent.metrics = m.MetricList(
        (
            view(),
            view("infra.disk_usage", 80.0, subject='mount:/a "b"\\\n'),
            view("infra.disk_usage", 10.0, subject="mount:/var"),
            view("api.latency_p95", 250.0, subject="workload:web", unit="milliseconds"),
            view("infra.swap_used", None, reason="no swap"),
        )
    )
    answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    values = parsed(answer.text)
    assert values["stead_infra_cpu_utilization_ratio", "host"] == 0.125
    assert values["stead_infra_disk_usage_ratio", "mount:/var"] == 0.1
    assert values["stead_infra_disk_usage_ratio", 'mount:/a "b"\\\n'] == 0.8
    assert values["stead_api_latency_p95_seconds", "workload:web"] == 0.25
    assert values["stead_agent_up", ""] == 1
    assert values["stead_agent_findings_open", ""] == 1
    assert not [name for name, _ in values if "swap" in name]
    assert answer.text.endswith("# EOF\n")


async def test_while_the_agent_is_away_only_that_is_said(client, agent: FakeAgent):
    await agent.stop()
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert parsed(answer.text) == {("stead_agent_up", ""): 0.0}


def test_names_carry_the_base_unit_once():
    assert export_name("infra.process_cpu_cores", "cores") == ("stead_infra_process_cpu_cores", "cores", 1.0)
    assert export_name("cpu.core_percent", "percent") == ("stead_cpu_core_ratio", "ratio", 0.01)
    assert export_name("infra.disk_time_to_full", "hours") == ("stead_infra_disk_time_to_full_seconds", "seconds", 3600.0)
    assert export_name("stead.self_rss_bytes", "bytes")[0] == "stead_self_rss_bytes"


words = st.sampled_from(["infra", "total", "count", "bytes", "x", "p95", "info", "percent", "9"])
names = st.lists(words, min_size=1, max_size=4)
row = st.tuples(names, st.sampled_from(sorted(UNITS)), st.text(max_size=8), st.floats(allow_nan=False))


@given(st.lists(row, max_size=6))
def test_whatever_the_metrics_are_called_the_parser_reads_them(rows):
    views = {}
    for parts, unit, subject, value in rows:
        subject = subject.encode("utf-8", "replace").decode()
        views[export_name(".".join(parts), unit)[0], subject] = view(".".join(parts), value, unit=unit, subject=subject)
    units = {}
    for (name, _), one in views.items():
        units.setdefault(name, one.unit)
    kept = tuple(v for (name, _), v in views.items() if units[name] == v.unit)
    text = generate_latest(Collected(families(m.MetricList(kept), status()))).decode()
    values = parsed(text)
    for one in kept:
        name, _, factor = export_name(one.metric, one.unit)
        got = values[name, one.subject]
        assert math.isclose(got, one.value * factor, rel_tol=1e-9) or got == one.value * factor


def test_unknown_figures_of_its_own_are_absent():
    text = generate_latest(Collected(families(m.MetricList(()), msgspec.structs.replace(status(), rss_bytes=None)))).decode()
    assert "stead_agent_resident_memory_bytes" not in text
