"""`autonomy`: stead's own mode, ceiling, lock and pause as a setting like any other.

So lowering and raising them is planned, decided, written ahead, read back and recorded by the same code that changes a
process. It has no lease, and nothing undoes it by itself. The target is `autonomy:<scope>`, where the scope "host" is all.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from stead.model.change import ABSENT, Absent, Step, Target
from stead.model.errors import SteadError
from stead.model.policy import Autonomy, Mode
from stead.protocols import Actuator, Host, Note

CEILING_MAX: Final = 2  # tiers 3 and 4 never act alone


class AutonomyState(msgspec.Struct, frozen=True):
    """What of autonomy is set in one scope; None leaves a part as it is. Mode, lock and pause are the whole host's."""

    mode: Mode | None = None
    ceiling: int | None = None
    locked: bool | None = None
    paused: bool | None = None


class Kept(Protocol):
    """Where autonomy is kept."""

    first: Autonomy

    def read(self) -> Autonomy:
        """As it is now."""

    def write(self, autonomy: Autonomy, note: Note | None = None) -> None:
        """Make it so, and tell what was done for that."""


class AutonomyActuator:
    """Reads and sets stead's own autonomy."""

    name = "autonomy"
    state = AutonomyState

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    async def read(self, host: Host, target: Target) -> AutonomyState | Absent:
        """All four parts in one scope. Another kind of target is ABSENT."""
        if target.kind != "autonomy":
            return ABSENT
        now = self._kept.read()
        return AutonomyState(now.mode, _ceiling(now, target.name, self._kept.first), now.locked, now.paused)

    def plan(self, target: Target, now: AutonomyState | Absent, want: AutonomyState | Absent) -> Step:
        """What would change; always exactly undoable by a person. SteadError for what has no meaning."""
        if isinstance(now, Absent) or isinstance(want, Absent):
            raise SteadError("autonomy can't be absent", str(target), "set its mode or ceiling", code="autonomy.absent")
        if want.ceiling is not None and not 0 <= want.ceiling <= CEILING_MAX:
            raise SteadError(f"a ceiling is 0 to {CEILING_MAX}, not {want.ceiling}", str(target), code="autonomy.ceiling")
        wanted = {key: value for key, value in msgspec.structs.asdict(want).items() if value is not None}
        changed = {key: value for key, value in wanted.items() if getattr(now, key) != value}
        before = {key: getattr(now, key) for key in changed}
        return Step(self.name, target, before, changed, "exact", duration_s=10.0, lease_s=None)

    def met(self, now: AutonomyState | Absent, want: AutonomyState | Absent) -> bool:
        """Is each part that is wanted so?"""
        if isinstance(now, Absent) or isinstance(want, Absent):
            return now == want
        return all(value is None or getattr(now, key) == value for key, value in msgspec.structs.asdict(want).items())

    async def write(self, host: Host, target: Target, want: AutonomyState | Absent) -> None:
        """Set what is wanted, durably. SteadError when the files can't be written or the target is none of ours."""
        if isinstance(want, Absent) or target.kind != "autonomy":
            raise SteadError("autonomy can't be made absent", str(target), code="autonomy.absent")
        now = self._kept.read()
        ceilings = dict(now.ceilings)
        if want.ceiling is not None:
            ceilings[target.name] = want.ceiling
        after = Autonomy(
            mode=now.mode if want.mode is None else want.mode,
            ceilings=ceilings,
            locked=now.locked if want.locked is None else want.locked,
            paused=now.paused if want.paused is None else want.paused,
        )
        self._kept.write(after, host.note)


def _ceiling(now: Autonomy, scope: str, first: Autonomy) -> int:
    """The scope's own ceiling, else the host's, else the one that this state began with."""
    host = now.ceilings.get("host", first.ceilings.get("host", 0))
    return now.ceilings.get(scope, host)


def actuator(autonomy: Kept) -> Actuator[AutonomyState]:
    """The plugin's factory."""
    return AutonomyActuator(autonomy)
