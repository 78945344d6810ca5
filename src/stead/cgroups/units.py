"""A unit's limits set through systemd, which is the one writer of its groups (systemd's cgroup delegation document).

`systemctl set-property --runtime` writes a drop-in for each property below /run and sets the kernel's file. Putting back sets the
value that was, and takes the drop-ins away that were not there before, so that nothing is left behind. What systemd has in
mind is right by then; it may say that the unit's files changed on disk, until the next daemon-reload, which is not forced: it
would load what others have edited, and costs most when a machine is short of time. Freezing is a verb of its own (systemd
246). Sources: systemd.resource-control(5), systemctl(1), systemd.unit(5), unit_drop_in_dir() for transient units.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from stead.cgroups import devices
from stead.cgroups.knobs import MAX
from stead.model.errors import SteadError
from stead.protocols import Host

CONTROL: Final = ("/run/systemd/system.control", "/run/systemd/transient")
COMMAND_S: Final = 25.0
VERSION_S: Final = 2.0
LATENCY: Final = "IODeviceLatencyTargetSec"
_IO: Final = dict(
    zip(devices.KEYS, ("IOReadBandwidthMax", "IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax"), strict=True)
)
# field → the properties that it is, as the names of drop-ins have them ("50-<property>.conf")
PROPERTIES: Final[dict[str, tuple[str, ...]]] = {
    "cpu_idle": ("CPUWeight",),
    "cpu_weight": ("CPUWeight",),
    "cpu_max_percent": ("CPUQuota",),
    "memory_high_bytes": ("MemoryHigh",),
    "memory_low_bytes": ("MemoryLow",),
    "memory_max_bytes": ("MemoryMax",),
    "io_weight": ("IOWeight",),
    "io_max": tuple(_IO.values()),
    "io_latency": (LATENCY,),
    "pids_max": ("TasksMax",),
    "frozen": (),
}
# drop-ins are named by the property as it is set over D-Bus, which for some is not the one of unit files
_WRITTEN_AS: Final = {LATENCY: ("IODeviceLatencyTargetSec", "IODeviceLatencyTargetUSec")}
IDLE_SINCE: Final = 252  # CPUWeight=idle
FREEZE_SINCE: Final = 246


def drop_ins(host: Host, unit: str) -> list[str]:
    """The properties of a unit that have a drop-in for this boot, sorted; of those that a limit can be."""
    present = {name for folder in CONTROL for name in _names(host, f"{folder}/{unit}.d")}
    return [prop for prop in _every() if any(f"50-{name}.conf" in present for name in _files(prop))]


def properties_of(fields: Iterable[str]) -> list[str]:
    """The properties of these fields, sorted."""
    return sorted({prop for field in fields for prop in PROPERTIES.get(field, ())})


def assignments(
    host: Host, values: Mapping[str, Any], keep: Iterable[str] | None = None, latency_now: Iterable[str] = ()
) -> list[str]:
    """The arguments for set-property. A property that is not in `keep` and has the kernel's default is reset, not set to it.

    `latency_now`: the targets that are there, because a list of those can't be emptied in one go (systemd 252 refuses).
    """
    words: list[str] = []
    kept = None if keep is None else frozenset(keep)

    def reset(prop: str) -> bool:
        return kept is not None and prop not in kept

    if values.get("cpu_idle"):
        words.append("CPUWeight=idle")
    elif (weight := values.get("cpu_weight")) is not None:
        words.append("CPUWeight=" if weight == 100 and reset("CPUWeight") else f"CPUWeight={weight}")
    elif values.get("cpu_idle") is False:
        words.append("CPUWeight=")
    if (percent := values.get("cpu_max_percent")) is not None:
        words.append("CPUQuota=" if percent == MAX else f"CPUQuota={_percent(percent)}%")
    for field in ("memory_high_bytes", "memory_low_bytes", "memory_max_bytes", "pids_max"):
        if (value := values.get(field)) is not None:
            words.append(f"{PROPERTIES[field][0]}={'infinity' if value == MAX else value}")
    if (weight := values.get("io_weight")) is not None:
        words.append("IOWeight=" if weight == 100 and reset("IOWeight") else f"IOWeight={weight}")
    return [*words, *_by_device(host, values, latency_now)]


def _by_device(host: Host, values: Mapping[str, Any], latency_now: Iterable[str]) -> list[str]:
    """Lists of limits are emptied first, so that devices which are not wanted go; a latency target goes by 0."""
    words: list[str] = []
    if (lines := values.get("io_max")) is not None:
        wanted = devices.by_device(lines)
        for key, prop in _IO.items():
            words.append(f"{prop}=")
            words += [f"{prop}={_node(host, name)} {keys[key]}" for name, keys in wanted.items() if keys[key] != MAX]
    if (lines := values.get("io_latency")) is not None:
        targets = {name: "0" for name in devices.by_device(latency_now)}
        targets |= {name: f"{keys['target']}us" for name, keys in devices.by_device(lines).items()}
        words += [f"{LATENCY}={_node(host, name)} {target}" for name, target in targets.items()]
    return words


async def set_limits(
    host: Host, unit: str, values: Mapping[str, Any], keep: Iterable[str] | None, latency_now: Iterable[str] = ()
) -> None:
    """Set these fields of a unit until the next boot. `keep`: the drop-ins that shall be there afterwards; None: any.

    SteadError with systemd's own words when it refuses; a unit that is gone is "not loaded" or "not found" to it.
    """
    if values.get("frozen") is False:
        await _systemctl(host, "thaw", "--", unit)
    words = assignments(host, values, keep, latency_now)
    if words:
        await _systemctl(host, "set-property", "--runtime", "--", unit, *words)
    if keep is not None and _tidied(host, unit, properties_of(values), frozenset(keep)):
        host.note(f"until a daemon-reload, systemctl may say of {unit} that files changed on disk: nothing is left of these")
    if values.get("frozen"):
        await _systemctl(host, "freeze", "--", unit)


def forget(host: Host, unit: str, fields: Iterable[str], keep: Iterable[str] | None, why: str) -> None:
    """Where systemd refused because it knows no such unit by now, remove what is left of these fields for it."""
    if keep is not None and ("not found" in why or "not loaded" in why):
        _tidied(host, unit, properties_of(fields), frozenset(keep))


def _tidied(host: Host, unit: str, props: Iterable[str], keep: frozenset[str]) -> bool:
    """Remove the drop-ins of these properties that shall not stay, and the folder once it is empty. Was there any?"""
    removed = False
    for base in CONTROL:
        folder = f"{base}/{unit}.d"
        present = _names(host, folder)
        gone = [f"50-{name}.conf" for prop in props if prop not in keep for name in _files(prop)]
        for name in (name for name in gone if name in present):
            host.remove(f"{folder}/{name}")
            removed = True
        if present and not _names(host, folder):
            with contextlib.suppress(OSError):
                host.remove_folder(folder)
    return removed


async def version(host: Host) -> int | None:
    """The number of systemd's version; None when it does not say, or not soon: an undo must not wait for that."""
    done = await host.run(("systemctl", "show", "--property=Version"), VERSION_S)
    text = done.out.strip().partition("=")[2]
    number = text.partition(".")[0].partition("~")[0].partition("-")[0].partition(" ")[0]
    return int(number) if number.isdigit() else None


def too_old(number: int | None, fields: Mapping[str, Any], cpu_version: str = "v2") -> str:
    """Why this systemd can't set these; empty when it can, or does not say how old it is."""
    if fields.get("cpu_idle") and cpu_version == "v1":
        return "systemd makes no group idle in version 1 of control groups"
    if number is None:
        return ""
    if fields.get("cpu_idle") and number < IDLE_SINCE:
        return f"systemd {number} has no CPUWeight=idle, which came with {IDLE_SINCE}"
    if fields.get("frozen") is not None and number < FREEZE_SINCE:
        return f"systemd {number} can't freeze a unit, which came with {FREEZE_SINCE}"
    return ""


async def _systemctl(host: Host, *words: str) -> None:
    done = await host.run(("systemctl", *words), COMMAND_S)
    if done.rc == 0:
        return
    why = f"no answer within {COMMAND_S:g} s" if done.rc is None else done.err.strip().partition("\n")[0] or f"exit {done.rc}"
    raise SteadError(f"systemctl {words[0]}: {why}", words[-1] if len(words) < 4 else words[3], code="cgroup.systemctl")


def _node(host: Host, device: str) -> str:
    """The node in /dev of "major:minor", as the kernel names it."""
    try:
        lines = host.read(f"/sys/dev/block/{device}/uevent", 4096).decode("ascii", "replace").splitlines()
    except OSError:
        lines = []
    name = next((line.partition("=")[2] for line in lines if line.startswith("DEVNAME=")), "")
    return f"/dev/{name}" if name else f"/dev/block/{device}"


def _percent(value: float) -> str:
    """As systemd takes it: to a hundredth."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _every() -> list[str]:
    return sorted({prop for props in PROPERTIES.values() for prop in props})


def _files(prop: str) -> tuple[str, ...]:
    return _WRITTEN_AS.get(prop, (prop,))


def _names(host: Host, folder: str) -> list[str]:
    try:
        return host.list(folder)
    except OSError:
        return []
