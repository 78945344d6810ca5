"""A scope of systemd for each worker, where the agent itself is a service of systemd.

In the agent's own group workers would be counted as the agent, share its MemoryHigh=, and could not be limited without limiting
stead. `systemd-run --scope` asks systemd for a transient unit and becomes the program in it: pid, session, environment and
descriptors stay what they are (systemd-run(1)). Elsewhere (no systemd, a terminal, another user) workers start as they are.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

from stead.protocols import Host

PROGRAMS: Final = ("/usr/bin/systemd-run", "/bin/systemd-run")
_TRIAL_S: Final = 10.0
_tried: WeakKeyDictionary[Any, tuple[str, str]] = WeakKeyDictionary()
_SERVICE: Final = re.compile(r"^(?:0:|\d+:name=systemd):(/system\.slice/(?:[^/]+/)*[^/]+\.service)(?:/.*)?$", re.MULTILINE)


def scoped(host: Host, argv: Sequence[str], workload: str, spawn: str) -> tuple[list[str], str]:
    """The command that starts a worker, in a scope of its own where that can be; and why it can't be where it should."""
    program, why = wrapper(host)
    if not program:
        return list(argv), why
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", f"{workload}-{spawn[-12:]}")
    told = (f"--unit=stead-worker-{name}", f"--description=stead: a worker of {workload}")
    return [program, "--scope", "--quiet", "--collect", *told, "--", *argv], ""


def wrapper(host: Host) -> tuple[str, str]:
    """The program that makes scopes, tried once; empty where none are made, with the reason if there should be some."""
    if host not in _tried:
        _tried[host] = _try(host)
    return _tried[host]


def _try(host: Host) -> tuple[str, str]:
    if host.system != "linux" or os.geteuid() != 0 or host.inode("/run/systemd/system") is None:
        return "", ""
    try:
        service = _SERVICE.search(host.read("/proc/self/cgroup", 1 << 16).decode("utf-8", "replace"))
    except OSError:
        service = None
    program = next((path for path in PROGRAMS if host.inode(path) is not None), "")
    if service is None or not program:
        return "", ""
    try:
        trial = [program, "--scope", "--quiet", "--collect", "--", "true"]
        done = subprocess.run(trial, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRIAL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", f"no scopes of their own: {error}"
    if done.returncode == 0:
        return program, ""
    words = done.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
    return "", f"no scopes of their own: {words or f'systemd-run ended with {done.returncode}'}"
