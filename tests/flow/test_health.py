from __future__ import annotations

import pytest

from stead.flow.health import Missed, stations
from stead.model.find import Observation


def seen(subject: str, value: float | None, reason: str = "") -> Observation:
    return Observation("m", subject, value, "unknown" if value is None else "good", 1, reason)


def test_while_the_ledger_is_in_trouble_only_observing_goes_on() -> None:
    found = {one.name: one for one in stations({"cpu": "", "disk": "hangs", "new": None}, 9, "", "the disk is full (x): free it")}
    assert found["observe"].ok is True
    assert [found[name].ok for name in ("find", "propose", "decide", "act", "verify", "record")] == [False] * 6
    assert found["record"].detail == "the disk is full (x): free it"
    assert (found["probe cpu"].ok, found["probe disk"].ok, found["probe new"].ok) == (True, False, None)


def test_before_the_first_tick_nothing_is_known_and_a_failure_is_everyones() -> None:
    assert {one.ok for one in stations({}, 0, "", "")} == {None}
    assert {(one.ok, one.detail) for one in stations({}, 3, "broke", "")} == {(False, "broke")}
    assert {one.ok for one in stations({}, 3, "", "")} == {True}


def test_last_words_are_kept_until_they_are_recorded_or_the_subject_is_back() -> None:
    missed = Missed()
    first = [seen("a", None, "gone"), seen("b", None, "gone"), seen("c", 1.0)]
    with pytest.raises(OSError), missed.unless_recorded(first):
        raise OSError
    later = [seen("b", 2.0)]
    assert missed.join(later) == [first[0], later[0]]
    with missed.unless_recorded(later):
        pass
    assert missed.join(later) == later
