"""The actuator `files`: plans, refusals by name, and what an interrupted or a stopped write leaves."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from stead.actuators.files import Files, FilesActuator, actuator
from stead.files import packing, quarantine
from stead.flow.write import between, to_record
from stead.model.change import ABSENT, Absent, Target
from stead.model.errors import SteadError
from tests.files.kit import DAY_S, LOGS, PACK, TEMP, Place


class Killed(BaseException):
    """As if the process had ended here."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, msgspec.structs.replace(LOGS, names=("*.log.[0-9]",)), PACK, TEMP)


@pytest.fixture
def files(place: Place) -> FilesActuator:
    made = actuator(place.cleaner)
    assert isinstance(made, FilesActuator)
    return made


async def read(files: FilesActuator, place: Place, target: Target) -> Files:
    seen = await files.read(place.host, target)
    assert isinstance(seen, Files)
    return seen


async def go(files: FilesActuator, place: Place, target: Target, want: Files | Absent) -> None:
    step = files.plan(target, await files.read(place.host, target), want)
    await files.write(place.host, target, ABSENT if step.want is None else msgspec.convert(step.want, Files))


async def test_the_whole_life_of_a_file(files: FilesActuator, place: Place) -> None:
    target = place.target(place.file("/var/log/a.log.1"))
    step = files.plan(target, await read(files, place, target), Files("quarantine"))
    assert step.diff == {"place": ("here", "quarantine")} and step.undo == "exact"
    await go(files, place, target, Files("quarantine"))
    end = files.plan(target, await read(files, place, target), ABSENT)
    assert end.want is None and end.undo == "none" and "can't be brought back" in end.undo_reason
    await go(files, place, target, ABSENT)
    assert await files.read(place.host, target) == ABSENT


async def test_a_compression_says_both_of_what_it_changes(files: FilesActuator, place: Place) -> None:
    target = place.target(place.file("/var/log/a.log.1"), inode=False)
    step = files.plan(target, await read(files, place, target), Files("compressed"))
    assert step.diff == {"place": ("here", "compressed"), "compressed_copy": (False, True)}
    assert step.undo == "exact" and "inode" in step.note and step.duration_s > 30


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"min_age_s": 3600.0}, "it was changed 0.0 h ago"),
        ({"min_bytes": 1 << 30}, "the rule logs is for"),
        ({"enabled": False}, "no rule of the allow-list names it"),
        ({"never": ("*/a.log.1",)}, "no rule of the allow-list names it"),
        ({"depth": 1, "folders": ("/var",)}, "no rule of the allow-list names it"),
    ],
)
async def test_a_plan_refuses_by_name(place: Place, files: FilesActuator, rule: dict[str, object], why: str) -> None:
    target = place.target(place.file("/var/log/a.log.1"))
    place.cleaner.rule_by([msgspec.structs.replace(LOGS, **rule)])
    with pytest.raises(SteadError, match=why):
        files.plan(target, await read(files, place, target), Files("quarantine"))


async def test_what_is_unread_counts_where_the_rule_says_so(place: Place, files: FilesActuator) -> None:
    target = place.target(place.file("/tmp/a", age_s=9 * DAY_S))
    os.utime(
        place.real("/tmp/a"), ns=(os.stat(place.real("/tmp/a")).st_mtime_ns + DAY_S * 10**9, int(target.identity["mtime_ns"]))
    )
    rule = msgspec.structs.replace(TEMP, unread=True, min_age_s=2.0)
    place.cleaner.rule_by([rule])
    with pytest.raises(SteadError, match="it may have been read or changed"):
        files.plan(target, await read(files, place, target), Files("quarantine"))


async def test_one_whose_time_is_not_over_is_not_purged(place: Place, files: FilesActuator) -> None:
    target = place.target(place.file("/tmp/a"))
    await go(files, place, target, Files("quarantine"))
    with pytest.raises(SteadError, match=r"another 2[34]\.\d h"):
        files.plan(target, await read(files, place, target), ABSENT)


async def test_one_without_an_inode_is_compressed_and_no_more(place: Place, files: FilesActuator) -> None:
    target = place.target(place.file("/var/log/a.log.1"), inode=False)
    with pytest.raises(SteadError, match="could be another file"):
        await files.write(place.host, target, Files("quarantine"))


async def test_on_another_system_nothing_is_there(place: Place, files: FilesActuator) -> None:
    target = place.target(place.file("/var/log/a.log.1"))
    place.host.system = "darwin"
    assert await files.read(place.host, target) == ABSENT
    with pytest.raises(SteadError, match="Linux only"):
        await files.write(place.host, target, Files("quarantine"))


POINTS = [
    *(("quarantine", quarantine, name) for name in ("rename", "settle")),
    *(("compressed", packing, name) for name in ("_name", "grab", "opener", "unlink_counted", "settle")),
    *(("compressed", packing.gz, name) for name in ("dress", "expand")),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("want", "module", "name"), POINTS, ids=[f"{want}-{name}" for want, _, name in POINTS])
async def test_a_kill_anywhere_leaves_what_can_be_told_and_put_back(
    place: Place, files: FilesActuator, monkeypatch: pytest.MonkeyPatch, want: str, module: object, name: str, when: str
) -> None:
    path = place.file("/var/log/a.log.1")
    target = place.target(path, inode=want == "quarantine")
    seen = await read(files, place, target)
    step = files.plan(target, seen, Files(want))  # type: ignore[arg-type]
    data = (place.root / "var/log/a.log.1").read_bytes()
    real = getattr(module, name)
    dead = False

    def dies(*args: object, **more: object) -> object:
        nonlocal dead
        if dead or when == "before":
            dead = True
            raise Killed
        real(*args, **more)
        dead = True
        raise Killed

    def never(*args: object, **more: object) -> object:
        if dead:
            raise Killed
        return removed(*args, **more)

    removed = packing._remove_packed
    with monkeypatch.context() as patch:
        patch.setattr(module, name, dies)
        patch.setattr(packing, "_remove_packed", never)  # what a process that is gone does not do any more
        with pytest.raises(Killed):
            place.cleaner.move(target, want, place.notes.append, lambda: False)  # type: ignore[arg-type]
    now = await files.read(place.host, target)
    assert between(to_record(now), step.before, step.want) or files.met(now, Files(want)), now  # type: ignore[arg-type]
    assert step.before is not None
    await files.write(place.host, target, msgspec.convert({"compressed_copy": False, **step.before}, Files))
    assert files.met(await files.read(place.host, target), seen)
    assert (place.root / "var/log/a.log.1").read_bytes() == data
    assert os.listdir(place.root / "var/log") == ["a.log.1"]
    assert {one for one in place.names() if not one.endswith(".json")} == set()


async def test_whoever_stops_waiting_stops_the_work(place: Place, files: FilesActuator) -> None:
    target = place.target(place.file("/var/log/a.log.1", os.urandom(1 << 16) * 800), inode=False)
    writing = asyncio.ensure_future(files.write(place.host, target, Files("compressed", True)))
    await asyncio.sleep(0.05)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert place.place(target) == "here" and os.listdir(place.root / "var/log") == ["a.log.1"]


async def test_a_full_disk_is_refused_before_it_is_written(
    place: Place, files: FilesActuator, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = place.target(place.file("/var/log/a.log.1"), inode=False)
    real = os.fstatvfs
    monkeypatch.setattr(packing.os, "fstatvfs", lambda fd: os.statvfs_result((*real(fd)[:3], 0, 0, *real(fd)[5:])))
    with pytest.raises(OSError, match="only 0 are free"):
        await files.write(place.host, target, Files("compressed", True))
    assert os.listdir(place.root / "var/log") == ["a.log.1"]
