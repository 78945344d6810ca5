"""Child processes of `stead up`: started apart from the terminal, watched, and stopped in order."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import FrameType, TracebackType
from typing import Any, Final, Self

from stead.model.errors import EXIT_FAILURE, SteadError

STOP_S: Final = 15.0  # for a clean stop, before it is killed
TAIL: Final = 20  # lines of stderr that are remembered


class Child:
    """One process. A session of its own: Ctrl-C reaches it once, from us, and its CPU share is not the shell's."""

    def __init__(self, name: str, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        self.name = name
        self.errors: deque[str] = deque(maxlen=TAIL)
        self._process = subprocess.Popen(
            argv, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        self._reader = threading.Thread(target=self._read, name=f"stderr of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code once it has ended (128 + signal when one ended it), else None."""
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    @property
    def reason(self) -> str:
        """Why it ended: the last sentence it wrote, else its code."""
        self._reader.join(1.0)
        said = next((line for line in reversed(self.errors) if line.strip()), "")
        return (
            said.removeprefix(f"stead {self.name}: ").removeprefix("stead: ").strip()
            or f"it said nothing and ended with code {self.code}"
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> bool:
        """Wait for its end; kill it after `timeout_s`. Gives whether it ended by itself."""
        try:
            self._process.wait(timeout_s)
            return True
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False

    def _read(self) -> None:
        """Keep the last lines of stderr, so that its pipe never fills."""
        with self._process.stderr or open("/dev/null", "rb") as pipe:  # noqa: PTH123
            for line in pipe:
                self.errors.append(line.decode(errors="replace").rstrip())


def first_ended(children: Sequence[Child]) -> Child | None:
    """The first child that has ended, if one has."""
    return next((child for child in children if child.code is not None), None)


def stop_all(children: Sequence[Child], timeout_s: float = STOP_S) -> list[Child]:
    """Stop them in reverse order of their start, each after the one before; give those that had to be killed."""
    deadline = time.monotonic() + timeout_s
    killed = []
    for child in reversed(children):
        child.stop()
        if not child.wait(max(deadline - time.monotonic(), 1.0)):
            killed.append(child)
    return killed


def died(child: Child) -> SteadError:
    """A child that ended by itself, with its reason and its exit code; 0 becomes a failure."""
    code = child.code or EXIT_FAILURE
    return SteadError(f"the {child.name} ended: {child.reason}", "", "", code=f"up.{child.name}-ended", exit_code=code)


class Signals:
    """SIGINT, SIGTERM and SIGHUP are counted instead of obeyed; the second one kills the children."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.count = 0
        self._children = children
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        for child in self._children:
            child.stop(signal.SIGKILL if self.count > 1 else signal.SIGTERM)
