"""Signals to one very process: never to a successor that got its pid in the meantime.

On Linux a pidfd is opened first and the start time read after: while it is open the pid can't be handed out again
(pidfd_open(2), pidfd_send_signal(2)). Elsewhere psutil compares creation times itself.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from stead.protocols import Host, SignalName

NUMBERS: Final[dict[str, str]] = {"stop": "SIGSTOP", "continue": "SIGCONT", "terminate": "SIGTERM", "kill": "SIGKILL"}
_PSUTIL: Final[dict[str, str]] = {"stop": "suspend", "continue": "resume", "terminate": "terminate", "kill": "kill"}


def send(host: Host, pid: int, start_ticks: int, name: SignalName) -> None:
    """Send it. ProcessLookupError when that very process is gone, PermissionError when the system refuses."""
    if pid <= 1:
        raise PermissionError(errno.EPERM, f"process {pid} is never sent a signal")
    if host.system != "linux":
        return _send_by_psutil(host, pid, start_ticks, name)
    descriptor = os.pidfd_open(pid)
    try:
        _check(host, pid, start_ticks)
        signal.pidfd_send_signal(descriptor, getattr(signal, NUMBERS[name]))
    finally:
        os.close(descriptor)


def _send_by_psutil(host: Host, pid: int, start_ticks: int, name: SignalName) -> None:
    psutil = host.psutil
    try:
        process = psutil.Process(pid)
        _check(host, pid, start_ticks)
        getattr(process, _PSUTIL[name])()
    except psutil.NoSuchProcess as gone:
        raise ProcessLookupError(errno.ESRCH, f"process {pid} is gone") from gone
    except psutil.AccessDenied as denied:
        raise PermissionError(errno.EPERM, f"no permission over process {pid}") from denied


def _check(host: Host, pid: int, start_ticks: int) -> None:
    if host.start_ticks(pid) != start_ticks:
        raise ProcessLookupError(errno.ESRCH, f"process {pid} is gone")
