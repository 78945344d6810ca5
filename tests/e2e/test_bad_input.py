"""Bad input to real processes: each is one sentence on stderr (what, where, what to do), its exit code, and nothing lost."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from stead.model import messages as m
from tests.e2e.place import Agent, agent, wait_until

INSIDE = str(Path(__file__).with_name("inside.py"))
STEAD = str(Path(sys.executable).with_name("stead"))
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts, or becomes another user")
NOBODY = 65534
AS_NOBODY = """
import importlib, os, sys
import stead.agent.__main__ as daemon, stead.cli.processes, stead.cli.answers, stead.wire.door, stead.config
from stead.cli.root import VERBS, stead as command
for verb in VERBS.values(): importlib.import_module("stead.cli." + verb.module)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(daemon.main(sys.argv[2:]) if sys.argv[1] == "agent" else command(sys.argv[2:]))
"""
POLICY = {"rules": [{"name": "calm-init", "then": "allow", "when": {"target": ["process:systemd"]}}]}
BANDS = {
    "metric_id": "infra.cpu_usage",
    "category": "infra",
    "description": "busy",
    "unit": "percent",
    "aggregation": "avg",
    "recommended_interval_seconds": 10,
    "thresholds": {"good": {"upper": 80}, "warning": {"lower": 70}},
}


def end(argv: list[str], **environ: str) -> tuple[int, str]:
    """Exit code and stderr of a process that must end by itself."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env={**os.environ, **environ}, check=False)
    return done.returncode, done.stderr


def refused(argv: list[str], code: int, *words: str) -> str:
    """It ends with this code and exactly one sentence, which says all of this."""
    got, said = end(argv)
    assert got == code, said
    assert said.count("\n") == 1 and said.startswith("stead"), said
    assert "Traceback" not in said and ": " in said.removeprefix("stead agent: ").removeprefix("stead hub: "), said
    assert [word for word in words if word not in said] == [], said
    return said


def programs(state: Path, *more: str) -> dict[str, list[str]]:
    """The three ways to start stead on a state."""
    where = ["--state", str(state), *more]
    return {
        "agent": [sys.executable, "-m", "stead.agent", *where],
        "up": [STEAD, "up", *where, "--port", str(free_port())],
        "hub": [STEAD, "hub", *where, "--port", str(free_port())],
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def config(folder: Path, **keys: Any) -> str:
    path = folder / "stead.yaml"
    path.write_text(yaml.safe_dump(keys))
    return str(path)


def sums(folder: Path) -> dict[str, str]:
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in folder.iterdir() if one.is_file()}


def private(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("who", ["agent", "up", "hub"])
def test_broken_yaml_and_an_unknown_key_are_named_by_file_and_line(tmp_path: Path, who: str) -> None:
    file, state = tmp_path / "stead.yaml", tmp_path / "state"
    argv = programs(state, "--config", str(file))[who]
    file.write_text("agent:\n  interval_s: [1\n")
    refused(argv, 2, "not YAML", f"{file}, line 3", "mend that line")
    file.write_text("agent:\n  intervall_s: 1\n")
    refused(argv, 2, "unknown key agent.intervall_s", f"{file}, line 2", "did you mean interval_s?")
    assert not state.exists()


def test_impossible_bands_and_a_policy_that_allows_too_much(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (tmp_path / "bands.yaml").write_text(yaml.safe_dump({"metrics": [BANDS]}))
    argv = programs(state, "--config", config(tmp_path, catalog=str(tmp_path / "bands.yaml")))["agent"]
    refused(argv, 2, "overlap from 70", f"{tmp_path}/bands.yaml, line", "infra.cpu_usage")
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    argv = programs(state, "--config", config(tmp_path, policy=str(tmp_path / "policy.yaml")))["agent"]
    refused(argv, 2, "calm-init would allow", "protected target, systemd", f"{tmp_path}/policy.yaml, line")


@pytest.mark.parametrize("name", ["ledger.db", "series.db"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_database_from_a_newer_version_is_left_as_it_is(tmp_path: Path, name: str, killed: bool) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    newer = (
        f"import sqlite3, os; db = sqlite3.connect({str(state / name)!r}, isolation_level=None)\n"
        "db.execute('PRAGMA journal_mode=WAL'); db.execute('CREATE TABLE new (a)'); db.execute('INSERT INTO new VALUES (7)')\n"
        f"db.execute('PRAGMA user_version=99'); {'os.kill(os.getpid(), 9)' if killed else 'db.close()'}"
    )
    subprocess.run([sys.executable, "-c", newer], check=False)
    before = {key: value for key, value in sums(state).items() if name in key and not key.endswith("-shm")}
    assert f"{name}-wal" in before or not killed
    for who in ("agent", "up"):
        refused(programs(state)[who], 1, "99", str(state / name), "newer stead")
    assert before.items() <= sums(state).items()
    db = sqlite3.connect(state / name)
    assert db.execute("SELECT a FROM new").fetchall() == [(7,)]
    db.close()


def test_a_damaged_database_is_left_as_it_is(tmp_path: Path) -> None:
    for name in ("ledger.db", "series.db"):
        state = tmp_path / name
        state.mkdir(mode=0o700)
        private(state / name, b"not a database, " * 64)
        before = sums(state)
        refused(programs(state)["agent"], 1, "damaged", str(state / name), "move")
        assert before.items() <= sums(state).items()


@pytest.mark.parametrize("who", ["agent", "up", "hub"])
def test_a_state_that_is_a_file(tmp_path: Path, who: str) -> None:
    state = tmp_path / "state"
    state.write_text("mine")
    refused(programs(state)[who], 1, str(state), "--state")
    assert state.read_text() == "mine"


@ROOT
@pytest.mark.parametrize("who", ["agent", "up", "hub"])
def test_a_read_only_state(tmp_path: Path, who: str) -> None:
    state = tmp_path / "state"
    with agent(tmp_path) as one:
        one.stop()
    before = sums(state)
    kind = f'{{"kind": "readonly", "path": "{state}"}}'
    refused([sys.executable, INSIDE, kind, *programs(state)[who]], 1, "Read-only file system", str(state), "--state")
    assert sums(state) == before


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for verb in ("up", "hub"):
            refused([STEAD, verb, "--state", str(tmp_path / "state"), "--port", port], 1, "in use", port, "--port")


def test_two_agents_on_one_state(tmp_path: Path) -> None:
    with agent(tmp_path) as one:
        assert one.process is not None
        argv = programs(one.state)
        refused(argv["agent"], 1, f"(pid {one.process.pid})", str(one.state), "--state")
        refused(argv["up"], 1, f"pid {one.process.pid}", str(one.state), "--state")
        assert one.answers()
        assert one.stop() == 0


def test_of_two_that_start_at_once_one_runs(tmp_path: Path) -> None:
    state = tmp_path / "state"
    both = [subprocess.Popen(programs(state)["up"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    try:
        lost = wait_until(lambda: [one for one in both if one.poll() is not None], "one gives up", 60)[0]
        _, said = lost.communicate(timeout=30)
        assert lost.returncode == 1 and said.count(b"\n") == 1 and b"Traceback" not in said, said
        won = both[1 - both.index(lost)]
        wait_until(lambda: (state / "token").exists(), "the other runs", 60)
        assert won.poll() is None
        won.send_signal(signal.SIGTERM)
        assert won.wait(30) == 0
    finally:
        for one in both:
            if one.poll() is None:
                one.kill()
            one.communicate()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00" * 30, b"short\n"])
def test_a_key_that_is_damaged_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty key above all: with it, anybody could pass for the hub."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    key = private(state / "hub.key", content)
    for who in ("agent", "hub"):
        refused(programs(state)[who], 1, "damaged", str(key), "delete it")
    assert key.read_bytes() == content


@pytest.mark.parametrize("name", ["hub.key", "token"])
def test_a_secret_that_is_open_to_others_or_no_file(tmp_path: Path, name: str) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / name).write_text("a" * 52)
    (state / name).chmod(0o644)
    who = "agent" if name == "hub.key" else "hub"
    refused(programs(state)[who], 1, "open to others (mode 0644)", str(state / name), "delete it")
    (state / name).unlink()
    (state / name).mkdir()
    refused(programs(state)[who], 1, "Is a directory", str(state / name), "delete it")


def test_an_autonomy_that_can_not_be_understood_only_observes_and_says_so(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "autonomy.json").write_text('{"mode": "act"')
    with agent(tmp_path, mode="act") as one:
        status = one.ask(m.GetStatus())
        assert (status.mode, status.autonomy.locked) == ("observe", True)
        assert [s.detail for s in status.stations if s.name == "autonomy" and s.ok is False and "stead mode" in s.detail]
        assert one.stop() == 0
    assert (state / "autonomy.json").read_text() == '{"mode": "act"'


@ROOT
def test_another_user_may_not_order_nor_start_stead_on_this_state(public_path: Path) -> None:
    nobody = [sys.executable, "-c", AS_NOBODY]
    with agent(public_path) as one:
        one.state.chmod(0o711)
        refused([*nobody, "stead", "--state", str(one.state), "undo", "latest"], 1, f"uid {NOBODY} may only pause", "admins")
        assert end([*nobody, "stead", "--state", str(one.state), "pause"]) == (0, "")
        assert one.ask(m.GetStatus()).paused, "whoever reaches the socket may pause"
        refused([*nobody, "agent", "--state", str(one.state)], 1, "belongs to root", str(one.state), "--state")
        one.stop()
    one.state.chmod(0o700)
    before = sums(one.state)
    refused([*nobody, "agent", "--state", str(one.state)], 1, str(one.state), "--state")
    assert sums(one.state) == before


HANGING = """
from stead.model.observe import MetricSpec, Reading, Sample
class Pipe:
    name, interval_s, timeout_s, blocking = "steadtestpipe", 1.0, 0.5, True
    metrics = (MetricSpec("steadtest.pipe", "count", "what the pipe says"),)
    def read(self, host, now):
        return Reading((Sample("steadtest.pipe", "host", float(open(%r).read())),))
"""


def plugin(folder: Path, name: str, entry: str, code: str) -> dict[str, str]:
    """Install a probe of somebody else's where only this agent finds it."""
    package = folder / "site" / f"{name}-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[stead.probes]\n{name} = {name}:{entry}\n")
    (folder / "site" / f"{name}.py").write_text(code)
    return {"PYTHONPATH": str(folder / "site")}


def test_a_broken_plugin_is_named_and_the_others_run(tmp_path: Path) -> None:
    environ = plugin(tmp_path, "steadtestbroken", "probe", "raise RuntimeError('half installed')\n")
    with agent(tmp_path, environ=environ) as one:
        stations = {s.name: s for s in one.ask(m.GetStatus()).stations}
        assert stations["plugin steadtestbroken"].ok is False
        assert stations["plugin steadtestbroken"].detail == "RuntimeError: half installed"
        wait_until(lambda: one.ask(m.GetStatus()).ticks >= 2, "it ticks")
        assert one.stop() == 0


def test_a_probe_that_hangs_on_a_pipe_is_a_finding_until_it_answers(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    environ = plugin(tmp_path, "steadtestpipe", "Pipe", HANGING % str(tmp_path / "pipe"))
    with agent(tmp_path, environ=environ) as one:
        [found] = wait_until(lambda: one.findings("stead.probe_up"), "the hanging probe is found")
        assert found.subject == "probe:steadtestpipe" and "hangs: no answer within 0.5 s" in found.title
        views = {(v.metric, v.subject): v for v in one.ask(m.GetMetrics()).metrics}
        assert views["steadtest.pipe", "host"].value is None
        assert len([v for v in views.values() if v.value is not None]) > 20, "the other probes are read"
        ticks = one.ask(m.GetStatus()).ticks
        wait_until(lambda: one.ask(m.GetStatus()).ticks >= ticks + 2, "it ticks on")
        (tmp_path / "pipe").write_text("7")
        wait_until(
            lambda: {v.value for v in one.ask(m.GetMetrics()).metrics if v.metric == "steadtest.pipe"} == {7.0}, "it reads"
        )
        assert one.stop() == 0


@ROOT
@pytest.mark.skipif(not Path("/dev/fuse").exists() or shutil.which("nsenter") is None, reason="needs /dev/fuse and nsenter")
def test_a_file_system_that_never_answers_stops_nothing_and_it_is_over_when_it_goes(tmp_path: Path) -> None:
    mount = tmp_path / "frozen"
    mount.mkdir()
    try:
        fd = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"/dev/fuse can't be used here: {error}")
    os.set_inheritable(fd, True)
    kind = f'{{"kind": "fuse", "path": "{mount}", "fd": {fd}}}'
    probes = {"disk_space": {"interval_s": 1}}
    one = Agent(tmp_path, config={"agent": {"probes": probes}}, before=(sys.executable, INSIDE, kind), pass_fds=(fd,))
    try:
        one.start()
        [found] = wait_until(lambda: one.findings("infra.disk_answers"), "the frozen mount is found", 30)
        assert (found.subject, found.band) == (f"mount:{mount}", "critical") and str(mount) in found.title
        views = {(v.metric, v.subject): v for v in one.ask(m.GetMetrics()).metrics}
        frozen = views["infra.disk_usage", f"mount:{mount}"]
        assert (frozen.value, frozen.reason) == (None, "the file system does not answer")
        assert views["infra.disk_usage", "mount:/"].value is not None, "other mounts are read"
        ticks = one.ask(m.GetStatus()).ticks
        wait_until(lambda: one.ask(m.GetStatus()).ticks >= ticks + 3, "it ticks on")
        assert one.process is not None
        subprocess.run(["nsenter", "-t", str(one.process.pid), "-m", "umount", "-l", str(mount)], check=True)
        wait_until(lambda: not one.findings("infra.disk_answers"), "the finding clears", 60)
        assert one.stop() == 0
    finally:
        os.close(fd)  # ends the file system, whoever still asks it
        one.kill()
