"""A group that a person sits in is not frozen, also where no path says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stead.actuators.limit import Limit, actuator
from stead.model.errors import SteadError
from tests.cgroups.recorded import RecordedHost


async def test_what_holds_a_terminal_or_a_display_is_not_frozen_and_may_be_slowed(tmp_path: Path) -> None:
    host = RecordedHost(tmp_path)
    for path, pid, name in (("/desk", 80, "Xorg"), ("/batch", 81, "hog")):
        host.group(path, pids=[pid])
        host.process(pid, name, path)
    limit: Any = actuator(host)
    desk, batch = (limit.groups.target(path) for path in ("/desk", "/batch"))
    with pytest.raises(SteadError, match="/desk holds process 80, Xorg: a display server"):
        limit.plan(desk, await limit.read(host, desk), Limit(frozen=True))
    with pytest.raises(SteadError, match="Xorg"):
        await limit.write(host, desk, Limit(frozen=True))
    assert host.read("/sys/fs/cgroup/desk/cgroup.freeze") == b"0\n"
    assert limit.plan(desk, await limit.read(host, desk), Limit(cpu_weight=20)).want == {"cpu_weight": 20}
    assert limit.plan(batch, await limit.read(host, batch), Limit(frozen=True)).want == {"frozen": True}
