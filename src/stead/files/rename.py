"""Rename that never replaces: renameat2(2) with RENAME_NOREPLACE, which the C library has and Python has not."""

from __future__ import annotations

import errno
import os
from typing import Final

_NOREPLACE: Final = 1


def rename(folder: int, name: bytes, to_folder: int, to_name: bytes) -> None:
    """Move a name from one open folder to another. FileExistsError when there is something already; OSError EXDEV: another mount.

    OSError EINVAL where the file system can't promise not to replace.
    """
    import ctypes  # here: it is memory that most agents never need

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, "this system has no renameat2")
    arguments = (folder, ctypes.c_char_p(name), to_folder, ctypes.c_char_p(to_name), ctypes.c_uint(_NOREPLACE))
    if int(call(*arguments)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
