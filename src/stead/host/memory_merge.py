"""PR_SET_MEMORY_MERGE: all memory of a process may be merged with equal pages of others (KSM). prctl(2), Linux 6.4.

The flag is kept over fork and exec (Linux 6.7), so what is started while it is set has it from its first page on. ctypes
costs memory until needed, so it is imported on first use.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Final

from stead.protocols import Host

_SET: Final = 67  # include/uapi/linux/prctl.h
_GET: Final = 68


@contextlib.contextmanager
def merging(wanted: bool = True) -> Iterator[str]:
    """Set this process's flag while something is started, and put it back. Yields why that is not possible, else nothing.

    What other threads start in the meantime has the flag too, and no harm by it.
    """
    if not wanted:
        yield ""
        return
    try:
        before = _prctl(_GET, 0)
        _prctl(_SET, 1)
    except OSError as error:
        yield f"this kernel can't merge the memory of whole processes ({error.strerror}; Linux 6.4)"
        return
    try:
        yield ""
    finally:
        if not before:
            _prctl(_SET, 0)


def lost_it(host: Host, pid: int) -> bool:
    """Was the flag lost on the way into a program that was started with it (before Linux 6.7)?

    Newer kernels say in /proc/PID/ksm_stat whether all may be merged. Older ones show it by the flags of the first mapping: `mg`
    in /proc/PID/smaps (proc(5)). False also where neither can be read.
    """
    with contextlib.suppress(OSError):
        said = host.read(f"/proc/{pid}/ksm_stat", 4096)
        if b"ksm_merge_any:" in said:
            return b"ksm_merge_any: yes" not in said
    try:
        text = host.read(f"/proc/{pid}/smaps", 4096).decode("ascii", "replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("VmFlags:")), "VmFlags: mg")
    return "mg" not in flags.split()


def _prctl(option: int, argument: int) -> int:
    """Call prctl. Raises OSError, also on systems that have none."""
    if sys.platform != "linux":
        raise OSError(38, "only Linux has it")
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    result = int(libc.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), zero, zero, zero))
    if result < 0:
        failure = ctypes.get_errno()
        raise OSError(failure, os.strerror(failure))
    return result
