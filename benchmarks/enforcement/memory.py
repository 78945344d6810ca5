"""A leaking service beside a protected one on a host that runs out of memory: who helps first, who lives, and who is killed.

    python -m benchmarks.enforcement.memory [--rounds 1] [--arms nothing,earlyoom,nohang,systemd-oomd,stead] [--pace 20]

Each arm has a fresh guest (emulated, some fifteen times slower than the machine: what comes first counts, not the seconds). The
first relief is when the leak is first held to less than it would take, frozen or ended; what was available then says how early
that was. The protected service beats ten times a second: its longest silence says what it went through. Rivals run as Debian
configures them; systemd-oomd is asked to watch the slice that both are in.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from tests.guest.image import image
from tests.guest.machine import Machine
from tests.guest.project import project
from tests.guest.recipe import Recipe
from tests.guest.stead import Stead
from tests.guest.units import unit

from benchmarks.measure import Figure, publish

ARMS = ("nothing", "earlyoom", "nohang", "systemd-oomd", "stead")
WATCHED_S = 75.0
SHOP = """
exec python3 -S -c '
import time
held = bytearray(48 << 20); held[::4096] = bytes([1]) * len(held[::4096])
while True:
    for place in range(0, len(held), 4096): held[place] ^= 1
    open("/run/steadtest/beat", "w").write(str(time.monotonic()))
    time.sleep(0.1)
'
"""
LEAK = """
until test -e /run/steadtest/go; do sleep 0.1; done
exec python3 -S -c '
import mmap, time
POPULATE, held, due = 0x8000, [], time.monotonic()
while True:
    held.append(mmap.mmap(-1, 2 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | POPULATE))
    due = max(due + {pause_s}, time.monotonic() - 1)
    time.sleep(max(0, due - time.monotonic()))
'
"""
WATCH = """
import json, os, time
GROUP = "/sys/fs/cgroup/store.slice/"
def text(path):
    try:
        return open(path).read()
    except OSError:
        return ""
def field(data, name):
    return next((int(line.split()[1]) for line in data.splitlines() if line.split()[0].rstrip(":") == name), 0)
rows, silence, before_kills = [], 0.0, field(text("/proc/vmstat"), "oom_kill")
beat = time.monotonic()
os.close(os.open("/run/steadtest/go", os.O_CREAT))
began = time.monotonic()
while time.monotonic() - began < %f:
    now = time.monotonic()
    high, frozen = text(GROUP + "leak.service/memory.high").strip(), text(GROUP + "leak.service/cgroup.freeze").strip()
    pids = text(GROUP + "leak.service/cgroup.procs").split()
    relief = "ended" if not pids else "frozen" if frozen == "1" else "held" if high not in ("max", "") else ""
    beat = float(text("/run/steadtest/beat") or beat)
    silence = max(silence, now - beat) if text(GROUP + "shop.service/cgroup.procs").split() else silence
    rows.append((now - began, field(text("/proc/meminfo"), "MemAvailable") / 1024, relief))
    time.sleep(0.1)
at = next((place for place, row in enumerate(rows) if row[2]), None)
first = None if at is None else (rows[at][0], min(row[1] for row in rows[: at + 1]), rows[at][2])
print(json.dumps({"first": first, "how": sorted({row[2] for row in rows if row[2]}), "silence_s": silence,
  "alive": bool(text(GROUP + "shop.service/cgroup.procs").split()), "least_mb": min(row[1] for row in rows),
  "leak_ended": not text(GROUP + "leak.service/cgroup.procs").split(),
  "kernel_kills": field(text("/proc/vmstat"), "oom_kill") - before_kills}))
"""
OOMD = "[Slice]\nMemoryAccounting=yes\nManagedOOMMemoryPressure=kill\nManagedOOMSwap=kill\n"


class Seen(msgspec.Struct, frozen=True):
    """One arm, once. `first`: seconds since the leak began, the least MB available until then, and the relief; None: none."""

    first: tuple[float, float, str] | None
    how: list[str]
    silence_s: float
    alive: bool
    least_mb: float
    leak_ended: bool
    kernel_kills: int


@contextlib.contextmanager
def watched_by(arm: str, guest: Machine) -> Iterator[None]:
    """What watches over memory in this arm."""
    if arm == "stead":
        agent = Stead(guest)
        agent.configure(
            {
                "safety": {"mode": "act"},
                "protect": [{"name": "shop", "match": ["service:shop"]}],
                "best_effort": ["service:leak"],
            }
        )
        agent.start()
        time.sleep(8)
        yield
        agent.stop()
    elif arm == "nothing":
        yield
    else:
        guest.run(f"systemctl unmask {arm}; systemctl start {arm}")
        time.sleep(5)
        assert guest.out(f"systemctl is-active {arm}") == "active"
        yield


def measure(arm: str, pace_mb_per_s: float) -> Seen:
    """Run one arm once, in a guest of its own."""
    found = image(Recipe())
    with Machine(found, project(found)) as guest:
        guest.put("/run/systemd/system/store.slice", OOMD if arm == "systemd-oomd" else "[Slice]\nMemoryAccounting=yes\n")
        guest.run("systemctl daemon-reload")
        leak = LEAK.replace("{pause_s}", f"{2 / pace_mb_per_s:.3f}")
        with unit(guest, "shop", SHOP, "Slice=store.slice"), unit(guest, "leak", leak, "Slice=store.slice"):
            guest.run("for i in $(seq 300); do test -s /run/steadtest/beat && exit 0; sleep 0.1; done; exit 1")
            with watched_by(arm, guest):
                guest.put("/run/steadtest/watch.py", WATCH % WATCHED_S)
                said = guest.run("python3 -S /run/steadtest/watch.py", timeout_s=WATCHED_S + 120, check=False)
    assert said.rc == 0, f"{arm}: the watcher did not live: {said.err[-500:]}"
    return msgspec.convert(json.loads(said.out.splitlines()[-1]), Seen)


def figures(rounds: dict[str, list[Seen]]) -> Iterator[Figure]:
    """Each arm; stead beside the best rival."""
    left: dict[str, float] = {}
    for arm, seen in rounds.items():
        firsts = [one.first for one in seen if one.first]
        died, ended = sum(not one.alive for one in seen), sum(one.leak_ended for one in seen)
        left[arm] = statistics.median(first[1] for first in firsts) if firsts else 0.0
        how = ", ".join(sorted({word for one in seen for word in one.how})) or "not at all"
        note = f"{statistics.median(first[0] for first in firsts):.1f} s after it began: {how}" if firsts else how
        yield Figure(f"{arm}: least available until the first relief", left[arm], "MB", None, note)
        yield Figure(f"{arm}: protected services that died", died, f"of {len(seen)}", 0 if arm == "stead" else None)
        yield Figure(f"{arm}: leaks that were killed", ended, f"of {len(seen)}", 0 if arm == "stead" else None)
        silence = statistics.median(one.silence_s for one in seen)
        yield Figure(f"{arm}: longest silence of the protected", silence, "s", None, f"least available {seen[0].least_mb:.0f} MB")
    if "stead" in left and len(left) > 1:
        best = max(value for arm, value in left.items() if arm != "stead")
        yield Figure("best rival's room at its relief, of stead's", best / left["stead"] if left["stead"] else None, "", 1.0)


def main() -> int:
    """Run all rounds; exit code 1 when stead's target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--pace", type=float, default=20.0, help="MB a second that the leak takes")
    options = parser.parse_args()
    rounds: dict[str, list[Any]] = {arm: [] for arm in options.arms.split(",")}
    for number in range(options.rounds):
        for arm in rounds:
            seen = measure(arm, options.pace)
            rounds[arm].append(seen)
            print(f"round {number + 1} {arm}: {seen}", flush=True)
    return publish("enforcement_memory", "A leaking service beside a protected one", list(figures(rounds)))


if __name__ == "__main__":
    raise SystemExit(main())
