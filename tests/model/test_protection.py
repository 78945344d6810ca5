"""What no rule may touch, by name."""

from __future__ import annotations

import pytest

from stead.model.change import Target
from stead.model.policy import Policy
from stead.model.protection import protected


def why(path: str, *patterns: str) -> str | None:
    return protected(Target("cgroup", path, {"id": "7"}), {}, Policy(protected=patterns))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/", "the root of all control groups"),
        ("/init.scope", "init is the init system"),
        ("/system.slice/ssh.service", "the way in by ssh"),
        ("/system.slice/sshd.service/worker", "the way in by ssh"),
        ("/system.slice/systemd-journald.service", "part of systemd"),
        ("/system.slice/stead-agent.service", "stead itself"),
    ],
)
def test_a_group_is_known_by_each_part_of_its_path(path: str, words: str) -> None:
    assert words in (why(path) or "")


@pytest.mark.parametrize("path", ["/system.slice", "/system.slice/nginx.service", "/batch/steady", "/docker/0123456789ab"])
def test_others_are_not_by_their_name_alone(path: str) -> None:
    assert why(path) is None


@pytest.mark.parametrize("pattern", ["nginx", "nginx.service", "/system.slice/ng*", "cgroup:/system.slice/*"])
def test_a_pattern_of_the_policy_may_mean_a_part_the_path_or_the_target(pattern: str) -> None:
    assert why("/system.slice/nginx.service/pool", pattern)
    assert why("/batch.slice/other.service", pattern) is None


@pytest.mark.parametrize("pattern", ["cgroup:/shop.slice/db.service", "/shop.slice/db.service", "service:db", "unit:db.service"])
def test_what_is_in_a_protected_group_is_protected_too(pattern: str) -> None:
    for path in ("/shop.slice/db.service", "/shop.slice/db.service/worker/1"):
        assert pattern in (why(path, pattern) or "")
    assert why("/shop.slice/dbx.service", pattern) is None
