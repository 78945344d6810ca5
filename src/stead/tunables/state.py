"""What the actuator `kernel` reads and sets, as one value, and the step that changes it."""

from __future__ import annotations

from typing import Literal, cast

import msgspec

from stead.model.change import Record, Step, Target, UndoKind

ACTUATOR = "kernel"


class Knobs(msgspec.Struct, frozen=True):
    """Knobs of the kernel; None leaves one as it is, or means that there is none such here.

    KSM (docs.kernel.org, admin-guide/mm/ksm): `run` as the kernel has it (0 stopped, 1 scanning, 2 stopped and unmerged),
    `merged`: are pages merged (wanting False unmerges them), advisor_max_cpu in percent of a core, times in seconds and
    milliseconds. `pages_to_scan` is None while the kernel's advisor sets it.
    """

    run: int | None = None
    merged: bool | None = None
    advisor_mode: Literal["none", "scan-time"] | None = None
    advisor_max_cpu: int | None = None
    advisor_target_scan_time: int | None = None
    advisor_min_pages_to_scan: int | None = None
    advisor_max_pages_to_scan: int | None = None
    pages_to_scan: int | None = None
    sleep_millisecs: int | None = None
    smart_scan: bool | None = None
    value: int | None = None  # of a sysctl
    displaced: int | None = None  # of the sysctl that is 0 while this one is set: vm.dirty_ratio for vm.dirty_bytes
    memory_ksm: bool | None = None  # of a unit, as systemd will start it
    drop_in: bool | None = None  # is stead's drop-in there?


def fields(state: Knobs) -> dict[str, object]:
    """The knobs that are given."""
    return {key: value for key, value in msgspec.structs.asdict(state).items() if value is not None}


def step(
    target: Target,
    before: dict[str, object],
    want: dict[str, object],
    *,
    undo: UndoKind = "exact",
    undo_reason: str = "",
    duration_s: float = 5.0,
    note: str = "",
) -> Step:
    """A step of this actuator."""
    return Step(ACTUATOR, target, cast(Record, before), cast(Record, want), undo, undo_reason, duration_s=duration_s, note=note)
