"""`python -m benchmarks`: everything, one after the other, saying what is skipped and why. Used by `make bench`.

What enforcement is worth takes an idle machine, a guest, or rights that not everybody has: those run when they are named.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.load import rivals

RECORDED = "exathlon_hosts_1s.npz"
GUEST = "root, and the emulated guest of tests/guest (Debian; the first time builds it)"
ENFORCEMENT = {  # benchmark → what it needs
    "latency": "20 minutes on a machine that does nothing else; beside it TuneD where it is installed",
    "memory": f"15 minutes, {GUEST}",
    "reclaim": f"15 minutes, {GUEST}",
    "pages": "half an hour, root, a kernel with KSM (6.4); beside it ksmtuned where it is installed",
}


def plan(options: argparse.Namespace) -> tuple[list[list[str]], list[str]]:
    """What to run as module and arguments, and what is left out with the reason."""
    short = ["--window", str(options.window)]
    runs = [[f"benchmarks.{name}"] for name in ("start", "decision", "process_table", "merkle", "ledger", "ledger_year")]
    runs.append(["benchmarks.agent", *short])
    skipped = []
    if options.data and Path(options.data, RECORDED).exists():
        runs.insert(3, ["benchmarks.raw_storage", options.data])
    else:
        skipped.append(f"benchmarks.raw_storage: no {RECORDED}: make bench DATA=its-folder")
    if options.soak:
        runs.append(["benchmarks.soak", "--minutes", str(options.soak)])
    else:
        skipped.append("benchmarks.soak: it takes an hour: make bench ARGS='--soak 60'")
    chosen = ENFORCEMENT if "all" in options.enforcement else options.enforcement
    for name, needs in ENFORCEMENT.items():
        if name in chosen:
            runs.append([f"benchmarks.enforcement.{name}"])
        else:
            skipped.append(f"benchmarks.enforcement.{name}: it takes {needs}: make bench ARGS='--enforcement {name}'")
    names = " ".join(rivals())
    skipped += [
        f"{rival} as a rival: not installed" for rival in ("glances", "netdata") if rival not in names and not shutil.which(rival)
    ]
    return runs, skipped


def main() -> int:
    """Run all; the exit code is 1 when a target was missed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--data", help="the folder with recorded data")
    parser.add_argument("--window", type=float, default=120.0, help="seconds a window of benchmarks.agent")
    parser.add_argument("--soak", type=float, default=0.0, help="minutes to watch the agent's memory (0: not)")
    parser.add_argument(
        "--enforcement", action="append", default=[], choices=[*ENFORCEMENT, "all"], help="measure what enforcement is worth too"
    )
    runs, skipped = plan(parser.parse_args())
    for reason in skipped:
        print(f"skipped {reason}")
    print(flush=True)
    missed = [run[0] for run in runs if subprocess.run([sys.executable, "-m", *run], check=False).returncode]
    if missed:
        print(f"missed a target or failed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
