from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stead.flow.propose import ProposeContext, consider, propose, relevant, target_of
from stead.model.catalog import Catalog, MetricCatalogEntry, PlaybookDefinition, Predict, SettingTemplate
from stead.model.change import Hold, Run, Target, Verdict
from stead.model.find import Finding
from stead.model.observe import Now
from tests.flow.kit import ANN, NOW, decision, proposal

HOG = "process:4711@567890"
LABELS = {"process": "sh", "pid": "4711"}


def finding(metric: str = "m.load", subject: str = HOG, **more: Any) -> Finding:
    fields: dict[str, Any] = dict(
        id="finding-1",
        fingerprint=f"band {metric} {subject}",
        detector="band",
        metric=metric,
        subject=subject,
        band="warning",
        title="too much",
        value=2.0,
        threshold=1.0,
        unit="count",
        since_ms=0,
        opened_ms=NOW.unix_ms,
        updated_ms=NOW.unix_ms,
        labels=LABELS,
    )
    return Finding(**{**fields, **more})


def playbook(name: str, **more: Any) -> PlaybookDefinition:
    fields: dict[str, Any] = dict(settings=(SettingTemplate("priority", {"nice": 19}),), answers=("m.load",), cooldown_s=100.0)
    return PlaybookDefinition(name, **{**fields, **more})


def catalog(*playbooks: PlaybookDefinition, **more: Any) -> Catalog:
    entry = MetricCatalogEntry("m.load", "m", "", "count", **more)
    return Catalog({"m.load": entry}, {one.playbook_id: one for one in playbooks}, "v")


def context(**more: Any) -> ProposeContext:
    values = more.pop("values", {})
    return ProposeContext(**{"latest": lambda metric, subject: values.get((metric, subject)), "boot_id": "boot", **more})


def run(name: str = "calm", state: str = "undone", ago_s: float = 0.0, **more: Any) -> Run:
    verdict = more.pop("verdict", None)
    made = decision(**more.pop("decision", {}))
    target = Target("process", "4711", {"start_ticks": "567890", "boot_id": "boot"})
    (step,) = proposal().steps
    step = msgspec.structs.replace(step, target=more.pop("target", target), actuator="priority")
    proposed = proposal([step], playbook=name, **{"finding_id": "finding-1", **more.pop("proposal", {})})
    judged = Verdict(verdict, "") if verdict else None
    fields: dict[str, Any] = dict(decision=made, verdict=judged, updated_ms=NOW.unix_ms - round(ago_s * 1000), reason="because")
    return Run(proposed.id, proposed, state, **{**fields, **more})  # type: ignore[arg-type]


def names(catalog: Catalog, context: ProposeContext, *findings: Finding, now: Now = NOW) -> list[str]:
    return [wish.playbook.playbook_id for wish in propose(findings or (finding(),), catalog, context, now)]


def why(catalog: Catalog, context: ProposeContext, *findings: Finding) -> str:
    considered = consider(findings or (finding(),), catalog, context, NOW)
    assert considered.wishes == ()
    return " | ".join(skip.reason for skip in considered.skipped)


def test_a_finding_brings_its_playbook_bound_to_its_subject():
    (wish,) = propose(
        [finding()], catalog(playbook("calm", chain=("next", "no-such")), playbook("next", answers=())), context(), NOW
    )
    assert (wish.playbook.playbook_id, wish.finding, wish.requester.kind) == ("calm", finding(), "policy")
    (setting,) = wish.settings
    assert setting.target == Target("process", "4711", {"start_ticks": "567890", "boot_id": "boot"})
    assert (wish.chain, wish.labels) == (("next",), LABELS)


def test_a_cleared_finding_brings_nothing():
    assert names(catalog(playbook("calm")), context(), finding(cleared_ms=1)) == []


def test_a_metric_without_playbooks_brings_nothing():
    assert names(catalog(playbook("calm")), context(), finding("m.other")) == []


@pytest.mark.parametrize(
    ("subject", "identities", "expected"),
    [
        (HOG, {}, Target("process", "4711", {"start_ticks": "567890", "boot_id": "boot"})),
        ("process:4711", {}, "the identity of process:4711 is not known"),
        ("workload:web", {"workload:web": {"id": "x"}}, Target("workload", "web", {"id": "x"})),
        ("workload:web", {}, "workload:web is not known here"),
        ("autonomy:host", {}, Target("autonomy", "host")),
        ("kernel:ksm", {}, Target("kernel", "ksm", {"boot_id": "boot"})),
        ("sysctl:vm.swappiness", {}, Target("sysctl", "vm.swappiness", {"boot_id": "boot"})),
        ("unit:web.service", {}, Target("unit", "web.service", {"boot_id": "boot"})),
        ("host", {}, Target("host", "host")),
    ],
)
def test_targets_have_an_identity_or_a_reason(subject, identities, expected):
    assert target_of(subject, context(identities=identities)) == expected


def test_without_a_boot_id_no_process_is_named():
    assert why(catalog(playbook("calm")), context(boot_id="")) == f"the identity of {HOG} is not known"


def test_a_playbook_for_critical_findings_leaves_warnings_alone():
    book = catalog(playbook("calm", band="critical"))
    assert why(book, context()) == "it answers only critical findings"
    assert names(book, context(), finding(band="critical")) == ["calm"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "m.delay is unknown, and it must be above 5 first"),
        ({("m.delay", HOG): 5.0}, "m.delay is 5, and it must be above 5 first"),
        ({("m.delay", HOG): 5.1}, ""),
        ({("m.delay", "host"): 6.0}, ""),  # the host's value confirms where the subject has none of its own
        ({("m.delay", HOG): 1.0, ("m.delay", "host"): 6.0}, "m.delay is 1, and it must be above 5 first"),
    ],
)
@pytest.mark.parametrize("where", ["confirm", "when"])
def test_what_must_confirm_does_or_nothing_is_proposed(values, reason, where):
    book = (
        catalog(playbook("calm"), confirm={"m.delay": 5})
        if where == "confirm"
        else catalog(playbook("calm", when={"m.delay": 5}))
    )
    if reason:
        assert why(book, context(values=values)) == reason
    else:
        assert names(book, context(values=values)) == ["calm"]


def test_a_hold_keeps_a_playbook_off_that_target_only():
    book = catalog(playbook("calm"), playbook("other"))
    key = "process:4711@567890@boot"
    assert Target("process", "4711", {"start_ticks": "567890", "boot_id": "boot"}).key == key
    held = context(holds=(Hold("calm", key, "finding-1", ANN, 0),))
    assert "uid:1000 undid it here" in why(catalog(playbook("calm")), held)
    assert names(book, held) == ["other"]
    assert names(book, held, finding(subject="process:4712@1", id="f2")) == ["calm"]


@pytest.mark.parametrize("state", ["waiting", "approved", "acting", "verifying", "held", "undoing"])
def test_while_a_run_lives_nothing_else_is_proposed_for_its_finding(state):
    book = catalog(playbook("calm"), playbook("other"))
    assert names(book, context(recent=(run(state=state),))) == []


def test_no_second_run_of_one_playbook_on_one_target():
    other = run(state="waiting", proposal={"finding_id": "another"})
    assert why(catalog(playbook("calm")), context(recent=(other,))) == "its run is waiting"


def test_what_another_playbook_changes_now_is_left_to_it():
    other = run("other", "verifying", proposal={"finding_id": "another"})
    book = catalog(playbook("calm"))
    assert why(book, context(recent=(other,))) == "other changes it now (verifying)"
    assert names(book, context(recent=(run("other", "waiting", proposal={"finding_id": "another"}),))) == ["calm"]


def test_what_lowers_autonomy_waits_for_no_other():
    book = catalog(playbook("lower", lowers=True, settings=(SettingTemplate("autonomy", {"ceiling": 0}, "autonomy:host"),)))
    other = run("other", "verifying", target=Target("autonomy", "host"), proposal={"finding_id": "another"})
    assert names(book, context(recent=(other,))) == ["lower"]


def test_cooldown_counts_from_the_end_of_the_last_run():
    book = catalog(playbook("calm"))
    assert "it waits 100 s" in why(book, context(recent=(run(ago_s=99),)))
    assert names(book, context(recent=(run(ago_s=100),))) == ["calm"]


def test_what_did_not_help_gives_way_to_the_next_in_its_chain():
    book = catalog(playbook("calm"), playbook("listed"), playbook("next", answers=()))
    failed = run(verdict="no_help", proposal={"chain": ("next",)}, undo_reason="no_help")
    assert names(book, context(recent=(failed,))) == ["next"]
    twice = run("next", verdict="no_help", undo_reason="no_help")
    assert names(book, context(recent=(failed, twice))) == ["listed"]


def test_what_did_not_help_is_not_tried_again_for_this_finding():
    failed = run(ago_s=9999, verdict="no_help")
    assert names(catalog(playbook("calm")), context(recent=(failed,))) == []
    assert names(catalog(playbook("calm")), context(recent=(failed,)), finding(id="finding-2")) == ["calm"]


def test_an_inconclusive_run_escalates_to_nothing():
    book = catalog(playbook("calm", chain=("next",)), playbook("next", answers=()))
    ended = run(verdict="inconclusive", undo_reason="lease", ago_s=50, proposal={"chain": ("next",)})
    assert names(book, context(recent=(ended,))) == []
    assert names(book, context(recent=(msgspec.structs.replace(ended, updated_ms=NOW.unix_ms - 100_000),))) == ["calm"]


@pytest.mark.parametrize("state", ["denied", "cancelled", "conflict", "undo_failed"])
def test_a_no_holds_until_the_finding_clears(state):
    book = catalog(playbook("calm"), playbook("other"))
    assert names(book, context(recent=(run(state=state, ago_s=9999),))) == []
    assert names(book, context(recent=(run(state=state, ago_s=9999),)), finding(id="finding-2")) == ["calm"]


def test_advice_is_given_once_and_again_when_mode_or_policy_changed_or_it_expired():
    book = catalog(playbook("calm"))
    advised = run(state="advised", decision={"mode": "advise"})
    same = context(recent=(advised,), mode="advise", policy_version="p1")
    assert why(book, same) == "advised already"
    assert names(book, msgspec.structs.replace(same, mode="act")) == ["calm"]
    assert names(book, msgspec.structs.replace(same, policy_version="p2")) == ["calm"]
    assert names(book, same, now=Now(advised.proposal.expires_ms, 0)) == ["calm"]
    assert names(book, same, finding(id="finding-2")) == ["calm"]


def test_a_refusal_for_now_is_asked_again_soon_and_a_plain_one_late():
    book = catalog(playbook("calm", ttl_s=3600.0))
    retry = run(state="refused", ago_s=59, decision={"retry": True})
    assert names(book, context(recent=(retry,))) == []
    assert names(book, context(recent=(run(state="refused", ago_s=60, decision={"retry": True}),))) == ["calm"]
    denied = {"answer": "deny"}
    assert names(book, context(recent=(run(state="refused", ago_s=3599, decision=denied),))) == []
    assert names(book, context(recent=(run(state="refused", ago_s=3600, decision=denied),))) == ["calm"]


def test_what_was_stale_or_could_not_be_read_is_planned_again_soon():
    book = catalog(playbook("calm", ttl_s=3600.0))
    for refused in (run(state="refused", ago_s=61), msgspec.structs.replace(run(state="refused", ago_s=61), decision=None)):
        assert names(book, context(recent=(refused,))) == ["calm"]


def test_what_could_show_nothing_waits_until_it_can():
    book = catalog(playbook("calm", predict=Predict("m.delay", "down", 0.3, meaningful=0.5)))
    lapsed = run(state="undone", ago_s=9999, verdict="inconclusive")
    assert "m.delay is unknown now" in why(book, context(recent=(lapsed,)))
    assert "m.delay at 0.4 (below 0.5)" in why(book, context(recent=(lapsed,), values={("m.delay", HOG): 0.4}))
    assert names(book, context(recent=(lapsed,), values={("m.delay", HOG): 0.5})) == ["calm"]
    assert names(book, context(recent=(lapsed,)), finding(id="another")) == ["calm"]


def test_autonomy_is_lowered_once_for_a_finding():
    book = catalog(playbook("calm", lowers=True))
    assert "has lowered autonomy for this finding already" in why(book, context(recent=(run(state="kept", ago_s=9999),)))


def test_what_decisions_depend_on_is_kept_and_the_rest_forgotten():
    book = catalog(playbook("calm", cooldown_s=7200.0))
    no = run(state="denied", ago_s=900_000)
    old = [run(state="undone", ago_s=ago_s, proposal={"finding_id": "cleared"}) for ago_s in (7201, 7199)]
    assert relevant([run(state="advised", ago_s=990_000), no, *old], [finding()], book, NOW) == [no, old[1]]


def test_what_can_be_done_comes_before_what_can_not():
    book = catalog(playbook("absent", unsupported="no driver"), playbook("calm"))
    assert names(book, context()) == ["calm"]


def test_the_unsupported_is_shown_once():
    book = catalog(playbook("absent", unsupported="no driver", settings=()))
    assert names(book, context()) == ["absent"]
    shown = run("absent", "unsupported", ago_s=9999, reason="unsupported: no driver")
    assert why(book, context(recent=(shown,))) == "unsupported: no driver"


def test_worst_first_and_one_remedy_for_one_thing():
    book = catalog(playbook("calm"))
    mild, bad = finding(id="a", opened_ms=1), finding(id="b", opened_ms=2, band="critical", subject="process:1@1")
    twin = finding(id="c", opened_ms=3)
    wishes = propose([mild, bad, twin], book, context(), NOW)
    assert [wish.finding.id for wish in wishes if wish.finding] == ["b", "a"]


def test_a_cgroup_is_a_target_by_its_path_and_its_inode():
    found = target_of("cgroup:/a.slice/web@1.service@6012", context())
    assert found == Target("cgroup", "/a.slice/web@1.service", {"id": "6012", "boot_id": "boot"})
    assert target_of("cgroup:/a.slice/web@1.service", context()) == "the identity of cgroup:/a.slice/web@1.service is not known"
    assert target_of("cgroup:/batch@cpu.31", context()) == Target("cgroup", "/batch", {"id": "cpu.31", "boot_id": "boot"})
    assert isinstance(target_of("cgroup:/a@7", context(boot_id="")), str)


def test_a_playbook_for_other_kinds_of_subject_gives_way():
    groups, processes = playbook("groups", kinds=("cgroup",)), playbook("processes", kinds=("process",))
    found = consider([finding()], catalog(groups, processes), context(), NOW)
    assert [wish.playbook.playbook_id for wish in found.wishes] == ["processes"]
    assert [(one.playbook, one.reason) for one in found.skipped] == [("groups", "it is for cgroup, and this is a process")]


def test_settings_for_other_kinds_of_subject_are_left_out():
    both = playbook(
        "both",
        settings=(
            SettingTemplate("limit", {"cpu_idle": True}, kinds=("cgroup",)),
            SettingTemplate("priority", {"nice": 19}, kinds=("process",)),
        ),
    )
    (wish,) = propose([finding()], catalog(both), context(), NOW)
    assert [setting.template.actuator for setting in wish.settings] == ["priority"]
    mount = consider([finding(subject="mount:/")], catalog(both), context(identities={"mount:/": {}}), NOW)
    assert [one.reason for one in mount.skipped] == ["none of its settings is for a mount"]


@pytest.mark.parametrize(("profile", "nice"), [("conservative", 5), ("balanced", 19), ("aggressive", 19)])
def test_a_profile_sets_what_it_sets_otherwise(profile, nice):
    setting = SettingTemplate("priority", {"nice": 19, "policy": "idle"}, by_profile={"conservative": {"nice": 5}})
    (wish,) = propose([finding()], catalog(playbook("calm", settings=(setting,))), context(profile=profile), NOW)
    assert wish.settings[0].template.state == {"nice": nice, "policy": "idle"}


def test_what_the_host_lacks_leaves_the_way_to_the_next():
    lacking = run("first", "unsupported", reason="unsupported: no cpu.idle in this kernel")
    found = consider([finding()], catalog(playbook("first"), playbook("second")), context(recent=(lacking,)), NOW)
    assert [wish.playbook.playbook_id for wish in found.wishes] == ["second"]


def each(name: str = "clean", **more: Any) -> PlaybookDefinition:
    return playbook(name, settings=(SettingTemplate("files", {"place": "quarantine"}, "each:quarantine"),), **more)


def files(*paths: str) -> tuple[Target, ...]:
    return tuple(Target("file", path, {"mtime_ns": "1", "bytes": "10"}) for path in paths)


def test_one_setting_for_each_of_many():
    asked = []

    def found(purpose: str, subject: str) -> tuple[Target, ...]:
        asked.append((purpose, subject))
        return files("/tmp/a", "/tmp/b")

    mount = finding(subject="mount:/tmp")
    (wish,) = propose([mount], catalog(each()), context(each=found), NOW)
    assert [str(one.target) for one in wish.settings] == ["file:/tmp/a", "file:/tmp/b"]
    assert all(one.one_of for one in wish.settings) and asked == [("quarantine", "mount:/tmp")]


@pytest.mark.parametrize("undone", ["clean", "another that had taken it"])
def test_of_many_only_those_that_a_person_put_back_are_left_alone(undone: str):
    first, second = files("/tmp/a", "/tmp/b")
    hold = Hold(undone, first.key, "finding-1", ANN, 0)
    mount = finding(subject="mount:/tmp")
    (wish,) = propose([mount], catalog(each()), context(holds=(hold,), each=lambda purpose, subject: (first, second)), NOW)
    assert [str(one.target) for one in wish.settings] == ["file:/tmp/b"]


def test_where_nothing_is_left_the_next_has_its_turn():
    ran = run("clean", "kept", 1000.0, target=files("/tmp/a")[0], verdict="helped")
    both = catalog(each(), playbook("next", settings=(SettingTemplate("priority", {"nice": 19}, "autonomy:host"),)))
    mount = finding(subject="mount:/tmp")
    with_more = context(recent=(ran,), each=lambda purpose, subject: files("/tmp/b"))
    assert [wish.playbook.playbook_id for wish in propose([mount], both, with_more, NOW)] == ["clean"]
    assert [wish.playbook.playbook_id for wish in propose([mount], both, context(recent=(ran,)), NOW)] == ["next"]
    considered = consider([mount], catalog(each()), context(), NOW)
    assert [skip.reason for skip in considered.skipped] == ["nothing left: there is nothing to quarantine"]
