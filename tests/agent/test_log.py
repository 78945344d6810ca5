"""The log: JSON lines with levels, rotated, 0640, and never in the way."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from stead.agent.log import open_log
from stead.model.config import LogConfig


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_json_with_level_and_time_and_the_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "log" / "stead.log"
    log = open_log(path, LogConfig(level="info"))
    log.debug("not shown")
    log.warning("disk", used_percent=91.5, path=Path("/var"))
    (line,) = lines(path)
    assert line["event"] == "disk" and line["level"] == "warning" and line["used_percent"] == 91.5 and line["path"] == "/var"
    assert str(line["timestamp"]).endswith("Z")
    assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0


def test_it_rotates_by_size_and_keeps_only_so_many(tmp_path: Path) -> None:
    path = tmp_path / "stead.log"
    log = open_log(path, LogConfig(max_bytes=400, keep=2))
    for number in range(50):
        log.info("line", number=number)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["stead.log", "stead.log.1", "stead.log.2"]
    assert all(p.stat().st_size <= 400 for p in tmp_path.iterdir())
    assert lines(path)[-1]["number"] == 49


def test_a_place_that_can_not_be_written_loses_the_line_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = open_log(tmp_path / "file" / "stead.log", LogConfig())
    log.info("lost")
