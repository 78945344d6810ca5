"""Linux IO priorities by raw system call: the C library has no function for them, and ctypes costs memory until needed."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from typing import Final

_GENERIC: Final = (30, 31)  # (ioprio_set, ioprio_get) of arm64, riscv and other younger architectures
_NUMBERS: Final = {
    "x86_64": (251, 252),
    "i386": (289, 290),
    "i686": (289, 290),
    "armv6l": (314, 315),
    "armv7l": (314, 315),
    "ppc64le": (273, 274),
    "s390x": (282, 283),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
}
_CLASSES: Final = ("none", "realtime", "best_effort", "idle")
_CLASS_SHIFT: Final = 13
_WHO_PROCESS: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)


def get(pid: int) -> tuple[str, int]:
    """Read the class and level of one thread. Raises OSError."""
    value = _call(_number(1), _WHO_PROCESS, pid)
    return _CLASSES[value >> _CLASS_SHIFT & 7], value & 7


def put(pid: int, cls: str, level: int) -> None:
    """Set the class and level of one thread; the classes none and idle have no level. Raises OSError."""
    if cls not in _CLASSES or not 0 <= level <= 7:
        raise OSError(errno.EINVAL, f"no IO priority {cls!r} {level}")
    number = _CLASSES.index(cls)
    _call(_number(0), _WHO_PROCESS, pid, number << _CLASS_SHIFT | (level if number in (1, 2) else 0))


def _number(which: int) -> int:
    numbers = _NUMBERS.get(platform.machine())
    if numbers is None:
        raise OSError(errno.ENOSYS, f"IO priorities are unknown on {platform.machine()}")
    return numbers[which]


def _call(number: int, *arguments: int) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments)))
    if result < 0:
        failure = ctypes.get_errno()
        raise OSError(failure, os.strerror(failure))
    return result
