"""Real groups of this machine for a test, under a name of their own, gone afterwards; and processes to put into them."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stead.cgroups.tree import Groups
from stead.host import LocalHost

TREES = ("cpu", "memory", "pids", "io", "freezer")
_counted = itertools.count()


def real_groups() -> tuple[LocalHost, Groups]:
    """This machine's groups. Skips where none may be made."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("making control groups needs root")
    host = LocalHost()
    groups = Groups.of(host)
    if groups.version not in ("v1", "hybrid"):
        pytest.skip(f"control groups are {groups.version} here: version 1 can't be tried")
    return host, groups


@contextlib.contextmanager
def group(groups: Groups, trees: tuple[str, ...] = TREES, below: str = "") -> Iterator[str]:
    """A new group in these trees; its path. Make its processes before it: what still runs in it at the end is ended."""
    path = f"{below}/steadtest-{os.getpid()}-{next(_counted)}"
    places = [Path(place) for tree in trees if (place := groups.folder(path, tree))]
    try:
        for place in places:
            place.mkdir(exist_ok=True)
        yield path
    finally:
        emptied(places)
        for place in places:
            removed(place)


def emptied(places: list[Path]) -> None:
    """End what runs in a group; a frozen process could not even be killed."""
    for place in places:
        with contextlib.suppress(OSError):
            (place / "freezer.state").write_text("THAWED")
    for place in places:
        with contextlib.suppress(OSError):
            for pid in (place / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)


def removed(place: Path, patience_s: float = 5.0) -> None:
    """Remove a group, once its processes have gone."""
    until = time.monotonic() + patience_s
    while place.exists():
        try:
            place.rmdir()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def put(groups: Groups, path: str, pid: int, trees: tuple[str, ...] = TREES) -> None:
    """Move a process into a group."""
    for tree in trees:
        place = groups.folder(path, tree)
        if place and Path(place).exists():
            Path(place, "cgroup.procs").write_text(str(pid))


@contextlib.contextmanager
def sleeper(code: str = "import time; time.sleep(600)") -> Iterator[int]:
    """A process that waits, or runs this code; its pid. It has said that it is up."""
    child = subprocess.Popen([sys.executable, "-S", "-c", f"print(1, flush=True); {code}"], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline()
        yield child.pid
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


@contextlib.contextmanager
def placed(groups: Groups, code: str = "import time; time.sleep(600)") -> Iterator[int]:
    """A process at the root of each tree, for stead to place; afterwards its own group is gone, whatever the test did."""
    with sleeper(code) as pid:
        put(groups, "/", pid)
        own = [place for tree in TREES for path in groups.children("/stead") if (place := groups.folder(path, tree))]
        before = set(own)
        try:
            yield pid
        finally:
            found = {place for tree in TREES for path in groups.children("/stead") if (place := groups.folder(path, tree))}
            mine = [Path(place) for place in found - before if Path(place).exists() and Path(place).name.startswith(f"{pid}-")]
            emptied(mine)
            for place in mine:
                removed(place)
            for tree in TREES:
                with contextlib.suppress(OSError, TypeError):
                    Path(str(groups.folder("/stead", tree))).rmdir()
