"""Values in words: times, sizes, states, unknowns. Pure: the clock is an argument, in Unix milliseconds."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import Final

from stead.model.errors import EXIT_USAGE, SteadError

SPARKS: Final = "▁▂▃▄▅▆▇█"
UNITS_S: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def unknown(reason: str = "") -> str:
    """A value that was not observed, and why."""
    return f"unknown ({reason})" if reason else "unknown"


def number(value: float | None, unit: str = "", reason: str = "") -> str:
    """Give a value with its unit, to about four digits; unknown stays unknown."""
    if value is None:
        return unknown(reason)
    if unit == "bytes":
        return size(value)
    if unit == "bytes_per_second":
        return f"{size(value)}/s"
    text = f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    signs = {
        "percent": " %",
        "seconds": " s",
        "milliseconds": " ms",
        "hours": " h",
        "per_second": "/s",
        "requests_per_second": " requests/s",
    }
    words = {"": "", "ratio": "", "count": "", "bool": "", "count_per_5m": " in 5 min"}
    return text + signs.get(unit, words.get(unit, f" {unit}"))


def size(value: float | None, reason: str = "") -> str:
    """Give bytes in binary units."""
    if value is None:
        return unknown(reason)
    step = 0
    while abs(value) >= 1024 and step < len(BINARY) - 1:
        value, step = value / 1024, step + 1
    return f"{value:.0f} {BINARY[step]}" if step == 0 or abs(value) >= 100 else f"{value:.1f} {BINARY[step]}"


def duration(seconds: float) -> str:
    """Give a length of time in its two largest units."""
    left = max(round(seconds), 0)
    if left < 60:
        return f"{left} s"
    parts = []
    for name, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def ago(at_ms: int, now_ms: int) -> str:
    """How long since."""
    return f"{duration((now_ms - at_ms) / 1000)} ago"


def clock(at_ms: int) -> str:
    """Give a moment as local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(at_ms / 1000))


def moment(at_ms: int) -> str:
    """Give a moment as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


def seconds_of(text: str) -> float:
    """Read "90s", "15m", "1h30m", "7d". SteadError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(min|s|m|h|d|w)", text)
    if not parts or "".join(a + b for a, b in parts) != re.sub(r"\s", "", text):
        what = f"{text!r} is no length of time"
        raise SteadError(what, "", "write it like 90s, 15m, 1h30m or 7d", code="usage.duration", exit_code=EXIT_USAGE)
    return sum(float(amount) * UNITS_S[unit] for amount, unit in parts)


def sparkline(values: Sequence[float | None], width: int = 60) -> str:
    """Draw values as bars between their least and greatest; a gap is where nothing is known."""
    points = _thinned(values, width)
    known = [value for value in points if value is not None]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    top = len(SPARKS) - 1
    return "".join(" " if v is None else SPARKS[round((v - low) / span * top) if span else 0] for v in points)


def _thinned(values: Sequence[float | None], width: int) -> list[float | None]:
    """At most `width` values: the greatest of each stretch, so that a spike stays visible."""
    if len(values) <= width:
        return list(values)
    out: list[float | None] = []
    for i in range(width):
        stretch = [v for v in values[i * len(values) // width : (i + 1) * len(values) // width] if v is not None]
        out.append(max(stretch) if stretch else None)
    return out


def short_ids(ids: Iterable[str], least: int = 13) -> dict[str, str]:
    """Shorten ids to the least prefix that tells them apart; the agent takes any prefix that is unique."""
    whole = sorted(set(ids))
    out = {}
    for i, one in enumerate(whole):
        shared = max((_shared(one, other) for other in whole[max(i - 1, 0) : i + 2] if other != one), default=0)
        out[one] = one[: max(least, shared + 1)]
    return out


def _shared(one: str, other: str) -> int:
    """How many characters two texts have in common at their start."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def plain(subject: str) -> str:
    """Give a subject for reading: a process without the tick at which it started, a control group without its id."""
    if subject.startswith("cgroup:"):
        return re.sub(r"@([a-z]+\.)?\d+$", "", subject)  # a unit's own "@" is followed by more: user@1000.service
    return subject.partition("@")[0] if subject.startswith("process:") else subject


def plural(count: int, one: str, many: str = "") -> str:
    """Give "1 finding", "2 findings"."""
    return f"{count} {one if count == 1 else many or one + 's'}"
