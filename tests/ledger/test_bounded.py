"""Files that strangers gave: read whole up to a limit, and refused where they would fill the memory or never end."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from stead.ledger import bounded


def refusal(path: Path, limit: int) -> int:
    with pytest.raises(OSError) as raised:
        bounded.read(path, limit)
    return raised.value.errno or 0


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert bounded.read(path, 5) == b"12345"
    assert refusal(path, 4) == errno.EFBIG


def test_a_file_that_claims_a_terabyte_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert refusal(path, 1000) == errno.EFBIG


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe", 10) == errno.EINVAL
    assert refusal(Path("/dev/zero"), 10) == errno.EINVAL
    assert refusal(tmp_path, 10) == errno.EISDIR
    assert refusal(tmp_path / "none", 10) == errno.ENOENT
