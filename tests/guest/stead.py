"""stead inside a guest, as people install it: its unit, its configuration, and its socket, asked from outside."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

from stead.model import messages as m
from stead.model.change import FINAL, Run
from stead.model.errors import Problem, SteadError
from stead.model.find import Finding
from stead.wire.codec import decode_outgoing, encode
from tests.guest.machine import Machine

T = TypeVar("T")
PATIENCE = 2  # how often a limit is waited for: it is for what hangs, and two guests share what the machine has
SOCKET = "/run/stead/agent.sock"
ALLOW = {"rules": [{"name": "the-guest-is-ours", "then": "allow", "when": {}}], "budget": {"actions_per_hour": 1000}}


class Stead:
    """The agent of one guest. Values given to `configure` are JSON, which YAML can read."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def configure(self, config: dict[str, Any], catalog: dict[str, Any] | None = None, policy: Any = ALLOW) -> None:
        """Install its units and write its configuration, a catalogue laid over the shipped one, and its policy."""
        files = {"stead.yaml": {**config, "policy": "/etc/stead/policy.yaml"}, "policy.yaml": policy}
        if catalog is not None:
            files["stead.yaml"]["catalog"] = "/etc/stead/short.yaml"
            files["short.yaml"] = catalog
        for name, value in files.items():
            self.machine.put(f"/etc/stead/{name}", json.dumps(value))
        self.machine.run("cp /opt/stead/deploy/systemd/*.service /etc/systemd/system/ && systemctl daemon-reload")

    def start(self) -> Stead:
        """Start its unit; it says itself when it is ready. AssertionError with its journal when it does not come up."""
        done = self.machine.run("systemctl start stead-agent", check=False, timeout_s=90)
        assert done.rc == 0, done.err + self.journal()
        return self

    def stop(self) -> None:
        """Stop its unit."""
        self.machine.run("systemctl stop stead-agent")

    def journal(self) -> str:
        """What it said."""
        return self.machine.run("journalctl -u stead-agent --no-pager -n 60 -o cat", check=False).out

    def ask(self, body: Any) -> Any:
        """One question to the agent, as its command line asks. SteadError for a problem, ConnectionError where none runs."""
        reply = decode_outgoing(self.machine.relay(SOCKET, encode(m.Request(1, body))))
        assert isinstance(reply, m.Reply), reply
        if isinstance(reply.body, Problem):
            raise SteadError.of(reply.body)
        return reply.body

    def findings(self, metric: str = "") -> list[Finding]:
        """Open findings."""
        return [f for f in self.ask(m.ListFindings()).findings if not metric or f.metric == metric]

    def runs(self, playbook: str = "") -> list[Run]:
        """Runs and proposals, newest first."""
        return [r for r in self.ask(m.ListRuns()).runs if not playbook or r.proposal.playbook == playbook]

    def run_in(self, playbook: str, *states: str, timeout_s: float = 60.0) -> Run:
        """The newest run of a playbook once it is in one of these states. AssertionError with all runs when it is not in time."""

        def found() -> Run | None:
            return next((run for run in self.runs(playbook) if run.state in states), None)

        def told() -> str:
            return "\n".join(f"{r.proposal.playbook} {r.state} {r.reason} {r.proposal.impossible}" for r in self.runs())

        run = wait_until(found, f"a run of {playbook} is {' or '.join(states)}", timeout_s, told)
        assert run is not None
        return run

    def entries(self, *types: str) -> list[Any]:
        """Entries of the ledger of these types, newest first."""
        return [entry for entry in self.ask(m.ListEntries(500)).entries if not types or entry.type in types]

    def live(self) -> list[Run]:
        """Runs that may still change something."""
        return [run for run in self.runs() if run.state not in FINAL]


def wait_until(condition: Callable[[], T], what: str, timeout_s: float = 30.0, told: Callable[[], str] = lambda: "") -> T:
    """Wait for something true and return it; what is `told` explains why it did not come."""
    deadline = time.monotonic() + PATIENCE * timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {PATIENCE * timeout_s:g} s until {what}\n{told()}"
        time.sleep(0.3)
