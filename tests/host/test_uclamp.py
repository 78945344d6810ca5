from __future__ import annotations

import errno
import struct

import pytest

from stead.host import LocalHost, uclamp
from stead.host.scheduler import LinuxScheduler
from tests.host.processes import sleeper
from tests.host.test_scheduler import Knobs

HOST = LocalHost()
SCHEDULER = LinuxScheduler(HOST)
HERE = not SCHEDULER.lacks("uclamp")


def test_what_is_asked_keeps_everything_but_the_clamps_that_are_given() -> None:
    fields = struct.unpack("=IIQiIQQQII", uclamp.asked(None, 300))
    assert fields == (56, 0, 0x08 | 0x10 | 0x40, 0, 0, 0, 0, 0, 0, 300)
    assert struct.unpack("=IIQiIQQQII", uclamp.asked(7, None))[2] == 0x08 | 0x10 | 0x20


def test_clamps_are_parsed_and_an_older_kernels_answer_has_none() -> None:
    assert uclamp.parse(struct.pack("=IIQiIQQQII", 56, 3, 0, 0, 0, 0, 0, 0, 12, 640)) == (12, 640)
    with pytest.raises(OSError, match="no utilisation clamps") as error:
        uclamp.parse(struct.pack("=IIQiIQQQII", 48, 3, 0, 0, 0, 0, 0, 0, 0, 0))
    assert error.value.errno == errno.EOPNOTSUPP


@pytest.mark.skipif(not HERE, reason="this kernel has no utilisation clamps")
def test_clamps_read_back_what_was_set_and_are_put_back() -> None:
    with sleeper() as process:
        before = SCHEDULER.uclamp(process.pid)
        SCHEDULER.set_uclamp(process.pid, None, 300)
        assert SCHEDULER.uclamp(process.pid) == (before[0] if before else 0, 300)
        SCHEDULER.set_uclamp(process.pid, *(before or (0, 1024)))
        assert SCHEDULER.uclamp(process.pid) == before


@pytest.mark.skipif(HERE, reason="this kernel has utilisation clamps")
def test_a_kernel_without_clamps_says_so_itself() -> None:
    """What stead tells by a missing sysctl is what the kernel answers."""
    with sleeper() as process:
        assert SCHEDULER.uclamp(process.pid) is None
        with pytest.raises(OSError, match="CONFIG_UCLAMP_TASK"):
            SCHEDULER.set_uclamp(process.pid, None, 300)
        with pytest.raises(OSError) as error:
            uclamp.put(process.pid, None, 300)
        assert error.value.errno == errno.EOPNOTSUPP


def test_whether_the_kernel_has_clamps_is_told_by_its_sysctl() -> None:
    assert LinuxScheduler(Knobs({"/proc/sys/kernel/sched_util_clamp_max": "1024\n"})).lacks("uclamp") == ""
    assert "CONFIG_UCLAMP_TASK" in LinuxScheduler(Knobs({})).lacks("uclamp")
    assert LinuxScheduler(Knobs({})).lacks("nice") == ""


def test_who_is_gone_has_no_clamps() -> None:
    with sleeper() as process:
        pass
    with pytest.raises(ProcessLookupError):
        SCHEDULER.uclamp(process.pid)
