from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from stead import wire
from stead.hub import app
from stead.hub.privilege import User, find_user
from stead.hub.serve import Heads, bound, listen
from stead.model import messages as m
from stead.model.errors import SteadError
from tests.hub.conftest import FakeAgent

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it gives root up")


class ThreadAgent:
    """A fake agent on a thread of its own, so that it answers while the test waits for a process."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o711)
        self.fake = FakeAgent(str(path))
        self.keys: list[str] = []
        self.uids: set[int] = set()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        path.chmod(0o666)
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self.uids.add(wire.peer_credentials(client)[1])
        with client, client.makefile("rb") as lines:
            for line in lines:
                request = wire.decode_request(line)
                if isinstance(request.body, m.Hello):
                    self.keys.append(request.body.key)
                    self.fake.key = request.body.key
                client.sendall(wire.encode(m.Reply(request.id, self.fake.answer(request))))


class Process:
    """A hub that really runs."""

    def __init__(self, state: Path, start: tuple[str, ...] = ("-m", "stead.hub")) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.state = state
        argv = [sys.executable, *start, "--state", str(state), "--port", str(self.port)]
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("STEAD", "COV"))}
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ)

    def get(self, path: str) -> tuple[int, dict]:
        token = (self.state / "token").read_text().strip()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {token}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                self.get("/healthz")
                return
            except (OSError, ValueError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def proc(self, field: str) -> str:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return line.partition(":")[2].strip()
        raise KeyError(field)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return code


@pytest.fixture
def state(folder: Path) -> Path:
    made = folder / "state"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def agent_there(state: Path) -> Iterator[ThreadAgent]:
    made = ThreadAgent(state / "run" / "agent.sock")
    yield made
    made.close()


@ROOT
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_started_as_root_it_is_another_for_good_and_still_reaches_the_agent(state: Path, agent_there: ThreadAgent):
    hub = Process(state)
    try:
        hub.wait()
        user = find_user("")
        assert user.uid != 0
        assert hub.proc("Uid").split() == [str(user.uid)] * 4
        assert hub.proc("Gid").split() == [str(user.gid)] * 4
        assert hub.proc("Groups") == ""
        assert int(hub.proc("CapEff"), 16) == int(hub.proc("CapPrm"), 16) == 0
        code, body = hub.get("/api/v1/status")
        assert (code, body["host"]) == (200, "box"), body
        assert agent_there.uids == {user.uid}
        assert agent_there.keys[0] == (state / "hub.key").read_text().strip()
        assert {who for body, who in agent_there.fake.asked if not isinstance(body, m.Subscribe)} == {"uid:0"}
        for name in ("token", "hub.key"):
            found = (state / name).stat()
            assert (found.st_mode & 0o777, found.st_uid) == (0o600, 0)
        assert int(hub.proc("VmRSS").split()[0]) < 80 * 1024
    finally:
        assert hub.stop() == 0


WATCHED = """
import sys
import stead.hub.app as app
from stead.hub.__main__ import run
give_up = app.drop
def drop(user):
    give_up(user)
    before.update(sys.modules)
app.drop = drop
before = set()
code = run(sys.argv[1:])
late = [sys.modules[name] for name in set(sys.modules) - before]
print([m.__name__ for m in late if "site-packages" in (f := getattr(m, "__file__", None) or "") or "/stead/" in f])
sys.exit(code)
"""


@ROOT
def test_after_the_drop_it_loads_no_more_code_of_its_own(state: Path, agent_there: ThreadAgent):
    from websockets.sync.client import connect

    hub = Process(state, start=("-c", WATCHED))
    hub.wait()
    paths = [
        "status",
        "metrics",
        "hardware",
        "findings",
        "proposals",
        "runs/run-one",
        "why?thing=f1",
        "nothing",
        "why",
        "session",
    ]
    codes = [hub.get(f"/api/v1/{path}")[0] for path in paths]
    assert codes == [200] * 7 + [404, 400, 200]
    for path in ("/openapi.json", "/readyz"):
        assert hub.get(path)[0] == 200
    token = (state / "token").read_text().strip()
    with connect(f"ws://127.0.0.1:{hub.port}/api/v1/live", additional_headers={"Authorization": f"Bearer {token}"}) as channel:
        channel.recv(timeout=10)
    hub.process.send_signal(signal.SIGTERM)
    out, _ = hub.process.communicate(timeout=10)
    assert (hub.process.returncode, out.decode().strip()) == (0, "[]")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told_even_while_somebody_watches(state: Path, agent_there: ThreadAgent, number: int):
    from websockets.sync.client import connect

    hub = Process(state)
    hub.wait()
    token = (state / "token").read_text().strip()
    with connect(f"ws://127.0.0.1:{hub.port}/api/v1/live", additional_headers={"Authorization": f"Bearer {token}"}) as channel:
        assert json.loads(channel.recv(timeout=10))["kind"] == "snapshot"
        assert hub.stop(number) == 0


def test_without_an_agent_it_serves_and_says_so(state: Path):
    hub = Process(state)
    try:
        hub.wait()
        assert hub.get("/readyz")[0] == 503
        problem = hub.get("/api/v1/status")[1]
        assert problem["title"] == "agent unreachable"
        assert problem["detail"].startswith(f"no agent answers at {state}/run/agent.sock: start it")
        there = ThreadAgent(state / "run" / "agent.sock")
        assert hub.get("/api/v1/status")[0] == 200
        there.close()
    finally:
        assert hub.stop() == 0


def test_a_port_in_use_is_one_sentence(state: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        argv = [sys.executable, "-m", "stead.hub", "--state", str(state), "--port", str(port)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"stead hub: the port is in use (127.0.0.1:{port}): stop the program that listens there, or choose another with --port"
    )


def test_a_state_that_can_not_be_used_is_one_sentence(folder: Path):
    (folder / "file").write_text("")
    argv = [sys.executable, "-m", "stead.hub", "--state", str(folder / "file"), "--port", "0"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith("stead hub: the state can't be used") and done.stderr.count("\n") == 1


def test_a_new_state_is_closed_to_others(folder: Path):
    hub = Process(folder / "new")
    try:
        deadline = time.monotonic() + 30
        while not (folder / "new" / "token").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        hub.wait()
        assert (folder / "new").stat().st_mode & 0o777 == 0o700
        assert (folder / "new" / "run").stat().st_mode & 0o777 == 0o711
    finally:
        assert hub.stop() == 0


@pytest.mark.parametrize(("bind", "port"), [("no.such.name", 8000), ("127.0.0.1", 70_000), ("203.0.113.1", 0)])
def test_what_can_not_be_listened_on_is_refused(bind: str, port: int):
    with pytest.raises(SteadError):
        bound(bind, port)


def test_the_user_to_become_is_never_root():
    with pytest.raises(SteadError, match="never runs as root"):
        find_user("root")
    with pytest.raises(SteadError, match="no user named"):
        find_user("surely-nobody-has-this-name")
    assert pwd.getpwnam(find_user("").name).pw_uid != 0


def test_without_its_libraries_the_hub_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['litestar'] = None; from stead.hub.__main__ import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, "--state", tmp_path], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "litestar is missing" in done.stderr and "requirements/hub.txt" in done.stderr


def test_root_is_given_up_before_anybody_can_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    listening: list[int] = []

    def serve(_: app.Server, listener: socket.socket) -> int:
        listening.append(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        listener.close()
        return 0

    monkeypatch.setattr(app.os, "geteuid", lambda: 0)
    monkeypatch.setattr(app, "find_user", lambda wanted: User("stead", 1000, 1000))
    monkeypatch.setattr(app, "drop", lambda user: order.append("drop"))
    monkeypatch.setattr(app, "listen", lambda listener: (order.append("listen"), listen(listener)))
    monkeypatch.setattr(app, "log_to_stderr", lambda level: None)
    monkeypatch.setattr(app.Server, "run_on", serve)
    assert app.main(state=str(tmp_path), port=0) == 0
    assert order == ["drop", "listen"] and listening == [1]


def test_a_port_that_another_program_took_meanwhile_is_refused() -> None:
    first = bound("127.0.0.1", 0)
    second = bound("127.0.0.1", first.getsockname()[1])
    with first:
        listen(first)
        with pytest.raises(SteadError) as refused:
            listen(second)
    assert refused.value.problem.code == "hub.port-in-use"


async def test_head_is_answered_as_get() -> None:
    seen: list[str] = []

    async def inner(scope: dict[str, str], receive: object, send: object) -> None:
        seen.append(scope.get("method", ""))

    asked = {"type": "http", "method": "HEAD"}
    for scope in (asked, {"type": "http", "method": "POST"}, {"type": "lifespan"}):
        await Heads(inner)(scope, None, None)
    assert seen == ["GET", "POST", ""]
    assert asked["method"] == "HEAD"  # by which the server knows that no body follows
