"""How much memory reference workloads hold and do not need: found by stead while they go on working.

    python -m benchmarks.enforcement.reclaim [--seconds 480]

In one guest (emulated; with swap on its disk): PostgreSQL after a bulk load, Redis with a cold key set, a file server, a Python
service after its start. Each has a light load of its own throughout. Saved is what each holds less at the end than before stead
came; what that costs it is the share of the time in which all of it stood still for memory (PSI full), over the same time.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import yaml
from tests.guest.image import image
from tests.guest.machine import Machine
from tests.guest.project import project
from tests.guest.recipe import Recipe
from tests.guest.stead import Stead, wait_until
from tests.guest.units import unit

from benchmarks.measure import Figure, publish
from stead.catalog.files import FOLDER
from stead.model import messages as m

RECIPE: Final = Recipe(memory_mib=1024, more=("postgresql", "redis-server", "python3-requests", "python3-yaml"))
SAVED: Final = 15.0
SHOWN: Final = ("infra.memory_idle", "infra.contender_memory", "infra.contender_memory_full")
STALLED: Final = 0.1
EACH_S: Final = 30.0
POSTGRES = """
set -e
D=/var/tmp/pg; B=$(ls -d /usr/lib/postgresql/*/bin)
install -d -o postgres $D
runuser -u postgres -- $B/initdb -D $D -A trust >/dev/null
runuser -u postgres -- $B/pg_ctl -D $D -w -s -o '-c shared_buffers=32MB -k /tmp -h ""' start
runuser -u postgres -- psql -q -h /tmp \
  -c "create table t as select i, repeat(md5(i::text), 8) as x from generate_series(1, 250000) i" \
  -c "create index on t (i)" -c "checkpoint"
touch /run/steadtest/ref-postgres
while sleep 0.5; do runuser -u postgres -- psql -qAt -h /tmp -c "select count(x) from t where i < 500" >/dev/null; done
"""
REDIS = """
redis-server --port 0 --unixsocket /tmp/redis.sock --save '' --appendonly no >/dev/null &
until redis-cli -s /tmp/redis.sock ping 2>/dev/null | grep -q PONG; do sleep 0.2; done
redis-cli -s /tmp/redis.sock eval "for i = 1, 60000 do redis.call('set', 'key:' .. i, string.rep(i, 200)) end" 0 >/dev/null
touch /run/steadtest/ref-redis
while sleep 0.5; do for i in 1 2 3; do redis-cli -s /tmp/redis.sock get key:$i >/dev/null; done; done
"""
FILES = """
mkdir -p /var/tmp/served && cd /var/tmp/served
for i in $(seq 12); do dd if=/dev/urandom of=f$i bs=1M count=8 status=none; done; sync
python3 -m http.server --bind 127.0.0.1 8099 >/dev/null 2>&1 &
sleep 5; cat f* >/dev/null
touch /run/steadtest/ref-files
while sleep 0.5; do python3 -S -c 'print(len(open("/var/tmp/served/f1", "rb").read()))' >/dev/null; done
"""
PYTHON = """
exec python3 -c '
import asyncio, email, http.server, json, requests, sqlite3, ssl, time, unittest, xml.dom.minidom, yaml
table = {str(i): ("row", i, str(i) * 4) for i in range(120_000)}
open("/run/steadtest/ref-python", "w").close()
while True:
    json.dumps([table[str(i)] for i in range(200)])
    time.sleep(0.2)
'
"""
WORKLOADS = {"ref-postgres": POSTGRES, "ref-redis": REDIS, "ref-files": FILES, "ref-python": PYTHON}
SWAP = "fallocate -l 700M /var/tmp/swap && chmod 600 /var/tmp/swap && mkswap -q /var/tmp/swap && swapon /var/tmp/swap"


class Held(msgspec.Struct, frozen=True):
    """What a workload holds, in MiB, and how long all of it has stood still for memory, in s."""

    memory: float
    swap: float
    stalled_s: float


def catalogue() -> dict[str, Any]:
    """The shipped savings, as for a host that is short of memory: sought at once, whatever is left."""
    shipped = yaml.safe_load((FOLDER / "memory.yaml").read_text())
    (idle,) = [one for one in shipped["metrics"] if one["metric_id"] == "infra.memory_idle"]
    (reclaim,) = [one for one in shipped["playbooks"] if one["playbook_id"] == "reclaim-memory"]
    bands = {"good": {"upper": 5}, "warning": {"lower": 5}}
    return {
        "metrics": [
            {**idle, "thresholds": bands, "exit": {"warning": 1}, "confirm": {}, "for": 5, "recommended_interval_seconds": 5}
        ],
        "playbooks": [reclaim],
    }


def held(guest: Machine, name: str) -> Held:
    """One workload as it is now."""
    group = f"/sys/fs/cgroup/system.slice/{name}.service"
    full = next(line for line in guest.get(f"{group}/memory.pressure").splitlines() if line.startswith("full"))
    memory, swap = (int(guest.get(f"{group}/memory{part}.current")) for part in ("", ".swap"))
    return Held(memory / (1 << 20), swap / (1 << 20), int(full.rpartition("total=")[2]) / 1e6)


def shown(guest: Machine, name: str, before: Held) -> str:
    """How far it has come."""
    now = held(guest, name)
    return f"{name} {now.memory / before.memory:.0%} and stood still for {1000 * (now.stalled_s - before.stalled_s):.0f} ms"


@contextlib.contextmanager
def working(guest: Machine) -> Iterator[None]:
    """All workloads, each loaded and at its light load; and one protected service that asks for nothing."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(unit(guest, "shop"))
        for name, script in WORKLOADS.items():
            stack.enter_context(unit(guest, name, script, "MemoryAccounting=yes"))
        for name in WORKLOADS:
            waits = f"for i in $(seq 1200); do test -e /run/steadtest/{name} && exit 0; sleep 0.25; done"
            guest.run(f"{waits}; systemctl status {name}; exit 1", timeout_s=330)
        yield


def measure(seconds: float) -> tuple[dict[str, Held], dict[str, Held], float, list[str]]:
    """Before, after so many seconds of stead, how long that was in all, and what its runs and metrics came to."""
    found = image(RECIPE)
    with Machine(found, project(found)) as guest:
        guest.run(f"systemctl stop redis-server postgresql; mkdir -p /run/steadtest; {SWAP}")
        with working(guest):
            time.sleep(10)
            agent = Stead(guest)
            config = {"protect": ["service:shop"], "best_effort": [f"service:{name}" for name in WORKLOADS]}
            agent.configure({"safety": {"mode": "act"}, **config}, catalogue())
            before, began = {name: held(guest, name) for name in WORKLOADS}, time.monotonic()
            agent.start()
            wait_until(lambda: len(agent.runs("reclaim-memory")) >= 1, "it has begun", 120)
            while time.monotonic() < began + seconds:
                time.sleep(min(EACH_S, max(0.0, began + seconds - time.monotonic())))
                print(
                    f"{time.monotonic() - began:.0f} s: {', '.join(shown(guest, name, before[name]) for name in before)}",
                    flush=True,
                )
            after = {name: held(guest, name) for name in WORKLOADS}
            elapsed_s = time.monotonic() - began
            told = [f"{run.proposal.playbook} {run.state} {run.reason} {run.governed}" for run in agent.runs()]
            views = [view for view in agent.ask(m.GetMetrics()).metrics if view.metric in SHOWN]
            told += [f"{view.metric} {view.subject} {view.value} {view.reason}" for view in views]
            agent.stop()
    return before, after, elapsed_s, told


def figures(before: dict[str, Held], after: dict[str, Held], seconds: float) -> Iterator[Figure]:
    """What was saved and what it cost, workload by workload."""
    for name, was in before.items():
        now = after[name]
        saved = 100 * (was.memory - now.memory) / was.memory
        note = f"{was.memory:.0f} to {now.memory:.0f} MiB, {saved:.0f} % saved, {now.swap - was.swap:.0f} MiB of it in swap"
        yield Figure(f"{name}: still held, of before", 100 - saved, "%", 100 - SAVED, note)
        yield Figure(f"{name}: stood still for memory", 100 * (now.stalled_s - was.stalled_s) / seconds, "%", STALLED)


def main() -> int:
    """Run; exit code 1 when a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480.0)
    options = parser.parse_args()
    before, after, elapsed_s, told = measure(options.seconds)
    print("\n".join(told), flush=True)
    return publish("enforcement_reclaim", "Memory that workloads hold and do not need", list(figures(before, after, elapsed_s)))


if __name__ == "__main__":
    raise SystemExit(main())
