"""`stead doctor`: what this host offers and what is missing, each with what to do. Reads only."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sqlite3
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from stead.cli.table import printable, styled
from stead.cli.verb import Session, examples, options
from stead.cli.words import size
from stead.model.config import Config, Paths
from stead.model.errors import EXIT_FAILURE, EXIT_OK, SteadError

if TYPE_CHECKING:
    from stead.protocols import Host

EXAMPLES = examples(
    ("stead doctor", "every check, with what to do"), ("stead doctor -o json", "for a script; exit code 1 on a failure")
)
LEAST_FREE = 256 << 20  # bytes: a day of raw values, with room for the ledger
FIXED_SQLITE = (3, 51, 3)  # before it (but for BACKPORTED), a WAL reset can corrupt a database that has several connections
BACKPORTED = ((3, 50, 7), (3, 44, 6))
CAPABILITIES = {  # bit → name, and what is lost without it
    23: ("CAP_SYS_NICE", "a lowered priority can't be restored, so none is lowered alone"),
    24: ("CAP_SYS_RESOURCE", "pressure triggers take windows of 2 s only"),
    19: ("CAP_SYS_PTRACE", "IO and files of other users' processes are unknown"),
}
EARLIEST_S = 1_704_067_200  # 2024: a clock before this was never set


class Check(msgspec.Struct, frozen=True):
    """One check: its result, and what to do unless it is ok."""

    name: str
    result: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


@click.command(epilog=EXAMPLES)
@options
def doctor(session: Session) -> int:
    """Check Python, state directory, kernel features, capabilities, the agent, the clock, SQLite and the port."""
    checks = all_checks(session.paths, Path("/"))
    session.show(checks, lambda: check_lines(checks))
    return EXIT_FAILURE if any(one.result == "fail" for one in checks) else EXIT_OK


def all_checks(paths: Paths, root: Path) -> list[Check]:
    """Every check, in the order they are shown. `root` is where /proc and /sys are taken from."""
    running = agent_check(paths)
    kernel: list[Callable[[Path], Check]] = [
        psi_check,
        schedstat_check,
        autogroup_check,
        ksm_check,
        cgroup_check,
        limits_check,
        rivals_check,
    ]
    kernel.append(capability_check)
    return [
        python_check(sys.version_info[:3]),
        sqlite_check(sqlite3.sqlite_version_info),
        *state_checks(Path(paths.state)),
        clock_check(time.time()),
        *(one(root) for one in kernel),
        running,
        *witness_checks(paths),
        *intent_checks(),
        port_check(*_address(), ours=running.result == "ok"),
    ]


def check_lines(checks: list[Check]) -> list[str]:
    """One line a check."""
    width = max(len(one.name) for one in checks)
    styles = {"ok": "good", "warn": "warning", "fail": "critical"}
    lines = []
    for one in checks:
        fix = f": {one.fix}" if one.fix else ""
        lines.append(f"{styled(f'{one.result:<4}', styles[one.result])}  {one.name:<{width}}  {printable(one.detail + fix)}")
    return lines


def python_check(version: tuple[int, ...]) -> Check:
    """Python 3.11 or newer."""
    text = ".".join(map(str, version))
    if version >= (3, 11):
        return Check("python", "ok", text)
    return Check("python", "fail", f"{text} is too old", "install Python 3.11 or newer")


def sqlite_check(version: tuple[int, ...]) -> Check:
    """The version that Python is linked with."""
    text = ".".join(map(str, version))
    if version >= FIXED_SQLITE or any(version[:2] == one[:2] and version >= one for one in BACKPORTED):
        return Check("sqlite", "ok", text)
    why = f"{text} is older than 3.51.3, which mends a corruption that several connections to one WAL database can meet"
    return Check("sqlite", "warn", why, "update it; until then open stead's databases with no other program while it runs")


def state_checks(state: Path) -> list[Check]:
    """Owner, mode and room of the state directory."""
    try:
        found = state.stat()
    except FileNotFoundError:
        return [_creatable(state), room_check(_nearest(state))]
    except OSError as error:
        return [Check("state", "fail", f"{state}: {error.strerror}", "run as the agent's user or as root")]
    mode = stat.S_IMODE(found.st_mode)
    if not state.is_dir():
        check = Check("state", "fail", f"{state} is no directory", "move it away")
    elif not os.access(state, os.W_OK):
        check = Check("state", "fail", f"{state} can't be written", "run as its owner, or mount it read-write")
    elif mode & 0o077:
        check = Check("state", "warn", f"{state} is open to others (mode {mode:04o})", f"chmod 700 {state}")
    else:
        check = Check("state", "ok", f"{state} (mode {mode:04o})")
    return [check, room_check(state)]


def room_check(folder: Path) -> Check:
    """Free space where the stores are."""
    free = shutil.disk_usage(folder).free
    if free >= LEAST_FREE:
        return Check("room", "ok", f"{size(free)} free under {folder}")
    return Check(
        "room", "warn", f"only {size(free)} free under {folder}", f"free {size(LEAST_FREE)}: a full disk stops stead from acting"
    )


def clock_check(now_s: float) -> Check:
    """A clock that was never set makes records useless."""
    if now_s < EARLIEST_S:
        return Check("clock", "fail", f"it says {time.strftime('%Y-%m-%d', time.gmtime(now_s))}", "set the clock; enable NTP")
    return Check("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s)))


def psi_check(root: Path) -> Check:
    """Pressure stall information."""
    if _read(root / "proc/pressure/cpu"):
        return Check("pressure", "ok", "the kernel reports pressure (PSI)")
    return Check("pressure", "warn", "the kernel reports no pressure; infra.psi_* stay unknown", "boot with psi=1")


def schedstat_check(root: Path) -> Check:
    """Run delay of each task: what verification of CPU remedies rests on."""
    words = _read(root / "proc/self/schedstat").split()
    if len(words) == 3 and words[0] != "0":
        return Check("schedstat", "ok", "run delay of each process is known")
    fix = "sysctl kernel.sched_schedstats=1, or a kernel with CONFIG_SCHED_INFO"
    return Check("schedstat", "warn", "the kernel does not tell run delay; CPU remedies can't be verified by it", fix)


def autogroup_check(root: Path) -> Check:
    """Sessions share a CPU as groups: nice alone does little then."""
    setting = _read(root / "proc/sys/kernel/sched_autogroup_enabled").strip()
    if setting == "1":
        return Check("autogroup", "ok", "on: stead sets the group's nice as well")
    words = "off" if setting == "0" else "the kernel has none"
    return Check("autogroup", "ok", f"{words}: nice of a process is enough")


def ksm_check(root: Path) -> Check:
    """Merging of equal pages, of memory that was opted in."""
    folder = root / "sys/kernel/mm/ksm"
    if not _read(folder / "run"):
        return Check("ksm", "warn", "this kernel merges no equal pages", "a kernel with CONFIG_KSM, if many processes are alike")
    if not _read(folder / "general_profit"):
        return Check("ksm", "warn", "whole processes can't opt in", "Linux 6.4 for merge_memory of workloads; QEMU's guests can")
    paced = "paced by the kernel's advisor" if _read(folder / "advisor_mode") else "without an advisor (Linux 6.8)"
    return Check("ksm", "ok", f"equal pages of memory that was opted in can be merged, {paced}")


def cgroup_check(root: Path) -> Check:
    """Version of the control groups."""
    if (root / "sys/fs/cgroup/cgroup.controllers").exists():
        return Check("cgroups", "ok", "version 2")
    if (root / "sys/fs/cgroup/unified/cgroup.controllers").exists():
        return Check("cgroups", "ok", "version 1, with version 2 beside it")
    if (root / "sys/fs/cgroup/cpu").exists() or (root / "sys/fs/cgroup/memory").exists():
        return Check(
            "cgroups", "warn", "version 1: pressure of groups is unknown", "boot with systemd.unified_cgroup_hierarchy=1"
        )
    return Check("cgroups", "warn", "none are mounted: groups are not observed", "mount cgroup2 on /sys/fs/cgroup")


def limits_check(root: Path) -> Check:
    """Who sets the limits of control groups here, and which are not to be had."""
    from stead.cli.doctor_groups import limits
    from stead.host import LocalHost

    words, missing = limits(LocalHost(root))
    if not words:
        return Check(
            "limits", "warn", "there are no control groups: only priorities can be set", "mount cgroup2 on /sys/fs/cgroup"
        )
    lacks = "".join(f"; no {field}: {why}" for field, why in missing.items())
    return Check("limits", "ok", words + lacks)


def rivals_check(root: Path) -> Check:
    """Which other controllers run here: stead yields to them."""
    from stead.cli.doctor_groups import rivals
    from stead.host import LocalHost

    found = rivals(LocalHost(root))
    return Check("controllers", "ok", "; ".join(f"{name} ({what})" for name, what in found.items()) or "no others run here")


def capability_check(root: Path) -> Check:
    """What this user may do to other processes."""
    line = next((one for one in _read(root / "proc/self/status").splitlines() if one.startswith("CapEff:")), "")
    if not line:
        return Check("capabilities", "warn", "unknown: /proc/self/status does not name them", "run on Linux for full reach")
    held = int(line.split()[1], 16)
    missing = [f"{name} ({loss})" for bit, (name, loss) in CAPABILITIES.items() if not held >> bit & 1]
    if not missing:
        return Check("capabilities", "ok", ", ".join(name for name, _ in CAPABILITIES.values()))
    fix = "run the agent as root or by its unit file" if os.geteuid() else "who started this container or machine withheld it"
    return Check("capabilities", "warn", f"this user lacks {', '.join(missing)}", fix)


def agent_check(paths: Paths) -> Check:
    """Does one answer, and is all well with it?"""
    from stead.model.messages import GetStatus, Status
    from stead.wire import Door

    try:
        with Door(paths.socket, timeout_s=3.0) as door:
            now = door.ask(GetStatus(), Status)
    except SteadError as error:
        return Check("agent", "warn", error.problem.what, error.problem.fix)
    ill: dict[str, list[str]] = {}
    for one in now.stations:
        if one.ok is False:
            ill.setdefault(one.detail, []).append(one.name)
    if ill:
        what = "; ".join(f"{', '.join(names)}: {detail}" for detail, names in ill.items())
        return Check("agent", "warn", f"pid {now.pid} answers, but {what}", "look with `stead status`")
    return Check("agent", "ok", f"pid {now.pid} answers, mode {now.mode}")


def witness_checks(paths: Paths) -> list[Check]:
    """Does the ledger stand, and does each of its witnesses cosign it? Nothing where there is neither trouble nor a witness."""
    from stead.cli.witness import standing
    from stead.model.witness_messages import GetWitnesses, WitnessList
    from stead.wire import Door

    stopped = standing(paths)
    checks = [Check("ledger", "fail", stopped.problem.what, stopped.problem.fix)] if stopped else []
    try:
        with Door(paths.socket, timeout_s=3.0) as door:
            known = door.ask(GetWitnesses(), WitnessList).witnesses
    except SteadError:
        return checks
    ill = [f"{one.name}: {one.detail}" for one in known if not one.ok]
    if ill:
        return [*checks, Check("witnesses", "warn", "; ".join(ill), "see docs/witness.md; try `stead ledger witness`")]
    return [*checks, Check("witnesses", "ok", ", ".join(f"{one.name} cosigned {one.size}" for one in known))] if known else checks


def port_check(bind: str, port: int, *, ours: bool) -> Check:
    """Is the hub's port free, or the hub on it?"""
    why_not = port_refused(bind, port)
    if not why_not:
        return Check("port", "ok", f"{bind}:{port} is free")
    if ours and "in use" in why_not:
        return Check("port", "ok", f"{bind}:{port} is in use; an agent runs, so it is probably stead's hub")
    return Check("port", "warn", f"{bind}:{port} {why_not}", "choose another with `stead up --port N` or hub.port")


def intent_checks(config: Config | None = None, host: Host | None = None) -> list[Check]:
    """What is protected, and what may be slowed for it; nothing where nobody asked for that, or the configuration is broken."""
    from stead.cli.intent import matched_now
    from stead.config import load_config

    try:
        chosen = config or load_config()[0]
    except SteadError:
        return []  # `stead config check` says so
    if not (chosen.protect or chosen.best_effort):
        return []
    matched = matched_now(chosen, host)
    if not matched:
        return [
            Check("intent", "warn", "protect and best_effort are set, and only Linux tells what work waits for", "remove them")
        ]
    protected = [one for one in matched if one.role == "protect"]
    slowed = [one for one in matched if one.role == "best_effort"]
    absent = [one.name for one in protected if not one.found]
    left_out = [why for one in slowed for why in one.left_out]
    if not protected:
        return [Check("intent", "warn", "best_effort is set and nothing is protected, so nothing is slowed", "add protect")]
    if absent:
        what = f"nothing matches {', '.join(absent)} now"
        return [Check("intent", "warn", what, "start it, or mend its patterns (`stead config check` shows what matches)")]
    if left_out:
        return [Check("intent", "warn", f"left alone: {'; '.join(left_out)}", "name more exactly what may be slowed")]
    found = sum(len(one.found) for one in slowed)
    return [Check("intent", "ok", f"{len(protected)} protected, {found} may be slowed now")]


def port_refused(bind: str, port: int) -> str:
    """Why nobody could listen there now; empty when one could."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
            probe.listen(1)
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            return "is in use" if in_use else f"can't be listened on ({error.strerror})"
    return ""


def _address() -> tuple[str, int]:
    """The configured address of the hub; the default's where the configuration is broken (`stead config check` says so)."""
    from stead.config import load_config
    from stead.model.config import HubConfig

    try:
        hub = load_config()[0].hub
    except SteadError:
        hub = HubConfig()
    return hub.bind, hub.port


def _creatable(state: Path) -> Check:
    """A state directory that is not there yet."""
    if os.access(_nearest(state), os.W_OK):
        return Check("state", "ok", f"{state} is not there yet; the agent makes it")
    return Check("state", "fail", f"{state} is not there and can't be made", "run as root, or choose another with --state")


def _nearest(folder: Path) -> Path:
    """The deepest directory above that exists."""
    return next((one for one in folder.parents if one.is_dir()), Path("/"))


def _read(path: Path) -> str:
    """A small file's text; empty when it can't be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
