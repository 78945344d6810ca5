"""`unit:<name>`: may the memory of a systemd unit's processes be merged? `MemoryKSM=yes` (systemd.exec(5), systemd 254).

The setting has no way into a running process: it is a drop-in under /run, gone at the next boot, that counts from the unit's
next start on. Putting it back removes the drop-in; processes that were started with it keep what they have until they end.
"""

from __future__ import annotations

import contextlib
import re
from typing import Final

from stead.model.change import Step, Target
from stead.model.errors import SteadError
from stead.protocols import Host
from stead.tunables.state import Knobs, fields, step

RUNTIME: Final = "/run/systemd/system"
DROP_IN: Final = "50-stead-memory-ksm.conf"
_CONTENT: Final = b"# By stead: may the memory of this unit be merged (KSM)? See `stead runs`.\n[Service]\nMemoryKSM=%s\n"
_UNIT: Final = re.compile(r"[A-Za-z0-9:_.\\@-]+\.service")
_SHOW_S: Final = 4.0
_RELOAD_S: Final = 40.0  # it reads every unit again
_NEXT: Final = "takes effect when the unit is next started"
_PRCTL_SINCE: Final = "/sys/kernel/mm/ksm/general_profit"  # came with PR_SET_MEMORY_MERGE, in Linux 6.4


class UnitMerging:
    """MemoryKSM= of services."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def read(self, host: Host, name: str) -> Knobs:
        """What systemd will start the unit with, and whether stead's drop-in is there.

        All None where systemd is not the manager or knows no MemoryKSM. SteadError when systemd does not answer.
        """
        if not _UNIT.fullmatch(name) or not _has_systemd(host):
            return Knobs()
        shown = await _systemctl(host, "show", "--property=LoadState,MemoryKSM", "--", name)
        said = dict(line.partition("=")[::2] for line in shown.splitlines())
        if said.get("LoadState") not in ("loaded", None) or said.get("MemoryKSM") not in ("yes", "no"):
            return Knobs()
        return Knobs(memory_ksm=said["MemoryKSM"] == "yes", drop_in=host.inode(_path(name)) is not None)

    def plan(self, target: Target, now: Knobs, want: Knobs) -> Step:
        """The diff. SteadError where systemd is not the manager or too old, or the kernel can't merge whole processes."""
        wanted = fields(want)
        strange = sorted(wanted.keys() - {"memory_ksm", "drop_in"})
        if strange:
            raise SteadError(f"a unit has no {', '.join(strange)}", str(target), "it has memory_ksm", code="kernel.field")
        if now.memory_ksm is None:
            raise SteadError(self._lacking(target), str(target), "see `systemctl show`", code="kernel.no-memory-ksm")
        if self._host.inode(_PRCTL_SINCE) is None:
            what, fix = "this kernel can't merge the memory of whole processes", "it came with Linux 6.4"
            raise SteadError(what, str(target), fix, code="kernel.no-memory-ksm")
        asked = want.memory_ksm
        if asked is None or asked == now.memory_ksm:
            return step(target, {}, {}, note=_NEXT)
        if now.drop_in:
            fix = f"remove {_path(target.name)} and run `systemctl daemon-reload`"
            raise SteadError("a drop-in of stead's is there already, of a run that was forgotten", str(target), fix)
        before: dict[str, object] = {"memory_ksm": now.memory_ksm, "drop_in": False}
        return step(target, before, {"memory_ksm": asked, "drop_in": True}, duration_s=_RELOAD_S + 5.0, note=_NEXT)

    async def write(self, host: Host, name: str, want: Knobs) -> None:
        """Write or remove the drop-in, and have systemd read its files again. OSError, or SteadError when systemd refuses."""
        if not _UNIT.fullmatch(name) or not _has_systemd(host):
            raise SteadError("systemd is not the manager here", f"unit:{name}", code="kernel.no-systemd")
        folder = _path(name).rpartition("/")[0]
        if want.drop_in is False:
            host.remove(_path(name))
            with contextlib.suppress(OSError):  # not there, or others have drop-ins in it
                host.remove_folder(folder)
        else:
            with contextlib.suppress(FileExistsError):
                host.make_folder(folder)
            host.place(_path(name), _CONTENT % (b"yes" if want.memory_ksm else b"no"))
        await _systemctl(host, "daemon-reload")

    def _lacking(self, target: Target) -> str:
        if not _UNIT.fullmatch(target.name):
            return f"{target.name} is no service"
        if not _has_systemd(self._host):
            return "systemd is not the manager here"
        return f"systemd has no unit {target.name} here, or no MemoryKSM for it (systemd 254)"


def _has_systemd(host: Host) -> bool:
    return host.inode(RUNTIME) is not None


def _path(name: str) -> str:
    return f"{RUNTIME}/{name}.d/{DROP_IN}"


async def _systemctl(host: Host, *words: str) -> str:
    """Its output. SteadError when it fails or does not answer in time."""
    limit_s = _RELOAD_S if words == ("daemon-reload",) else _SHOW_S
    done = await host.run(("systemctl", *words), limit_s)
    if done.rc != 0:
        why = f"no answer within {limit_s:g} s" if done.rc is None else (done.err.strip() or f"exit {done.rc}")
        raise SteadError(f"systemctl {words[0]}: {why}", "systemd", "see `systemctl status`", code="kernel.systemctl")
    return done.out
