"""A worker of a real workload: reports what a control file tells it to."""

import json
import os
import sys
import time
from pathlib import Path

control, status = Path(sys.argv[1]), Path(os.environ["STEAD_STATUS"])
while True:
    try:
        told = json.loads(control.read_text())
    except (OSError, ValueError):
        told = {}
    fresh = status.with_suffix(".tmp")
    fresh.write_text(json.dumps({"queue_depth": 0, "oldest_job_s": 0, "busy": 0, "capacity": 1, **told}))
    fresh.replace(status)
    time.sleep(0.1)
