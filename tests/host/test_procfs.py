"""/proc/PID/stat, whatever a process calls itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stead.host.procfs import page_bytes, parse_meminfo, parse_stat, read_meminfo, unescaped
from stead.testing import FakeHost

REST = b" S 10 11 12 34816 12 4194304 1 2 3 4 5 6 7 8 20 0 3 0 567890 1000 321 0"


@pytest.mark.parametrize("name", [b"sh", b"a) S 9 (b", b"tmux: server", b"new\nline", b"\xff\xfe", b""])
def test_a_name_may_hold_anything(name: bytes) -> None:
    seen = parse_stat(b"4711 (" + name + b")" + REST)
    assert seen.name == name.decode("utf-8", "replace")
    assert (seen.state, seen.parent, seen.session, seen.tty, seen.start_ticks, seen.rss_pages) == (
        "S",
        10,
        12,
        34816,
        567890,
        321,
    )
    assert not seen.of_kernel and not seen.stopped


def test_a_thread_of_the_kernel_and_a_stopped_process_are_told_by_flag_and_state() -> None:
    assert parse_stat(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0 0").of_kernel
    assert parse_stat(b"9 (x)" + REST.replace(b" S ", b" T ", 1)).stopped
    assert not parse_stat(b"9 (x)" + REST.replace(b" S ", b" t ", 1)).stopped, "a tracer's stop is the tracer's affair"


def test_this_very_process() -> None:
    seen = parse_stat(Path("/proc/self/stat").read_bytes())
    assert (seen.parent, seen.session) == (os.getppid(), os.getsid(0)) and seen.rss_pages > 1000


@pytest.mark.parametrize("torn", [b"", b"4711", b"4711 (sh)", b"4711 (sh) S 1", b"4711 (sh) S x y z"])
def test_what_is_torn_is_an_error(torn: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        parse_stat(torn)


@pytest.mark.parametrize(("field", "text"), [("/a\\040b\\011c", "/a b\tc"), ("\\134040", "\\040"), ("/plain\\9", "/plain\\9")])
def test_escaped_characters_of_a_mount_table(field: str, text: str) -> None:
    assert unescaped(field) == text


def test_the_hosts_memory_is_in_bytes_and_nothing_where_it_is_not_said(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    assert read_meminfo(host) == {}
    (tmp_path / "proc").mkdir(exist_ok=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:  16 kB\nHugePages_Total: 7\nbroken\n")
    assert read_meminfo(host) == {"MemTotal": 16384, "HugePages_Total": 7}
    (tmp_path / "proc/meminfo").write_text("MemTotal:  torn kB\n")
    assert read_meminfo(host) == {}
    with pytest.raises(ValueError, match="torn"):
        parse_meminfo("MemTotal:  torn kB")


def test_a_page_is_the_machines() -> None:
    assert page_bytes() == os.sysconf("SC_PAGE_SIZE")
