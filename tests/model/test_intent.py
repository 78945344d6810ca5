from __future__ import annotations

import pytest

from stead.model.intent import Intent, Objective, Protect, guarded, mistakes, never_slowed, pattern_of


@pytest.mark.parametrize(
    ("text", "kind", "glob"),
    [
        ("service:nginx*", "service", "nginx*"),
        ("cgroup:/a.slice/*", "cgroup", "/a.slice/*"),
        ("process:worker: main", "process", "worker: main"),
        ("stress-ng*", "process", "stress-ng*"),
    ],
)
def test_a_pattern_has_a_kind_and_a_bare_word_is_a_process(text, kind, glob):
    pattern = pattern_of(text)
    assert (pattern.kind, pattern.glob) == (kind, glob)


@pytest.mark.parametrize(
    ("text", "name", "command", "fits"),
    [
        ("postgres*", "postgres", "postgres: writer", True),
        ("process:stress-ng-cpu-load*", "stress-ng-cpu-l", "/usr/bin/stress-ng-cpu-load 3", True),  # the kernel cut the name
        ("process:backup.py", "python3", "python3 /opt/backup.py --all", True),  # the script
        ("process:*all*", "python3", "python3 /opt/backup.py --all", False),  # no slash, no space: names only
        ("process:--all", "python3", "python3 --all", False),
        ("process:*/backup.py*", "python3", "python3 /opt/backup.py", True),
        ("process:python3 *backup*", "python3", "python3 /opt/backup.py", True),
        ("service:nginx", "nginx", "nginx", False),
        ("Postgres", "postgres", "postgres", False),
    ],
)
def test_a_process_matches_by_name_program_or_command_line(text, name, command, fits):
    assert pattern_of(text).fits_process(name, command) is fits


@pytest.mark.parametrize(
    ("text", "path", "fits"),
    [
        ("service:nginx", "/system.slice/nginx.service", True),
        ("service:nginx.service", "/system.slice/nginx.service", True),
        ("service:web@*", "/system.slice/web@1.service", True),
        ("service:nginx", "/system.slice/nginx.service/worker", False),  # a part of it, not the service
        ("service:nginx", "/nginx", False),
        ("cgroup:/batch.slice/", "/batch.slice", True),
        ("cgroup:/batch.slice/*", "/batch.slice/night.service", True),
        ("cgroup:/batch.slice", "/batch.slice/night.service", False),
        ("nginx", "/system.slice/nginx.service", False),
    ],
)
def test_a_group_matches_by_its_path_or_its_unit(text, path, fits):
    assert pattern_of(text).fits_group(path) is fits


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("process:ssh*", "the way in by ssh"),
        ("SSHD", "the way in by ssh"),
        ("s*", "the init system"),  # systemd, sshd and stead are all among it: the first is named
        ("process:stead*", "stead itself"),
        ("systemd-resolved", "part of systemd"),
        ("kworker*", "the kernel"),
        ("service:ssh", "the way in by ssh"),
        ("service:*.service", "the way in by ssh"),
        ("service:stead-agent.service", "stead itself"),
        ("cgroup:/system.slice", "the way in by ssh"),
        ("cgroup:/system.slice/*", "the way in by ssh"),
        ("cgroup:/init.scope", "the init system"),
        ("cgroup:/", "the init system"),
        ("process:/usr/sbin/sshd*", "the way in by ssh"),
        ("process:sshd: *", "the way in by ssh"),
        ("process:/usr/local/sbin/sshd -D*", "the way in by ssh"),
        ("process:/sbin/init", "the init system"),
        ("process:/usr/*", "the init system"),  # the first of many
        ("process:/lib/systemd/systemd-*", "part of systemd"),
        ("process:*/stead agent*", "stead itself"),
        ("process:*python3 -m stead*", "stead itself"),
    ],
)
def test_what_covers_pid_1_ssh_or_stead_is_never_slowed(text, what):
    found = never_slowed(text)
    assert found is not None and what in found[0] and text in found[0]


@pytest.mark.parametrize(
    "text",
    [
        "stress-ng*",
        "process:stress*",
        "service:backup",
        "service:system-backup*",
        "cgroup:/batch.slice/*",
        "cgroup:/user.slice/*",
        "process:/usr/bin/stress-ng *",
        "process:python3 *backup*",
        "process:/opt/*/worker --batch",
        "process:terraform init*",
    ],
)
def test_what_covers_none_of_them_may_be_slowed(text):
    assert never_slowed(text) is None


def test_a_guarded_name_is_told():
    assert guarded("sshd") == "the way in by ssh"
    assert guarded("Systemd-udevd") == "part of systemd"
    assert guarded("nginx") == ""


def said(intent: Intent) -> list[tuple[str, int, int | None, str]]:
    return [(name, index, inner, what) for name, index, inner, what, _ in mistakes(intent)]


def test_every_mistake_has_its_place():
    intent = Intent(
        (
            Protect(("service:web", "servce:db"), "web"),
            Protect(("*",), "web"),
            Protect((), "none"),
            Protect(("nice",), "both"),
        ),
        ("cgroup:batch", "sshd", "nice"),
    )
    assert said(intent) == [
        ("protect", 0, 1, "servce:db has the kind servce, which is none"),
        ("protect", 1, None, "two things to protect are named web"),
        ("protect", 1, 0, "'*' names everything"),
        ("protect", 2, None, "nothing is named that it is found by"),
        ("protect", 3, 0, "nice is to be protected and slowed at once"),
        ("best_effort", 0, None, "cgroup:batch is no path of a control group"),
        ("best_effort", 1, None, "sshd covers sshd: the way in by ssh is never slowed"),
    ]


@pytest.mark.parametrize(
    ("objective", "wrong"),
    [
        (Objective(5.0), "it needs a metric or a pressure, and one of them only"),
        (Objective(5.0, "api.latency_p95", "cpu"), "it needs a metric or a pressure, and one of them only"),
        (Objective(0.0, pressure="cpu"), "below is 0"),
        (Objective(300.0, pressure="cpu"), "below is 300, and a pressure is a percentage of the time"),
        (Objective(5.0, pressure="io", window_s=3600), "window_s is 3600"),
        (Objective(5.0, pressure="io"), ""),
        (Objective(300.0, "api.latency_p95", subject="workload:web"), ""),
    ],
)
def test_an_objective_can_be_held_against_something(objective, wrong):
    found = said(Intent((Protect(("web",), "web", objective),)))
    assert found == ([("protect", 0, None, f"the objective of web: {wrong}")] if wrong else [])


def test_ssh_may_be_protected():
    assert said(Intent((Protect(("service:ssh",)),), ("stress-ng*",))) == []
