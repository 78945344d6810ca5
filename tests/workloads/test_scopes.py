"""Workers in scopes of their own: when, how they are named, and what is said when systemd makes none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stead.testing import FakeHost
from stead.workloads import scopes

SERVICE = "0::/system.slice/stead-agent.service\n"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for systemd-run: it notes its words, and fails if told to."""
    fake = tmp_path / "systemd-run"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ ! -e {tmp_path}/fails ] || {{ echo "no bus" >&2; exit 1; }}\n')
    fake.chmod(0o755)
    monkeypatch.setattr(scopes, "PROGRAMS", (str(fake),))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return fake


def host(tmp_path: Path, group: str = SERVICE, systemd: bool = True) -> FakeHost:
    made = FakeHost("/")
    texts = {"/proc/self/cgroup": group}
    places = {"/run/systemd/system": 7 if systemd else None, str(tmp_path / "systemd-run"): 8}
    made.read = lambda path, limit=0: texts[path].encode()  # type: ignore[method-assign,assignment,misc]
    made.inode = lambda path: places.get(path)  # type: ignore[method-assign,assignment,misc]
    return made


def test_a_worker_of_a_service_has_a_scope(tmp_path: Path, program: Path) -> None:
    argv, why = scopes.scoped(host(tmp_path), ("/srv/x", "--all"), "web app", "0192-abcdefabcdef")
    assert why == "" and argv[0] == str(program) and argv[-3:] == ["--", "/srv/x", "--all"]
    assert argv[1:5] == ["--scope", "--quiet", "--collect", "--unit=stead-worker-web-app-abcdefabcdef"]
    assert (tmp_path / "asked").read_text() == "--scope --quiet --collect -- true\n"


@pytest.mark.parametrize(
    ("group", "systemd"),
    [
        (SERVICE, False),
        ("0::/user.slice/user-0.slice/session-3.scope\n", True),
        ("0::/\n", True),
        ("4:memory:/x.service\n", True),
    ],
)
def test_elsewhere_it_starts_as_it_is(tmp_path: Path, program: Path, group: str, systemd: bool) -> None:
    assert scopes.scoped(host(tmp_path, group, systemd), ("/srv/x",), "web", "s") == (["/srv/x"], "")
    assert not (tmp_path / "asked").exists()


def test_what_systemd_says_when_it_makes_none(tmp_path: Path, program: Path) -> None:
    (tmp_path / "fails").touch()
    assert scopes.scoped(host(tmp_path), ("/srv/x",), "web", "s") == (["/srv/x"], "no scopes of their own: no bus")


def test_version_1_names_the_service_in_systemds_own_tree(tmp_path: Path, program: Path) -> None:
    group = "5:memory:/system.slice/stead-agent.service\n1:name=systemd:/system.slice/stead-agent.service\n"
    assert scopes.wrapper(host(tmp_path, group)) == (str(program), "")
