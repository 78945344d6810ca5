from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.probes.proc_details import Details, command_line, parse_uid, printable
from stead.probes.proc_table import Task
from stead.testing import FakeClock
from tests.probes.hosts import change, debian


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"sh\0-c\0while :; do :; done\0", "sh -c while :; do :; done"),
        (b"", "[kthreadd]"),
        (b"tool\0--token\0abc\0", "tool --token [redacted]"),
        (b"evil\0\x1b[2Jgone\nline\0", "evil  [2Jgone line"),
        (b"x" * 500, "x" * 200),
        (b"bad\xff\0", "bad\ufffd"),
    ],
)
def test_command_lines_are_safe_to_show(data: bytes, shown: str) -> None:
    assert command_line(data, "kthreadd") == shown


@given(st.binary(max_size=300))
def test_nothing_reaches_a_terminal_that_it_would_obey(data: bytes) -> None:
    shown = command_line(data, "name")
    assert len(shown) <= 200
    assert shown.isprintable()


def test_names_too() -> None:
    assert printable("a\x1b]0;title\x07b") == "a ]0;title b"
    assert printable("plain name") == "plain name"


def test_the_effective_uid_counts() -> None:
    assert parse_uid("Name:\tx\nUid:\t1000\t0\t0\t0\n") == 0
    assert parse_uid("Name:\tx\n") == -1


def test_details_are_read_again_after_half_a_minute_or_another_program(tmp_path: Path) -> None:
    host, clock, details, task = debian(tmp_path), FakeClock(), Details(), Task(4711)
    task.name = "sh"
    assert details.words(host, task, clock.now()) == "sh: sh -c while :; do :; done"
    change(host, "/proc/4711/cmdline", lambda text: "other\0")
    assert details.words(host, task, clock.advance(29_000)) == "sh: sh -c while :; do :; done"
    assert details.words(host, task, clock.advance(1_000)) == "sh: other"
    change(host, "/proc/4711/cmdline", lambda text: "third\0")
    task.details_ms = None
    assert details.use(host, task, clock.now()).command == "third"


def test_a_process_that_is_gone_keeps_its_name(tmp_path: Path) -> None:
    host, task = debian(tmp_path), Task(99999)
    task.name = "short"
    use = Details().use(host, task, FakeClock().now())
    assert (use.command, use.descriptors, use.uid) == ("[short]", None, -1)
