"""stead's actuators inside a guest, asked from outside: `tests/guest/inside/bench.py` with a door."""

from __future__ import annotations

import json
from typing import Any

from tests.guest.machine import Machine

SOCKET = "/run/steadtest.sock"
UNIT = "steadtest-bench"
PYTHON = "PYTHONPATH=/opt/stead/suite PYTHONDONTWRITEBYTECODE=1 /opt/stead/bin/python"


class RefusedError(AssertionError):
    """stead refused, or the system did; `code` is stead's own for it or the exception's name."""

    def __init__(self, error: str, code: str) -> None:
        super().__init__(error)
        self.code = code


class Bench:
    """One guest's actuators. A group is named by its path."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        command = f"{PYTHON} -m tests.guest.inside.bench {SOCKET}"
        machine.run(f"systemd-run -q --unit={UNIT} /bin/sh -c 'exec env {command}'")
        machine.run(f"for i in $(seq 300); do test -S {SOCKET} && exit 0; sleep 0.1; done; journalctl -u {UNIT}; exit 1")

    def ask(self, do: str, **asked: Any) -> Any:
        """One question. RefusedError when stead or the system refused; AssertionError with a trace when it broke.

        A system manager that gives no answer in time is asked again: the machine is emulated, and shares its cores with another.
        """
        for _ in range(4):
            answer = json.loads(self.machine.relay(SOCKET, json.dumps({"do": do, **asked}).encode() + b"\n") or b"null")
            if not isinstance(answer, dict) or "no answer within" not in answer.get("error", ""):
                break
        assert answer is not None, "the bench gave no answer"
        if "error" in answer:
            if answer["code"] == "broken":
                raise AssertionError(answer["error"])
            raise RefusedError(answer["error"], answer["code"])
        return answer

    def read(self, path: str, actuator: str = "limit", kind: str = "cgroup") -> dict[str, Any]:
        """A state, its known fields."""
        return dict(self.ask("read", actuator=actuator, kind=kind, name=path)["state"])

    def apply(self, path: str, actuator: str = "limit", kind: str = "cgroup", back: bool = False, **state: Any) -> dict[str, Any]:
        """Plan and write; with `back` undo it then. See `inside.bench.apply` for what comes back."""
        return dict(self.ask("apply", actuator=actuator, kind=kind, name=path, state=state, back=back))

    def undo(self, path: str, told: dict[str, Any], actuator: str = "limit", kind: str = "cgroup") -> None:
        """Write what was before `apply` told that."""
        self.ask("write", actuator=actuator, kind=kind, name=path, state=told["before"])
