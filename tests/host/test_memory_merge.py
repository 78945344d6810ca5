from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stead.host import memory_merge
from stead.host.memory_merge import merging

STAT = Path("/proc/self/ksm_stat")


def merges(pid: int | str = "self") -> bool:
    return "ksm_merge_any: yes" in Path(f"/proc/{pid}/ksm_stat").read_text()


@pytest.mark.skipif(not STAT.exists() or "ksm_merge_any" not in STAT.read_text(), reason="this kernel does not tell who merges")
def test_what_is_started_inherits_it_and_the_starter_loses_it_again() -> None:
    with merging() as why:
        assert why == "" and merges()
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    try:
        assert merges(child.pid) and not merges()
    finally:
        child.kill()
        child.wait()
    with merging(False) as why:
        assert why == "" and not merges()


def test_a_kernel_without_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(option: int, argument: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(memory_merge, "_prctl", refuse)
    with merging() as why:
        assert why == "this kernel can't merge the memory of whole processes (Invalid argument; Linux 6.4)"
