"""What `stead doctor` says of limits: who sets them on this host, which are not to be had, and which other controllers run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stead.cgroups.knobs import KNOBS
from stead.cgroups.rivals import RIVALS, running
from stead.cgroups.tree import Groups

if TYPE_CHECKING:
    from stead.protocols import Host


def limits(host: Host) -> tuple[str, dict[str, str]]:
    """Who sets limits here, in words, and field → why it is not to be had. Empty words: there are no control groups."""
    groups = Groups.of(host)
    if groups.version == "none":
        return "", {}
    versions = {"v2": "version 2", "v1": "version 1", "hybrid": "version 1, with version 2 beside it"}
    way = "through systemd" if groups.systemd else "written straight; processes without a group get one below /stead"
    return f"{versions[groups.version]}, {way}", {field: why for field in KNOBS if (why := groups.lacks(field))}


def rivals(host: Host) -> dict[str, str]:
    """The other controllers that run here, and what each does."""
    does: dict[str, Any] = {rival.name: rival.does for rival in RIVALS}
    return {name: f"process {pid}, {does[name]}" for name, pid in sorted(running(host).items())}
