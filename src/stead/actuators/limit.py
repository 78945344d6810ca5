"""`limit`: how much CPU, memory, IO and how many processes a control group may have, and whether it runs at all.

Version 2 of control groups, version 1 where that is all there is. Where systemd manages the group's unit it is asked to set it
(`cgroups.units`), and elsewhere the files are written straight. What must not be limited is refused by name: a group with PID 1,
sshd or stead in it or below it, one that a container engine owns, a value below what the group needs at this moment.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, cast

import msgspec

from stead.cgroups import devices, rivals, units, values
from stead.cgroups.insiders import Shield, protected_inside, session_inside, shielded, too_tight
from stead.cgroups.knobs import KNOBS, MAX, PAGE, place_of, rounded, texts_of
from stead.cgroups.memory import take_back, working_set_bytes
from stead.cgroups.tree import Groups
from stead.model.change import ABSENT, Absent, Record, Step, Target
from stead.model.errors import SteadError
from stead.model.session import session_group
from stead.protocols import Actuator, Host

Unlimited = Literal["max"]
_WEIGHTS: Final = frozenset(("cpu_idle", "cpu_weight", "io_weight"))
_MAKE_PRESSURE: Final = frozenset(("memory_high_bytes", "memory_max_bytes"))
_SEEN_ONLY: Final = frozenset(("cpu_shares", "drop_ins"))
RIVALS_S: Final = 30.0  # how long it holds who else runs: a governed value is moved far more often
_WRITE_S: Final = 30.0  # systemd is slow while a machine is short of what this gives back
_PERCENT: Final = 0.1  # what kernels round a share of a core by, at the shortest period
_AHEAD: Final = 0.01  # of a memory.high that is moved down: at most so much is taken back ahead of it
_MEANWHILE: Final = 0.02  # of what a group can't give back, and so much more: what it takes until a limit is written
_MEANWHILE_BYTES: Final = 16 << 20
_OUTGROWN: Final = 0.2  # of that: by so much it may have grown since a limit was planned
_BFQ: Final = 11  # what BFQ's coarser weights round by above 100


class Limit(msgspec.Struct, frozen=True):
    """The limits of one group; None leaves one as it is, or means that the group has none such here.

    `cpu_max_percent` is of one core. Lines of `io_max` and `io_latency` are the kernel's ("8:0 rbps=… wbps=… riops=… wiops=…",
    "8:0 target=10000"), all that there shall be; "*" stands for each disk. Two come from the plan alone: `cpu_shares`, version
    1's own number where no weight says it exactly, and `drop_ins`, the properties that systemd keeps a file for until a boot.
    """

    cpu_weight: int | None = None
    cpu_max_percent: float | Unlimited | None = None
    cpu_idle: bool | None = None
    memory_high_bytes: int | Unlimited | None = None
    memory_low_bytes: int | None = None
    memory_max_bytes: int | Unlimited | None = None
    io_weight: int | None = None
    io_max: list[str] | None = None
    io_latency: list[str] | None = None
    pids_max: int | Unlimited | None = None
    frozen: bool | None = None
    cpu_shares: int | None = None
    drop_ins: list[str] | None = None


class LimitActuator:
    """Reads and sets the limits of control groups."""

    name = "limit"
    state = Limit

    def __init__(self, host: Host, shield: Shield = Shield()) -> None:  # noqa: B008 (it never changes)
        self._host, self._shield = host, shield
        self._found: Groups | None = None
        self._running: tuple[float, dict[str, int]] = (-RIVALS_S, {})  # when the other controllers were looked for, and who ran
        self._systemd: int | None = None  # its version, asked for when a unit is first looked at

    @property
    def groups(self) -> Groups:
        """The host's control groups, looked for when they are first needed."""
        if self._found is None:
            self._found = Groups.of(self._host)
        return self._found

    async def read(self, host: Host, target: Target) -> Limit | Absent:
        """All limits as they are. ABSENT when this very group is not there, and nothing of it is left behind (`_outlived`)."""
        groups, path = self.groups, target.name
        if not groups.is_there(target):
            return self._outlived(host, target)
        unit = self._managed(path)
        seen = values.read_values(host, groups, path, unit is not None)
        if unit is not None:
            if self._systemd is None:
                self._systemd = await units.version(host)
            seen["drop_ins"] = units.drop_ins(host, unit)
        elif seen["cpu_weight"] is not None:
            seen["cpu_shares"] = values.uneven_shares(host, groups, path)
        return Limit(**seen) if groups.is_there(target) else self._outlived(host, target)

    def _outlived(self, host: Host, target: Target) -> Limit | Absent:
        """What outlives a group: systemd limits a unit's next one as its drop-ins say. ABSENT where there are none.

        The limits of that next group; while the unit does not run, the drop-ins alone.
        """
        ours = target.kind == "cgroup" and target.identity.get("boot_id") == host.boot_id
        unit = self._managed(target.name) if ours else None
        left = units.drop_ins(host, unit) if unit is not None else []
        if not left:
            return ABSENT
        runs = self.groups.id_of(target.name) is not None
        return Limit(**(values.read_values(host, self.groups, target.name, True) if runs else {}), drop_ins=left)

    def plan(self, target: Target, now: Limit | Absent, want: Limit | Absent) -> Step:
        """The diff as the kernel will round it. SteadError for what this host lacks and for what must not be limited."""
        if isinstance(now, Absent) or isinstance(want, Absent):
            raise SteadError("a limit can't be absent", str(target), "choose another playbook", code="limit.absent")
        if not self.groups.is_there(target):
            raise SteadError("this very group is gone", str(target), "ask for its successor", code="limit.gone")
        wanted, missing = self._here(target, now, want)
        changed = {key: value for key, value in wanted.items() if not same(key, getattr(now, key), value)}
        asked = {"cpu_max_percent": want.cpu_max_percent} if "cpu_max_percent" in changed else {}
        self._refuse(target.name, now, {**changed, **asked})  # rounding must not make of too little the least there is
        before = {key: getattr(now, key) for key in changed}
        if "cpu_idle" in changed and now.cpu_weight is not None:
            before["cpu_weight"] = now.cpu_weight  # the kernel forgets the weight of a group that was idle
        if "cpu_weight" in before and now.cpu_shares is not None:
            before["cpu_shares"] = now.cpu_shares
        want_drop_ins = units.properties_of(changed)
        if now.drop_ins is not None and want_drop_ins:
            before["drop_ins"] = [prop for prop in want_drop_ins if prop in now.drop_ins]
            changed["drop_ins"] = want_drop_ins
        note = self._notes(target.name, changed, missing)
        return Step(self.name, target, cast(Record, before), cast(Record, changed), "exact", duration_s=_WRITE_S, note=note)

    def met(self, now: Limit | Absent, want: Limit | Absent) -> bool:
        """Is each limit that is wanted so? What the group lacks can't be wanted, but something of it must be there."""
        if isinstance(now, Absent) or isinstance(want, Absent):
            return now == want
        wanted = self._spread(_wanted(now, want))
        known = {key: value for key, value in wanted.items() if getattr(now, key) is not None}
        if want.cpu_shares is not None and now.cpu_shares != want.cpu_shares:
            return False
        if want.drop_ins is not None and now.drop_ins is not None:
            mine = units.properties_of(_fields(want))
            if [prop for prop in mine if prop in now.drop_ins] != want.drop_ins:
                return False
        if _stopped(msgspec.structs.asdict(now)):
            return want.drop_ins is not None  # they are all that there is of it, and as they should be
        return (bool(known) or not wanted) and all(same(key, getattr(now, key), value) for key, value in known.items())

    def slowing(self, now: Limit | Absent, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Of the wanted limits those that give less than there is. Of IO the tighter of both counts, for each device and key."""
        if isinstance(now, Absent):
            return dict(fields)
        kept: dict[str, Any] = {}
        for key, value in fields.items():
            present = getattr(now, key)
            if key == "io_max" and present and value is not None:
                value = devices.tighter(present, devices.spread(value, devices.disks(self._host)))
                kept |= {key: value} if value != present else {}
            elif key == "cpu_weight" and now.cpu_idle:
                continue  # nobody has less than who is idle
            elif value is not None and (present is None or values.tightens(key, present, value)):
                kept[key] = value
        return kept

    def least(self, target: Target, field: str) -> float | None:
        """The lowest memory.high that is not refused: what the group can't give back, and what it takes until that is written."""
        needed = working_set_bytes(self._host, self.groups, target.name) if field == "memory_high_bytes" else None
        return None if needed is None else -(-(needed * (1 + _MEANWHILE) + _MEANWHILE_BYTES) // PAGE) * PAGE

    async def write(self, host: Host, target: Target, want: Limit | Absent) -> None:
        """Set what is wanted. FileNotFoundError when this very group is gone; SteadError for what stead or the kernel refuses.

        A group that has grown since it was planned is held all the same, within a fifth: memory.high ends nothing.
        """
        now, wanted = await self._present(host, target, want)
        changed = {key: value for key, value in wanted.items() if not same(key, getattr(now, key), value)}
        self._refuse(target.name, now, changed, _OUTGROWN)
        before, high = now.memory_high_bytes, wanted.get("memory_high_bytes")
        if isinstance(before, int) and isinstance(high, int) and high < before and self.groups.kind("memory") == "v2":
            folder = self.groups.folder(target.name, "memory")
            await take_back(host, f"{folder}", min(before - high, round(high * _AHEAD)))
        await self._set(host, target, now, want, wanted)

    async def put_back(self, host: Host, target: Target, want: Limit | Absent) -> None:
        """The same for what was there before, which stead never refuses: whoever came to be in the group is not left limited."""
        now, wanted = await self._present(host, target, want, outlived=True)
        await self._set(host, target, now, want, wanted)

    async def _present(
        self, host: Host, target: Target, want: Limit | Absent, outlived: bool = False
    ) -> tuple[Limit, dict[str, Any]]:
        """The group's limits as they are, and the wanted ones as they will be. FileNotFoundError when it is gone.

        `outlived`: what is left of one that is gone will do.
        """
        if isinstance(want, Absent):
            raise SteadError("a limit can't be absent", str(target), code="limit.absent")
        now = await self.read(host, target)
        if isinstance(now, Absent) or not (outlived or self.groups.is_there(target)):
            raise FileNotFoundError(errno.ENOENT, f"{target} is gone")
        return now, self._spread(_wanted(now, want))

    async def _set(self, host: Host, target: Target, now: Limit, want: Limit | Absent, wanted: dict[str, Any]) -> None:
        assert not isinstance(want, Absent)
        unit = self._managed(target.name)
        if unit is None:
            moved = {key: value for key, value in wanted.items() if _to_write(key, now, want, value)}
            return await values.write_values(host, self.groups, target.name, moved, want.cpu_shares)
        try:
            await units.set_limits(host, unit, wanted, want.drop_ins, now.io_latency or ())
        except SteadError as error:
            if not self.groups.is_there(target):
                units.forget(host, unit, wanted, want.drop_ins, str(error))
                raise FileNotFoundError(errno.ENOENT, f"{target} is gone: {error}") from error
            raise
        if self.groups.is_there(target):
            self._taken(host, target.name, wanted)

    def _taken(self, host: Host, path: str, wanted: Mapping[str, Any]) -> None:
        """SteadError when the kernel has no such knob after all: that shows once systemd has enabled the controller."""
        seen = values.read_values(host, self.groups, path, managed=True)
        for key in wanted:
            if seen[key] is None:
                why = self.groups.lacks(key, path) or "it can't be read"
                raise SteadError(f"systemd took {key}, but {why}", f"cgroup:{path}", "leave it out", code="limit.lacking")

    def between(self, seen: Record | None, before: Record | None, want: Record | None) -> bool:
        """Is this what an interrupted write leaves? Each limit is old or new; the kernel resets the weight of what was idle."""
        if seen is None or want is None:
            return False
        if _stopped(seen):
            return True
        old = before or {}
        return all(
            key in _SEEN_ONLY
            or (key == "cpu_weight" and "cpu_idle" in {**old, **want})
            or same(key, seen.get(key), value)
            or same(key, seen.get(key), old.get(key))
            for key, value in want.items()
            if value is not None
        )

    def _managed(self, path: str) -> str | None:
        """The unit through which a group is set; None: it is written straight."""
        owner = self.groups.owner_of(path)
        return owner.unit if owner.kind == "systemd" else None

    def _here(self, target: Target, now: Limit, want: Limit) -> tuple[dict[str, Any], list[str]]:
        """What is wanted as it will be, and why some of it is not to be had. SteadError when nothing of it is."""
        wanted: dict[str, Any] = {}
        missing: list[str] = []
        try:
            wished = self._spread(_wanted(now, want))
        except ValueError as error:
            raise SteadError(str(error), str(target), "write it as the kernel does", code="limit.value") from error
        for key, value in wished.items():
            if getattr(now, key) is None:
                missing.append(self.groups.lacks(key, target.name) or f"{key} can't be read")
                continue
            place = place_of(self.groups, self._host, key, target.name)
            wanted[key] = self._rounded(key, value, place)
        if missing and not wanted:
            raise SteadError("; ".join(missing), str(target), "choose another playbook", code="limit.lacking")
        return wanted, missing

    def _spread(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Lines for each disk made lines for this host's disks. ValueError when one is no line."""
        for key in wanted.keys() & {"io_max", "io_latency"}:
            wanted[key] = devices.tidy(devices.spread(wanted[key], devices.disks(self._host)))
        return wanted

    def _rounded(self, key: str, value: Any, place: tuple[str, str] | None) -> Any:
        if place is None:
            return rounded(key, value, {}, "v2")
        try:
            texts = texts_of(self._host, place[1], KNOBS[key].files(place[0]))
        except OSError:
            texts = {}
        return rounded(key, value, texts, place[0])

    def _refuse(self, path: str, now: Limit, changed: Mapping[str, Any], outgrown: float = 0.0) -> None:
        """SteadError when this would hurt what must not be hurt, or is another controller's."""
        tighter = {key: value for key, value in changed.items() if values.tightens(key, getattr(now, key), value)}
        owner = self.groups.owner_of(path)
        why = f"{path} is {owner.name}'s, which sets its limits itself" if changed and owner.yields else ""
        if owner.kind == "systemd":
            why = why or units.too_old(self._systemd, changed, self.groups.kind("cpu"))
        if tighter and not why:
            why = protected_inside(self._host, self.groups, path, self._shield)
            why = why or too_tight(self._host, self.groups, path, tighter, outgrown) or self._claimed(path, tighter)
            if tighter.get("frozen"):
                why = why or session_group(path) or session_inside(self._host, self.groups, path)
        if why:
            raise SteadError(why, f"cgroup:{path}", "leave it as it is", code="limit.refused")

    def _others(self) -> dict[str, int]:
        """The other controllers that run here, looked for now and then."""
        at, present = self._running
        if time.monotonic() - at >= RIVALS_S:
            present = rivals.running(self._host)
            self._running = time.monotonic(), present
        return present

    def _notes(self, path: str, changed: Mapping[str, Any], missing: Sequence[str]) -> str:
        """What people should know of this change besides its diff."""
        notes = [f"not here: {'; '.join(missing)}"] if missing else []
        above = path.rpartition("/")[0]
        if above and changed.keys() & _WEIGHTS:
            notes.append(f"weighs among the groups in {above}, not against others")
        if changed.keys() & _MAKE_PRESSURE and (killers := rivals.killers(self._others())):
            notes.append(f"{', '.join(killers)} runs here and may kill by the pressure that this makes")
        return "; ".join(notes)

    def _claimed(self, path: str, tighter: Mapping[str, Any]) -> str:
        """Another controller that sets one of these here; empty when none runs."""
        return rivals.yielding(self._others(), (f"cgroup.{key}" for key in tighter), path)


def _stopped(seen: Mapping[str, Any]) -> bool:
    """Is there nothing of it but what systemd keeps for when the unit runs again?"""
    return bool(seen.get("drop_ins")) and all(seen.get(key) is None for key in KNOBS)


def _to_write(key: str, now: Limit, want: Limit, value: Any) -> bool:
    """Is it otherwise now, or will it be once the rest is written? What was idle gets an ordinary weight back."""
    if key == "cpu_weight" and (want.cpu_shares is not None or now.cpu_idle):
        return True
    return not same(key, getattr(now, key), value)


def _fields(want: Limit) -> dict[str, Any]:
    """The limits that are wanted, as they are given."""
    return {key: value for key, value in msgspec.structs.asdict(want).items() if value is not None and key not in _SEEN_ONLY}


def _wanted(now: Limit, want: Limit) -> dict[str, Any]:
    """The limits that are wanted; an idle group has no weight, so there a wanted one says nothing."""
    fields = _fields(want)
    if fields.get("cpu_idle") and now.cpu_idle is not None:
        fields.pop("cpu_weight", None)
    return fields


def same(key: str, now: Any, want: Any) -> bool:
    """Are these two values of a field one, as kernels round?"""
    if now is None or want is None or MAX in (now, want) or isinstance(now, bool):
        return bool(now == want)
    if key in ("io_max", "io_latency"):
        return bool(now == want)
    if key.startswith("memory_"):
        return int(now) // PAGE == int(want) // PAGE
    if key == "cpu_max_percent":
        return abs(float(now) - float(want)) <= _PERCENT
    if key == "io_weight" and min(now, want) > 100:
        return bool(abs(now - want) < _BFQ)
    return bool(now == want)


actuator: Callable[..., Actuator[Limit]] = shielded(LimitActuator)
