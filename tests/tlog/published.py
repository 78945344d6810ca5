"""The published vectors that are kept in tests/vectors, as plain values."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "vectors"


def published(name: str) -> Any:
    """What one file of vectors holds; `.gz` is unpacked."""
    data = (FOLDER / name).read_bytes()
    return json.loads(gzip.decompress(data) if name.endswith(".gz") else data)
