"""Utilisation clamps (uclamp) by raw system call: how much of a CPU the governor and the scheduler believe a thread to need.

A low upper clamp keeps a thread off the fast cores and the clock down; it takes no CPU time away. Source: sched_setattr(2),
Documentation/scheduler/sched-util-clamp.rst. Kernels without CONFIG_UCLAMP_TASK answer EOPNOTSUPP, and lack the sysctls.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

_GENERIC: Final = (274, 275)  # (sched_setattr, sched_getattr) of arm64, riscv and other younger architectures
_NUMBERS: Final = {
    "x86_64": (314, 315),
    "i386": (351, 352),
    "i686": (351, 352),
    "armv6l": (380, 381),
    "armv7l": (380, 381),
    "ppc64le": (355, 356),
    "s390x": (345, 346),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
}
_ATTR: Final = struct.Struct("=IIQiIQQQII")  # size, policy, flags, nice, priority, runtime, deadline, period, util_min, util_max
_KEEP_ALL: Final = 0x08 | 0x10  # policy, and its parameters
_CLAMP_MIN: Final = 0x20
_CLAMP_MAX: Final = 0x40

_libc = ctypes.CDLL(None, use_errno=True)


def get(pid: int) -> tuple[int, int]:
    """Read the lower and the upper clamp of one thread, 0 to 1024. Raises OSError."""
    buffer = ctypes.create_string_buffer(_ATTR.size)
    _call(_number(1), ctypes.c_int(pid), buffer, ctypes.c_uint(_ATTR.size), ctypes.c_uint(0))
    return parse(buffer.raw)


def put(pid: int, low: int | None, high: int | None) -> None:
    """Set one or both clamps of one thread; its class and priority stay. Raises OSError."""
    buffer = ctypes.create_string_buffer(asked(low, high), _ATTR.size)
    _call(_number(0), ctypes.c_int(pid), buffer, ctypes.c_uint(0))


def parse(attributes: bytes) -> tuple[int, int]:
    """The clamps of a `struct sched_attr`. An older kernel's is shorter, and has none: EOPNOTSUPP."""
    fields = _ATTR.unpack(attributes)
    if fields[0] < _ATTR.size:
        raise OSError(errno.EOPNOTSUPP, "this kernel has no utilisation clamps")
    return fields[8], fields[9]


def asked(low: int | None, high: int | None) -> bytes:
    """The `struct sched_attr` that sets these and keeps everything else."""
    flags = _KEEP_ALL | (_CLAMP_MIN if low is not None else 0) | (_CLAMP_MAX if high is not None else 0)
    return _ATTR.pack(_ATTR.size, 0, flags, 0, 0, 0, 0, 0, low or 0, high or 0)


def _number(which: int) -> int:
    numbers = _NUMBERS.get(platform.machine())
    if numbers is None:
        raise OSError(errno.ENOSYS, f"utilisation clamps are unknown on {platform.machine()}")
    return numbers[which]


def _call(number: int, *arguments: object) -> None:
    if int(_libc.syscall(ctypes.c_long(number), *arguments)) < 0:
        failure = ctypes.get_errno()
        raise OSError(failure, os.strerror(failure))
