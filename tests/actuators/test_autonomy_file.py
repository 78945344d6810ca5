from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from stead.actuators.autonomy_file import AutonomyFile
from stead.model.errors import SteadError
from stead.model.policy import Autonomy

FIRST = Autonomy("advise", {"host": 1})


def file(tmp_path: Path) -> AutonomyFile:
    return AutonomyFile(tmp_path, tmp_path / "pause", FIRST)


def test_a_new_state_begins_as_configured_and_keeps_what_is_written(tmp_path: Path) -> None:
    kept = file(tmp_path)
    assert kept.read() == FIRST and not kept.path.exists()
    wanted = Autonomy("act", {"host": 2, "wéb": 0}, locked=True, paused=True)
    kept.write(wanted)
    assert kept.read() == wanted == file(tmp_path).read()
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["autonomy.json", "pause"]


def test_what_is_done_to_its_files_is_told(tmp_path: Path) -> None:
    kept, told = file(tmp_path), list[str]()
    kept.write(Autonomy("act", {"host": 2}, paused=True), told.append)
    kept.write(Autonomy("act", {"host": 2}), told.append)
    replaced = 'replace autonomy.json: {"mode":"act","ceilings":{"host":2},"locked":false}'
    assert told == ["make the pause file", replaced, replaced, "remove the pause file"]


def test_anyone_pauses_with_touch_and_the_first_reason_stays(tmp_path: Path) -> None:
    kept = file(tmp_path)
    kept.pause("the database is being moved")
    kept.write(Autonomy("act", paused=True))
    assert kept.paused() and kept.pause_reason() == "the database is being moved"
    kept.write(Autonomy("act"))
    assert not kept.paused() and kept.pause_reason() == ""
    (tmp_path / "pause").touch()
    assert kept.read().paused
    kept.resume()
    kept.resume()
    assert not kept.read().paused


def test_lowering_the_mode_stops_as_pause_does(tmp_path: Path) -> None:
    kept = file(tmp_path)
    assert kept.stopped(), "advise"
    kept.write(Autonomy("act"))
    assert not kept.stopped()
    kept.pause()
    assert kept.stopped()


def test_a_dangling_link_is_a_pause_too(tmp_path: Path) -> None:
    (tmp_path / "pause").symlink_to(tmp_path / "nowhere")
    assert file(tmp_path).paused() and file(tmp_path).pause_reason() == ""


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"mode": "full"}', b'{"mode": "act", "more": 1}', b"\xff\xfe"])
def test_a_broken_file_fails_safe_until_a_person_sets_the_mode(tmp_path: Path, content: bytes) -> None:
    kept = file(tmp_path)
    kept.path.write_bytes(content)
    assert kept.read() == Autonomy("observe", {"host": 0}, locked=True)
    assert str(kept.path) in kept.problem and "stead mode" in kept.problem
    kept.write(Autonomy("advise", {"host": 1}))
    assert kept.read() == FIRST and kept.problem == ""


def test_a_change_by_hand_is_seen(tmp_path: Path) -> None:
    kept = file(tmp_path)
    kept.write(Autonomy("act"))
    kept.read()
    kept.path.write_text('{"mode": "observe"}')
    assert kept.read().mode == "observe"


@pytest.mark.skipif(os.geteuid() != 0, reason="a read-only mount needs root")
def test_a_disk_that_can_not_be_written(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], check=True)
    try:
        kept = file(place)
        kept.write(Autonomy("act"))
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        with pytest.raises(SteadError, match="can't be written"):
            kept.write(Autonomy("observe"))
        assert kept.read().mode == "act"
    finally:
        subprocess.run(["umount", place], check=True)
