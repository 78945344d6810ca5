"""`stead up` with real child processes: a fake agent and a fake hub, started, followed, stopped, dying."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stead.cli.children import Child, stop_all
from stead.cli.up import Plan, Up, plan_up, road_station
from stead.model.config import Paths
from stead.model.errors import EXIT_TIMEOUT, EXIT_USAGE, SteadError
from tests.cli.fake_agent import FakeAgent, stations, status

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DRIVER = """
import sys, msgspec
from stead.cli.up import Plan, Up
from stead.cli.root import Stead
import click

@click.group(cls=Stead)
def stead(): pass
plan = msgspec.json.decode(sys.argv[1], type=Plan)
Stead.get_command = lambda self, ctx, name: click.Command(name, callback=lambda: Up(plan, as_json=name == "status").run())
stead(sys.argv[2:])
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def plan(state: Path) -> Plan:
    port = free_port()
    (state / "token").write_text("stead_abc_def\n")
    paths = Paths(str(state), str(state / "run"), str(state / "log"))
    environ = {**os.environ, "STEAD_HUB__PORT": str(port), "PYTHONPATH": str(ROOT)}
    agent = (sys.executable, str(HERE / "fake_agent.py"), paths.socket)
    return Plan(paths, "127.0.0.1", port, agent, (sys.executable, str(HERE / "fake_hub.py")), environ)


class Started:
    """`stead up` as a process, read line by line."""

    def __init__(self, plan: Plan, verb: str = "up") -> None:
        argv = [sys.executable, "-c", DRIVER, msgspec.json.encode(plan).decode(), verb]
        environ = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        self.process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=environ
        )
        self.lines: list[str] = []

    def until(self, words: str) -> str:
        """Read until a line has these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if words in line:
                return line.rstrip()
        raise AssertionError(f"{words!r} never came: {self.lines} {self.process.stderr and self.process.stderr.read()}")

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, remaining output, errors."""
        out, errors = self.process.communicate(timeout=30)
        return self.process.returncode, out, errors


@pytest.fixture
def up(plan: Plan) -> Iterator[Started]:
    one = Started(plan)
    yield one
    if one.process.poll() is None:
        one.process.terminate()
        one.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_station_the_address_what_happens_and_a_clean_stop(up: Started, plan: Plan, number: signal.Signals) -> None:
    up.until("nothing was changed: `stead mode act` lets it act")
    text = "\n".join(up.lines)
    order = [text.index(f"✓ {name}") for name in ("observe", "find", "propose", "decide", "act", "verify", "record", "hub")]
    assert order == sorted(order)
    assert "2 probes, without an answer: disk" in text and "mode advise" in text
    assert f"http://127.0.0.1:{plan.port}/#stead_abc_def" in text and plan.paths.token in text and "Ctrl-C stops both" in text
    assert "sh (pid 4711) has used 1.0 cores" in text and "rule:calm-hogs" in text and "autogroup  0 → 19" in text
    up.process.send_signal(number)
    code, out, errors = up.end()
    assert (code, errors) == (0, "")
    assert "hub and agent stopped cleanly" in out
    assert not Path(plan.paths.socket).exists()


def test_a_program_gets_json_lines_only(plan: Plan) -> None:
    one = Started(plan, "status")
    one.until("run.advised")
    one.process.send_signal(signal.SIGINT)
    assert one.end()[0] == 0
    kinds = [json.loads(line)["kind"] for line in one.lines]
    assert kinds == ["ready", "event", "event"]


def test_an_agent_that_cannot_start_gives_its_reason_and_code(plan: Plan) -> None:
    agent = (*plan.agent, "--die", "stead agent: the state directory is read-only (/x): mount it read-write", "7")
    code, out, errors = Started(msgspec.structs.replace(plan, agent=agent)).end()
    assert code == 7
    assert errors == "stead: the agent ended: the state directory is read-only (/x): mount it read-write\n"
    assert "Traceback" not in out


def test_a_hub_that_cannot_start_takes_the_agent_with_it(plan: Plan) -> None:
    hub = (sys.executable, "-c", "import sys; sys.exit('stead: the port is in use')")
    one = Started(msgspec.structs.replace(plan, hub=hub))
    code, _, errors = one.end()
    assert code == 1 and errors == "stead: the hub ended: the port is in use\n"
    assert not Path(plan.paths.socket).exists()


def test_an_agent_that_dies_later_ends_everything_with_its_code(plan: Plan) -> None:
    one = Started(msgspec.structs.replace(plan, agent=(*plan.agent, "--live", "1.5")))
    one.until("nothing was changed")
    code, _, errors = one.end()
    assert code == 9 and errors.startswith("stead: the agent ended:")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", plan.port), 1)


def test_a_listener_that_was_cut_off_listens_again(plan: Plan) -> None:
    one = Started(msgspec.structs.replace(plan, agent=(*plan.agent, "--cut", "1")))
    one.until("nothing was changed")
    one.until("cleared")
    one.process.send_signal(signal.SIGTERM)
    code, out, errors = one.end()
    assert (code, errors) == (0, "") and "stopped cleanly" in out


def test_what_only_a_lease_holds_is_put_back_at_the_end_and_what_goes_on_is_said(plan: Plan) -> None:
    one = Started(msgspec.structs.replace(plan, agent=(*plan.agent, "--leased"), workloads=("web", "jobs")))
    one.until("nothing was changed")
    one.process.send_signal(signal.SIGINT)
    code, out, errors = one.end()
    assert (code, errors) == (0, "")
    assert out.index("stopped cleanly") < out.index("the fake put it back") < out.index("1 change under a lease put back")
    assert "the workers of web, jobs go on; the next start takes them over" in out


def test_a_second_signal_kills_says_so_and_puts_back_what_a_lease_held(plan: Plan) -> None:
    deaf = "import signal, sys; sys.path.insert(0, sys.argv[1]); import fake_hub; signal.signal = print; fake_hub.main()"
    hub = (sys.executable, "-c", f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {deaf}", str(HERE))
    one = Started(msgspec.structs.replace(plan, agent=(*plan.agent, "--leased"), hub=hub))
    one.until("nothing was changed")
    one.process.send_signal(signal.SIGINT)
    one.until("stopping")
    one.process.send_signal(signal.SIGINT)
    code, out, errors = one.end()
    assert code == EXIT_TIMEOUT and "1 change under a lease put back" in out
    assert "killed by a second signal" in errors and "settled at the next start" in errors and "hub" in errors


def test_without_a_lease_nothing_is_put_back(up: Started) -> None:
    up.until("nothing was changed")
    up.process.send_signal(signal.SIGINT)
    assert "put back" not in up.end()[1]


def test_a_port_in_use_is_refused_before_anything_starts(plan: Plan) -> None:
    with socket.create_server(("127.0.0.1", plan.port)):
        with pytest.raises(SteadError, match=f"port {plan.port} of 127.0.0.1 is in use.*--port"):
            Up(plan).run()
    assert not Path(plan.paths.socket).exists()


def test_a_second_agent_on_one_state_is_refused(agent: FakeAgent, plan: Plan) -> None:
    with pytest.raises(SteadError, match=r"an agent already runs on .* \(pid 4242, mode advise\).*another --state"):
        Up(plan).run()


def test_the_plan_follows_options_and_configuration(state: Path) -> None:
    plan = plan_up(str(state), 8123, "act", None, {"PATH": "/bin"})
    assert plan.address == "http://127.0.0.1:8123"
    assert plan.agent == (sys.executable, "-P", "-m", "stead.agent", "--state", str(state), "--mode", "act")
    assert plan.hub[:4] == (sys.executable, "-P", "-m", "stead.hub")
    assert plan.environ["STEAD_HUB__PORT"] == "8123"
    assert plan_up(str(state), None, None, None, {"STEAD_HUB__PORT": "9000"}).port == 9000


def test_a_broken_configuration_is_said_before_anything_starts(state: Path) -> None:
    file = state / "stead.yaml"
    file.write_text("hub:\n  prot: 1\n")
    with pytest.raises(SteadError, match="prot") as caught:
        plan_up(str(state), None, None, str(file), {})
    assert caught.value.problem.exit_code == EXIT_USAGE


def test_a_station_is_said_when_it_is_known_or_when_time_is_up() -> None:
    unknown = status(stations=stations(None))
    assert road_station(unknown, "find", late=False) is None
    late = road_station(unknown, "find", late=True)
    assert late is not None and late.ok is None and late.detail == "unknown"
    assert road_station(status(stations=()), "find", late=False) is None
    ill = road_station(status(stations=stations(False)), "find", late=False)
    assert ill is not None and ill.ok is False


def test_children_stop_in_reverse_order_and_one_that_will_not_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "order"
    quits = (
        "import signal,sys,time,pathlib\n"
        "def end(*a):\n    open(sys.argv[2],'a').write(sys.argv[1]); sys.exit(0)\n"
        "signal.signal(15, end); open(sys.argv[2]+sys.argv[1],'w')\ntime.sleep(60)"
    )
    stubborn = "import signal,sys,time\nsignal.signal(15, signal.SIG_IGN); open(sys.argv[2]+sys.argv[1],'w')\ntime.sleep(60)"
    programs = (("a", quits), ("b", quits), ("c", stubborn))
    children = [Child(name, (sys.executable, "-c", code, name, str(note)), os.environ) for name, code in programs]
    while not all((tmp_path / f"order{name}").exists() for name in "abc"):
        assert all(child.code is None for child in children)
    assert [child.name for child in stop_all(children, 0.2)] == ["c"]
    assert note.read_text() == "ba"
    assert [child.code for child in children] == [0, 0, 128 + signal.SIGKILL]
