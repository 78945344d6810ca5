from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from stead.actuators.kernel import KernelActuator, actuator
from stead.cgroups.kernel_owners import owner_of_ksm, owner_of_sysctl, tuned_settings
from stead.host import LocalHost
from stead.host.operations import NotedHost
from stead.model.change import ABSENT, Target
from stead.model.errors import SteadError
from stead.protocols import Completed
from stead.testing import FakeHost
from stead.testing.actuators import CHECKS, Case
from stead.tunables.state import Knobs
from stead.tunables.sysctls import KNOWN
from tests.actuators.ksm import EQUAL, alone, ksm_as_found, number, opted_in, read

UNIT = "web.service"
SHOW = ("systemctl", "show", "--property=LoadState,MemoryKSM", "--", UNIT)
RELOAD = ("systemctl", "daemon-reload")
DROP_IN = "/run/systemd/system/web.service.d/50-stead-memory-ksm.conf"


def ksm(host: LocalHost) -> Target:
    return Target("kernel", "ksm", {"boot_id": host.boot_id})


def sysctl(host: LocalHost, name: str) -> Target:
    return Target("sysctl", name, {"boot_id": host.boot_id})


def unit(host: LocalHost, name: str = UNIT) -> Target:
    return Target("unit", name, {"boot_id": host.boot_id})


def tree(tmp_path: Path, **files: str) -> FakeHost:
    """A host of these files; `__` in a name stands for /."""
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "proc").mkdir(parents=True, exist_ok=True)
    return FakeHost(tmp_path)


def old_kernel(tmp_path: Path, **more: str) -> FakeHost:
    """KSM as Linux 6.1 has it."""
    knobs = {"run": "0\n", "pages_to_scan": "100\n", "sleep_millisecs": "20\n", "pages_shared": "0\n", "pages_sharing": "0\n"}
    memory = "MemTotal: 1000000 kB\nMemAvailable: 500000 kB\n"
    files = {f"sys__kernel__mm__ksm__{name}": text for name, text in {**knobs, **more}.items()}
    return tree(tmp_path, proc__meminfo=memory, **files)


async def planned(made: KernelActuator, host: LocalHost, target: Target, want: Knobs):  # type: ignore[no-untyped-def]
    return made.plan(target, await made.read(host, target), want)


# -- KSM ------------------------------------------------------------------------------------------------------------


async def test_what_was_merged_is_unmerged_and_every_knob_is_back() -> None:
    host, made = LocalHost(), actuator(LocalHost())
    with ksm_as_found(), opted_in(3, EQUAL.format(mib=4)):
        before = await made.read(host, ksm(host))
        want = Knobs(run=1, advisor_mode="scan-time", advisor_min_pages_to_scan=2000, advisor_max_pages_to_scan=4000)
        step = made.plan(ksm(host), before, want)
        assert (step.undo, step.before) == (
            "exact",
            {
                "run": 0,
                "merged": False,
                "advisor_mode": "none",
                "pages_to_scan": number("pages_to_scan"),
                "advisor_min_pages_to_scan": number("advisor_min_pages_to_scan"),
                "advisor_max_pages_to_scan": number("advisor_max_pages_to_scan"),
            },
        )
        await made.write(host, ksm(host), want)
        seen = await made.read(host, ksm(host))
        assert made.met(seen, want) and isinstance(seen, Knobs) and seen.pages_to_scan is None
        for _ in range(1200):
            if number("pages_sharing") > 1500:
                break
            time.sleep(0.05)
        assert number("pages_sharing") > 1500, "4 MiB are 1024 pages, which three processes have alike"
        door = NotedHost(host)
        await made.write(door, ksm(host), msgspec.convert(step.before, Knobs))
        assert await made.read(host, ksm(host)) == before
        assert (number("pages_sharing"), read("run")) == (0, "0")
        assert door.operations[-2:] == ('write /sys/kernel/mm/ksm/run "2"', 'write /sys/kernel/mm/ksm/run "0"')


def test_what_an_interrupted_undo_leaves_is_known_as_its_own() -> None:
    made = KernelActuator(LocalHost())
    now = {"run": 1, "merged": True, "advisor_mode": "scan-time"}
    want = {"run": 0, "merged": False, "advisor_mode": "none", "pages_to_scan": 250}
    assert made.between({"run": 1, "merged": True, "advisor_mode": "none", "pages_to_scan": 100}, now, want)
    assert made.between({"run": 2, "merged": False, "advisor_mode": "none", "pages_to_scan": 250}, now, want)
    assert not made.met(Knobs(run=2, merged=False), Knobs(run=0, merged=False)), "2 is not yet 0"
    assert not made.between({"run": 2, "merged": False}, {"run": 1}, {"run": 0}), "nobody was to unmerge"
    assert not made.between({"run": 0, "pages_to_scan": 7}, {"run": 1, "pages_to_scan": 100}, {"run": 0, "pages_to_scan": 250})
    assert made.between(None, None, None) and not made.between(None, {"run": 0}, {"run": 1})


async def test_a_kernel_without_an_advisor_merges_without_one_and_says_so(tmp_path: Path) -> None:
    host = old_kernel(tmp_path)
    want = Knobs(run=1, advisor_mode="scan-time", advisor_max_cpu=10, smart_scan=True)
    step = await planned(KernelActuator(host), host, ksm(host), want)
    assert step.want == {"run": 1}
    assert "smart_scan (Linux 6.7)" in step.note and "advisor_mode (Linux 6.8)" in step.note
    await KernelActuator(host).write(host, ksm(host), want)
    seen = await KernelActuator(host).read(host, ksm(host))
    assert KernelActuator(host).met(seen, want)
    assert sorted(path.name for path in (tmp_path / "sys/kernel/mm/ksm").iterdir()) == [
        *("pages_shared", "pages_sharing", "pages_to_scan", "run", "sleep_millisecs")
    ]


@pytest.mark.parametrize(
    ("want", "said"),
    [
        (Knobs(run=1, sleep_millisecs=0), "sleep_millisecs of 0"),
        (Knobs(run=3), "run of 3"),
        (Knobs(value=1), "KSM has no value"),
        (Knobs(merged=False, run=1), "can't be kept unmerged"),
        (Knobs(pages_to_scan=20, advisor_mode="scan-time"), "advisor sets pages_to_scan"),
    ],
)
async def test_what_can_not_be_is_refused(tmp_path: Path, want: Knobs, said: str) -> None:
    host = old_kernel(tmp_path, advisor_mode="[none] scan-time\n", pages_shared="3\n")
    with pytest.raises(SteadError, match=said):
        await planned(KernelActuator(host), host, ksm(host), want)


async def test_a_kernel_without_ksm_is_unsupported_not_already_so(tmp_path: Path) -> None:
    host = tree(tmp_path)
    made = KernelActuator(host)
    assert not made.met(await made.read(host, ksm(host)), Knobs(run=1))
    with pytest.raises(SteadError, match="no KSM"):
        await planned(made, host, ksm(host), Knobs(run=1))
    with pytest.raises(SteadError, match="there is no kernel:numa"):
        await planned(made, host, Target("kernel", "numa", {"boot_id": host.boot_id}), Knobs(run=1))


async def test_what_was_merged_before_makes_the_undo_lossy(tmp_path: Path) -> None:
    host = old_kernel(tmp_path, pages_shared="5\n", pages_sharing="50\n")
    on = await planned(KernelActuator(host), host, ksm(host), Knobs(run=1))
    assert on.undo == "lossy" and "already" in on.undo_reason
    off = await planned(KernelActuator(host), host, ksm(host), Knobs(run=0, merged=False))
    assert off.undo == "lossy" and "as ksmd comes to it" in off.undo_reason


async def test_unmerging_is_refused_where_its_memory_can_not_be_had(tmp_path: Path) -> None:
    host = old_kernel(tmp_path, run="1\n", pages_shared="5\n", pages_sharing="120000\n")
    with pytest.raises(SteadError, match="unmerging takes 468 MiB, and 439 MiB can be had"):
        await KernelActuator(host).write(host, ksm(host), Knobs(run=0, merged=False))
    assert (tmp_path / "sys/kernel/mm/ksm/run").read_text() == "1\n"


async def test_another_boot_is_absent_and_is_not_written(tmp_path: Path) -> None:
    host = old_kernel(tmp_path)
    other = Target("kernel", "ksm", {"boot_id": "another"})
    assert await KernelActuator(host).read(host, other) == ABSENT
    with pytest.raises(ProcessLookupError):
        await KernelActuator(host).write(host, other, Knobs(run=1))
    with pytest.raises(SteadError, match="can't be absent"):
        KernelActuator(host).plan(ksm(host), Knobs(run=0), ABSENT)


# -- others -----------------------------------------------------------------------------------------------------------


PROFILE = "[main]\ninclude=base\n[vm.arm]\ntype=vm\nvm.dirty_ratio=3\n[sysctl]\nvm.swappiness=10\n; vm.page-cluster=1\n"
BASE = "[sysctl.more]\ntype=sysctl\nnet.core.somaxconn=>2048\nvm.dirty_ratio=30\n[quiet]\ntype=sysfs\n/sys/kernel/mm/ksm/run=2\n"


def tuned(tmp_path: Path, **more: str) -> FakeHost:
    profiles = {"usr__lib__tuned__mine__tuned.conf": PROFILE, "usr__lib__tuned__base__tuned.conf": BASE}
    return tree(tmp_path, etc__tuned__active_profile="mine\n", **profiles, **more)


def test_tuned_owns_what_its_active_profile_sets_while_it_runs(tmp_path: Path) -> None:
    host = tuned(tmp_path)
    assert tuned_settings(host) == {"vm.swappiness", "net.core.somaxconn", "vm.dirty_ratio", "/sys/kernel/mm/ksm/run"}
    assert (owner_of_ksm(host), owner_of_sysctl(host, "vm.swappiness")) == ("", ""), "it does not run"
    host = tuned(tmp_path, proc__77__comm="tuned\n")
    assert (owner_of_ksm(host), owner_of_sysctl(host, "vm.swappiness")) == ("TuneD", "TuneD")
    assert owner_of_sysctl(host, "vm.page-cluster") == ""


async def test_what_another_drives_is_left_to_it(tmp_path: Path) -> None:
    host = old_kernel(tmp_path)
    (tmp_path / "proc/31").mkdir()
    (tmp_path / "proc/31/comm").write_text("ksmtuned\n")
    with pytest.raises(SteadError, match="ksmtuned looks after KSM here"):
        await planned(KernelActuator(host), host, ksm(host), Knobs(run=1))
    host = tuned(tmp_path, proc__77__comm="tuned\n", proc__sys__vm__dirty_bytes="0\n", proc__sys__vm__dirty_ratio="30\n")
    with pytest.raises(SteadError, match=r"TuneD sets vm\.dirty_bytes here"):
        await planned(KernelActuator(host), host, sysctl(host, "vm.dirty_bytes"), Knobs(value=64 << 20))


# -- sysctls ----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def sysctl_case(name: str, value: int) -> AsyncIterator[Case]:
    host, path = LocalHost(), Path("/proc/sys") / name.replace(".", "/")
    if os.geteuid() != 0 or not os.access(path, os.W_OK):
        pytest.skip(f"{name} can't be set here")
    target = sysctl(host, name)
    absent = msgspec.structs.replace(target, identity={"boot_id": "another"})
    with alone("sysctl"):
        found = path.read_text()
        ratio = Path("/proc/sys/vm/dirty_background_ratio").read_text()
        try:
            yield Case(actuator(host), host, target, (Knobs(value=value), Knobs(value=value * 2)), absent, absent)
        finally:
            if name == "vm.dirty_background_bytes" and found.strip() == "0":
                Path("/proc/sys/vm/dirty_background_ratio").write_text(ratio)
            else:
                path.write_text(found)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "value"), [("vm.stat_interval", 7), ("vm.dirty_background_bytes", 1000 << 20)])
async def test_sysctls_conform(name: str, value: int, check: Callable[[Case], Awaitable[None]]) -> None:
    async with sysctl_case(name, value) as case:
        await check(case)


def test_each_known_sysctl_of_this_kernel_is_one_number_within_its_range() -> None:
    """What can't hold the kernel's own default could not be put back by a person who follows the range."""
    outside = {}
    for name, known in KNOWN.items():
        path = Path("/proc/sys") / name.replace(".", "/")
        if path.exists() and not known.displaces and not known.low <= int(path.read_text()) <= known.high:
            outside[name] = path.read_text()
    assert not outside


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("kernel.panic", 1, "not among the sysctls that stead sets"),
        ("vm.dirty_ratio", 1, r"set vm\.dirty_bytes instead"),
        ("vm.swappiness", 0, "give 1 to 200"),
        ("vm.zone_reclaim_mode", 1, r"this kernel has no vm\.zone_reclaim_mode"),
        ("vm.../../../etc/passwd", 1, "not among the sysctls"),
    ],
)
async def test_sysctls_that_are_refused(tmp_path: Path, name: str, value: int, said: str) -> None:
    host = tree(tmp_path, proc__sys__vm__swappiness="60\n", proc__sys__kernel__panic="0\n", proc__sys__vm__dirty_ratio="20\n")
    with pytest.raises(SteadError, match=said):
        await planned(KernelActuator(host), host, sysctl(host, name), Knobs(value=value))


# -- units ------------------------------------------------------------------------------------------------------------


def shown(ksm_: str, load: str = "loaded") -> Completed:
    return Completed(0, f"LoadState={load}\n" + (f"MemoryKSM={ksm_}\n" if ksm_ else ""), "")


def systemd(tmp_path: Path, *answers: Completed) -> FakeHost:
    tree(tmp_path, sys__kernel__mm__ksm__general_profit="0\n")
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    return FakeHost(tmp_path, {SHOW: answers, RELOAD: Completed(0, "", "")})


async def test_a_unit_gets_a_drop_in_and_loses_it_without_a_trace(tmp_path: Path) -> None:
    host = systemd(tmp_path, shown("no"), shown("yes"), shown("no"))
    made = KernelActuator(host)
    step = await planned(made, host, unit(host), Knobs(memory_ksm=True))
    assert (step.before, step.want) == ({"memory_ksm": False, "drop_in": False}, {"memory_ksm": True, "drop_in": True})
    assert step.undo == "exact" and "next started" in step.note
    door = NotedHost(host)
    await made.write(door, unit(host), msgspec.convert(step.want, Knobs))
    assert "[Service]\nMemoryKSM=yes\n" in (tmp_path / DROP_IN[1:]).read_text()
    assert made.met(await made.read(host, unit(host)), msgspec.convert(step.want, Knobs))
    assert [word.split()[0] for word in door.operations] == ["mkdir", "write", "run"]
    await made.write(host, unit(host), msgspec.convert(step.before, Knobs))
    assert list((tmp_path / "run/systemd/system").iterdir()) == []
    assert made.met(await made.read(host, unit(host)), msgspec.convert(step.before, Knobs))
    await made.write(host, unit(host), msgspec.convert(step.before, Knobs))  # twice does no harm
    assert host.commands.count(RELOAD) == 3


async def test_the_drop_ins_of_others_stay(tmp_path: Path) -> None:
    host = systemd(tmp_path, shown("no"))
    other = tmp_path / "run/systemd/system/web.service.d/other.conf"
    other.parent.mkdir()
    other.write_text("")
    made = KernelActuator(host)
    await made.write(host, unit(host), Knobs(memory_ksm=True, drop_in=True))
    await made.write(host, unit(host), Knobs(memory_ksm=False, drop_in=False))
    assert list(other.parent.iterdir()) == [other]


async def test_half_a_write_is_known_as_its_own(tmp_path: Path) -> None:
    host = systemd(tmp_path, shown("no"))
    made = KernelActuator(host)
    step = await planned(made, host, unit(host), Knobs(memory_ksm=True))
    host.make_folder("/run/systemd/system/web.service.d")
    host.place(DROP_IN, b"[Service]\nMemoryKSM=yes\n")
    seen = await made.read(host, unit(host))
    assert not made.met(seen, msgspec.convert(step.want, Knobs))
    assert made.between(msgspec.to_builtins(seen), step.before, step.want)
    with pytest.raises(SteadError, match="of a run that was forgotten"):
        made.plan(unit(host), seen, Knobs(memory_ksm=True))


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        (UNIT, shown(""), r"no MemoryKSM for it \(systemd 254\)"),
        (UNIT, shown("", "not-found"), r"has no unit web\.service here"),
        ("web.slice", shown("no"), r"web\.slice is no service"),
    ],
)
async def test_units_that_are_refused(tmp_path: Path, name: str, answer: Completed, said: str) -> None:
    host = systemd(tmp_path, answer)
    with pytest.raises(SteadError, match=said):
        await planned(KernelActuator(host), host, unit(host, name), Knobs(memory_ksm=True))


async def test_systems_that_can_not_merge_units(tmp_path: Path) -> None:
    host = tree(tmp_path / "none")
    with pytest.raises(SteadError, match="systemd is not the manager here"):
        await planned(KernelActuator(host), host, unit(host), Knobs(memory_ksm=True))
    with pytest.raises(SteadError, match="systemd is not the manager here"):
        await KernelActuator(host).write(host, unit(host), Knobs(memory_ksm=True))
    host = systemd(tmp_path / "old", shown("no"))
    (tmp_path / "old/sys/kernel/mm/ksm/general_profit").unlink()
    with pytest.raises(SteadError, match="can't merge the memory of whole processes"):
        await planned(KernelActuator(host), host, unit(host), Knobs(memory_ksm=True))


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[FakeHost]:
    yield systemd(tmp_path, Completed(None, "", ""))


async def test_a_systemd_that_does_not_answer_is_unknown(stuck: FakeHost) -> None:
    with pytest.raises(SteadError, match="no answer within 4 s"):
        await KernelActuator(stuck).read(stuck, unit(stuck))
