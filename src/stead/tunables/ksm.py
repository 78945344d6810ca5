"""`kernel:ksm`: whether and how ksmd merges equal pages of the memory that was opted in for it.

KSM merges nothing that was not opted in (MADV_MERGEABLE, PR_SET_MEMORY_MERGE, MemoryKSM=). Turning it on from a state
with nothing merged is put back by unmerging everything and stopping: that takes as much memory as was saved, which is
looked at first, because the kernel would kill whoever asks for it. The advisor moves `pages_to_scan` by itself while it is on.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from stead.cgroups.kernel_owners import owner_of_ksm
from stead.host.procfs import page_bytes, parse_meminfo
from stead.model.change import Step, Target, UndoKind
from stead.model.errors import SteadError
from stead.protocols import Host
from stead.tunables.state import Knobs, fields, step

FOLDER: Final = "/sys/kernel/mm/ksm"
_NUMBERS: Final[dict[str, tuple[int, int]]] = {  # knob → the least and the most that stead sets
    "advisor_max_cpu": (1, 100),
    "advisor_target_scan_time": (1, 86_400),
    "advisor_min_pages_to_scan": (1, 1_000_000),
    "advisor_max_pages_to_scan": (1, 1_000_000),
    "pages_to_scan": (1, 1_000_000),
    "sleep_millisecs": (1, 600_000),
}
_SINCE: Final = {
    "smart_scan": "6.7",
    **dict.fromkeys((name for name in ("advisor_mode", *_NUMBERS) if name.startswith("advisor_")), "6.8"),
}
_UNMERGE_S: Final = 120.0  # unmerging copies every page back
_SPARE: Final = 0.05  # of all memory, that unmerging leaves available


class KsmKnobs:
    """The knobs below /sys/kernel/mm/ksm."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def read(self, host: Host, name: str) -> Knobs:
        """All knobs as they are. All None where the kernel has no KSM. OSError when they can't be read."""
        run = _number(host, "run") if name == "ksm" else None
        if run is None:
            return Knobs()
        mode, smart = _text(host, "advisor_mode"), _number(host, "smart_scan")
        advised = mode is not None and "[scan-time]" in mode
        numbers: dict[str, Any] = {key: None if advised and key == "pages_to_scan" else _number(host, key) for key in _NUMBERS}
        return Knobs(
            run=run,
            merged=bool(_number(host, "pages_shared") or _number(host, "ksm_zero_pages")),
            advisor_mode=None if mode is None else "scan-time" if advised else "none",
            smart_scan=None if smart is None else bool(smart),
            **numbers,
        )

    def plan(self, target: Target, now: Knobs, want: Knobs) -> Step:
        """The diff; SteadError for an unknown knob, a value out of its range, a kernel without KSM, or another's KSM."""
        wanted = fields(want)
        self._refuse(target, now, wanted)
        here = {key for key in wanted if getattr(now, key) is not None}
        here |= {"pages_to_scan"} if now.advisor_mode == "scan-time" else set()
        changed = {key: value for key, value in wanted.items() if key in here and getattr(now, key) != value}
        if changed.get("merged") is True:
            del changed["merged"]
        before = {key: getattr(now, key) for key in changed}
        undo, reason = _undo(now, changed, before)
        lacking = [f"{key} (Linux {_SINCE[key]})" for key in wanted if key in _SINCE and getattr(now, key) is None]
        notes = [f"left out, as this kernel has none: {', '.join(lacking)}"] if lacking else []
        if changed.get("run") == 1:
            notes.append("merges only memory that was opted in")
        slow = {"run", "merged"} & changed.keys()
        return step(
            target, before, changed, undo=undo, undo_reason=reason, duration_s=_UNMERGE_S if slow else 5.0, note="; ".join(notes)
        )

    async def write(self, host: Host, name: str, want: Knobs) -> None:
        """Set the advisor first, which resets what it governs, and `run` last. SteadError where unmerging would take too much."""
        if name != "ksm":
            raise SteadError(
                f"there is no kernel:{name}", f"kernel:{name}", "the one target is kernel:ksm", code="kernel.unknown"
            )
        wanted = fields(want)
        unmerges = wanted.get("merged") is False or wanted.get("run") == 2
        if unmerges:
            _make_sure_of_room(host)
        for key in ("advisor_min_pages_to_scan", "advisor_max_pages_to_scan", "advisor_mode", *_NUMBERS, "smart_scan"):
            value = wanted.pop(key, None)
            if value is not None and (_SINCE.get(key) is None or _text(host, key) is not None):
                host.write(f"{FOLDER}/{key}", str(int(value) if isinstance(value, int) else value).encode())
        if unmerges:
            await asyncio.to_thread(host.write, f"{FOLDER}/run", b"2")
        run = wanted.get("run", 0 if unmerges else None)
        if run is not None and not (run == 2 and unmerges):
            host.write(f"{FOLDER}/run", str(run).encode())

    def _refuse(self, target: Target, now: Knobs, wanted: dict[str, object]) -> None:
        if target.name != "ksm" or now.run is None:
            what = "this kernel has no KSM" if target.name == "ksm" else f"there is no {target}"
            raise SteadError(what, str(target), "it needs CONFIG_KSM; the target is kernel:ksm", code="kernel.no-ksm")
        strange = sorted(wanted.keys() - _KNOBS)
        if strange:
            raise SteadError(f"KSM has no {', '.join(strange)}", str(target), f"it has {', '.join(_KNOBS)}", code="kernel.field")
        for key, (low, high) in _NUMBERS.items():
            value = wanted.get(key)
            if isinstance(value, int) and value != getattr(now, key) and not low <= value <= high:
                raise SteadError(f"{key} of {value}", str(target), f"give {low} to {high}", code="kernel.range")
        if wanted.get("run") not in (None, 0, 1, 2):
            raise SteadError(f"run of {wanted['run']}", str(target), "0 stops, 1 scans, 2 unmerges", code="kernel.range")
        if wanted.get("merged") is False and now.merged and wanted.get("run", now.run) == 1:
            raise SteadError("what ksmd scans can't be kept unmerged", str(target), "want run 0 as well", code="kernel.merged")
        if "pages_to_scan" in wanted and wanted.get("advisor_mode", now.advisor_mode) == "scan-time":
            fix = "want advisor_mode none as well, or leave pages_to_scan out"
            raise SteadError("the kernel's advisor sets pages_to_scan", str(target), fix, code="kernel.advisor")
        owner = owner_of_ksm(self._host)
        if owner:
            raise SteadError(f"{owner} looks after KSM here", str(target), f"stop {owner} first", code="kernel.owned")


_KNOBS: Final = ("run", "merged", "advisor_mode", *_NUMBERS, "smart_scan")


def _undo(now: Knobs, changed: dict[str, object], before: dict[str, object]) -> tuple[UndoKind, str]:
    """What else has to be put back, added to `before`; and whether all of it can be."""
    if changed.get("advisor_mode") == "scan-time" and now.pages_to_scan is not None:
        before["pages_to_scan"] = now.pages_to_scan
    unmerges = changed.get("merged") is False or changed.get("run") == 2
    if unmerges and now.merged:
        return "lossy", "what was merged is merged again only as ksmd comes to it"
    if changed.get("run") == 1:
        if now.merged:
            return "lossy", "pages were merged already, and those that are merged from now on can't be told from them"
        before["merged"] = False
    return "exact", ""


def _make_sure_of_room(host: Host) -> None:
    """SteadError when the memory that unmerging takes is not there. The kernel ends whoever asks when it runs out."""
    pages = (_number(host, "pages_sharing") or 0) + (_number(host, "ksm_zero_pages") or 0)
    sizes = parse_meminfo(host.read("/proc/meminfo").decode("ascii", "replace"))
    needed, room = pages * page_bytes(), sizes["MemAvailable"] - round(_SPARE * sizes["MemTotal"])
    if needed > room:
        what = f"unmerging takes {needed >> 20} MiB, and {max(room, 0) >> 20} MiB can be had"
        raise SteadError(what, "kernel:ksm", "free memory first; ksmd alone is stopped by run 0", code="kernel.no-room")


def _text(host: Host, name: str) -> str | None:
    """One file of KSM's; None where this kernel has none such."""
    try:
        return host.read(f"{FOLDER}/{name}", 256).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None


def _number(host: Host, name: str) -> int | None:
    text = _text(host, name)
    return None if text is None else int(text)
