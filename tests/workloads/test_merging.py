"""Workers whose memory may be merged, and what is said where this kernel can't."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from stead.host import memory_merge
from stead.host.memory_merge import lost_it
from stead.probes.workload import probe
from stead.testing import FakeClock, FakeHost
from stead.workloads import pool
from tests.workloads.conftest import pids, sleeper, until

STAT = Path("/proc/self/ksm_stat")
knows = pytest.mark.skipif(
    not STAT.exists() or "ksm_merge_any" not in STAT.read_text(), reason="this kernel does not tell who merges"
)


def merges(pid: int | str) -> bool:
    return "ksm_merge_any: yes" in Path(f"/proc/{pid}/ksm_stat").read_text()


@knows
async def test_each_worker_may_be_merged_and_the_agent_itself_may_not(supervise) -> None:
    driver = supervise(sleeper(merge_memory=True), sleeper("plain", workers=1))
    await until(lambda: len(pids(driver)) == 2 and len(pids(driver, "plain")) == 1, driver)
    assert all(merges(pid) for pid in pids(driver))
    assert not merges(pids(driver, "plain")[0]) and not merges("self")
    assert driver.status("web").unsupported == ""


async def test_a_kernel_that_can_not_is_said_and_the_worker_runs(supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(option: int, argument: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(memory_merge, "_prctl", refuse)
    driver = supervise(sleeper(workers=1, merge_memory=True))
    await until(lambda: len(pids(driver)) == 1, driver)
    why = driver.status("web").unsupported
    assert why == "merge_memory: this kernel can't merge the memory of whole processes (Invalid argument; Linux 6.4)"
    (fact,) = probe({"process": driver}).read(driver._host, FakeClock().now()).facts
    assert (fact.name, fact.subject, fact.value) == ("workload.unsupported", "workload:web", why)


async def test_a_kernel_that_forgets_it_is_said(supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def as_if(wanted: bool) -> Iterator[str]:
        yield ""

    monkeypatch.setattr(pool, "merging", as_if)
    driver = supervise(sleeper(workers=1, merge_memory=True))
    await until(lambda: len(pids(driver)) == 1, driver)
    assert "forgets at the start of a program" in driver.status("web").unsupported


def test_what_can_not_be_read_is_not_called_lost(tmp_path: Path) -> None:
    assert not lost_it(FakeHost(tmp_path), 4711)
    (tmp_path / "proc/4711").mkdir(parents=True)
    (tmp_path / "proc/4711/smaps").write_text("00400000-00401000 r--p 0 0:0 1 /bin/x\nSize: 4 kB\n")
    assert not lost_it(FakeHost(tmp_path), 4711), "torn before its flags"
