"""Which files this process itself has open now: who else has one open can only be told while we have it open once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final

PATIENCE_S: Final = 10.0


class AtWork:
    """The paths that are being changed, and a turn for those who only look."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._changing: set[bytes] = set()

    @contextlib.contextmanager
    def looking(self, path: bytes) -> Iterator[bool]:
        """A short look at one file. False: it is being changed, or another look hangs, so it must not be opened now."""
        if not self._turn.acquire(timeout=PATIENCE_S):
            yield False
            return
        try:
            yield path not in self._changing
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def changing(self, path: bytes) -> Iterator[None]:
        """A change of one file; nobody looks at it meanwhile. BlockingIOError: a look hangs, or it is being changed already."""
        with self.looking(path) as alone:
            if not alone:
                raise BlockingIOError("stead is at work on this file already")
            self._changing.add(path)
        try:
            yield
        finally:
            self._changing.discard(path)
