from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from stead.host import LocalHost, SystemClock
from stead.model.observe import Reading
from stead.probes.ksm import Ksm, probe
from stead.probes.ksm_alike import alike_bytes
from stead.probes.ksm_members import find_ksmd, opted_in, parse_ksm_stat
from stead.probes.reading import FIRST
from stead.testing import FakeClock, FakeHost
from tests.actuators.ksm import EQUAL, OWN, ksm_as_found, number, write
from tests.actuators.ksm import opted_in as processes
from tests.probes.hosts import debian, one, values

PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20
NEW = (
    "ksm_rmap_items {items}\nksm_zero_pages 0\nksm_merging_pages 4\nksm_process_profit 9000\n"
    "ksm_merge_any: {any}\nksm_mergeable: {mergeable}\n"
)


def files(host: FakeHost, **texts: str) -> None:
    """Files of a host; `__` in a name stands for /."""
    for name, text in texts.items():
        path = host.root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def process(host: FakeHost, pid: int, stat: str, pages: int = 1000, name: str = "web", parent: int = 1, **more: str) -> None:
    of = f"proc__{pid}__"
    line = f"{pid} ({name}) S {parent} {pid} {pid} 0 -1 0 " + "0 " * 12 + f"{pid * 100} 0 0 0\n"
    texts = {"ksm_stat": stat, "statm": f"9000 {pages + 50} 50 1 0 1 0\n", "comm": f"{name}\n", "stat": line}
    files(host, **{of + key: text for key, text in {**texts, **more}.items()})


def knobs(host: FakeHost, **texts: str) -> None:
    files(host, **{f"sys__kernel__mm__ksm__{name}": text for name, text in texts.items()})


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    made = debian(tmp_path)
    process(made, 37, "", name="ksmd", parent=2, schedstat="1000000000 5 5\n")
    return made


def read(made: Ksm, host: FakeHost, clock: FakeClock, ms: int = 5000) -> dict[tuple[str, str], float | None]:
    return values(made.read(host, clock.advance(ms)))


def test_what_saving_is_worth_is_weighed_against_the_cpu_that_it_takes(host: FakeHost) -> None:
    clock, made = FakeClock(), probe()
    knobs(host, run="1\n", pages_shared="10\n", pages_sharing="50000\n", general_profit="200000000\n", ksm_zero_pages="7\n")
    first = made.read(host, clock.now())
    assert one(first, "infra.ksm_cpu").reason == FIRST and one(first, "infra.ksm_net_bytes").value is None
    assert one(first, "infra.ksm_saved_bytes").value == 50007 * PAGE
    files(host, proc__37__schedstat="1050000000 5 5\n")  # 50 ms in 5 s
    seen = read(made, host, clock)
    cores = sum(line[3:4].isdigit() for line in (host.root / "proc/stat").read_text().splitlines() if line.startswith("cpu"))
    assert seen["infra.ksm_cpu", "host"] == pytest.approx(0.01)
    assert seen["infra.ksm_profit_bytes", "host"] == 200_000_000
    assert seen["infra.ksm_net_bytes", "host"] == pytest.approx(200_000_000 - 0.01 * 4018044 * 1024 / cores)


def test_a_kernel_that_does_not_tell_its_profit_is_computed_for(host: FakeHost) -> None:
    knobs(host, pages_shared="10\n", pages_sharing="1000\n", pages_unshared="100\n", pages_volatile="5\n")
    assert one(probe().read(host, FakeClock().now()), "infra.ksm_profit_bytes").value == 1000 * PAGE - 1115 * 64


def test_memory_that_was_opted_in_is_idle_while_nothing_merges_it(host: FakeHost) -> None:
    process(host, 501, NEW.format(items=0, any="yes", mergeable="yes"), pages=3000)
    process(host, 502, NEW.format(items=0, any="no", mergeable="yes"), pages=1000)
    process(host, 503, NEW.format(items=0, any="no", mergeable="no"))
    clock, made = FakeClock(), probe()
    reading = made.read(host, clock.now())
    assert one(reading, "infra.ksm_opted_in_bytes").value == 4000 * PAGE == one(reading, "infra.ksm_idle_bytes").value
    assert one(reading, "infra.ksm_pages_to_scan").value == pytest.approx(4000 * 0.020 / 30)
    assert one(reading, "infra.ksm_process_profit_bytes", "process:501@50100").value == 9000
    assert [(fact.subject, fact.value) for fact in reading.facts] == [
        *(("process:501@50100", 3000 * PAGE), ("process:502@50200", 1000 * PAGE))
    ]
    knobs(host, run="1\n")
    assert read(made, host, clock)["infra.ksm_idle_bytes", "host"] == 0
    (host.root / "proc/502/ksm_stat").unlink()
    assert read(made, host, clock, 10_000)["infra.ksm_opted_in_bytes", "host"] == 4000 * PAGE, "asked once a minute"
    reading = made.read(host, clock.advance(50_000))
    assert one(reading, "infra.ksm_opted_in_bytes").value == 3000 * PAGE
    assert ("process:502@50200", None) in [(fact.subject, fact.value) for fact in reading.facts]


def test_what_another_controller_drives_is_not_called_idle(host: FakeHost) -> None:
    process(host, 501, NEW.format(items=0, any="yes", mergeable="yes"))
    process(host, 77, NEW.format(items=0, any="no", mergeable="no"), name="ksmtuned")
    idle = one(probe().read(host, FakeClock().now()), "infra.ksm_idle_bytes")
    assert (idle.value, idle.reason) == (None, "ksmtuned looks after KSM here")


def test_older_kernels_are_asked_in_other_ways(host: FakeHost) -> None:
    flags = "00400000-00401000 r--p 0 0:0 1 /bin/x\nVmFlags: rd mr mw me {}\n"
    process(host, 501, "ksm_rmap_items 12\n", 500)
    process(host, 502, "ksm_rmap_items 0\n", 400, smaps=flags.format("mg "))
    process(host, 503, "ksm_rmap_items 0\n", 300, smaps=flags.format("sd ") + flags.format("mg "))
    process(host, 504, "ksm_rmap_items 0\n", 200, name="qemu-system-x86")
    found = opted_in(host, PAGE)
    assert [(member.subject, member.bytes, member.profit) for member in found] == [
        *(("process:501@50100", 500 * PAGE, None), ("process:502@50200", 400 * PAGE, None)),
        ("process:504@50400", 200 * PAGE, None),
    ]


def test_processes_of_one_program_in_a_unit_are_alike_until_one_opts_in(host: FakeHost) -> None:
    out, opted = NEW.format(items=0, any="no", mergeable="no"), NEW.format(items=0, any="yes", mergeable="yes")
    service, scope = "0::/system.slice/web.service\n", "0::/user.slice/user-0.slice/session-1.scope\n"
    for index in range(5):
        process(host, 500 + index, out, 6000 + index, name="worker", cgroup=service)
        process(host, 520 + index, out, 6000, name="shell", cgroup=scope)
        process(host, 540 + index, out, 6000, name=f"part{index}", cgroup="0::/system.slice/parts.service\n")
    process(host, 510, out, 100, name="master", cgroup=service)
    assert alike_bytes(host, PAGE) == {"web.service": (4 * 6000 + 0 + 1 + 2 + 3) * PAGE}
    knobs(host, general_profit="0\n")
    clock, made = FakeClock(), probe()
    reading = made.read(host, clock.now())
    assert one(reading, "infra.alike_bytes", "unit:web.service").value == (4 * 6000 + 6) * PAGE
    process(host, 504, opted, 6004, name="worker", cgroup=service)
    assert ("infra.alike_bytes", "unit:web.service") in read(made, host, clock), "looked for each ten minutes"
    assert ("infra.alike_bytes", "unit:web.service") not in read(made, host, clock, 600_000)


def test_nobody_is_alike_where_whole_processes_can_not_be_merged(host: FakeHost) -> None:
    for index in range(5):
        process(host, 500 + index, "ksm_rmap_items 0\n", 6000, name="worker", cgroup="0::/system.slice/web.service\n")
    subject = ("infra.alike_bytes", "unit:web.service")
    assert subject not in values(probe().read(host, FakeClock().now()))
    knobs(host, general_profit="0\n")
    for index in range(5):
        files(host, **{f"proc__{500 + index}__smaps": "00400000-00401000 r--p 0 0:0 1 /x\nVmFlags: rd mr mw me\n"})
    assert values(probe().read(host, FakeClock().now()))[subject] == 4 * 6000 * PAGE


def test_ksmd_is_the_kernels_own_and_no_program_of_that_name(host: FakeHost) -> None:
    process(host, 12, NEW.format(items=0, any="no", mergeable="no"), name="ksmd")
    assert find_ksmd(host) == 37
    (host.root / "proc/37/comm").write_text("other\n")
    assert find_ksmd(host) is None
    assert one(probe().read(host, FakeClock().now()), "infra.ksm_cpu").reason == "ksmd can't be seen from here"


def test_parses_yes_and_no_and_numbers() -> None:
    assert parse_ksm_stat(NEW.format(items=3, any="yes", mergeable="no")) == {
        **{"ksm_rmap_items": 3, "ksm_zero_pages": 0, "ksm_merging_pages": 4, "ksm_process_profit": 9000},
        **{"ksm_merge_any": 1, "ksm_mergeable": 0},
    }
    assert parse_ksm_stat("") == {}


def test_a_kernel_without_it_is_unknown(tmp_path: Path) -> None:
    reading = probe().read(FakeHost(tmp_path), FakeClock().now())
    assert {sample.value for sample in reading.samples} == {None}
    assert one(reading, "infra.ksm_net_bytes").reason == "this kernel has no KSM"


def test_the_real_one() -> None:
    """Equal pages of real processes are saved, pages of their own are not, and what ksmd takes is seen."""
    host, made = LocalHost(), probe()
    with ksm_as_found(), processes(3, EQUAL.format(mib=8), OWN.format(mib=1).replace("held", "own")):
        before = made.read(host, SystemClock().now())
        assert one(before, "infra.ksm_opted_in_bytes").value > 3 * 9 * MIB
        assert one(before, "infra.ksm_idle_bytes").value == one(before, "infra.ksm_opted_in_bytes").value
        write("pages_to_scan", "5000")
        write("run", "1")
        after = settled(made, host)
        saved, held = one(after, "infra.ksm_saved_bytes").value, one(after, "infra.ksm_opted_in_bytes").value
        assert saved is not None and held is not None
        assert 2 * 8 * MIB <= saved <= 2 / 3 * (held - 3 * MIB), "three are one; the interpreters have equal pages too"
        assert one(after, "infra.ksm_cpu").value > 0
        assert one(after, "infra.ksm_idle_bytes").value == 0
        made.close()


def settled(made: Ksm, host: LocalHost) -> Reading:
    """The reading when ksmd has seen everything twice."""
    begun = number("full_scans")
    for _ in range(1200):
        if number("full_scans") >= begun + 3:
            break
        time.sleep(0.05)
    return made.read(host, SystemClock().now())
