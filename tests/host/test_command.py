from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from stead.host import LocalHost
from tests.host.processes import is_gone, until

HOST = LocalHost()


async def test_returns_what_a_command_said() -> None:
    done = await HOST.run(["sh", "-c", "echo out; echo err >&2; exit 3"], 20)
    assert (done.rc, done.out, done.err, done.truncated) == (3, "out\n", "err\n", False)


async def test_a_command_speaks_not_for_the_agent_to_its_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    said = (await HOST.run(["env"], 20)).out
    assert "PATH=" in said and "NOTIFY_SOCKET" not in said and "WATCHDOG" not in said


async def test_arguments_are_never_a_shell() -> None:
    done = await HOST.run(["echo", "$(id)", "; true", "*"], 20)
    assert done.out == "$(id) ; true *\n"


@pytest.mark.parametrize("argv", ["echo hi", [], ""])
async def test_a_string_is_no_argument_list(argv: list[str]) -> None:
    with pytest.raises(ValueError, match="list of strings"):
        await HOST.run(argv, 1)


async def test_a_missing_program_raises() -> None:
    with pytest.raises(FileNotFoundError):
        await HOST.run(["/nowhere/program"], 1)


async def test_input_reaches_the_command_and_may_be_ignored() -> None:
    data = b"x" * 300_000
    assert (await HOST.run(["wc", "-c"], 20, stdin=data)).out.strip() == "300000"
    assert (await HOST.run(["true"], 20, stdin=data)).rc == 0
    assert (await HOST.run(["cat"], 20)).out == ""


async def test_output_is_capped_and_the_command_still_ends() -> None:
    done = await HOST.run(["sh", "-c", "yes | head -c 3000000; echo e >&2; exit 7"], 60, limit=1000)
    assert (done.rc, len(done.out), done.err, done.truncated) == (7, 1000, "e\n", True)


async def test_output_of_exactly_the_limit_is_not_truncated() -> None:
    done = await HOST.run(["printf", "12345"], 20, limit=5)
    assert (done.out, done.truncated) == ("12345", False)


async def test_speaks_no_language_but_c() -> None:
    assert (await HOST.run(["sh", "-c", "echo $LC_ALL"], 20)).out == "C\n"


async def test_a_timeout_kills_the_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 100 & echo $! > {pids}.new; echo $$ >> {pids}.new; mv {pids}.new {pids}; wait"
    done = await HOST.run(["sh", "-c", script], 1.0)
    assert done.rc is None
    child, shell = (int(pid) for pid in pids.read_text().split())
    until(lambda: is_gone(child) and is_gone(shell))


async def test_what_was_said_before_the_timeout_is_kept() -> None:
    done = await HOST.run(["sh", "-c", "echo before; sleep 100"], 1.0)
    assert (done.rc, done.out) == (None, "before\n")


async def test_a_daemon_left_behind_does_not_hold_us_and_lives(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    done = await HOST.run(["sh", "-c", f"sleep 100 & echo $! > {pid_file}; echo done"], 60)
    pid = int(pid_file.read_text())
    try:
        assert (done.rc, done.out) == (0, "done\n")
        assert not is_gone(pid)
    finally:
        os.kill(pid, 9)


async def test_cancelling_kills_the_group(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; sleep 100"
    task = asyncio.ensure_future(HOST.run(["sh", "-c", script], 60))
    while not pid_file.exists():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    until(lambda: is_gone(int(pid_file.read_text())))
