"""A fake agent behind a socket with a short path."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.fake_agent import FakeAgent


@pytest.fixture
def agent() -> Iterator[FakeAgent]:
    with tempfile.TemporaryDirectory(prefix="stead-") as folder:
        fake = FakeAgent(Path(folder) / "agent.sock")
        yield fake
        fake.close()
