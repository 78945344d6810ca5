"""Memory in a guest, with all of cgroup v2: a leaking service is held by memory.high, and gives back what it can read again."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from stead.model import messages as m
from stead.model.change import Run
from tests.e2e.relief import relief_ms
from tests.e2e.relief import told as relief_told
from tests.guest.bench import Bench, RefusedError
from tests.guest.machine import Machine
from tests.guest.stead import Stead, wait_until
from tests.guest.units import DELEGATED, left_behind, unit

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]

MB = 1 << 20
SLICE_MB = 320
SLICE = f"[Slice]\nMemoryAccounting=yes\nMemoryMax={SLICE_MB}M\n"
SHOP = "exec python3 -S -c 'h = bytearray(40 << 20); h[::4096] = bytes([1]) * len(h[::4096]); import time; time.sleep(9e9)'"
LEAK = """
until test -e /run/steadtest/go; do sleep 0.1; done
exec python3 -S -c '
import time
held = []
while True:
    held.append(bytearray(4 << 20)); held[-1][::4096] = bytes([1]) * len(held[-1][::4096])
    time.sleep(0.25)
'
"""
FARM = """
import json, mmap, os, random, signal, sys, time

base, rounds, each = "/sys/fs/cgroup" + sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
SLICE = "/sys/fs/cgroup/store.slice/"
paces, POPULATE = random.Random(5), 0x8000

def text(path):
    with open(path) as file:
        return file.read()

def field(path, name):
    return next(int(line.split()[1]) for line in text(path).splitlines() if line.split()[0] == name)

def leak(group, start, pace_mb):
    pid = os.fork()
    if pid:
        return pid
    with open(group + "/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    held, due = [], start
    while True:
        time.sleep(max(0, due - time.monotonic()))
        held.append(mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | POPULATE))
        due = max(due + 1 / pace_mb, time.monotonic() - 1)

def how(group):
    if text(group + "/cgroup.freeze").strip() == "1":
        return "frozen"
    return "held" if text(group + "/memory.high").strip() != "max" else ""

took, ways, most = [], [], 0
for number in range(rounds):
    groups = [f"{base}/leak-{number}-{one}" for one in range(each)]
    start, pids = time.monotonic() + 2.5, {}
    for group in groups:
        os.mkdir(group)
        pids[group] = leak(group, start, paces.uniform(20, 60) / each)
    waiting, until = list(groups), start + 40
    while waiting and time.monotonic() < until:
        time.sleep(0.1)
        most = max(most, int(text(SLICE + "memory.current")))
        for group in [one for one in waiting if how(one)]:
            took.append(time.monotonic() - start)
            ways.append(how(group))
            waiting.remove(group)
    over = time.monotonic() + 3
    while time.monotonic() < over:
        time.sleep(0.1)
        most = max(most, int(text(SLICE + "memory.current")))
    alive = all(os.waitpid(pid, os.WNOHANG) == (0, 0) for pid in pids.values())
    killed = field(SLICE + "memory.events", "oom_kill")
    shop = text(SLICE + "shop.service/cgroup.procs").split()
    for group, pid in pids.items():
        os.kill(pid, signal.SIGKILL)
    for group, pid in pids.items():
        with open(group + "/cgroup.freeze", "w") as file:
            file.write("0")
        os.waitpid(pid, 0)
        while field(group + "/cgroup.events", "populated"):
            time.sleep(0.05)
        os.rmdir(group)
    if waiting or not alive or killed or len(shop) != 1:
        sys.exit(f"round {number}: {len(waiting)} not held, alive {alive}, kills {killed}, the shop {shop}")
took.sort()
print(json.dumps({"leaks": len(took), "median_s": took[len(took) // 2], "last_s": took[-1], "most": most,
                  "held": ways.count("held"), "frozen": ways.count("frozen")}))
"""
READER = "dd if=/dev/zero of=/var/tmp/cache bs=1M count=96 status=none; sync; cat /var/tmp/cache >/dev/null; sleep infinity"


def config(**more: Any) -> dict[str, Any]:
    return {
        "safety": {"mode": "act"},
        "protect": [{"name": "shop", "match": ["service:shop"]}],
        "best_effort": ["service:leak"],
        **more,
    }


@contextlib.contextmanager
def store(guest: Machine) -> Iterator[str]:
    """A slice with a limit, a protected service and one that will leak in it; the path of the latter."""
    guest.put("/run/systemd/system/store.slice", SLICE)
    guest.run("systemctl daemon-reload; rm -f /run/steadtest/go")
    with unit(guest, "shop", SHOP, "Slice=store.slice") as shop, unit(guest, "leak", LEAK, "Slice=store.slice") as leak:
        wait_until(lambda: number(guest, f"{shop}/memory.current") > 40 * MB, "the shop holds what it needs")
        yield leak
    guest.run("systemctl stop store.slice; rm /run/systemd/system/store.slice; systemctl daemon-reload")


def number(guest: Machine, path: str) -> int:
    text = guest.get(f"/sys/fs/cgroup{path}").strip()
    return 1 << 62 if text == "max" else int(text)


def kills(guest: Machine) -> int:
    events = dict(line.split() for line in guest.get("/sys/fs/cgroup/store.slice/memory.events").splitlines())
    return int(events["oom_kill"])


def held(agent: Stead, playbook: str) -> Run:
    """The run of a rung once its verdict is in."""
    run = agent.run_in(playbook, "held", "failed", "undone", timeout_s=90)
    assert run.state == "held" and run.verdict is not None, (run.state, run.reason, run.verdict)
    return run


def test_a_leak_is_held_before_the_slice_is_full_and_given_free_again(guest: Machine, agent: Stead) -> None:
    with store(guest) as leak:
        agent.configure(config())
        agent.start()
        wait_until(lambda: agent.ask(m.GetStatus()).ticks >= 5, "it has seen how things were", 60)
        guest.run("touch /run/steadtest/go")
        began = time.monotonic()
        wait_until(lambda: number(guest, f"{leak}/memory.high") < 1 << 60, "it is held", 60, guest_says(guest, agent))
        print(f"held {time.monotonic() - began:.1f} s after it began, at {number(guest, f'{leak}/memory.current') / MB:.0f} MiB")
        run = held(agent, "hold-memory")
        assert run.proposal.steps[0].govern is not None and kills(guest) == 0
        print(run.verdict)
        time.sleep(10)
        assert number(guest, "/store.slice/memory.current") < SLICE_MB * MB * 0.95, "it does not fill what both live in"
        assert kills(guest) == 0 and guest.out("systemctl is-active shop leak").split() == ["active", "active"]
        agent.ask(m.Undo(run.id))
        agent.run_in("hold-memory", "undone")
        assert number(guest, f"{leak}/memory.high") > 1 << 60
        assert left_behind(guest, "leak.service") == ""
        agent.stop()


LEAKS = int(os.environ.get("STEAD_LEAKS", "100"))
TOGETHER = 5
HOLDS_S = 30.0  # of memory left


def test_the_protected_outlives_a_hundred_leaks_in_groups_of_five_and_nothing_is_killed(guest: Machine, agent: Stead) -> None:
    with store(guest), unit(guest, "farm", DELEGATED, "Delegate=yes", "Slice=store.slice") as farm:
        agent.configure(config(best_effort=[f"cgroup:{farm}/leak-*"]))
        agent.start()
        wait_until(lambda: agent.ask(m.GetStatus()).ticks >= 5, "it has seen how things were", 60)
        guest.put("/run/steadtest/farm.py", FARM)
        began = time.monotonic()
        command = f"python3 -S /run/steadtest/farm.py {farm} {LEAKS // TOGETHER} {TOGETHER}"
        done = guest.run(command, timeout_s=20 * LEAKS, check=False)
        assert done.rc == 0, done.err + guest_says(guest, agent)()
        told = json.loads(done.out)
        findings, runs = agent.ask(m.ListFindings(cleared=True, limit=500)).findings, agent.ask(m.ListRuns(limit=500)).runs
        took_ms = relief_ms(findings, runs, HOLDS_S)
        print(f"{told}, {time.monotonic() - began:.0f} s; {relief_told(took_ms)}")
        print(Counter(f"{run.proposal.playbook} {run.state} {run.reason[:90]}" for run in runs if run.state != "moot"))
        assert told["leaks"] == LEAKS // TOGETHER * TOGETHER and told["most"] < SLICE_MB * MB * 0.95
        assert guest.out("systemctl is-active shop") == "active"
        agent.stop()


def guest_says(guest: Machine, agent: Stead) -> Any:
    def told() -> str:
        metrics = [
            f"{v.metric} {v.subject} {v.value} {v.reason}" for v in agent.ask(m.GetMetrics()).metrics if "memory" in v.metric
        ]
        runs = [f"{r.proposal.playbook} {r.state} {r.reason}" for r in agent.runs()]
        return "\n".join([*metrics, *runs, agent.journal()])

    return told


def test_what_a_service_can_read_again_is_taken_back_and_no_more(guest: Machine, bench: Bench) -> None:
    with unit(guest, "reader", READER) as path:
        wait_until(lambda: number(guest, f"{path}/memory.current") > 90 * MB, "it has read its file", 60)
        before = bench.read(path, "resident")
        told = bench.apply(path, "resident", size_bytes=40 * MB)
        assert told["undo"] == "none" and told["met"], told
        assert told["after"]["size_bytes"] < before["size_bytes"] - 40 * MB
        assert all("memory.reclaim" in one for one in told["operations"][:3]), told["operations"]
        left = told["after"]
        with pytest.raises(RefusedError, match="could be taken back"):
            bench.apply(path, "resident", size_bytes=int(left["size_bytes"] * 0.97))
        guest.run("rm -f /var/tmp/cache")
