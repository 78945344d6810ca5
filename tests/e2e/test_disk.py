"""A real file system that fills up, a real agent that may clean it: what becomes free is read from the file system itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stead.catalog.files import FOLDER
from stead.model import messages as m
from stead.model.change import Run
from stead.model.cleaning import FileList, ListFiles
from stead.model.errors import SteadError
from tests.e2e.place import Agent, agent, wait_until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own needs root"),
    pytest.mark.timeout(900),
    pytest.mark.long,  # some 20 s each: room is made on a real file system, and measured there
]

SIZE = 16 << 20  # what is compressed is compressed at idle priority: beside the other tests that takes its time
LINES = b"".join(
    b"2026-11-21T10:%02d:%02d host app[%d]: request %d took %d ms\n" % (n // 60 % 60, n % 60, n, n * 7919, n % 97)
    for n in range(9000)
)
SHIPPED: dict[str, Any] = yaml.safe_load((FOLDER / "disk.yaml").read_text())
METRICS: dict[str, Any] = yaml.safe_load((FOLDER / "metrics.yaml").read_text())
SECONDS = {"recommended_interval_seconds": 1, "for": 1, "clear_s": 1}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of 16 MiB on a loop device."""
    image, mount = tmp_path / "image", tmp_path / "disk"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, capture_output=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(mount)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no loop device here: {mounted.stderr.strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def config(
    folder: Path, disk: Path, rule: dict[str, Any], profile: str = "balanced", names: tuple[str, ...] = ("files",)
) -> dict[str, Any]:
    """Spans of seconds; only that disk's own files are named, and only they are allowed."""
    usage = next(one for one in METRICS["metrics"] if one["metric_id"] == "infra.disk_usage")
    due = next(one for one in SHIPPED["metrics"] if one["metric_id"] == "disk.quarantine_due_bytes")
    left = next(one for one in SHIPPED["metrics"] if one["metric_id"] == "disk.available_bytes")
    playbooks = [
        {**one, "verify": {"window_s": 8, "good_readings": 1}, "cooldown_s": 3}
        | ({"predict": {**one["predict"], "within_s": 6}} if "predict" in one else {})
        for one in SHIPPED["playbooks"]
    ]
    off = [{"category": one["category"], "enabled": False} for one in SHIPPED["cleaning"]]
    mine = {
        "category": "mine",
        "min_age_s": 0,
        "quarantine_s": 0,
        "depth": 2,
        **rule,
        "folders": [str(disk / "log")],
        "quarantine_in": str(disk),
    }
    catalog = {
        "metrics": [{**one, **SECONDS, "for": 1 if one is left else 5} for one in (usage, due, left)],
        "playbooks": playbooks,
        "cleaning": [*off, mine],
    }
    (folder / "short.yaml").write_text(yaml.safe_dump(catalog))
    allow = {"name": "mine", "then": "allow", "when": {"actuator": list(names), "target": [f"file:{disk}/*"]}}
    policy = {"rules": [allow, {"name": "rest", "then": "deny", "when": {"actuator": ["priority", "limit", "placement"]}}]}
    (folder / "policy.yaml").write_text(yaml.safe_dump({**policy, "budget": {"actions_per_hour": 1000}}))
    probes = {name: {"interval_s": 1} for name in ("disk_space", "cleanable")}
    paths = {"catalog": str(folder / "short.yaml"), "policy": str(folder / "policy.yaml")}
    return {**paths, "agent": {"probes": probes}, "safety": {"profile": profile}}


def used(disk: Path) -> int:
    """Bytes in use, by statvfs."""
    sizes = os.statvfs(disk)
    return (sizes.f_blocks - sizes.f_bfree) * sizes.f_frsize


def run_of(one: Agent, playbook: str, *states: str, timeout_s: float = 60) -> Run:
    def find() -> Run | None:
        return next((run for run in one.runs(playbook) if run.state in states), None)

    found = wait_until(find, f"{playbook} is {' or '.join(states)}", timeout_s)
    assert found is not None
    return found


def fill(disk: Path, make: Any, count: int = 11) -> dict[str, bytes]:
    """Old logs that fill it to more than 85 %, and one that is being written."""
    log = disk / "log"
    log.mkdir()
    found = {}
    for number in range(count):
        path = log / f"app.log.{number}"
        path.write_bytes(make(number))
        path.chmod(0o640)
        found[path.name] = path.read_bytes()
    (log / "app.log").write_bytes(b"being written")
    return found


def test_logs_are_compressed_room_is_made_and_an_undo_brings_each_back(tmp_path: Path, disk: Path) -> None:
    before = fill(disk, lambda number: LINES * 2 + b"%d" % number)
    was = used(disk)
    rule = {"do": "compress", "names": ["app.log.[0-9]", "app.log.[0-9][0-9]"]}
    with (disk / "log" / "app.log.3").open("ab"), agent(tmp_path, config=config(tmp_path, disk, rule), mode="act") as one:
        run = run_of(one, "compress-logs", "kept", timeout_s=100)
        assert run.verdict is not None and run.verdict.result == "helped", run.verdict
        assert run.proposal.prediction is not None and run.proposal.prediction.metric == "disk.available_bytes"
        names = {path.name for path in (disk / "log").iterdir()}
        assert "app.log.3" in names and "app.log.3.gz" not in names, "somebody has it open"
        assert names == {"app.log", "app.log.3", *(f"{name}.gz" for name in before if name != "app.log.3")}
        assert was - used(disk) > 0.7 * sum(len(data) for data in before.values())
        with contextlib.suppress(SteadError):  # what it packed at idle priority it unpacks so too: that may outlast the asking
            one.ask(m.Undo(run.id))
        undone = run_of(one, "compress-logs", "undone", "undo_failed")
        assert undone.state == "undone", undone.reason
        assert {path.name: path.read_bytes() for path in (disk / "log").iterdir()} == {**before, "app.log": b"being written"}
        assert (disk / "log" / "app.log.1").stat().st_mode & 0o777 == 0o640
        one.stop()


def test_files_wait_in_quarantine_and_only_their_end_makes_room(tmp_path: Path, disk: Path) -> None:
    before = fill(disk, lambda number: os.urandom(1150 << 10))
    was = used(disk)
    rule = {"names": ["app.log.*"]}
    with agent(tmp_path, config=config(tmp_path, disk, rule, "aggressive"), mode="act") as one:
        moved = run_of(one, "clean-disk", "kept")
        assert len(moved.proposal.steps) == len(before) and moved.verdict is not None and moved.verdict.result == "helped"
        purged = run_of(one, "purge-quarantine", "kept")
        assert purged.verdict is not None and purged.verdict.result == "helped", purged.verdict
        assert [step.undo for step in purged.proposal.steps] == ["none"] * len(before)
        freed = was - used(disk)
        assert freed > 0.95 * sum(len(data) for data in before.values()), "read from the file system"
        noted = [note for receipt in purged.receipts for note in receipt.operations if "by statvfs" in note]
        assert len(noted) == len(before)
        assert [path.name for path in (disk / "log").iterdir()] == ["app.log"]
        wait_until(lambda: not one.ask(ListFiles()).quarantined, "the quarantine is empty")
        one.stop()


def test_without_a_rule_that_names_files_a_person_is_asked(tmp_path: Path, disk: Path) -> None:
    before = fill(disk, lambda number: os.urandom(1150 << 10))
    rule = {"names": ["app.log.*"], "quarantine_s": 3600}
    with agent(tmp_path, config=config(tmp_path, disk, rule, names=("*",)), mode="act") as one:
        waiting = run_of(one, "clean-disk", "waiting")
        assert waiting.decision is not None and waiting.decision.rules == ("rule:none",)
        assert {path.name for path in (disk / "log").iterdir()} == {*before, "app.log"}
        one.ask(m.Approve(waiting.id, waiting.proposal.plan_hash))
        kept = run_of(one, "clean-disk", "kept")
        listed: FileList = wait_until(lambda: found if (found := one.ask(ListFiles())).quarantined else None, "it is listed")
        assert {item.run for item in listed.quarantined} == {kept.id} and len(listed.quarantined) == len(before)
        assert one.ask(m.Undo(kept.id)).runs[0].state == "undone"
        assert {path.name: path.read_bytes() for path in (disk / "log").iterdir()} == {**before, "app.log": b"being written"}
        one.stop()
