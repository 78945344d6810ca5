from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stead import plugins
from stead.catalog import GROUPS, load_catalog
from stead.catalog.checks import BUILT_IN_STATES
from stead.host import LocalHost
from stead.model.catalog import StateChange
from stead.model.errors import SteadError

LOADED = plugins.load("stead.actuators", host=LocalHost(), drivers={}, autonomy=None, cleaner=None)
STATES = {name: one.state for name, one in LOADED.plugins.items()}
ORIGINAL = Path(__file__).parent / "data" / "original.yaml"
NINETEEN = [
    "api.latency_p95",
    "api.error_rate",
    "api.request_rate",
    "api.saturation",
    "executor.queue_depth",
    "executor.task_latency",
    "executor.worker_utilization",
    "learning.sessions_started",
    "learning.sources_verified",
    "learning.sandbox_pass_rate",
    "learning.governance_blocks",
    "autonomy.plan_success_rate",
    "autonomy.approvals_pending",
    "autonomy.autonomy_ratio",
    "autonomy.rollback_rate",
    "infra.cpu_utilization",
    "infra.memory_utilization",
    "infra.disk_usage",
    "infra.pod_ready_ratio",
]
FIFTEEN = [
    "scale-api-shard",
    "failover-gateway",
    "restart-workers",
    "spawn-extra-workers",
    "scale-workers",
    "spawn-emergency-shard",
    "throttle-learning",
    "stop-ingestion-cycle",
    "run-trust-analysis",
    "tighten-guardrails",
    "downgrade-autonomy-tier",
    "run-postmortem",
    "lock-planner-supervised",
    "shift-load",
    "scale-nodes",
]
# metric → warn enter, warn exit, critical enter, critical exit, aggregation, every, for (the published table)
TABLE = {
    "api.latency_p95": (350, 300, 500, 425, "p95", 60, 180),
    "api.error_rate": (0.01, 0.005, 0.03, 0.02, "avg", 60, 180),
    "api.request_rate": (200, 170, 400, 340, "avg", 60, 300),
    "api.saturation": (70, 60, 85, 75, "max", 60, 120),
    "executor.queue_depth": (25, 15, 75, 50, "max", 30, 120),
    "executor.task_latency": (60, 40, 180, 120, "max", 30, 120),
    "executor.worker_utilization": (70, 60, 90, 80, "avg", 30, 300),
    "learning.sessions_started": (3, 2, 6, 4, "sum", 300, 0),
    "learning.sources_verified": (85, 90, 70, 80, "avg", 300, 300),
    "learning.sandbox_pass_rate": (80, 85, 60, 70, "avg", 300, 300),
    "learning.governance_blocks": (2, 1, 5, 3, "sum", 300, 0),
    "autonomy.plan_success_rate": (90, 93, 75, 85, "avg", 300, 0),
    "autonomy.approvals_pending": (3, 2, 7, 5, "max", 60, 300),
    "autonomy.rollback_rate": (5, 3, 10, 7, "avg", 300, 0),
    "infra.cpu_utilization": (70, 65, 85, 75, "avg", 30, 300),
    "infra.memory_utilization": (75, 70, 90, 85, "avg", 30, 120),
    "infra.disk_usage": (70, 65, 85, 80, "max", 300, 300),
    "infra.pod_ready_ratio": (95, 97, 90, 95, "avg", 30, 120),
}


@pytest.fixture(scope="module")
def catalog():
    return load_catalog()


def test_the_nineteen_metrics_are_there_in_five_categories(catalog):
    assert set(NINETEEN) <= set(catalog.metrics)
    assert {catalog.metrics[name].category for name in NINETEEN} == {"api", "executor", "learning", "autonomy", "infra"}
    assert {entry.category for entry in catalog.metrics.values()} == set(GROUPS)
    assert all(catalog.metrics[name].export_name and catalog.metrics[name].playbooks for name in NINETEEN)


@pytest.mark.parametrize("name", TABLE)
def test_bands_are_those_published(catalog, name):
    entry = catalog.metrics[name]
    warn, warn_exit, critical, critical_exit, aggregation, every, lasting = TABLE[name]
    (good,), (warning,), (worst,) = entry.thresholds.good, entry.thresholds.warning, entry.thresholds.critical
    if critical > warn:
        assert (good.upper, warning.lower, warning.upper, worst.lower) == (warn, warn, critical, critical)
    else:
        assert (good.lower, warning.upper, warning.lower, worst.upper) == (warn, warn, critical, critical)
    assert (entry.exit.warning, entry.exit.critical) == (warn_exit, critical_exit)
    assert (entry.aggregation, entry.recommended_interval_seconds, entry.for_s) == (aggregation, every, lasting)


def test_autonomy_ratio_is_two_sided(catalog):
    bands = catalog.metrics["autonomy.autonomy_ratio"].thresholds
    assert [(r.lower, r.upper) for r in bands.good] == [(70, 85)]
    assert [(r.lower, r.upper) for r in bands.warning] == [(60, 70), (85, 90)]
    assert [(r.lower, r.upper) for r in bands.critical] == [(None, 60), (90, None)]


def test_a_cpu_hog_is_caught_and_calmed(catalog):
    entry = catalog.metrics["infra.process_cpu_cores"]
    assert (entry.thresholds.warning[0].lower, entry.for_s, entry.recommended_interval_seconds) == (0.9, 30, 2)
    (playbook,) = catalog.answering("infra.process_cpu_cores")
    assert (playbook.playbook_id, playbook.risk, playbook.tier) == ("calm-cpu-hog", "low", 1)
    (setting,) = playbook.settings
    assert (setting.state, setting.lease_s) == ({"autogroup_nice": 19, "nice": 19}, 600)
    assert (playbook.predict.metric, playbook.predict.direction, playbook.predict.meaningful) == (
        "infra.others_run_delay",
        "down",
        0.05,
    )


def test_the_fifteen_playbooks_work_or_say_what_is_missing(catalog):
    assert set(FIFTEEN) <= set(catalog.playbooks)
    assert {name for name in FIFTEEN if not catalog.playbooks[name].unsupported} == {
        *("scale-workers", "spawn-extra-workers", "restart-workers"),
        *("downgrade-autonomy-tier", "lock-planner-supervised"),
    }
    assert all(p.settings for p in catalog.playbooks.values() if not p.unsupported)


def test_lowering_playbooks_only_lower(catalog):
    lowering = {p.playbook_id for p in catalog.playbooks.values() if p.lowers}
    assert lowering == {"downgrade-autonomy-tier", "lock-planner-supervised"}
    assert all(s.lease_s is None for name in lowering for s in catalog.playbooks[name].settings)


def test_aliases_are_resolved(catalog):
    assert catalog.metrics["executor.task_latency"].playbooks == ("scale-workers", "notify-people")
    assert catalog.metrics["api.error_rate"].playbooks == ("restart-workers",)
    named = {name for entry in catalog.metrics.values() for name in entry.playbooks}
    assert named <= set(catalog.playbooks)


def test_what_is_missing_here_is_said():
    catalog = load_catalog(known_metrics={"infra.cpu_utilization"}, actuators={"workload"})
    assert catalog.metrics["infra.cpu_utilization"].unsupported == ""
    assert catalog.metrics["infra.swap_used"].unsupported == "no probe here gives it"
    assert catalog.metrics["learning.sessions_started"].unsupported == "no model is trained yet"
    assert catalog.playbooks["calm-cpu-hog"].unsupported == "no actuator priority here"
    assert catalog.playbooks["scale-workers"].unsupported == ""


def test_the_states_of_the_actuators_are_as_the_catalogue_believes():
    for name, believed in BUILT_IN_STATES.items():
        assert set(believed) <= set(STATES[name].__struct_fields__)


def test_settings_fit_the_actuators_states(catalog):
    for playbook in catalog.playbooks.values():
        for setting in playbook.settings:
            for state in (setting.state, *({**setting.state, **one} for one in setting.by_profile.values())):
                plain = {key: 1 if isinstance(value, StateChange) else value for key, value in state.items()}
                msgspec.convert(plain, STATES[setting.actuator])


def test_an_overlay_replaces_by_id(tmp_path, catalog):
    (tmp_path / "mine.yaml").write_text(
        "metrics:\n  - {metric_id: infra.swap_used, category: infra, description: mine, unit: percent, for: 7}\n"
        "playbooks:\n  - {playbook_id: say, title: Say, read_only: true, answers: [infra.swap_used]}\n"
    )
    laid = load_catalog(str(tmp_path))
    assert laid.metrics["infra.swap_used"].for_s == 7
    assert [p.playbook_id for p in laid.answering("infra.swap_used")] == ["say"]
    assert laid.metrics["infra.disk_usage"] == catalog.metrics["infra.disk_usage"]
    assert laid.version != catalog.version == load_catalog().version


def test_an_original_catalogue_loads_unchanged(catalog):
    laid = load_catalog(str(ORIGINAL))
    latency = laid.metrics["api.latency_p95"]
    assert (latency.unit, latency.aggregation, latency.thresholds.critical[0].lower) == ("milliseconds", "p95", 600)
    uptime = laid.metrics["telemetry.collector_uptime"]
    assert (uptime.unit, uptime.aggregation, uptime.thresholds.good[0].lower) == ("percent", "avg", 99)
    assert laid.metrics["trigger.request_rate"].unit == "requests_per_second"
    foreign = laid.playbooks["restart-collector"]
    assert (foreign.unsupported, foreign.risk, foreign.tier) == ("steps of another system", "high", 3)
    ours = laid.playbooks["scale-workers"]
    assert (ours.title, ours.risk, ours.tier, ours.unsupported) == ("Scale the worker pool", "medium", 2, "")
    assert ours.settings == catalog.playbooks["scale-workers"].settings


@pytest.mark.parametrize("overlay", ["absent.yaml", "broken.yaml", "wrong.yaml"])
def test_a_bad_overlay_is_one_sentence(tmp_path, overlay):
    (tmp_path / "broken.yaml").write_text("metrics: [\n")
    (tmp_path / "wrong.yaml").write_text("metrics:\n  - {metric_id: a.b, category: a, description: c, unit: furlongs}\n")
    with pytest.raises(SteadError) as raised:
        load_catalog(str(tmp_path / overlay))
    assert raised.value.problem.exit_code == 2
    assert overlay in raised.value.problem.where
