"""`limit` on a recorded tree of version 2, straight and through systemd; what it refuses; what it leaves when the kernel refuses.

The real thing: tests/contracts (version 1, here), tests/guest/test_limits.py (version 2 and systemd).
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.actuators.limit import Limit, LimitActuator, actuator
from stead.flow.write import READ_TIMEOUT_S, to_record
from stead.model.change import ABSENT, Step, Target
from stead.model.errors import SteadError
from stead.model.intent import Intent, Protect
from stead.protocols import Completed
from stead.testing.actuators import CHECKS, Case
from tests.cgroups.recorded import CONTROL, RecordedHost

AMONG = "weighs among the groups in /batch, not against others"
UNIT = "/system.slice/nginx.service"
PLAIN = "/batch/hog"
STATES = (
    Limit(cpu_weight=20, cpu_max_percent=33.3),
    Limit(cpu_idle=True),
    Limit(memory_high_bytes=(64 << 20) + 5, memory_low_bytes=1 << 20, memory_max_bytes=128 << 20),
    Limit(io_max=["* wbps=1048576 riops=100"], io_latency=["254:0 target=10000"], io_weight=50),
    Limit(pids_max=64, frozen=True),
)


def hosted(tmp_path: Path, systemd: int = 0) -> tuple[RecordedHost, LimitActuator, str]:
    host, path = RecordedHost(tmp_path, systemd), UNIT if systemd else PLAIN
    for upper in ("/system.slice", "/batch"):
        host.group(upper)
    host.group(path, pids=[4711])
    host.process(4711, "hog", path)
    host.units["nginx.service"] = UNIT
    return host, actuator(host), path  # type: ignore[return-value]


def target_of(limit: LimitActuator, path: str) -> Target:
    target = limit.groups.target(path)
    assert target is not None
    return target


async def planned(limit: LimitActuator, host: RecordedHost, path: str, **want: Any) -> Step:
    target = target_of(limit, path)
    return limit.plan(target, await limit.read(host, target), Limit(**want))


async def made(limit: LimitActuator, host: RecordedHost, path: str, **want: Any) -> Step:
    step = await planned(limit, host, path, **want)
    await limit.write(host, step.target, msgspec.convert(step.want, Limit))
    return step


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("systemd", [0, 252])
async def test_conforms_on_version_2(tmp_path, systemd, check):
    host, limit, path = hosted(tmp_path, systemd)
    mine = target_of(limit, path)
    absent = msgspec.structs.replace(mine, name="/batch/none")
    successor = msgspec.structs.replace(mine, identity={**mine.identity, "id": "1"})
    await check(Case(limit, host, mine, STATES, absent, successor))


async def test_through_systemd_nothing_is_left_behind(tmp_path):
    host, limit, path = hosted(tmp_path, 252)
    before = {name: host.read(f"/sys/fs/cgroup{path}/{name}") for name in host.list(f"/sys/fs/cgroup{path}")}
    step = await made(limit, host, path, cpu_max_percent=25.0, memory_high_bytes=64 << 20, io_max=["* wbps=1048576"])
    folder = f"{CONTROL}/nginx.service.d"
    assert "50-CPUQuota.conf" in host.list(folder) and step.want["drop_ins"] == sorted(step.want["drop_ins"])
    assert host.commands[-1][:5] == ("systemctl", "set-property", "--runtime", "--", "nginx.service")
    await limit.write(host, step.target, msgspec.convert(step.before, Limit))
    assert host.inode(folder) is None
    assert {name: host.read(f"/sys/fs/cgroup{path}/{name}") for name in host.list(f"/sys/fs/cgroup{path}")} == before


async def test_a_drop_in_of_somebody_else_stays_with_its_value(tmp_path):
    host, limit, path = hosted(tmp_path, 252)
    await host.run(("systemctl", "set-property", "--runtime", "--", "nginx.service", "CPUQuota=80%", "TasksMax=500"), 1.0)
    step = await made(limit, host, path, cpu_max_percent=25.0, memory_high_bytes=64 << 20)
    await limit.write(host, step.target, msgspec.convert(step.before, Limit))
    assert sorted(host.list(f"{CONTROL}/nginx.service.d")) == ["50-CPUQuota.conf", "50-TasksMax.conf"]
    assert host.read(f"{CONTROL}/nginx.service.d/50-CPUQuota.conf").endswith(b"CPUQuota=80%\n")
    assert host.read(f"/sys/fs/cgroup{path}/cpu.max").strip() == b"80000 100000"


async def test_a_drop_in_that_a_crash_left_is_still_to_be_put_back(tmp_path):
    host, limit, path = hosted(tmp_path, 252)
    step = await made(limit, host, path, cpu_max_percent=25.0)
    await host.run(("systemctl", "set-property", "--runtime", "--", "nginx.service", "CPUQuota="), 1.0)  # and was killed here
    seen = await limit.read(host, step.target)
    assert not limit.met(seen, msgspec.convert(step.before, Limit))
    assert limit.between(to_record(seen), step.before, step.want)
    await limit.write(host, step.target, msgspec.convert(step.before, Limit))
    assert limit.met(await limit.read(host, step.target), msgspec.convert(step.before, Limit))


async def test_a_controller_that_systemd_has_not_enabled_has_the_kernels_defaults(tmp_path):
    host, limit, _ = hosted(tmp_path, 252)
    host.group("/system.slice/quiet.service", controllers=("memory", "pids"))
    host.units["quiet.service"] = "/system.slice/quiet.service"
    seen = await limit.read(host, target_of(limit, "/system.slice/quiet.service"))
    assert seen.cpu_weight == 100 and seen.cpu_max_percent == "max" and seen.cpu_idle is False and seen.io_max == []


async def test_a_knob_that_the_kernel_lacks_after_all_is_said_once_systemd_took_it(tmp_path):
    host, limit, _ = hosted(tmp_path, 252)
    path = "/system.slice/quiet.service"
    host.group(path, controllers=("memory", "pids"))
    host.units["quiet.service"] = path
    step = await planned(limit, host, path, io_latency=["254:0 target=5000"])
    for name in ("io.max", "io.latency", "io.weight"):
        host.put(f"/sys/fs/cgroup{path}/{name}", "")
    host.put(f"/sys/fs/cgroup{path}/cgroup.controllers", "memory pids io")
    write = host._set_io

    def without(folder: str, prop: str, value: str) -> None:
        write(folder, prop, value)
        host.remove(f"{folder}/io.latency")

    host._set_io = without  # type: ignore[method-assign]
    with pytest.raises(SteadError, match=r"systemd took io_latency, but this kernel has no io\.latency"):
        await limit.write(host, step.target, msgspec.convert(step.want, Limit))


async def test_straight_it_says_what_is_not_enabled(tmp_path):
    host, limit, _ = hosted(tmp_path)
    host.group("/batch/quiet", controllers=("memory",))
    with pytest.raises(SteadError, match="the cpu controller is not enabled for /batch/quiet"):
        await planned(limit, host, "/batch/quiet", cpu_weight=20)


async def test_what_a_kernel_lacks_is_said_and_the_rest_is_done(tmp_path):
    host, limit, path = hosted(tmp_path)
    host.remove(f"/sys/fs/cgroup{path}/cpu.idle")
    step = await made(limit, host, path, cpu_idle=True, cpu_weight=1)
    assert step.want == {"cpu_weight": 1} and step.note == "not here: this kernel has no cpu.idle; " + AMONG
    with pytest.raises(SteadError, match=r"this kernel has no cpu\.idle"):
        await planned(limit, host, path, cpu_idle=True)
    assert not limit.met(await limit.read(host, step.target), Limit(cpu_idle=True)), "what is lacking is not met"


async def test_an_idle_groups_weight_comes_back(tmp_path):
    host, limit, path = hosted(tmp_path)
    await made(limit, host, path, cpu_weight=250)
    step = await made(limit, host, path, cpu_idle=True, cpu_weight=1)
    assert step.before == {"cpu_idle": False, "cpu_weight": 250} and step.want == {"cpu_idle": True}
    await limit.write(host, step.target, msgspec.convert(step.before, Limit))
    assert host.read(f"/sys/fs/cgroup{path}/cpu.weight").strip() == b"250"


async def test_a_period_stays_as_it_was(tmp_path):
    host, limit, path = hosted(tmp_path)
    host.put(f"/sys/fs/cgroup{path}/cpu.max", "15000 30000\n")
    step = await made(limit, host, path, cpu_max_percent=20.0)
    assert step.before == {"cpu_max_percent": 50.0}
    assert host.read(f"/sys/fs/cgroup{path}/cpu.max").strip() == b"6000 30000"
    await limit.write(host, step.target, msgspec.convert(step.before, Limit))
    assert host.read(f"/sys/fs/cgroup{path}/cpu.max").strip() == b"15000 30000"


@pytest.mark.parametrize(
    ("pid", "name", "flags", "words"),
    [
        (1, "systemd", 0, "holds process 1, the init system"),
        (2, "kswapd0", 0x00200000, "kswapd0, a thread of the kernel"),
        (50, "sshd", 0, "sshd: the way in by ssh"),
        (51, "postgres", 0, "which the policy's pattern postgres\\* protects"),
        (os.getpid(), "python", 0, "stead itself"),
        (52, "python", 0, "stead's hub"),
    ],
    ids=["init", "kernel", "ssh", "policy", "self", "hub"],
)
async def test_a_group_is_as_protected_as_who_is_in_it_or_below(tmp_path, pid, name, flags, words):
    host, _, path = hosted(tmp_path)
    limit: Any = actuator(host, ("postgres*",), lambda: {"52@500": "stead's hub"})
    host.group(f"{path}/deep")
    host.group(f"{path}/deep/er", pids=[pid])
    host.process(pid, name, flags=flags)
    with pytest.raises(SteadError, match=words) as refused:
        await planned(limit, host, path, cpu_max_percent=50.0)
    assert refused.value.problem.code == "limit.refused"
    with pytest.raises(SteadError, match=words):
        await limit.write(host, target_of(limit, path), Limit(cpu_max_percent=50.0))
    await made(limit, host, path, cpu_weight=200)


@pytest.mark.parametrize("match", ["process:web*", "process:/srv/web --all", "cgroup:/batch/hog/*", "service:dear"])
async def test_a_group_that_holds_what_its_owner_protects_is_left_alone(tmp_path, match):
    host, _, path = hosted(tmp_path)
    limit: Any = actuator(host, intent=Intent((Protect((match,), name="the shop"),)))
    await made(limit, host, path, cpu_weight=50)
    host.group(f"{path}/dear.service", pids=[60])
    host.process(60, "web-1", f"{path}/dear.service")
    host.put("/proc/60/cmdline", "/srv/web\0--all\0")
    with pytest.raises(SteadError, match=r"holds process 60, web-1, which is to be protected \(the shop\)"):
        await planned(limit, host, path, cpu_weight=20)


@pytest.mark.parametrize("systemd", [0, 252])
@pytest.mark.parametrize("want", [{"cpu_idle": True}, {"cpu_weight": 500}, {"memory_low_bytes": 1 << 20}, {"frozen": True}])
async def test_what_was_there_comes_back_also_when_a_protected_process_came_in(tmp_path, want, systemd):
    host, _, path = hosted(tmp_path, systemd)
    limit: Any = actuator(host, intent=Intent((Protect(("process:postgres*",)),)))
    step = await made(limit, host, path, **want)
    host.process(99, "postgres", path)
    host.put(f"/sys/fs/cgroup{path}/cgroup.procs", "4711\n99\n")
    assert not limit.met(await limit.read(host, step.target), msgspec.convert(step.before, Limit))
    await limit.put_back(host, step.target, msgspec.convert(step.before, Limit))
    assert limit.met(await limit.read(host, step.target), msgspec.convert(step.before, Limit))
    with pytest.raises(SteadError, match="process 99"):
        await planned(limit, host, path, cpu_max_percent=20.0)


@pytest.mark.parametrize(
    ("want", "words"),
    [
        ({"cpu_max_percent": 0.5}, "less than the 1 %"),
        ({"pids_max": 0}, "it runs 1 tasks now"),
        ({"memory_high_bytes": 7 << 20}, "of 7 MiB is below the 9 MiB that it uses and can't give back"),
        ({"memory_max_bytes": 4096}, "can't give back"),
    ],
)
async def test_a_limit_below_what_it_needs_is_refused_before_and_at_the_write(tmp_path, want, words):
    host, limit, path = hosted(tmp_path)
    with pytest.raises(SteadError, match=words):
        await planned(limit, host, path, **want)
    with pytest.raises(SteadError, match=words):
        await limit.write(host, target_of(limit, path), Limit(**want))
    assert (await limit.read(host, target_of(limit, path))).memory_max_bytes == "max"


async def test_a_limit_that_ends_processes_needs_to_know_what_they_use(tmp_path):
    host, limit, path = hosted(tmp_path)
    host.remove(f"/sys/fs/cgroup{path}/memory.stat")
    with pytest.raises(SteadError, match="what it uses is not known"):
        await planned(limit, host, path, memory_max_bytes=1 << 30)
    await made(limit, host, path, memory_high_bytes=1 << 30)


async def test_a_systemd_that_is_slow_to_say_its_version_does_not_keep_an_undo_waiting(tmp_path, monkeypatch):
    host, limit, path = hosted(tmp_path, 252)
    run, asked = host.run, dict[str, float]()

    async def slow(argv: Any, timeout_s: float, stdin: bytes = b"", limit: int = 1 << 20) -> Completed:
        if argv[1] == "show":
            asked["s"] = timeout_s
            return Completed(None, "", "")
        return await run(argv, timeout_s)

    monkeypatch.setattr(host, "run", slow)
    step = await made(limit, host, path, cpu_max_percent=25.0)
    await limit.put_back(host, step.target, msgspec.convert(step.before, Limit))
    assert asked["s"] <= READ_TIMEOUT_S / 2


async def test_what_swap_has_room_for_can_be_given_back(tmp_path):
    host, limit, path = hosted(tmp_path)
    host.put(f"/sys/fs/cgroup{path}/memory.stat", "inactive_anon 9437184\nactive_anon 0\ninactive_file 1048576\n")
    host.put("/proc/meminfo", "SwapFree: 4096 kB\n")
    with pytest.raises(SteadError, match="below the 5 MiB"):
        await planned(limit, host, path, memory_high_bytes=4 << 20)
    await made(limit, host, path, memory_high_bytes=6 << 20)


@pytest.mark.parametrize(
    "path", ["/docker/" + "0a" * 32, "/kubepods/burstable/pod1", "/system.slice/docker-" + "0a" * 32 + ".scope"]
)
async def test_it_yields_to_container_engines(tmp_path, path):
    host, limit, _ = hosted(tmp_path)
    host.group(path)
    with pytest.raises(SteadError, match="sets its limits itself"):
        await planned(limit, host, path, cpu_weight=200)


async def test_it_yields_to_a_controller_that_sets_the_value(tmp_path):
    host, limit, path = hosted(tmp_path)
    host.process(99, "senpai")
    with pytest.raises(SteadError, match=r"senpai runs here \(process 99\) and sets memory_high_bytes"):
        await planned(limit, host, path, memory_high_bytes=64 << 20)
    await made(limit, host, path, cpu_weight=20)


async def test_a_plan_says_who_may_kill_by_the_pressure_it_makes(tmp_path):
    host, limit, path = hosted(tmp_path)
    host.process(99, "systemd-oomd")
    step = await planned(limit, host, path, memory_high_bytes=64 << 20)
    assert step.note == "systemd-oomd runs here and may kill by the pressure that this makes"


async def test_a_login_session_is_not_frozen(tmp_path):
    host, limit, _ = hosted(tmp_path)
    host.group("/user.slice/user-1000.slice/session-3.scope")
    with pytest.raises(SteadError, match="is a login session"):
        await planned(limit, host, "/user.slice/user-1000.slice/session-3.scope", frozen=True)


@pytest.mark.parametrize(("number", "name"), [(errno.EBUSY, "EBUSY"), (errno.EPERM, "EPERM"), (errno.ENOSPC, "ENOSPC")])
async def test_what_the_kernel_refuses_is_named_and_the_rest_is_as_it_was(tmp_path, number, name):
    host, limit, path = hosted(tmp_path)
    step = await planned(limit, host, path, cpu_weight=20, memory_max_bytes=64 << 20)
    host.refuses["memory.max"] = OSError(number, os.strerror(number))
    with pytest.raises(SteadError, match=f"the kernel refused memory_max_bytes = 67108864 with {name}"):
        await limit.write(host, step.target, msgspec.convert(step.want, Limit))
    seen = await limit.read(host, step.target)
    assert limit.between(to_record(seen), step.before, step.want)
    await limit.write(host, step.target, msgspec.convert(step.before, Limit))
    assert limit.met(await limit.read(host, step.target), msgspec.convert(step.before, Limit))


async def test_a_group_that_vanishes_in_the_middle_is_gone(tmp_path):
    host, limit, path = hosted(tmp_path)
    step = await planned(limit, host, path, cpu_weight=20, pids_max=64)
    write = host.write

    def vanishing(file: str, data: bytes) -> None:
        if file.endswith("pids.max"):
            host.put(f"/sys/fs/cgroup{path}/cgroup.procs", "")
            host.remove_folder(f"/sys/fs/cgroup{path}")
            raise OSError(errno.ENODEV, "No such device")
        write(file, data)

    host.write = vanishing  # type: ignore[method-assign]
    with pytest.raises(FileNotFoundError, match="is gone"):
        await limit.write(host, step.target, msgspec.convert(step.want, Limit))
    assert await limit.read(host, step.target) == ABSENT


async def test_systemds_own_words_when_it_refuses(tmp_path):
    host, limit, path = hosted(tmp_path, 252)
    step = await planned(limit, host, path, cpu_weight=20)
    host.units.clear()
    with pytest.raises(SteadError, match=r"systemctl set-property: Unit nginx\.service not found"):
        await limit.write(host, step.target, msgspec.convert(step.want, Limit))


@pytest.mark.parametrize(("version", "want"), [(249, {"cpu_idle": True}), (245, {"frozen": True})])
async def test_an_old_systemd_is_not_asked_for_what_it_does_not_know(tmp_path, version, want):
    host, limit, path = hosted(tmp_path, version)
    with pytest.raises(SteadError, match=f"systemd {version}"):
        await planned(limit, host, path, **want)


async def test_version_1_knows_no_memory_high(tmp_path):
    host = RecordedHost(tmp_path, mounts="hybrid")
    for tree in ("cpu", "memory"):
        host.put(f"/sys/fs/cgroup/{tree}/some/cgroup.procs", "")
    limit: Any = actuator(host)
    with pytest.raises(SteadError, match=r"version 1 of control groups has no memory\.high"):
        await planned(limit, host, "/some", memory_high_bytes=64 << 20)


async def test_shares_that_no_weight_says_come_back_exactly(tmp_path):
    host = RecordedHost(tmp_path, mounts="hybrid")
    for name, text in {"cgroup.procs": "", "cpu.shares": "1000", "cpu.idle": "0"}.items():
        host.put(f"/sys/fs/cgroup/cpu/some/{name}", text)
    limit: Any = actuator(host)
    step = await made(limit, host, "/some", cpu_weight=10)
    assert host.read("/sys/fs/cgroup/cpu/some/cpu.shares") == b"102\n"
    await limit.write(host, step.target, msgspec.convert(step.before, Limit))
    assert host.read("/sys/fs/cgroup/cpu/some/cpu.shares") == b"1000\n"


@pytest.mark.parametrize("systemd", [0, 252])
async def test_what_is_lowered_further_is_taken_back_by_whoever_lowers_it(tmp_path, systemd):
    """A limit that is new is only written; then what it is lowered by, a hundredth at most: a jump is the kernel's own work."""
    host, limit, path = hosted(tmp_path, systemd)
    folder, asked = f"/sys/fs/cgroup{path}", list[int]()
    host.put(f"{folder}/memory.current", f"{100 << 20}\n")
    host.put(f"{folder}/memory.stat", f"inactive_file {90 << 20}\n")
    host.put(f"{folder}/memory.reclaim", "")
    write = host.write

    def noted(name: str, data: bytes) -> None:
        if name.endswith("memory.reclaim"):
            asked.append(int(data))
        write(name, data)

    host.write = noted  # type: ignore[method-assign]
    await made(limit, host, path, memory_high_bytes=102 << 20)
    assert asked == []
    await made(limit, host, path, memory_high_bytes=101 << 20)
    assert asked == [1 << 20]
    await made(limit, host, path, memory_high_bytes=80 << 20)
    assert asked[1:] == [round((80 << 20) * 0.01)]
    host.put(f"{folder}/memory.high", f"{6 << 30}\n")
    await made(limit, host, path, memory_high_bytes=5 << 30)
    assert asked[2:] == [16 << 20, 16 << 20, 16 << 20, round((5 << 30) * 0.01) - (48 << 20)], "a piece at a time"
    host.put(f"{folder}/memory.high", f"{80 << 20}\n")
    await made(limit, host, path, memory_high_bytes=90 << 20)
    assert len(asked) == 6, "what is loosened takes nothing"
