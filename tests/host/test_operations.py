"""The door of one write: everything that changes something is noted as it was made, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from stead.host.operations import OPERATIONS_MAX, TEXT_MAX, NotedHost
from stead.protocols import Completed, Host
from stead.testing import FakeHost

ARGV = ("vault", "--password=SECRET", "seal")


def door(tmp_path: Path, **answers: Completed) -> tuple[NotedHost, FakeHost]:
    host = FakeHost(tmp_path, {ARGV: answers.get("answer", Completed(0, "", ""))})
    host.scheduler.add(7)
    return NotedHost(host), host


def test_it_is_a_host(tmp_path: Path) -> None:
    noted, host = door(tmp_path)
    as_host: Host = noted
    assert (as_host.name, as_host.boot_id, as_host.root, as_host.system) == (host.name, host.boot_id, host.root, host.system)


def test_every_lever_is_set_and_told(tmp_path: Path) -> None:
    noted, host = door(tmp_path)
    levers = noted.scheduler
    levers.set_affinity(7, [0])
    levers.set_policy(7, "batch", 0)
    levers.set_nice(7, 10)
    levers.set_ionice(7, "idle", 0)
    levers.set_autogroup(7, 10)
    levers.set_uclamp(7, None, 300)
    assert noted.operations == (
        "sched_setaffinity(process 7, 0)",
        "sched_setscheduler(process 7, batch, 0)",
        "setpriority(process 7, 10)",
        "ioprio_set(process 7, idle, 0)",
        'write /proc/7/autogroup "10"',
        "sched_setattr(process 7, util_min None, util_max 300)",
    )
    assert (host.scheduler.nice(7), host.scheduler.policy(7), host.scheduler.affinity(7)) == (10, ("batch", 0), (0,))
    assert (host.scheduler.ionice(7), host.scheduler.autogroup(7)) == (("idle", 0), 10)
    assert host.scheduler.uclamp(7) == (0, 300)


def test_reading_is_no_operation(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    noted, _ = door(tmp_path)
    levers = noted.scheduler
    seen = (levers.nice(7), levers.policy(7), levers.affinity(7), levers.ionice(7), levers.autogroup(7), levers.can_raise())
    assert seen == (0, ("other", 0), (0, 1), ("none", 0), 0, True)
    assert (levers.uclamp(7), levers.lacks("uclamp"), levers.rounded_nice(99)) == ((0, 1024), "", 19)
    assert levers.rounded_ionice("idle", 7) == ("idle", 0)
    kept = noted.keep("/file")
    assert noted.read("/file") == kept.read() == b"x"
    assert "file" in noted.list("/") and noted.statvfs("/") and noted.start_ticks(1) is None
    kept.close()
    assert noted.operations == ()


def test_what_was_refused_is_told_with_the_systems_own_name(tmp_path: Path) -> None:
    noted, host = door(tmp_path)
    host.scheduler.raises = False
    with pytest.raises(PermissionError):
        noted.scheduler.set_nice(7, -5)
    with pytest.raises(ProcessLookupError):
        noted.scheduler.set_nice(8, 1)
    with pytest.raises(FileNotFoundError):
        noted.write("/none", b"1")
    assert [one.rpartition(": ")[2] for one in noted.operations] == ["EPERM", "ESRCH", "ENOENT"]


def test_a_files_content_is_never_told_but_a_knobs_value_is(tmp_path: Path) -> None:
    noted, _ = door(tmp_path)
    for name in ("proc/sys/vm/swappiness", "etc/secret"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("60")
    noted.write("/proc/sys/vm/swappiness", b"10\n")
    noted.write("/etc/secret", b"hunter2")
    noted.write("/proc/sys/vm/swappiness", b"\xff\x00")
    hashed = [hashlib.sha256(data).hexdigest() for data in (b"hunter2", b"\xff\x00")]
    assert noted.operations == (
        'write /proc/sys/vm/swappiness "10"',
        f"write /etc/secret 7 bytes sha256:{hashed[0]}",
        f"write /proc/sys/vm/swappiness 2 bytes sha256:{hashed[1]}",
    )
    assert (tmp_path / "etc/secret").read_bytes() == b"hunter2"


@pytest.mark.parametrize(
    ("answer", "told"),
    [(Completed(0, "", ""), "exit 0"), (Completed(3, "", ""), "exit 3"), (Completed(None, "", ""), "killed after 2 s")],
)
async def test_a_command_is_told_without_its_secrets_and_with_its_end(tmp_path: Path, answer: Completed, told: str) -> None:
    noted, host = door(tmp_path, answer=answer)
    assert await noted.run(ARGV, 2.0) == answer and host.commands == [ARGV]
    assert noted.operations == (f"run vault --password=[redacted] seal: {told}",)


async def test_a_command_that_never_ran_or_was_cancelled_is_told(tmp_path: Path) -> None:
    noted, host = door(tmp_path)
    with pytest.raises(FileNotFoundError):
        await noted.run(["nothing"], 1.0)

    async def hang(*_: object, **__: object) -> Completed:
        await asyncio.sleep(60)
        raise AssertionError

    host.run = hang  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await noted.run(["long"], 99.0, b"in")
    assert noted.operations[0] == "run nothing: ENOENT"
    assert noted.operations[1].startswith("run long with 2 bytes sha256:") and noted.operations[1].endswith("CancelledError")


def test_others_tell_theirs_and_psutil_is_confessed(tmp_path: Path) -> None:
    noted, host = door(tmp_path)
    noted.note("restart web")
    assert noted.psutil is host.psutil and noted.psutil is host.psutil
    assert noted.operations == ("restart web", "used psutil, whose calls are not noted one by one")
    host.note("nobody keeps this")


def test_it_is_bounded_and_ends_with_its_write(tmp_path: Path) -> None:
    noted, _ = door(tmp_path)
    for number in range(OPERATIONS_MAX + 5):
        noted.note(f"{number} " + "x" * 500)
    noted.close()
    noted.note("too late")
    assert len(noted.operations) == OPERATIONS_MAX + 1 and noted.operations[-1] == "and 5 more"
    assert max(map(len, noted.operations)) == TEXT_MAX
