"""A hundred processes of one image: how much of what can be merged is, what that costs, and what follows when it does not pay.

    python -m benchmarks.enforcement.pages [--processes 100] [--spans real|short] [--arms stead,unequal,nothing,by-hand,ksmtuned]

The reference is every opted-in page read and compared (`mergeable`). Arm `stead` is a real agent that runs the processes with
`merge_memory` and is let do what tune-ksm does; `unequal` is the same with nothing to merge, where everything must be undone.
`by-hand` is `echo 1 > run` after the same time. Spans `short` shortens the playbook's and scans faster, which costs more.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from benchmarks.enforcement.mergeable import KSM, Pages, mergeable
from benchmarks.load import agent, running
from benchmarks.measure import PAGE_BYTES, Figure, publish
from stead.catalog.files import FOLDER
from stead.host import LocalHost
from stead.host.memory_merge import merging
from stead.model import messages as m
from stead.model.change import Run
from stead.probes.ksm_members import find_ksmd
from stead.wire.door import Door

PROGRAM: Final = Path(__file__).with_name("image.py")
ARMS: Final = ("stead", "unequal", "nothing", "by-hand", "ksmtuned")  # the last three wait as long as stead took
GIVE_UP_S: Final = 900.0
TABLE_MIB: Final = 8
OWN_MIB: Final = 0.5
MIB: Final = 1 << 20
KNOBS: Final = (
    *("advisor_mode", "advisor_max_cpu", "advisor_target_scan_time", "advisor_min_pages_to_scan", "advisor_max_pages_to_scan"),
    *("pages_to_scan", "sleep_millisecs", "smart_scan", "run"),
)


class Seen(msgspec.Struct, frozen=True):
    """One arm, at its end."""

    pages: Pages
    profit_bytes: int
    ksmd_cores: float  # over the last seconds
    verdict: str = ""
    state: str = ""
    left: str = ""  # what is set otherwise than before, when all is over


def knob(name: str) -> str:
    """One knob as it can be written again."""
    text = (KSM / name).read_text().strip()
    return text.partition("[")[2].partition("]")[0] if "[" in text else text


def knobs() -> dict[str, str]:
    """Every knob that there is."""
    return {name: knob(name) for name in KNOBS if (KSM / name).exists()}


@contextlib.contextmanager
def as_found() -> Iterator[dict[str, str]]:
    """Every knob as it was, and nothing merged; the tests of KSM wait for that."""
    with open(Path(tempfile.gettempdir(), "stead-test-ksm.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = knobs()
        if found["run"] == "1" or knob("pages_shared") != "0":
            raise SystemExit("somebody uses KSM here: nothing is measured")
        try:
            yield found
        finally:
            (KSM / "run").write_text("2")
            for name, value in found.items():
                (KSM / name).write_text(value)


@contextlib.contextmanager
def images(count: int, argv: list[str]) -> Iterator[list[int]]:
    """The processes without an agent, opted in as it would do it."""
    with merging() as lacking:
        if lacking:
            raise SystemExit(lacking)
        started = [subprocess.Popen(argv) for _ in range(count)]
    try:
        yield [one.pid for one in started]
    finally:
        for one in started:
            one.kill()
        for one in started:
            one.wait()


def overlay(folder: Path, short: bool) -> Path:
    """The shipped catalogue of KSM, with its spans or with short ones."""
    document = yaml.safe_load((FOLDER / "ksm.yaml").read_text(encoding="utf-8"))
    if short:
        for metric in document["metrics"]:
            metric["recommended_interval_seconds"] = 5
        document["metrics"][0]["for"] = 6
        tune: dict[str, Any] = document["playbooks"][0]
        tune["verify"], tune["predict"]["within_s"] = {"window_s": 90}, 30
        tune["settings"][0]["state"]["advisor_target_scan_time"] = 15
        for name in ("advisor_min_pages_to_scan", "advisor_max_pages_to_scan"):
            tune["settings"][0]["state"][name] = {"from_metric": "infra.ksm_pages_to_scan", "multiply": 2, "at_least": 20}
    path = folder / "ksm.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def config(folder: Path, short: bool, count: int, argv: list[str]) -> str:
    """An agent that may touch KSM alone, and runs the processes."""
    policy = folder / "policy.yaml"
    rule = {"name": "ksm", "then": "allow", "when": {"target": ["kernel:ksm"]}}
    policy.write_text(yaml.safe_dump({"rules": [rule]}), encoding="utf-8")
    workload = {"name": "image", "argv": argv, "workers": count, "max_workers": count, "merge_memory": True}
    document: dict[str, Any] = {"workloads": [workload], "catalog": str(overlay(folder, short)), "policy": str(policy)}
    document["agent"] = {"probes": {"ksm": {"interval_s": 2.0}}} if short else {}
    return yaml.safe_dump(document)


def ksmd_s() -> float:
    """CPU seconds that ksmd has had."""
    pid = find_ksmd(LocalHost())
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def seen(pages: Pages, over_s: float, **more: Any) -> Seen:
    """What KSM says now, and takes over some seconds."""
    began, ran_s = time.monotonic(), ksmd_s()
    time.sleep(over_s)
    cores = (ksmd_s() - ran_s) / (time.monotonic() - began)
    return Seen(pages, int(knob("general_profit")), cores, **more)


def plain(arm: str, count: int, argv: list[str], wait_s: float) -> Seen:
    """An arm without stead."""
    with contextlib.ExitStack() as stack:
        pids = stack.enter_context(images(count, argv))
        time.sleep(count / 25)
        if arm == "by-hand":
            (KSM / "run").write_text("1")
        elif arm == "ksmtuned":
            stack.enter_context(running(["ksmtuned"]))
        time.sleep(0.0 if arm == "nothing" else wait_s)
        return seen(mergeable(pids), 5.0)


def verdict_of(door: Door, began: float, pids: list[int]) -> Run:
    """The run of tune-ksm when its verdict is there and carried out; `pids` becomes the workers."""
    run = None
    while run is None or run.verdict is None or run.state in ("verifying", "undoing"):
        time.sleep(1.0)
        pids[:] = [worker.pid for worker in door.ask(m.GetStatus(), m.Status).workloads[0].workers if worker.pid]
        run = run_of(door)
        if time.monotonic() - began > GIVE_UP_S:
            raise SystemExit(f"no verdict in {GIVE_UP_S:g} s: {run and (run.state, run.reason)}")
    return run


def run_of(door: Door) -> Run | None:
    """The newest run of tune-ksm."""
    return next((run for run in door.ask(m.ListRuns(), m.RunList).runs if run.proposal.playbook == "tune-ksm"), None)


def end(pids: list[int]) -> None:
    """The workers run on when their agent stops, so they are ended here."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    host = LocalHost()
    while any(host.start_ticks(pid) is not None for pid in pids):
        time.sleep(0.1)


def restored(folder: Path) -> None:
    """What the service manager does after the agent: put back what only a lease holds."""
    argv = [sys.executable, "-m", "stead.agent", "--state", str(folder / "state"), "--config", str(folder / "stead.yaml")]
    subprocess.run([*argv, "--restore"], check=True, timeout=300)


def with_stead(count: int, argv: list[str], short: bool, before: dict[str, str]) -> tuple[Seen, float]:
    """An arm with stead; and how long it took from the start to the verdict."""
    with tempfile.TemporaryDirectory(prefix="stead-pages-") as made:
        folder, began, pids = Path(made), time.monotonic(), list[int]()
        written = config(folder, short, count, argv)
        (folder / "stead.yaml").write_text(written, encoding="utf-8")
        try:
            with agent(config=written, mode="act", state=folder / "state") as (_, socket):
                door = Door(socket)
                run = verdict_of(door, began, pids)
                took_s = time.monotonic() - began
                print(f"  after {took_s:.0f} s: {run.state}: {run.verdict and run.verdict.reason}; {run.reason}", flush=True)
                one = seen(mergeable(pids), 5.0, verdict=run.verdict.result if run.verdict else "", state=run.state)
            restored(folder)
        finally:
            end(pids)
        left = {name: value for name, value in knobs().items() if value != before[name]}
        merged = int(knob("pages_shared"))
        return msgspec.structs.replace(one, left=str(left or merged or "")), took_s


def figures(arms: dict[str, Seen], price_bytes: float) -> Iterator[Figure]:
    """Each arm beside what could be merged."""
    for arm, one in arms.items():
        if arm == "unequal":
            continue
        missing = 1 - one.pages.spared / one.pages.spare if one.pages.spare else None
        net_mib = (one.profit_bytes - one.ksmd_cores * price_bytes) / MIB
        spared_mib, spare_mib = (pages * PAGE_BYTES // MIB for pages in (one.pages.spared, one.pages.spare))
        saved = f"{spared_mib} of {spare_mib} MiB, verdict {one.verdict or 'none'}"
        yield Figure(f"{arm}: not merged, of what can be", missing, "", 0.1 if arm == "stead" else None, saved)
        note = f"net of the CPU: {net_mib:.0f} MiB, at {price_bytes / MIB:.0f} MiB a core"
        yield Figure(f"{arm}: cores that ksmd takes at the end", one.ksmd_cores, "", None, note)
        if arm == "stead":
            yield Figure("stead: left of it when the agent has stopped", float(bool(one.left)), "", 0.0, one.left or "nothing")
    if "unequal" in arms:
        one = arms["unequal"]
        gone = one.state == "undone" and not one.left and one.profit_bytes == 0
        note = f"verdict {one.verdict}, run {one.state}, left: {one.left or 'nothing'}"
        yield Figure("unequal pages: not undone", float(not gone), "", 0.0, note)


def main() -> int:
    """Run the arms; exit code 1 when a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=100)
    parser.add_argument("--spans", choices=("real", "short"), default="real")
    parser.add_argument("--arms", default=",".join(ARMS))
    options = parser.parse_args()
    if os.geteuid() != 0 or not (KSM / "general_profit").exists():
        print("skipped: it needs root and a kernel with KSM (6.4)")
        return 0
    arms = [arm for arm in options.arms.split(",") if arm != "ksmtuned" or shutil.which("ksmtuned")]
    if "ksmtuned" in options.arms and "ksmtuned" not in arms:
        print("skipped ksmtuned: not installed (apt-get install ksmtuned)")
    wait_s, found = (60.0 if options.spans == "short" else 360.0), {}
    with tempfile.TemporaryDirectory(prefix="stead-pages-") as made:
        table = Path(made, "table")
        table.write_bytes(os.urandom(TABLE_MIB * MIB))
        equal = [sys.executable, str(PROGRAM), str(table), str(OWN_MIB)]
        unequal = [sys.executable, "-S", "-c", f"import os, time; own = os.urandom({4 * MIB}); time.sleep(9999)"]
        for arm in sorted(arms, key=ARMS.index):
            with as_found() as before:
                if arm in ("stead", "unequal"):
                    argv = equal if arm == "stead" else unequal
                    found[arm], took_s = with_stead(options.processes, argv, options.spans == "short", before)
                    wait_s = took_s if arm == "stead" else wait_s
                else:
                    found[arm] = plain(arm, options.processes, equal, wait_s)
            print(f"{arm}: {found[arm]}", flush=True)
    price = os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES / (os.cpu_count() or 1)
    return publish("enforcement_pages", f"{options.processes} processes of one image", list(figures(found, price)))


if __name__ == "__main__":
    raise SystemExit(main())
