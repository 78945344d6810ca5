"""`kernel`: knobs of the kernel that can be put back: KSM, chosen sysctls, and MemoryKSM= of systemd's units.

    kernel:ksm               same-page merging: whether ksmd scans, how fast, and whether what was merged stays so
    sysctl:vm.swappiness     one number of the list in `sysctls`
    unit:nginx.service       may the unit's memory be merged, from its next start on

All of it is gone at a reboot, so the boot is part of a target's identity. What this kernel or systemd lacks is said; what
TuneD, ksmtuned or another controller looks after is left to it.
"""

from __future__ import annotations

from typing import Protocol

from stead.model.change import ABSENT, Absent, Record, Step, Target
from stead.model.errors import SteadError
from stead.protocols import Actuator, Host
from stead.tunables.ksm import KsmKnobs
from stead.tunables.state import Knobs, fields
from stead.tunables.sysctls import Sysctls
from stead.tunables.unit_merging import UnitMerging


class _Part(Protocol):
    """One kind of target: the same four, without identities."""

    async def read(self, host: Host, name: str) -> Knobs: ...
    def plan(self, target: Target, now: Knobs, want: Knobs) -> Step: ...
    async def write(self, host: Host, name: str, want: Knobs) -> None: ...


class KernelActuator:
    """Reads and sets knobs of the kernel."""

    name = "kernel"
    state = Knobs

    def __init__(self, host: Host) -> None:
        self._parts: dict[str, _Part] = {"kernel": KsmKnobs(host), "sysctl": Sysctls(host), "unit": UnitMerging(host)}

    async def read(self, host: Host, target: Target) -> Knobs | Absent:
        """What is set now; all None where this system has no such knob. ABSENT for a target of another boot or kind."""
        part = self._part(host, target)
        return ABSENT if part is None else await part.read(host, target.name)

    def plan(self, target: Target, now: Knobs | Absent, want: Knobs | Absent) -> Step:
        """The diff, and whether it can be put back. SteadError for what is not to be set, is lacking, or is another's."""
        if isinstance(now, Absent) or isinstance(want, Absent):
            raise SteadError("a knob of the kernel can't be absent", str(target), code="kernel.absent")
        return self._parts[target.kind].plan(target, now, want)

    def met(self, now: Knobs | Absent, want: Knobs | Absent) -> bool:
        """Is each knob that is wanted so?

        One for tuning that this kernel lacks can't be wanted (the plan has said so), and when pages get merged is ksmd's affair.
        """
        if isinstance(now, Absent) or isinstance(want, Absent):
            return now == want
        return all(_so(key, getattr(now, key), value) for key, value in fields(want).items())

    def between(self, seen: Record | None, before: Record | None, want: Record | None) -> bool:
        """Is this what an interrupted write leaves? Each knob is old or new, or one that the kernel passes through.

        Unmerging passes through 2 before `run` is 0 again, and a change of the advisor's mode sets `pages_to_scan` by itself.
        """
        if seen is None or want is None:
            return seen in (before, want)
        old = before or {}
        other = {key: value for key, value in want.items() if value is not None}
        if seen.get("run") == 2 and False in (want.get("merged"), old.get("merged")):  # on the way there, or back
            other.pop("run", None)
        if old.get("advisor_mode") != want.get("advisor_mode"):
            other.pop("pages_to_scan", None)
        return all(seen.get(key) in (old.get(key), value) for key, value in other.items())

    async def write(self, host: Host, target: Target, want: Knobs | Absent) -> None:
        """Set what is wanted. ProcessLookupError for a target of another boot; SteadError or OSError where it can't be set."""
        part = self._part(host, target)
        if part is None or isinstance(want, Absent):
            raise ProcessLookupError(f"{target} is of another boot, or is none")
        await part.write(host, target.name, want)

    def _part(self, host: Host, target: Target) -> _Part | None:
        """The part that this target belongs to, if it is of this boot."""
        return self._parts.get(target.kind) if target.identity.get("boot_id") == host.boot_id else None


def _so(key: str, seen: object, wanted: object) -> bool:
    if key == "merged" and wanted is True:
        return True
    if seen is None:
        return key not in ("run", "value", "memory_ksm")
    return seen == wanted


def actuator(host: Host) -> Actuator[Knobs]:
    """The plugin's factory."""
    return KernelActuator(host)
