"""`placement`: one process, with what it started and starts, into a control group of its own that leaves the CPU to others.

For hosts where systemd is not the manager: there a process belongs to a unit, and the unit's own limits are the way (`limit`). A
process is only taken out of the root group, never out of one that somebody made for it. In its own group it runs when nobody
else wants the CPU; it may be held to a share of a core besides, or be frozen. What it had started and is at the root too goes
with it, but for what is protected; putting back moves it all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, cast

import msgspec

from stead.cgroups import own_groups, rivals, values
from stead.cgroups.insiders import LEAST_CPU_PERCENT, Shield, protected_process, shielded
from stead.cgroups.knobs import MAX
from stead.cgroups.owners import STEAD
from stead.cgroups.tree import Groups
from stead.model.change import ABSENT, Absent, Record, Step, Target
from stead.model.errors import SteadError
from stead.protocols import Actuator, Host

OWN: Final = "best-effort"  # in a wanted state: a group of its own
_ROOT: Final = "/"
_TREES: Final = ("cpu", "freezer")
_REALTIME: Final = ("fifo", "rr", "deadline")
_PERCENT: Final = 0.1


class Placement(msgspec.Struct, frozen=True):
    """Where a process is, and what holds it there; None leaves it. `group` is a path, or "best-effort" for one of its own.

    `cpu_max_percent` is of one core. `made` comes from the plan alone: is the group of its own there?
    """

    group: str | None = None
    cpu_max_percent: float | Literal["max"] | None = None
    frozen: bool | None = None
    made: bool | None = None


class PlacementActuator:
    """Moves processes into groups of their own, and back."""

    name = "placement"
    state = Placement

    def __init__(self, host: Host, shield: Shield = Shield()) -> None:  # noqa: B008 (it never changes)
        self._host, self._shield = host, shield
        self._found: Groups | None = None

    @property
    def groups(self) -> Groups:
        """The host's control groups, looked for when they are first needed."""
        if self._found is None:
            self._found = Groups.of(self._host)
        return self._found

    async def read(self, host: Host, target: Target) -> Placement | Absent:
        """Where it is. When it has ended, and its group is still there with what it started (or empty), that group.

        ABSENT when neither that very process nor its group is there.
        """
        mine = self._mine(host, target)
        if mine is None:
            return ABSENT
        pid, path, alive = mine
        made = self._made(host, path)
        where = self.groups.path_of(pid, "cpu") if alive else path if made else None
        if where is None:
            return ABSENT if not alive or host.start_ticks(pid) is None else Placement()
        own = values.read_values(host, self.groups, path) if made else {}
        cap = own.get("cpu_max_percent") if where == path else None
        held = own.get("frozen") if self.groups.path_of(pid, "freezer") == path or not alive else None
        return Placement(where, MAX if cap is None else cap, bool(held), made)

    def plan(self, target: Target, now: Placement | Absent, want: Placement | Absent) -> Step:
        """The diff. SteadError where a process is not stead's to move."""
        if isinstance(now, Absent) or isinstance(want, Absent):
            raise SteadError("a placement can't be absent", str(target), "choose another playbook", code="placement.absent")
        mine = self._mine(self._host, target)
        if mine is None:
            raise SteadError(f"{target} is no process of this boot", str(target), code="placement.gone")
        pid, path, _ = mine
        wanted = self._absolute(_fields(want), path, target)
        changed = {key: value for key, value in wanted.items() if not _same(key, getattr(now, key), value)}
        self._refuse(pid, path, now, changed)
        before: dict[str, Any] = {key: getattr(now, key) for key in changed}
        if "group" in changed:
            before["made"], changed["made"] = False, changed["group"] == path
        elif changed:  # what holds it there stands on its being there: nobody else may take it out meanwhile
            before["group"] = changed["group"] = now.group
        note = "what it started and starts goes with it, and comes back with it" if "made" in changed else ""
        return Step(self.name, target, cast(Record, before), cast(Record, changed), "exact", duration_s=10.0, note=note)

    def met(self, now: Placement | Absent, want: Placement | Absent) -> bool:
        """Is it where it should be, held as it should be?"""
        if isinstance(now, Absent) or isinstance(want, Absent):
            return now == want
        wanted = _fields(want)
        if wanted.get("group") == OWN and now.group is not None and now.group.startswith(f"{STEAD}/"):
            wanted["group"] = now.group
        return all(_same(key, getattr(now, key), value) for key, value in wanted.items())

    async def write(self, host: Host, target: Target, want: Placement | Absent) -> None:
        """Move it, or set what holds it. ProcessLookupError when it is gone; SteadError for what stead or the kernel refuses."""
        await self._set(host, target, want, refusing=True)

    async def put_back(self, host: Host, target: Target, want: Placement | Absent) -> None:
        """The same for what was there before, which stead never refuses: one that is protected by now is not left held."""
        await self._set(host, target, want, refusing=False)

    async def _set(self, host: Host, target: Target, want: Placement | Absent, *, refusing: bool) -> None:
        now = await self.read(host, target)
        mine = self._mine(host, target)
        if isinstance(want, Absent) or isinstance(now, Absent) or mine is None:
            raise ProcessLookupError(f"{target} is gone")
        pid, path, alive = mine
        wanted = self._absolute(_fields(want), path, target)
        if refusing:
            self._refuse(
                pid, path, now, {key: value for key, value in wanted.items() if not _same(key, getattr(now, key), value)}
            )
        where = wanted.get("group", now.group)
        if where != path:
            return await self._back(host, path)
        await self._hold(host, path, pid if alive else None, wanted)

    async def _hold(self, host: Host, path: str, pid: int | None, wanted: Mapping[str, Any]) -> None:
        """Make the group, set what holds it, and only then move the process in."""
        folder = own_groups.made(host, self.groups, path, "cpu")
        cap = wanted.get("cpu_max_percent")
        if cap is not None:
            await values.write_values(host, self.groups, path, {"cpu_max_percent": cap})
        if pid is not None and self.groups.path_of(pid, "cpu") != path:
            try:
                own_groups.move(host, folder, pid)
            except ProcessLookupError:
                own_groups.emptied(host, self.groups, path, _ROOT, "cpu")
                raise
        if pid is not None:
            self._follow(host, folder, pid)
        if wanted.get("frozen") is not None:
            await self._freeze(host, path, bool(wanted["frozen"]))

    def _follow(self, host: Host, folder: str, pid: int) -> None:
        """Move what the process had started before, as far as it is stead's to move, until nothing new comes."""
        for _ in range(own_groups.ROUNDS):
            left = [one for one in own_groups.descendants(host, pid, self._not_ours) if self._goes_with_it(host, one)]
            for one in left:
                with contextlib.suppress(ProcessLookupError):
                    own_groups.move(host, folder, one)
            if not left:
                return

    def _goes_with_it(self, host: Host, pid: int) -> bool:
        """Is a descendant at the root of both trees, ordinary, and neither protected nor stead's?"""
        if self.groups.path_of(pid, "cpu") != _ROOT or self.groups.path_of(pid, "freezer") not in (None, _ROOT):
            return False
        if self._not_ours(pid):
            return False
        try:
            return host.scheduler.policy(pid)[0] not in _REALTIME
        except OSError:
            return False

    async def _freeze(self, host: Host, path: str, frozen: bool) -> None:
        """Freeze or thaw all that is in the group; version 1 has another tree for that.

        There who is started by one that was not moved yet is missed by the first round; who ends meanwhile needs no move.
        """
        if frozen:
            freezer = own_groups.made(host, self.groups, path, "freezer")
            for _ in range(own_groups.ROUNDS):
                left = [one for one in self.groups.pids(path) if self.groups.path_of(one, "freezer") not in (None, path)]
                for one in left:
                    with contextlib.suppress(ProcessLookupError):
                        own_groups.move(host, freezer, one)
                if not left:
                    break
        if self._made_in(host, path, "freezer"):
            await values.write_values(host, self.groups, path, {"frozen": frozen})
        if not frozen and self.groups.kind("freezer") == "v1":
            own_groups.emptied(host, self.groups, path, _ROOT, "freezer")

    async def _back(self, host: Host, path: str) -> None:
        """Everything in the group back to the root, thawed, and the group gone."""
        if self._made_in(host, path, "freezer"):
            await values.write_values(host, self.groups, path, {"frozen": False})
        for tree in dict.fromkeys(self.groups.folder(path, tree) for tree in _TREES):
            if tree is not None:
                controller = next(name for name in _TREES if self.groups.folder(path, name) == tree)
                own_groups.emptied(host, self.groups, path, _ROOT, controller)

    def _mine(self, host: Host, target: Target) -> tuple[int, str, bool] | None:
        """The pid, the path of its own group, and whether that very process lives. None: no such target on this boot."""
        ticks = target.identity.get("start_ticks", "")
        ours = target.kind == "process" and target.name.isdigit() and target.identity.get("boot_id") == host.boot_id
        if not ours or not ticks.isdigit():
            return None
        pid = int(target.name)
        return pid, own_groups.own_path(pid, ticks), str(host.start_ticks(pid)) == ticks

    def _made(self, host: Host, path: str) -> bool:
        """Is its group there in any tree, or an empty `/stead` that an interrupted write left?"""
        if any(self._made_in(host, path, tree) for tree in _TREES):
            return True
        return any(self._made_in(host, STEAD, tree) for tree in _TREES) and not self.groups.children(STEAD)

    def _made_in(self, host: Host, path: str, tree: str) -> bool:
        folder = self.groups.folder(path, tree)
        return folder is not None and host.inode(folder) is not None

    def _absolute(self, wanted: dict[str, Any], path: str, target: Target) -> dict[str, Any]:
        """The group by its path: to be held is to be in one's own. SteadError for one that is neither its own nor the root."""
        held = wanted.get("cpu_max_percent", MAX) != MAX or bool(wanted.get("frozen"))
        if wanted.get("group", OWN if held else None) == OWN:
            wanted["group"] = path
        if held and wanted["group"] == _ROOT:
            raise SteadError(
                "only what is in a group of its own can be held", str(target), f'want "{OWN}"', code="placement.group"
            )
        if wanted.get("group", path) not in (path, _ROOT):
            what = f"processes are moved into groups of stead's own, and {wanted['group']} is none"
            raise SteadError(what, str(target), f'want "{OWN}"', code="placement.group")
        return wanted

    def _refuse(self, pid: int, path: str, now: Placement, changed: Mapping[str, Any]) -> None:
        """SteadError where this process is not stead's to move or to hold. Putting back is never refused."""
        where = changed.get("group", now.group)
        if not changed or (where == _ROOT and now.group in (path, _ROOT)):
            return
        why = self._lacking() or self._not_ours(pid) or ("" if now.group == path else self._not_free(pid, now))
        cap = changed.get("cpu_max_percent", MAX)
        if not why and (changed.get("frozen") or _less(cap, now.cpu_max_percent)):  # who was started in it may be protected
            why = next((of for one in self.groups.pids(path) if (of := self._not_ours(one))), "")
        if not why and cap != MAX and float(cap) < LEAST_CPU_PERCENT:
            why = f"{cap:g} % of a core is less than the {LEAST_CPU_PERCENT:g} % that anything needs to end what it began"
        if why:
            raise SteadError(why, f"process:{pid}", "leave it where it is", code="placement.refused")

    def _lacking(self) -> str:
        """Why processes are not moved on this host."""
        if self.groups.systemd:
            return "systemd is the manager here: limit the process's unit instead (`limit`)"
        if self.groups.version == "none":
            return "this host has no control groups"
        kind = self.groups.kind("cpu")
        if not kind:
            return "no tree here has the cpu controller"
        passed_on = kind == "v1" or "cpu" in own_groups.passed_on(self._host, self.groups)
        return "" if passed_on else "the cpu controller is not enabled for groups below the root (cgroup.subtree_control)"

    def _not_ours(self, pid: int) -> str:
        """Why this process must not be touched, here least of all."""
        why = protected_process(self._host, self.groups, pid, self._shield)
        return f"process {pid} is {why}" if why else ""

    def _not_free(self, pid: int, now: Placement) -> str:
        """Why this process is left where it is."""
        inside = [now.group, self.groups.path_of(pid, "freezer")]
        other = next((path for path in inside if path not in (None, _ROOT)), None)
        if other is not None:
            return f"it is in {other}, which somebody made for it: limit that group instead"
        try:
            policy = self._host.scheduler.policy(pid)[0]
        except OSError:
            policy = ""
        if policy in _REALTIME:
            return f"a {policy} process has no place among those that wait for others"
        return rivals.yielding(rivals.running(self._host), ("process.placement",))


def _less(cap: Any, now: Any) -> bool:
    """Is a cap tighter than the present one?"""
    return cap != MAX and (now in (MAX, None) or float(cap) < float(now))


def _fields(want: Placement) -> dict[str, Any]:
    """What is wanted, as it is given."""
    return {key: value for key, value in msgspec.structs.asdict(want).items() if value is not None}


def _same(key: str, now: Any, want: Any) -> bool:
    if key == "cpu_max_percent" and MAX not in (now, want) and None not in (now, want):
        return abs(float(now) - float(want)) <= _PERCENT
    return bool(now == want)


actuator: Callable[..., Actuator[Placement]] = shielded(PlacementActuator)
