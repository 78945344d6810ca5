"""IO on a real cgroup v2 tree: what a cap does, one that is moved while it is held, and what weighs IO or is said not to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from stead.model import messages as m
from stead.model.change import Run
from tests.guest.bench import Bench, RefusedError
from tests.guest.machine import Machine
from tests.guest.stead import Stead, wait_until
from tests.guest.units import files_of, installed, left_behind, unit
from tests.style.repository import ROOT

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]
CRITICAL, HOG, DISK = "steadtest-critical", "steadtest-hog", "254:0"
CONFIG = {
    "protect": [f"service:{CRITICAL}"],
    "best_effort": [f"service:{HOG}"],
    "safety": {"mode": "act", "profile": "aggressive"},
}
LOW, HIGH = 1_000_000, 20_000_000


def writer(name: str, each: str = "256k") -> str:
    """A line of shell that writes past the cache for ever."""
    return f"while :; do dd if=/dev/zero of=/var/tmp/{name} bs={each} count=64 oflag=direct status=none; done"


def written(machine: Machine, path: str, seconds: int) -> float:
    """Bytes a second that a group writes to the disk."""
    field = f"grep -m1 '^{DISK}' /sys/fs/cgroup{path}/io.stat | tr ' ' '\\n' | sed -n 's/wbytes=//p'"
    return int(machine.out(f"a=$({field}); sleep {seconds}; b=$({field}); echo $((${{b:-0}} - ${{a:-0}}))")) / seconds


def capped(machine: Machine, path: str) -> dict[str, str]:
    """The keys of a group's io.max on the disk; none when it has no limit."""
    line = next((one for one in files_of(machine, path)["io.max"].split(";") if one.startswith(DISK)), "")
    return dict(part.split("=") for part in line.split()[1:])


def test_a_cap_is_what_a_writer_gets_and_comes_off(guest: Machine, bench: Bench) -> None:
    with unit(guest, "steadtest-writer", writer("capped"), "IOAccounting=yes") as path:
        free = written(guest, path, 5)
        assert free > 2 * LOW, "the disk is slower than the cap"
        told = bench.apply(path, io_max=[f"* rbps={LOW} wbps={LOW}"])
        assert capped(guest, path) == {"rbps": str(LOW), "wbps": str(LOW), "riops": "max", "wiops": "max"}
        guest.run("sleep 2")
        assert written(guest, path, 8) < 1.5 * LOW
        bench.undo(path, told)
        assert capped(guest, path) == {} and left_behind(guest, "steadtest-writer.service") == ""


def test_what_weighs_io_is_set_or_said_not_to_be_there(guest: Machine, bench: Bench) -> None:
    scheduler = "/sys/block/vda/queue/scheduler"
    guest.run(f"modprobe bfq; echo bfq > {scheduler}", check=False)
    weighs = "[bfq]" in guest.out(f"cat {scheduler}")
    with unit(guest, "steadtest-weighed", "sleep infinity", "IOAccounting=yes") as path:
        try:
            if not weighs:
                with pytest.raises(RefusedError, match="no disk here weighs IO"):
                    bench.apply(path, io_weight=1)
                return
            before = guest.out(f"cat /sys/fs/cgroup{path}/io.bfq.weight")
            told = bench.apply(path, io_weight=1)
            assert guest.out(f"cat /sys/fs/cgroup{path}/io.bfq.weight") == "default 1"
            bench.undo(path, told)
            assert guest.out(f"cat /sys/fs/cgroup{path}/io.bfq.weight") == before
        finally:
            guest.run(f"echo none > {scheduler}", check=False)


def test_a_target_of_latency_is_set_or_said_not_to_be_there(guest: Machine, bench: Bench) -> None:
    with unit(guest, "steadtest-latency", "sleep infinity", "IOAccounting=yes") as path:
        if guest.run(f"test -e /sys/fs/cgroup{path}/io.latency", check=False).rc:
            with pytest.raises(RefusedError, match=r"io\.latency"):
                bench.apply(path, io_latency=[f"{DISK} target=10000"])
            return
        told = bench.apply(path, io_latency=[f"{DISK} target=10000"])
        assert files_of(guest, path)["io.latency"] == f"{DISK} target=10000"
        bench.undo(path, told)
        assert files_of(guest, path)["io.latency"] == ""


def capping() -> dict[str, Any]:
    """The shipped cap of IO as the only remedy, judged after a long while: what is looked at is how it is moved."""
    document = yaml.safe_load((ROOT / "src/stead/catalog/contention.yaml").read_text())
    (found,) = (each for each in document["playbooks"] if each["playbook_id"] == "cap-io")
    (metric,) = (each for each in document["metrics"] if each["metric_id"] == "infra.io_contention")
    found["verify"]["window_s"] = found["predict"]["within_s"] = 600
    first = {"playbook_id": "slow-io", "title": "Not here", "unsupported": "a test of the cap alone"}
    return {"metrics": [{**metric, "playbooks": ["cap-io"]}], "playbooks": [first, found]}


@pytest.fixture
def held(agent: Stead) -> Iterator[tuple[Stead, str, Run]]:
    """stead, acting; the path of a writer under a cap that has been moved; and its run."""
    guest = agent.machine
    agent.configure(CONFIG, capping())
    agent.start()
    with installed(guest, CRITICAL, writer("critical", "16k"), "IOAccounting=yes"):
        wait_until(lambda: agent.ask(m.GetStatus()).ticks >= 6, "the agent knows how it was without a hog", 90)
        with installed(guest, HOG, writer("hog"), "IOAccounting=yes") as path:
            agent.run_in("cap-io", "verifying", "held", timeout_s=150)
            wait_until(lambda: moves(agent) >= 2, "the cap is moved", 120, lambda: str(agent.runs("cap-io")[0].governed))
            yield agent, path, agent.runs("cap-io")[0]
            agent.stop()
            assert capped(guest, path) == {} and left_behind(guest, f"{HOG}.service") == ""


def moves(agent: Stead) -> int:
    return sum(one.moves for one in agent.runs("cap-io")[0].governed)


def test_a_cap_of_io_is_moved_both_ways_alike_within_its_range(held: tuple[Stead, str, Run]) -> None:
    agent, path, run = held
    (step,), (stands,) = run.proposal.steps, run.governed
    rule = step.govern
    assert rule is not None and rule.keys == ("rbps", "wbps") and rule.low == LOW and rule.high >= HIGH
    assert rule.low <= stands.least < stands.most <= rule.high and rule.metric in stands.reason
    now = capped(agent.machine, path)
    assert now["rbps"] == now["wbps"] and LOW <= int(now["rbps"]) <= rule.high and now["riops"] == now["wiops"] == "max"
    assert len([entry for entry in agent.entries("attempt.made") if entry.subject == run.id]) == 1, "a move is no attempt"
    agent.stop()
    assert capped(agent.machine, path) == {}
