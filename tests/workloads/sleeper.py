"""A worker for tests: reports, and behaves as its environment says."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def report(**values: object) -> None:
    path = Path(os.environ["STEAD_STATUS"])
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps(values))
    fresh.replace(path)


mode = sys.argv[1] if len(sys.argv) > 1 else ""
print("started", os.environ["STEAD_WORKER"], os.environ["STEAD_GENERATION"], flush=True)
if mode == "crash":
    raise SystemExit(3)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if mode == "parent":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
if mode == "chatty":
    print("x" * 3_000_000, flush=True)
report(requests_total=10, errors_total=1, busy=1, capacity=2, queue_depth=7, latency_ms=[1, 2, 3])
time.sleep(60)
