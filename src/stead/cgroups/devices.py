"""IO limits of a control group, by device: the kernel's lines, and the four files that version 1 has instead of `io.max`.

A line is "8:0 rbps=1048576 wbps=max riops=max wiops=max" (io.max) or "8:0 target=10000" (io.latency, in microseconds).
Sources: kernel cgroup-v2.rst (IO interface files), cgroup-v1/blkio-controller.rst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from stead.protocols import Host

if TYPE_CHECKING:
    from stead.cgroups.tree import Groups

V1_FILES: Final = (
    "blkio.throttle.read_bps_device",
    "blkio.throttle.write_bps_device",
    "blkio.throttle.read_iops_device",
    "blkio.throttle.write_iops_device",
)
BFQ_FILE: Final = "io.bfq.weight"  # there while a disk's scheduler is bfq, which heeds it alone
KEYS: Final = ("rbps", "wbps", "riops", "wiops")
EVERY: Final = "*"  # in a wanted line: each disk of this host
_MAX: Final = "max"


def parse_lines(text: str) -> dict[str, dict[str, str]]:
    """Device "major:minor" (or "default") → key → value, of a nested-keyed file."""
    devices: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        name, *fields = line.split()
        devices[name] = dict(field.split("=", 1) for field in fields if "=" in field)
    return devices


def tidy(lines: Iterable[str]) -> list[str]:
    """Lines in one form: every key of io.max in order, devices sorted, none without a limit. ValueError when it is no line."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, rest = str(line).strip().partition(" ")
        fields = dict(part.split("=", 1) for part in rest.split() if "=" in part)
        strange = set(fields) - {*KEYS, "target"}
        if strange or not fields or not _is_device(name):
            raise ValueError(f"not an IO limit: {line!r}")
        if any(value != _MAX and not (value.isdigit() and int(value) > 0) for value in fields.values()):
            raise ValueError(f"not an IO limit: {line!r}")
        if "target" in fields:
            found[name] = f"{name} target={fields['target']}"
        elif any(value != _MAX for value in fields.values()):
            found[name] = " ".join([name, *(f"{key}={fields.get(key, _MAX)}" for key in KEYS)])
    return [found[name] for name in sorted(found, key=_order)]


def spread(lines: Iterable[str], disks: Iterable[str]) -> list[str]:
    """Lines with "*" for each disk, for these disks."""
    spread_lines: list[str] = []
    for line in lines:
        name, _, rest = line.strip().partition(" ")
        spread_lines += [f"{disk} {rest}" for disk in disks] if name == EVERY else [line]
    return spread_lines


def tighter(one: Iterable[str], other: Iterable[str]) -> list[str]:
    """Lines of io.max that allow no more than either: for each device and key the lesser of both."""
    first, second = by_device(tidy(one)), by_device(tidy(other))

    def least(name: str, key: str) -> str:
        found = [keys[name][key] for keys in (first, second) if keys.get(name, {}).get(key, _MAX) != _MAX]
        return min(found, key=int, default=_MAX)

    return tidy(" ".join([name, *(f"{key}={least(name, key)}" for key in KEYS)]) for name in {**first, **second})


def disks(host: Host) -> list[str]:
    """The "major:minor" of this host's disks: those with hardware (or a hypervisor) below them, not loops, maps and memory."""
    found = []
    try:
        names = sorted(host.list("/sys/block"))
    except OSError:
        return []
    for name in names:
        try:
            if host.inode(f"/sys/block/{name}/device") is not None:
                found.append(host.read(f"/sys/block/{name}/dev", 64).decode("ascii", "replace").strip())
        except OSError:
            continue
    return found


def parse_max(version: str, texts: Mapping[str, str]) -> list[str]:
    """The limits of io.max, or of version 1's four files."""
    if version == "v2":
        return tidy(
            f"{name} " + " ".join(f"{k}={v}" for k, v in keys.items()) for name, keys in parse_lines(texts["io.max"]).items()
        )
    found: dict[str, dict[str, str]] = {}
    for key, file in zip(KEYS, V1_FILES, strict=True):
        for line in texts.get(file, "").splitlines():
            name, _, value = line.partition(" ")
            found.setdefault(name, {})[key] = value.strip()
    return tidy(" ".join([name, *(f"{key}={value}" for key, value in keys.items())]) for name, keys in found.items())


def write_max(version: str, value: list[str], texts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What sets these limits, and takes away those of devices that are not among them."""
    want, now = by_device(value), by_device(parse_max(version, texts))
    written: list[tuple[str, str]] = []
    for name in sorted({*want, *now}, key=_order):
        keys = want.get(name, dict.fromkeys(KEYS, _MAX))
        if keys == now.get(name):
            continue
        if version == "v2":
            written.append(("io.max", " ".join([name, *(f"{key}={keys[key]}" for key in KEYS)])))
            continue
        for key, file in zip(KEYS, V1_FILES, strict=True):
            if keys[key] != now.get(name, {}).get(key, _MAX):
                written.append((file, f"{name} {0 if keys[key] == _MAX else keys[key]}"))
    return tuple(written)


def by_device(lines: Iterable[str]) -> dict[str, dict[str, str]]:
    """Tidy lines by device."""
    return {name: keys for name, keys in parse_lines("\n".join(lines)).items()}


def parse_latency(version: str, texts: Mapping[str, str]) -> list[str]:
    """The targets of io.latency."""
    return tidy(f"{name} target={keys['target']}" for name, keys in parse_lines(texts["io.latency"]).items() if "target" in keys)


def write_latency(version: str, value: list[str], texts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What sets these targets, and takes away those of other devices (a target of 0)."""
    want, now = by_device(value), by_device(parse_latency(version, texts))
    names = sorted({*want, *now}, key=_order)
    return tuple(
        ("io.latency", f"{name} target={want.get(name, {}).get('target', '0')}")
        for name in names
        if want.get(name) != now.get(name)
    )


def parse_weight(version: str, texts: Mapping[str, str]) -> int:
    """The default weight, 1 to 10,000; BFQ's own goes to 1,000 and is stretched as systemd does it."""
    if version == "v1":
        return _stretched(_default(texts["blkio.bfq.weight"]))
    weight, other = _default(texts["io.weight"]), texts.get(BFQ_FILE)
    if other is not None and _default(other) != _bfq(weight):
        raise ValueError(f"{BFQ_FILE} says otherwise than io.weight")
    return weight


def write_weight(version: str, value: int, texts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What sets the default weight; those of single devices stay."""
    if version == "v1":
        return (("blkio.bfq.weight", str(_bfq(value))),)
    both = ((BFQ_FILE, f"default {_bfq(value)}"),) if BFQ_FILE in texts else ()
    return (("io.weight", f"default {value}"), *both)


def _default(text: str) -> int:
    """The weight that counts for all devices: "default 100", or in version 1 "100"."""
    return int(next((line for line in text.splitlines() if line.startswith("default")), text).split()[-1])


def _bfq(weight: int) -> int:
    return weight if weight <= 100 else 100 + (weight - 100) * 900 // 9900


def _stretched(bfq: int) -> int:
    return bfq if bfq <= 100 else 100 + (bfq - 100) * 9900 // 900


def unweighed(host: Host, groups: Groups, field: str) -> str:
    """Why nothing here heeds weights or latency targets of IO; empty when something does, or may."""
    if field == "io_latency":
        return ""
    names: list[str] = []
    try:
        names = host.list("/sys/block")
    except OSError:
        return ""
    if any("[bfq]" in _text(host, f"/sys/block/{name}/queue/scheduler") for name in names):
        return ""
    folder = groups.folder("/", "io")
    if folder is not None and "enable=1" in _text(host, f"{folder}/io.cost.qos"):
        return ""
    return "no disk here weighs IO: neither the bfq scheduler nor io.cost is on"


def _text(host: Host, path: str) -> str:
    try:
        return host.read(path, 1 << 14).decode("ascii", "replace")
    except OSError:
        return ""


def _is_device(name: str) -> bool:
    major, colon, minor = name.partition(":")
    return name == EVERY or (bool(colon) and major.isdigit() and minor.isdigit())


def _order(name: str) -> tuple[Any, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in name.split(":"))
