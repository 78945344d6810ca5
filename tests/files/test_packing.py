"""Whatever fails in the middle of a compression, one of the two forms stands: no error takes both."""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from tests.files.kit import Place

DATA = b"line\n" * 50_000


@pytest.mark.parametrize("call", ["fsync", "fstatvfs"])
def test_an_error_after_the_plain_form_went_does_not_take_the_compressed_one_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    place = Place(tmp_path)
    path = place.file("/var/log/app.log.1", DATA)
    target = place.target(path, inode=False)
    unlink, really, gone = os.unlink, getattr(os, call), list[Any]()

    def unlinked(name: Any, **more: Any) -> None:
        unlink(name, **more)
        gone.extend([name] if os.fsencode(name).endswith(b".plain") else [])

    def fails(descriptor: int) -> Any:
        if gone:
            gone.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return really(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", unlinked)
        patched.setattr(os, call, fails)
        with pytest.raises(OSError, match="Input/output error"):
            place.move(target, "compressed")
    with gzip.open(place.real(path + b".gz")) as packed:
        assert packed.read() == DATA
    assert place.place(target) == "compressed"
    place.move(target, "here")
    with open(place.real(path), "rb") as back:
        assert back.read() == DATA
