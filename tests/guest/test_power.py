"""The power fails in the middle of a run: its limit went with the boot, and what outlives a boot is put back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from tests.guest.bench import PYTHON
from tests.guest.machine import Machine
from tests.guest.units import files_of, installed, left_behind

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]
UNIT = "steadtest-powered"
DEFAULTS = {"cpu.max": "max 100000", "cpu.weight": "100", "cpu.idle": "0"}
SIGN = "/run/steadtest-at"


@pytest.fixture(scope="module")
def path(guest: Machine) -> Iterator[str]:
    """The group of a unit that every boot starts."""
    with installed(guest, UNIT) as found:
        guest.run("sync")
        yield found


def carried(guest: Machine, verb: str, settings: list[dict[str, Any]], mark: str = "") -> str:
    """The shell line of one run, or of the recovery after one."""
    asked = json.dumps({"verb": verb, "mark": mark, "settings": settings})
    return f"env {PYTHON} -m tests.guest.inside.crashes {shlex.quote(asked)}"


@pytest.mark.parametrize("mark", ["forward.after_attempt", "forward.after_write", "undo.before_write"])
def test_after_a_power_cut_nothing_is_half_done(guest: Machine, path: str, mark: str) -> None:
    limits = {"cpu_max_percent": 35.0, "memory_high_bytes": 200 << 20, "pids_max": 60}
    settings = [
        {"actuator": "autonomy", "kind": "autonomy", "name": "host", "state": {"ceiling": 0}},
        {"actuator": "limit", "kind": "cgroup", "name": path, "state": limits},
    ]
    guest.run("rm -rf /var/lib/steadtest; sync")
    before = {file: text for file, text in files_of(guest, path).items() if text}
    verb = "undo" if mark.startswith("undo") else "act"
    guest.run(
        f"systemd-run -q --unit=steadtest-run /bin/sh -c {shlex.quote(carried(guest, verb, settings, f'act.limit.{mark}'))}"
    )
    wait = f"for i in $(seq 900); do test -e {SIGN} && exit 0; sleep 0.1; done; journalctl -u steadtest-run; exit 1"
    guest.run(wait, timeout_s=200)
    assert (files_of(guest, path)["cpu.max"] == "35000 100000") == (mark != "forward.after_attempt")
    guest.cut()
    guest.boot()
    assert {file: text for file, text in files_of(guest, path).items() if text}.items() <= (DEFAULTS | before).items()
    assert left_behind(guest, f"{UNIT}.service") == ""
    told = json.loads(guest.out(carried(guest, "recover", [])))
    assert told["state"] == ("undone" if verb == "undo" else "failed") and not told["unsettled"], told
    assert verb == "undo" or "is gone" in told["reason"], told
    kept = json.loads(guest.get("/var/lib/steadtest/autonomy.json"))
    assert kept["ceilings"] == {"host": 1}, "a limit that is gone takes what was done with it along"
