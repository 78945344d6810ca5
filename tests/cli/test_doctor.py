"""Each check with a host that has the thing, and with one that lacks it."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from stead.cli import doctor
from stead.cli.doctor import Check
from stead.model.config import Paths
from stead.model.messages import GetStatus, Station
from tests.cli.conftest import Call
from tests.cli.fake_agent import FakeAgent


def put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_versions() -> None:
    assert doctor.python_check((3, 11, 2)).result == "ok"
    assert doctor.python_check((3, 10, 9)).result == "fail"
    assert [doctor.sqlite_check(v).result for v in ((3, 51, 3), (3, 52, 0), (3, 50, 7), (3, 44, 6))] == ["ok"] * 4
    assert [doctor.sqlite_check(v).result for v in ((3, 40, 1), (3, 51, 2), (3, 50, 6))] == ["warn"] * 3


def test_the_clock() -> None:
    assert doctor.clock_check(1_760_000_000).result == "ok"
    assert doctor.clock_check(0).result == "fail"


def test_a_bare_root_lacks_everything_and_each_says_what_to_do(tmp_path: Path) -> None:
    kernel = (doctor.psi_check, doctor.schedstat_check, doctor.cgroup_check, doctor.capability_check)
    checks = [one(tmp_path) for one in kernel]
    assert [one.result for one in checks] == ["warn"] * 4
    assert all(one.fix for one in checks)
    assert doctor.autogroup_check(tmp_path).detail.startswith("the kernel has none")


def test_a_full_kernel(tmp_path: Path) -> None:
    put(tmp_path, "proc/pressure/cpu", "some avg10=0.00")
    put(tmp_path, "proc/self/schedstat", "123 45 6\n")
    put(tmp_path, "proc/sys/kernel/sched_autogroup_enabled", "1\n")
    put(tmp_path, "proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n")
    put(tmp_path, "sys/fs/cgroup/cgroup.controllers", "cpu memory")
    kernel = (doctor.psi_check, doctor.schedstat_check, doctor.autogroup_check, doctor.cgroup_check, doctor.capability_check)
    assert [one(tmp_path).result for one in kernel] == ["ok"] * 5


def test_version_2_of_control_groups_beside_version_1_is_seen(tmp_path: Path) -> None:
    put(tmp_path, "sys/fs/cgroup/cpu/tasks", "1")
    assert doctor.cgroup_check(tmp_path).result == "warn"
    put(tmp_path, "sys/fs/cgroup/unified/cgroup.controllers", "")
    assert doctor.cgroup_check(tmp_path).result == "ok"


def test_a_missing_capability_is_named_with_what_is_lost(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/status", f"CapEff:\t{(1 << 24) | (1 << 19):016x}\n")
    check = doctor.capability_check(tmp_path)
    assert "CAP_SYS_NICE (a lowered priority can't be restored" in check.detail and "CAP_SYS_RESOURCE" not in check.detail


def test_the_state_directory(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert "not there yet" in doctor.state_checks(state)[0].detail
    state.mkdir(mode=0o755)
    open_check = doctor.state_checks(state)[0]
    assert open_check.result == "warn" and open_check.fix == f"chmod 700 {state}"
    state.chmod(0o700)
    assert [one.result for one in doctor.state_checks(state)] == ["ok", "ok"]
    file = tmp_path / "file"
    file.touch()
    assert doctor.state_checks(file)[0].result == "fail"


def test_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    assert doctor.room_check(tmp_path) == Check(
        "room", "warn", f"only 1.0 MiB free under {tmp_path}", "free 256 MiB: a full disk stops stead from acting"
    )


def test_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert doctor.port_check("127.0.0.1", port, ours=False).result == "warn"
        assert doctor.port_check("127.0.0.1", port, ours=True).result == "ok"
    assert doctor.port_check("127.0.0.1", port, ours=False).result == "ok"
    assert "can't be listened on" in doctor.port_check("192.0.2.1", port, ours=True).detail


def test_the_agent(agent: FakeAgent, state: Path) -> None:
    paths = Paths(str(state), str(state / "run"), str(state / "log"))
    ill = doctor.agent_check(paths)
    assert ill.result == "warn" and "probe disk: hung for 9 s" in ill.detail
    now = agent.answers[GetStatus]
    stopped = tuple(Station(name, False, "stands still") for name in ("find", "act"))
    agent.answers[GetStatus] = msgspec.structs.replace(now, stations=(*stopped, Station("record", False, "rolled back")))
    assert doctor.agent_check(paths).detail.endswith("answers, but find, act: stands still; record: rolled back")
    agent.close()
    assert doctor.agent_check(paths).fix == "start it with `stead up` or `stead agent`"


def test_a_failed_check_is_the_exit_code(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "all_checks", lambda *_: [Check("x", "fail", "broken", "mend it")])
    result = call("doctor")
    assert result.exit_code == 1 and "broken: mend it" in result.stdout
    monkeypatch.setattr(doctor, "all_checks", lambda *_: [Check("x", "warn", "odd", "look")])
    assert call("doctor").exit_code == 0


def test_ksm_is_there_in_parts(tmp_path: Path) -> None:
    assert doctor.ksm_check(tmp_path).result == "warn"
    put(tmp_path, "sys/kernel/mm/ksm/run", "0\n")
    assert "Linux 6.4" in doctor.ksm_check(tmp_path).fix
    put(tmp_path, "sys/kernel/mm/ksm/general_profit", "0\n")
    assert doctor.ksm_check(tmp_path).detail.endswith("without an advisor (Linux 6.8)")
    put(tmp_path, "sys/kernel/mm/ksm/advisor_mode", "[none] scan-time\n")
    assert (doctor.ksm_check(tmp_path).result, "advisor" in doctor.ksm_check(tmp_path).detail) == ("ok", True)
