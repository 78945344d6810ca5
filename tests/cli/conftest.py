"""A state directory with a fake agent behind its socket, and a way to call the command in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stead.cli.root import stead
from tests.cli.fake_agent import FakeAgent

Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runners of pytest-xdist say that they are 80 columns wide: without that, no line is broken."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def state() -> Iterator[Path]:
    """A short path: a socket's may have 107 bytes only."""
    with tempfile.TemporaryDirectory(prefix="stead-") as folder:
        yield Path(folder)


@pytest.fixture
def agent(state: Path) -> Iterator[FakeAgent]:
    fake = FakeAgent(state / "run" / "agent.sock")
    yield fake
    fake.close()


@pytest.fixture
def call(state: Path) -> Call:
    """Call `stead` with these words on this state."""

    def run(*words: str, input: str | None = None) -> Result:
        return CliRunner().invoke(stead, ["--state", str(state), *words], input=input, prog_name="stead")

    return run
