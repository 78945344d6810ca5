"""Recurring time spans: is this moment inside one? A cron line or an RRULE gives the starts, in the window's time zone.

Where clocks change: a start that falls into the skipped hour begins at the next minute that exists, and one that falls
into the repeated hour begins once, the first time. A window lasts its duration in real time, whatever clocks do.
RRULEs count from Monday 2000-01-03 00:00 where an INTERVAL needs an anchor.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from typing import Final

from stead.model.observe import Now
from stead.model.policy import Window

_ANCHOR: Final = datetime(2000, 1, 3)
_AHEAD: Final = timedelta(hours=3)  # no zone has stepped its clocks by more
_STARTS: Final = 400  # starts within those hours and the one before them
_MINUTE: Final = timedelta(minutes=1)


def in_window(window: Window, now: Now) -> bool:
    """Is `now` inside the window, and not so near its end that nothing may start? Raises ValueError for a broken one."""
    moment = datetime.fromtimestamp(now.unix_ms / 1000, UTC)
    start = last_start(window, moment)
    return start is not None and moment < start + timedelta(seconds=window.duration_s - window.cutoff_s)


def last_start(window: Window, moment: datetime) -> datetime | None:
    """The window's latest start at or before a moment, in UTC; None when it has not begun within the last year."""
    zone = zone_of(window.timezone)
    local = moment.astimezone(zone).replace(tzinfo=None)
    for naive in islice(_starts_before(window, local + _AHEAD), _STARTS):
        start = _in_utc(naive, zone)
        if start <= moment:
            return start
    return None


def why_broken(window: Window) -> str:
    """What is wrong with a window, in words; empty when it can be used."""
    if bool(window.cron) == bool(window.rrule):
        return "give either cron or rrule"
    if not 0 < window.duration_s <= 366 * 86400:
        return "duration_s must be above 0 and at most a year"
    if not 0 <= window.cutoff_s < window.duration_s:
        return "cutoff_s must be at least 0 and below duration_s"
    try:
        zone_of(window.timezone)
    except ValueError as error:
        return str(error)
    frequent = ("FREQ=SECONDLY", "FREQ=MINUTELY", "FREQ=HOURLY")
    if any(word in window.rrule.upper() for word in frequent):
        return "an rrule starts at most daily: use cron"
    try:
        next(_starts_before(window, datetime(2026, 1, 1)), None)
    except Exception as error:  # two parsers, with exceptions of their own
        return f"{window.cron or window.rrule!r} can't be read: {error}"
    return ""


def zone_of(name: str) -> tzinfo:
    """A time zone by its name. Raises ValueError for one that this system does not know."""
    if name in ("", "UTC"):
        return UTC
    from zoneinfo import ZoneInfo  # only where a window has a zone: the agent stays light

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"this system knows no time zone {name}") from None


def _starts_before(window: Window, local: datetime) -> Iterator[datetime]:
    """The starts at or before a local time, newest first."""
    if window.cron:
        from cronsim import CronSim

        yield from CronSim(window.cron, local + _MINUTE, reverse=True)
        return
    from dateutil.rrule import rrulestr  # type: ignore[import-untyped,unused-ignore]

    anchor = _ANCHOR if "INTERVAL" in window.rrule.upper() else datetime(local.year - 2, 1, 1)
    rule = rrulestr(window.rrule, dtstart=anchor)
    found = rule.before(local, inc=True)
    while found is not None:
        yield found
        found = rule.before(found)


def _in_utc(naive: datetime, zone: tzinfo) -> datetime:
    """A local time as UTC: in the skipped hour the next minute that exists, in the repeated one the first."""
    for minute in range(181):
        candidate = naive + minute * _MINUTE
        moment = candidate.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None) == candidate:
            return moment
    return naive.replace(tzinfo=zone).astimezone(UTC)
