"""What a person sits in."""

from __future__ import annotations

import pytest

from stead.model.session import session_group, session_program


@pytest.mark.parametrize(
    "path",
    [
        "/user.slice/user-1000.slice/session-2.scope",
        "/user.slice/user-0.slice/session-c1.scope/below",
        "/user.slice",
        "/user.slice/user-1000.slice",
        "/user.slice/user-1000.slice/user@1000.service",
        "/user.slice/user-1000.slice/user@1000.service/session.slice",
        "/user.slice/user-1000.slice/user@1000.service/session.slice/gnome-shell.service",
        "/init.scope",
    ],
)
def test_a_login_and_whatever_holds_one(path: str) -> None:
    assert session_group(path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/system.slice/nginx.service",
        "/batch.slice/run-7.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app-backup.scope",
        "/session-2.scope",
    ],
)
def test_what_is_none(path: str) -> None:
    assert session_group(path) == ""


@pytest.mark.parametrize("name", ["tmux: server", "Xorg", "gnome-shell", "sshd", "login", "mosh-server", "gdm-session-wor"])
def test_programs_that_a_session_lives_by(name: str) -> None:
    assert session_program(name)


@pytest.mark.parametrize("name", ["python3", "sh", "postgres", "Xfoo", "screensaver"])
def test_programs_that_are_none(name: str) -> None:
    assert session_program(name) == ""
