from __future__ import annotations

import os
from pathlib import Path

from stead.probes.inventory import parse_os_release, probe
from stead.testing import FakeClock, FakeHost
from tests.probes.hosts import captured, debian


def facts(host: FakeHost) -> dict[str, object]:
    reading = probe().read(host, FakeClock().now())
    assert {fact.subject for fact in reading.facts} == {"host"}
    return {fact.name: fact.value for fact in reading.facts}


def test_parses_shell_assignments() -> None:
    text = '# comment\nID=debian\nNAME=\'A "B"\'\nEMPTY=\nBAD="open\nno assignment\n'
    assert parse_os_release(text) == {"ID": "debian", "NAME": 'A "B"', "EMPTY": "", "BAD": '"open'}


def test_reads_a_host(tmp_path: Path) -> None:
    assert facts(debian(tmp_path)) == {
        "os.id": "debian",
        "os.version": "12",
        "os.name": "Debian GNU/Linux 12 (bookworm)",
        "kernel.release": "6.1.0-28-amd64",
        "host.arch": os.uname().machine,
        "cpu.count": 2,
        "memory.total_bytes": 4018044 * 1024,
        "host.name": "web1",
        "host.boot_id": "00000000-0000-4000-8000-000000000001",
    }


def test_what_is_not_known_is_none(tmp_path: Path) -> None:
    known = facts(FakeHost(tmp_path, name="bare"))
    assert known["os.id"] is None
    assert known["cpu.count"] is None
    assert known["memory.total_bytes"] is None
    assert known["host.name"] == "bare"


def test_other_systems_tell_no_tales_of_the_one_that_tests_run_on() -> None:
    known = facts(captured("windows11"))
    assert (known["os.id"], known["cpu.count"], known["memory.total_bytes"]) == ("windows", 2, 8589934592)
    assert known["kernel.release"] is None
