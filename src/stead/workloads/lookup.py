"""Which driver runs a target, for the actuators that share the drivers."""

from __future__ import annotations

from collections.abc import Mapping

from stead.model.change import Target
from stead.model.workload import WorkloadStatus
from stead.protocols import WorkloadDriver


def find(drivers: Mapping[str, WorkloadDriver], target: Target) -> tuple[WorkloadDriver, WorkloadStatus] | None:
    """The driver that runs this very workload, and how it is; None when it is gone or another has taken its name."""
    for driver in drivers.values():
        status = driver.status(target.name) if target.kind == "workload" else None
        if status is not None and target.identity.get("id", status.id) == status.id:
            return driver, status
    return None
