"""The knobs of a control group: for each field of a limit its files in version 2 and 1, and systemd's property.

What a file says becomes a value (`parse`), a value becomes what is written (`written`), as the kernel will round it
(`rounded`). Sources: kernel cgroup-v2.rst, cgroup-v1/{memory,blkio-controller,pids,freezer-subsystem}.rst, sched-bwc.rst,
kernel/sched/core.c (weight 100 is 1,024 shares), systemd.resource-control(5), and BFQ_WEIGHT in systemd for blkio's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stead.cgroups import devices
from stead.host.procfs import page_bytes
from stead.protocols import Host

if TYPE_CHECKING:
    from stead.cgroups.tree import Groups

PAGE: Final = page_bytes()
V1_NO_LIMIT: Final = (1 << 63) - PAGE  # what version 1 shows for no limit: PAGE_COUNTER_MAX pages, in bytes
PERIOD_US: Final = 100_000
LEAST_QUOTA_US: Final = 1000
Texts = Mapping[str, str]  # file → what it says, without the newline
Written = tuple[tuple[str, str], ...]  # (file, what is to be written into it), in order
MAX: Final = "max"


class Knob(NamedTuple):
    """One field of a limit. `v1` and `v2`: the files that it is read from; () where that version has no such thing."""

    controller: str
    v2: tuple[str, ...]
    v1: tuple[str, ...]
    parse: Callable[[str, Texts], Any]  # (version, texts) → value; ValueError when it can't be said
    write: Callable[[str, Any, Texts], Written]  # (version, value, texts as they are now)
    default: Any  # what a group has that nobody set
    prop: str  # systemd's property; empty: systemd has another verb for it

    def files(self, version: str) -> tuple[str, ...]:
        """The files in this version."""
        return self.v1 if version == "v1" else self.v2


def _weight(version: str, texts: Texts) -> int | None:
    if texts.get("cpu.idle", "0") == "1":
        return None  # an idle group has no weight, and shows one that isn't its own
    if version == "v2":
        return int(texts["cpu.weight"])
    return weight_of_shares(int(texts["cpu.shares"]))


def weight_of_shares(shares: int) -> int:
    """Version 1's shares (2 to 262,144, 1,024 is ordinary) as a weight of version 2 (1 to 10,000, 100 is ordinary)."""
    return max(1, min(10_000, (shares * 100 + 512) // 1024))


def shares_of_weight(weight: int) -> int:
    """The shares that a weight stands for, as the kernel itself reckons."""
    return max(2, weight * 1024 // 100)


def _write_weight(version: str, value: int, texts: Texts) -> Written:
    return (("cpu.weight", str(value)),) if version == "v2" else (("cpu.shares", str(shares_of_weight(value))),)


def _quota(version: str, texts: Texts) -> float | str:
    """Percent of one core."""
    if version == "v2":
        quota, _, period = texts["cpu.max"].partition(" ")
    else:
        quota, period = texts["cpu.cfs_quota_us"], texts["cpu.cfs_period_us"]
    return MAX if quota in (MAX, "-1") else int(quota) * 100 / int(period)


def period_us(version: str, texts: Texts) -> int:
    """The period that a group's quota is reckoned in, in microseconds."""
    text = texts.get("cpu.max", "").partition(" ")[2] if version == "v2" else texts.get("cpu.cfs_period_us", "")
    return int(text or PERIOD_US)


def _write_quota(version: str, value: float | str, texts: Texts) -> Written:
    """The period stays as it is, so that what was there can be put back exactly."""
    period = period_us(version, texts)
    quota = None if value == MAX else max(LEAST_QUOTA_US, round(float(value) * period / 100))
    if version == "v2":
        return (("cpu.max", MAX if quota is None else str(quota)),)
    return (("cpu.cfs_quota_us", "-1" if quota is None else str(quota)),)


def _bytes(file_v2: str, file_v1: str) -> Callable[[str, Texts], int | str]:
    def parse(version: str, texts: Texts) -> int | str:
        text = texts[file_v2 if version == "v2" else file_v1]
        return MAX if text == MAX or int(text) >= V1_NO_LIMIT else int(text)

    return parse


def _write_bytes(file_v2: str, file_v1: str) -> Callable[[str, Any, Texts], Written]:
    def write(version: str, value: int | str, texts: Texts) -> Written:
        return ((file_v2, str(value)),) if version == "v2" else ((file_v1, "-1" if value == MAX else str(value)),)

    return write


def _low(version: str, texts: Texts) -> int:
    if version == "v2":
        return int(V1_NO_LIMIT if texts["memory.low"] == MAX else texts["memory.low"])
    soft = int(texts["memory.soft_limit_in_bytes"])
    if soft == 0:
        raise ValueError("its soft limit is 0 bytes, which a memory_low can't say")
    return 0 if soft >= V1_NO_LIMIT else soft


def _write_low(version: str, value: int, texts: Texts) -> Written:
    if version == "v2":
        return (("memory.low", str(value)),)
    return (("memory.soft_limit_in_bytes", str(value) if value else "-1"),)


def _flag(file_v2: str, file_v1: str) -> Callable[[str, Texts], bool]:
    return lambda version, texts: texts[file_v2 if version == "v2" else file_v1] == "1"


def _write_frozen(version: str, value: bool, texts: Texts) -> Written:
    if version == "v2":
        return (("cgroup.freeze", "1" if value else "0"),)
    return (("freezer.state", "FROZEN" if value else "THAWED"),)


def _number_or_max(file: str) -> Callable[[str, Texts], int | str]:
    return lambda version, texts: MAX if texts[file] == MAX else int(texts[file])


_HIGH: Final = ("memory.high", "")
_LIMIT: Final = ("memory.max", "memory.limit_in_bytes")
KNOBS: Final[dict[str, Knob]] = {
    "cpu_idle": Knob(
        "cpu",
        ("cpu.idle",),
        ("cpu.idle",),
        _flag("cpu.idle", "cpu.idle"),
        lambda version, value, texts: (("cpu.idle", "1" if value else "0"),),
        False,
        "CPUWeight",
    ),
    "cpu_weight": Knob("cpu", ("cpu.weight", "cpu.idle"), ("cpu.shares", "cpu.idle"), _weight, _write_weight, 100, "CPUWeight"),
    "cpu_max_percent": Knob(
        "cpu", ("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"), _quota, _write_quota, MAX, "CPUQuota"
    ),
    "memory_high_bytes": Knob("memory", ("memory.high",), (), _bytes(*_HIGH), _write_bytes(*_HIGH), MAX, "MemoryHigh"),
    "memory_low_bytes": Knob("memory", ("memory.low",), ("memory.soft_limit_in_bytes",), _low, _write_low, 0, "MemoryLow"),
    "memory_max_bytes": Knob(
        "memory", ("memory.max",), ("memory.limit_in_bytes",), _bytes(*_LIMIT), _write_bytes(*_LIMIT), MAX, "MemoryMax"
    ),
    "io_weight": Knob(
        "io", ("io.weight", devices.BFQ_FILE), ("blkio.bfq.weight",), devices.parse_weight, devices.write_weight, 100, "IOWeight"
    ),
    "io_max": Knob("io", ("io.max",), devices.V1_FILES, devices.parse_max, devices.write_max, [], "IOReadBandwidthMax"),
    "io_latency": Knob("io", ("io.latency",), (), devices.parse_latency, devices.write_latency, [], "IODeviceLatencyTargetSec"),
    "pids_max": Knob(
        "pids",
        ("pids.max",),
        ("pids.max",),
        _number_or_max("pids.max"),
        lambda version, value, texts: (("pids.max", str(value)),),
        MAX,
        "TasksMax",
    ),
    "frozen": Knob(
        "freezer",
        ("cgroup.freeze",),
        ("freezer.self_freezing",),
        _flag("cgroup.freeze", "freezer.self_freezing"),
        _write_frozen,
        False,
        "",
    ),
}


def rounded(field: str, value: Any, texts: Texts, version: str) -> Any:
    """A wanted value as the kernel will show it. ValueError when no kernel takes it."""
    if value is None:
        return None
    if field in ("cpu_weight", "io_weight"):
        return max(1, min(10_000, int(value)))
    if field == "cpu_max_percent":
        if value == MAX:
            return MAX
        period = period_us(version, texts)
        return max(LEAST_QUOTA_US, round(float(value) * period / 100)) * 100 / period
    if field.startswith("memory_"):
        return value if value == MAX else MAX if int(value) >= V1_NO_LIMIT else max(0, int(value)) // PAGE * PAGE
    if field in ("io_max", "io_latency"):
        return devices.tidy(value)
    return value


def place_of(groups: Groups, host: Host, field: str, path: str) -> tuple[str, str] | None:
    """(version, folder) where a field of this group is; None: nowhere. Freezing: version 2's tree where 1 lacks the group."""
    knob = KNOBS[field]
    version, folder = groups.kind(knob.controller), groups.folder(path, knob.controller)
    if field == "frozen" and (version != "v1" or folder is None or host.inode(folder) is None):
        version, folder = "v2", groups.unified(path)
    return (version, folder) if version and folder is not None and knob.files(version) else None


def texts_of(host: Host, folder: str, files: tuple[str, ...]) -> dict[str, str]:
    """What these files of a group say. Raises OSError for the first, which the field stands on; the others may be missing."""
    texts: dict[str, str] = {}
    for index, name in enumerate(files):
        try:
            texts[name] = host.read(f"{folder}/{name}", 1 << 16).decode("ascii", "replace").strip()
        except OSError:
            if index == 0 or name not in _OPTIONAL:
                raise
    return texts


_OPTIONAL: Final = frozenset(("cpu.idle", devices.BFQ_FILE))


def lacking(host: Host, groups: Groups, field: str, path: str = "") -> str:
    """Why a field is not to be had on this host, or in this group; empty when it is."""
    knob = KNOBS.get(field)
    if knob is None:
        return f"a limit has no {field}"
    if groups.version == "none":
        return "this host has no control groups"
    version = groups.kind(knob.controller)
    if not version:
        return f"no tree here has the {knob.controller} controller"
    if not knob.files(version):
        return f"version 1 of control groups has no {knob.v2[0]}"
    if field in ("io_weight", "io_latency") and (why := devices.unweighed(host, groups, field)):
        return why
    return _lacking_in(host, groups, field, path) if path else ""


def _lacking_in(host: Host, groups: Groups, field: str, path: str) -> str:
    knob, place = KNOBS[field], place_of(groups, host, field, path)
    if place is None:
        return f"{path} is in no tree with the {knob.controller} controller"
    version, folder = place
    if host.inode(folder) is None:
        return f"{path} is not in the {knob.controller} controller's tree"
    first = knob.files(version)[0]
    if host.inode(f"{folder}/{first}") is not None:
        return ""
    enabled = _enabled(host, folder)
    if version == "v2" and knob.controller not in enabled and knob.controller != "freezer":
        return f"the {knob.controller} controller is not enabled for {path} (cgroup.subtree_control above it)"
    return f"this kernel has no {first}"


def _enabled(host: Host, folder: str) -> list[str]:
    try:
        return host.read(f"{folder}/cgroup.controllers", 4096).decode("ascii", "replace").split()
    except OSError:
        return []
