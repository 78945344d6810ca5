"""Settings for every test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine makes any example slow; what hangs is ended by pytest-timeout.
settings.register_profile("stead", deadline=None)
settings.load_profile("stead")


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that another user may enter: pytest closes its own again whenever some pytest starts."""
    with tempfile.TemporaryDirectory(prefix="stead-public-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        yield folder
