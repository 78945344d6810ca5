"""What a run is killed over: a real thing for each actuator, what it reads like without stead, how another hand changes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stead.cgroups.tree import Groups
from stead.host import LocalHost
from stead.model.change import Target
from tests.actuators.children import child, target
from tests.actuators.families import a_family
from tests.actuators.ksm import KNOBS, ksm_as_found
from tests.actuators.ksm import read as read_ksm
from tests.actuators.test_resident import group_with_cache
from tests.cgroups.groups import TREES, group, placed, put, real_groups, sleeper
from tests.files.kit import Place, everything

MIB = 1 << 20
SYSCTL = "vm.dirty_writeback_centisecs"


class Prey(NamedTuple):
    """`settings` as program.py takes them. `look`: all that is there now, read without stead. `meddle`: another hand changes it.

    `want`: what `look` must say of a change that is done, judged; `lossy` has no way back.
    """

    settings: tuple[dict[str, Any], ...]
    look: Callable[[], Any]
    done: Callable[[Any, Any], bool]  # (before, now) → is it as wanted
    meddle: Callable[[], None] | None = None
    root: str = ""
    lossy: bool = False

    @property
    def actuators(self) -> list[str]:
        """Whose steps there are."""
        return [one["actuator"] for one in self.settings]


def setting(actuator: str, thing: Target, state: dict[str, Any] | None) -> dict[str, Any]:
    return {"actuator": actuator, "state": state, "target": {"kind": thing.kind, "name": thing.name, "identity": thing.identity}}


@contextlib.contextmanager
def priority(tmp_path: Path) -> Iterator[Prey]:
    """A process, and two that it has started, one of them in a session of its own."""
    with a_family() as family:
        thing, host = family.target, family.host
        pids = (family.pid, family.born(), family.born(apart=True))

        def look() -> list[tuple[int, int, int | None]]:
            return [
                (os.getpriority(os.PRIO_PROCESS, one), os.sched_getscheduler(one), host.scheduler.autogroup(one)) for one in pids
            ]

        def done(before: Any, now: Any) -> bool:
            weight = None if before[2][2] is None else 15
            return bool(
                [one[:2] for one in now] == [(17, os.SCHED_BATCH)] * 3 and now[2][2] == weight and now[0][2] == before[0][2]
            )

        yield Prey(
            (
                setting("priority", thing, {"family": ["autogroup_nice=15", "nice=17", "policy=batch"]}),
                setting("priority", thing, {"nice": 17, "policy": "batch"}),
            ),
            look,
            done,
            lambda: os.setpriority(os.PRIO_PROCESS, family.pid, 3),
        )


@contextlib.contextmanager
def limit(tmp_path: Path) -> Iterator[Prey]:
    """Six knobs in four trees of version 1."""
    groups = real_groups()[1]
    names = {
        "cpu": ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
        "memory": ("memory.limit_in_bytes", "memory.soft_limit_in_bytes"),
        "pids": ("pids.max",),
        "freezer": ("freezer.state",),
    }
    with sleeper() as pid, group(groups) as path:
        put(groups, path, pid)
        thing = groups.target(path)
        assert thing is not None
        knobs = {name: Path(str(groups.folder(path, tree)), name) for tree, several in names.items() for name in several}
        state = {"cpu_weight": 20, "cpu_max_percent": 50.0, "memory_max_bytes": 256 * MIB, "memory_low_bytes": 4 * MIB}

        def done(before: dict[str, str], now: dict[str, str]) -> bool:
            wanted = {"memory.limit_in_bytes": f"{256 * MIB}", "pids.max": "64", "freezer.state": "FROZEN"}
            share = int(now["cpu.cfs_quota_us"]) / int(now["cpu.cfs_period_us"])
            return all(now[name] == value for name, value in wanted.items()) and share == 0.5 and now["cpu.shares"] != "1024"

        yield Prey(
            (setting("limit", thing, {**state, "pids_max": 64, "frozen": True}),),
            lambda: {name: knob.read_text().strip() for name, knob in knobs.items()},
            done,
            lambda: _write(knobs["cpu.shares"], "333"),
        )


@contextlib.contextmanager
def placement(tmp_path: Path) -> Iterator[Prey]:
    """A process into a group of its own, capped and frozen there."""
    groups = real_groups()[1]
    with group(groups, ("cpu",)) as elsewhere, placed(groups) as pid:
        thing = target(LocalHost(), pid)
        state = {"group": "best-effort", "cpu_max_percent": 40.0, "frozen": True}

        def look() -> dict[str, Any]:
            own = [str(folder) for tree in TREES for folder in _own_groups(groups, tree, pid)]
            return {"own": own, **{tree: groups.path_of(pid, tree) for tree in ("cpu", "freezer")}}

        def done(before: Any, now: Any) -> bool:
            caps = [Path(own, "cpu.cfs_quota_us") for own in now["own"]]
            states = [Path(own, "freezer.state") for own in now["own"]]
            capped = any(cap.exists() and cap.read_text().strip() == "40000" for cap in caps)
            frozen = any(one.exists() and one.read_text().strip() == "FROZEN" for one in states)
            return bool(now["cpu"] == now["freezer"] != before["cpu"]) and capped and frozen

        yield Prey((setting("placement", thing, state),), look, done, lambda: put(groups, elsewhere, pid, ("cpu",)))


def _own_groups(groups: Groups, tree: str, pid: int) -> list[Path]:
    folder = Path(str(groups.folder("/stead", tree)))
    return sorted(folder.glob(f"{pid}-*")) if folder.is_dir() else []


@contextlib.contextmanager
def kernel(tmp_path: Path) -> Iterator[Prey]:
    """KSM's knobs and a sysctl: two steps of one run. One at a time on this machine, as it was afterwards."""
    boot = {"boot_id": LocalHost().boot_id}
    with ksm_as_found(), _alone("sysctl"):
        file = Path("/proc/sys", *SYSCTL.split("."))
        found = file.read_text()
        value = int(found) + 7
        scanning = {"run": 1, "advisor_mode": "scan-time", "advisor_max_cpu": 11}

        def look() -> dict[str, str]:
            return {**{name: read_ksm(name) for name in ("run", *KNOBS)}, SYSCTL: file.read_text().strip()}

        def done(before: Any, now: Any) -> bool:
            return bool(now["run"] == "1" and "[scan-time]" in now["advisor_mode"] and now[SYSCTL] == str(value))

        try:
            yield Prey(
                (
                    setting("kernel", Target("kernel", "ksm", boot), scanning),
                    setting("kernel", Target("sysctl", SYSCTL, boot), {"value": value}),
                ),
                look,
                done,
                lambda: _write(file, str(value + 3)),
            )
        finally:
            file.write_text(found)


@contextlib.contextmanager
def files(tmp_path: Path) -> Iterator[Prey]:
    """One file into quarantine, another one compressed."""
    place = Place(tmp_path / "root")
    old, plain = place.file("/var/log/a.bin", b"old" * 40_000), place.file("/var/log/b.log.1")
    before = {path: everything(place.real(path)) for path in (old, plain)}

    def look() -> dict[str, Any]:
        there = {path.decode(): everything(place.real(path)) == before[path] for path in before if _is_there(place.real(path))}
        beside = sorted(os.listdir(place.real("/var/log").decode()))
        kept = sorted(name for name in place.names() if not name.endswith(".json"))
        return {"there": there, "beside": beside, "kept": len(kept)}

    def done(_: Any, now: Any) -> bool:
        return not now["there"] and len(now["beside"]) == 1 and now["kept"] >= 1

    yield Prey(
        (
            setting("files", place.target(old), {"place": "quarantine"}),
            setting("files", place.target(plain, inode=False), {"place": "compressed"}),
        ),
        look,
        done,
        root=str(place.root),
    )


@contextlib.contextmanager
def stopped(tmp_path: Path) -> Iterator[Prey]:
    with child() as pid:
        yield Prey(
            (setting("process", target(LocalHost(), pid), {"stopped": True}),),
            lambda: _state_of(pid) == "T",
            lambda before, now: bool(now),
        )


@contextlib.contextmanager
def ended(tmp_path: Path) -> Iterator[Prey]:
    with child() as pid:
        yield Prey(
            (setting("process", target(LocalHost(), pid), None),),
            lambda: _state_of(pid) in "ZX",
            lambda before, now: bool(now),
            lossy=True,
        )


@contextlib.contextmanager
def resident(tmp_path: Path) -> Iterator[Prey]:
    groups = real_groups()[1]
    with group_with_cache(tmp_path) as path:
        thing = groups.target(path)
        assert thing is not None
        usage = Path(str(groups.folder(path, "memory")), "memory.usage_in_bytes")
        yield Prey(
            (setting("resident", thing, {"size_bytes": 20 * MIB}),),
            lambda: int(usage.read_text()) <= 26 * MIB,
            lambda before, now: bool(now),
            lossy=True,
        )


KINDS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Prey]]] = {
    one.__name__: one for one in (priority, limit, placement, kernel, files, stopped, ended, resident)
}
REVERSIBLE = ("priority", "limit", "placement", "kernel", "files", "stopped")


@contextlib.contextmanager
def prey(kind: str, tmp_path: Path) -> Iterator[Prey]:
    """One of them, and stead's own ceiling as its last step: what is partly done is undone in reverse."""
    if os.geteuid() != 0:
        pytest.skip("restoring a priority and making control groups need root")
    with KINDS[kind](tmp_path) as one:
        last = setting("autonomy", Target("autonomy", "host"), {"ceiling": {"add": -1, "at_least": 0}})
        yield one._replace(settings=(*one.settings, last))


@contextlib.contextmanager
def _alone(what: str) -> Iterator[None]:
    with open(Path(tempfile.gettempdir()) / f"stead-test-{what}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _is_there(path: bytes) -> bool:
    return os.path.lexists(path)


def _state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "X"
