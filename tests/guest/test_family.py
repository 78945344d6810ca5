"""A process of a systemd unit can't be placed: it is lowered, with what it had started before, and all of them come back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from stead.model import messages as m
from tests.guest.machine import Machine
from tests.guest.stead import Stead, wait_until
from tests.guest.units import installed
from tests.style.repository import ROOT

pytestmark = [pytest.mark.guest, pytest.mark.long, pytest.mark.timeout(900)]
CRITICAL, HOG, NAME = "steadtest-critical", "steadtest-hog", "steadtesthog"
SOON_S = 240.0
WORK = "exec stress-ng -q --cpu 1 --cpu-method int64"
BUSY = f"""
cp -L /usr/bin/python3 /run/{NAME}
exec /run/{NAME} -c '
import os
if os.fork() == 0:
    os.setsid()
elif os.fork() == 0:
    os.nice(4)
while True: pass'
"""
CONFIG = {"protect": [f"service:{CRITICAL}"], "best_effort": [f"process:{NAME}"], "safety": {"mode": "act"}}


def lowering() -> dict[str, Any]:
    """The shipped remedy as the only one, judged after a long while: what is looked at is whom it lowers."""
    document = yaml.safe_load((ROOT / "src/stead/catalog/contention.yaml").read_text())
    (found,) = (each for each in document["playbooks"] if each["playbook_id"] == "lower-priority")
    found["verify"]["window_s"] = found["predict"]["within_s"] = 600
    first = {"playbook_id": "let-others-first", "title": "Not here", "unsupported": "a test of what comes after it"}
    return {"playbooks": [first, found]}


@pytest.fixture
def lowered(agent: Stead) -> Iterator[Stead]:
    """stead, acting, beside protected work and a hog of three processes."""
    guest = agent.machine
    agent.configure(CONFIG, lowering())
    agent.start()
    with installed(guest, CRITICAL, WORK):
        wait_until(lambda: agent.ask(m.GetStatus()).ticks >= 6, "the agent knows how it was without a hog", SOON_S)
        with installed(guest, HOG, BUSY):
            yield agent


def levers(guest: Machine) -> list[tuple[str, ...]]:
    """Of each of the hog's processes, in order: nice, class, and nice of its session, or the class again."""
    each = "echo $(cut -d' ' -f19 /proc/$p/stat) $(ps -o cls= -p $p) $(cat /proc/$p/autogroup)"
    script = f"for p in $(pgrep -x {NAME}); do {each}; done"
    rows = [line.split() for line in guest.out(script).splitlines()]
    return [(row[0], row[1], row[-1]) for row in rows]


def test_a_process_of_a_unit_is_lowered_with_its_family_and_all_come_back(lowered: Stead) -> None:
    guest = lowered.machine
    wait_until(lambda: len(levers(guest)) == 3, "the hog has started what it starts", SOON_S)
    run = lowered.run_in("lower-priority", "verifying", "held", timeout_s=SOON_S)
    own, family = run.proposal.steps
    assert set(family.want or {}) == {"family"} and f"({NAME}" not in family.note and f"{NAME} (" in family.note
    assert [row[:2] for row in levers(guest)] == [("19", "IDL")] * 3
    assert {"nice", "policy"} <= set(own.want or {})
    lowered.stop()  # what only a lease holds is put back
    after = levers(guest)
    assert sorted(row[:2] for row in after) == [("0", "TS"), ("0", "TS"), ("4", "TS")], after
    assert {row[2] for row in after} <= {"0", "TS"}, "nobody's session is weighed down, where there are autogroups"
