"""Giving up root for good, and still reaching the agent's socket inside a state directory that is closed to others."""

from __future__ import annotations

import os
import pwd
from typing import Final

import msgspec

from stead.model.errors import SteadError

LONGEST_SOCKET_PATH: Final = 100  # sun_path holds 104 to 108 bytes


class User(msgspec.Struct, frozen=True):
    """Whom to become."""

    name: str
    uid: int
    gid: int


def find_user(wanted: str) -> User:
    """The user of `hub.user`; without one "stead" if it exists, else "nobody". SteadError when it is unknown or is root."""
    for name in (wanted,) if wanted else ("stead", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise SteadError(
                f"the hub never runs as root, and user {name} is root", "hub.user", "name another user", code="hub.user"
            )
        return User(name, entry.pw_uid, entry.pw_gid)
    raise SteadError(f"no user named {wanted or 'stead or nobody'}", "hub.user", "create it or name another", code="hub.user")


def drop(user: User) -> None:
    """Become `user`, with no way back: groups, gid and uid, real, effective and saved. SteadError if root can be had again."""
    os.setgroups([])
    os.setgid(user.gid)  # from root these two set the real, the effective and the saved id
    os.setuid(user.uid)
    try:
        os.setuid(0)
    except PermissionError:
        gone = {os.getuid(), os.geteuid()} == {user.uid} and {os.getgid(), os.getegid()} == {user.gid} and 0 not in os.getgroups()
    else:
        gone = False
    if not gone:
        what = f"root could not be given up for user {user.name}"
        raise SteadError(what, "the hub's start", "start the hub as that user instead", code="hub.still-root")


class RunDirectory:
    """The agent's run directory, held open from before the drop, so that its socket stays within reach after it."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(path, mode=0o711, exist_ok=True)  # noqa: PTH103 - the agent may not have started yet
        path_only: int = getattr(os, "O_PATH", 0)
        self._handle = os.open(path, path_only | os.O_DIRECTORY | os.O_CLOEXEC) if path_only else None

    def socket(self, name: str = "agent.sock") -> str:
        """The path to connect to: the plain one where it may be used (it survives a re-made directory), else by handle."""
        plain = f"{self.path}/{name}"
        if self._handle is None or (os.access(self.path, os.X_OK) and len(os.fsencode(plain)) <= LONGEST_SOCKET_PATH):
            return plain
        return f"/proc/self/fd/{self._handle}/{name}"
