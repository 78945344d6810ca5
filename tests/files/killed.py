"""Moves one file and dies by its own SIGKILL right before its n-th call that changes something.

python killed.py ROOT TARGET-AS-JSON WANT N        exit 0: it was done before the n-th such call
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from stead.files import packing, quarantine, rename
from stead.model.change import Target
from tests.files.kit import Place

CHANGING = ("link", "unlink", "mkdir", "fsync", "write", "pwrite", "fchown", "fchmod", "setxattr", "utime", "symlink")


def main(root: str, target: str, want: str, last: int) -> None:
    place = Place(Path(root))
    left = last

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **more)

        return call

    for name in CHANGING:
        setattr(os, name, counted(getattr(os, name)))
    moved = counted(rename.rename)
    for module in (quarantine, packing):
        module.rename = moved  # type: ignore[attr-defined]
    place.move(msgspec.json.decode(target, type=Target), None if want == "gone" else want)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
