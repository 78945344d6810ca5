"""A real process is killed while it moves a real group's cap: what is there is its own, it goes on, and it can be put back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cgroups.groups import group, put, real_groups, sleeper
from tests.crash.governed import MOVES, START

PROGRAM = str(Path(__file__).with_name("governed.py"))
POINTS = ("before_write", "after_write", "after_read")


class Group:
    """A real group with a process in it, and what its cap is."""

    def __init__(self, path: str, folder: str) -> None:
        self.path, self._folder = path, Path(folder)

    @property
    def files(self) -> tuple[str, str]:
        """The kernel's own numbers."""
        quota, period = (self._folder / name for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
        return quota.read_text(), period.read_text()

    @property
    def cap(self) -> float | None:
        """In percent of one core; None: it has none."""
        quota, period = (int(text) for text in self.files)
        return None if quota < 0 else round(100 * quota / period, 1)

    def cap_by_hand(self, percent: int) -> None:
        """As another would set it."""
        (self._folder / "cpu.cfs_quota_us").write_text(str(int(self.files[1]) * percent // 100))


@pytest.fixture
def capped() -> Iterator[Group]:
    _, groups = real_groups()
    with sleeper() as pid, group(groups, ("cpu",)) as path:
        put(groups, path, pid, ("cpu",))
        folder = groups.folder(path, "cpu")
        assert folder is not None
        yield Group(path, folder)


def start(state: Path, path: str, verb: str, crash_at: str = "") -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "STEAD_CRASH_AT": crash_at}
    command = [sys.executable, PROGRAM, str(state), path, verb]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def said(state: Path, path: str, verb: str) -> dict[str, Any]:
    done = start(state, path, verb)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("point", POINTS)
def test_killed_in_a_move_it_goes_on_and_can_be_put_back(point: str, nth: int, tmp_path: Path, capped: Group) -> None:
    before, values = capped.files, (START, *MOVES)
    killed = start(tmp_path, capped.path, "act", f"act.limit.adjust.{point}:{nth}")
    assert killed.returncode == -signal.SIGKILL, f"the point was never passed: {killed.stderr}"
    assert capped.cap == values[nth - 1 if point == "before_write" else nth]
    assert said(tmp_path, capped.path, "recover") == {"state": "verifying", "value": MOVES[-1]}
    assert capped.cap == MOVES[-1]
    assert said(tmp_path, capped.path, "undo")["state"] == "undone"
    assert capped.files == before


def test_killed_in_a_move_it_is_put_back_at_once_where_that_is_wanted(tmp_path: Path, capped: Group) -> None:
    before = capped.files
    assert start(tmp_path, capped.path, "act", "act.limit.adjust.after_write:2").returncode == -signal.SIGKILL
    for point in ("before_write", "after_write"):
        assert start(tmp_path, capped.path, "undo", f"act.limit.undo.{point}").returncode == -signal.SIGKILL
    assert said(tmp_path, capped.path, "undo")["state"] == "undone"
    assert capped.files == before


@pytest.mark.parametrize("percent", [5, 180])
def test_what_another_hand_set_meanwhile_outside_the_range_is_left_to_it(percent: int, tmp_path: Path, capped: Group) -> None:
    assert start(tmp_path, capped.path, "act", "act.limit.adjust.after_write").returncode == -signal.SIGKILL
    capped.cap_by_hand(percent)
    assert said(tmp_path, capped.path, "recover")["state"] == "conflict"
    assert capped.cap == percent
