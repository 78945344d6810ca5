from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.catalog.windows import in_window, last_start, why_broken
from stead.model.observe import Now
from stead.model.policy import Window


def at(text: str) -> Now:
    return Now(round(datetime.fromisoformat(text).timestamp() * 1000), 0)


NIGHT = Window("night", 7200, cron="0 2 * * *", cutoff_s=1800)
TUESDAYS = Window("tuesdays", 7200, rrule="FREQ=WEEKLY;BYDAY=TU;BYHOUR=2;BYMINUTE=0;BYSECOND=0")
PARIS = Window("paris", 3600, cron="30 2 * * *", timezone="Europe/Paris")


@pytest.mark.parametrize(
    ("window", "moment", "inside"),
    [
        (NIGHT, "2026-05-05T01:59:59.999Z", False),
        (NIGHT, "2026-05-05T02:00:00Z", True),
        (NIGHT, "2026-05-05T03:29:59Z", True),
        (NIGHT, "2026-05-05T03:30:00Z", False),  # nothing starts in the last half hour
        (TUESDAYS, "2026-05-05T02:00:00Z", True),
        (TUESDAYS, "2026-05-05T03:59:59Z", True),
        (TUESDAYS, "2026-05-05T04:00:00Z", False),
        (TUESDAYS, "2026-05-06T02:30:00Z", False),
        (PARIS, "2026-07-01T00:30:00Z", True),  # summer: two hours ahead
        (PARIS, "2026-07-01T01:30:00Z", False),
        (PARIS, "2026-01-01T01:30:00Z", True),  # winter: one
        (PARIS, "2026-01-01T00:59:00Z", False),
        # clocks go forward on 2026-03-29 at 01:00Z: 02:30 does not exist, so it begins at 03:00, the next minute that does
        (PARIS, "2026-03-29T00:59:59Z", False),
        (PARIS, "2026-03-29T01:00:00Z", True),
        (PARIS, "2026-03-29T01:59:59Z", True),
        (PARIS, "2026-03-29T02:00:00Z", False),
        # clocks go back on 2026-10-25 at 01:00Z: 02:30 comes twice, at 00:30Z and 01:30Z, and counts once
        (PARIS, "2026-10-25T00:29:59Z", False),
        (PARIS, "2026-10-25T00:30:00Z", True),
        (PARIS, "2026-10-25T01:29:59Z", True),
        (PARIS, "2026-10-25T01:30:00Z", False),
        (Window("m", 86400, cron="0 0 1 * *"), "2026-02-01T12:00:00Z", True),
        (Window("m", 86400, cron="0 0 1 * *"), "2026-02-02T00:00:00Z", False),
        (Window("every", 90, cron="* * * * *"), "2026-02-02T00:00:30Z", True),
        # every second Tuesday, counted from Monday 2000-01-03
        (Window("2w", 3600, rrule="FREQ=WEEKLY;INTERVAL=2;BYDAY=TU;BYHOUR=2"), "2000-01-04T02:10:00Z", True),
        (
            Window("2w", 3600, rrule="FREQ=WEEKLY;INTERVAL=2;BYDAY=TU;BYHOUR=2;BYMINUTE=0;BYSECOND=0"),
            "2000-01-11T02:10:00Z",
            False,
        ),
    ],
)
def test_in_window(window, moment, inside):
    assert in_window(window, at(moment)) is inside


def test_a_window_that_has_not_begun_is_closed():
    once = Window("once", 3600, rrule="FREQ=YEARLY;UNTIL=20000101T000000")
    assert last_start(once, datetime(2026, 1, 1, tzinfo=UTC)) is None
    assert in_window(once, at("2026-01-01T00:00:00Z")) is False


@given(st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1)), st.sampled_from([NIGHT, TUESDAYS, PARIS]))
def test_inside_is_between_a_start_and_its_end(naive, window):
    moment = naive.replace(microsecond=0, tzinfo=UTC)
    start = last_start(window, moment)
    assert start is not None and start <= moment
    expected = moment - start < timedelta(seconds=window.duration_s - window.cutoff_s)
    assert in_window(window, Now(round(moment.timestamp() * 1000), 0)) is expected
    assert last_start(window, start) == start


@pytest.mark.parametrize("window", [NIGHT, TUESDAYS, PARIS])
def test_these_are_whole(window):
    assert why_broken(window) == ""


@pytest.mark.parametrize(
    "window", [Window("w", 60), Window("w", 60, cron="* * * * *", rrule="FREQ=DAILY"), Window("w", 0, cron="* * * * *")]
)
def test_these_are_not(window):
    assert why_broken(window) != ""
