"""What an intent (`protect`, `best_effort`) stands for: for `stead config check`, `stead doctor` and `stead status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stead.cli.table import printable, styled
from stead.cli.words import number
from stead.model.config import Config
from stead.model.intent import RESOURCE_WORDS, Matched

if TYPE_CHECKING:
    from stead.protocols import Host

MOST: Final = 4  # named; of more the number is told
ROLES: Final = {"protect": "protect", "best_effort": "may be slowed"}


def matched_now(config: Config, host: Host | None = None) -> tuple[Matched, ...]:
    """What the patterns match on this host at this moment. Reads only; empty where there is no intent, or not on Linux."""
    from stead.cgroups.tree import Groups
    from stead.host import LocalHost, SystemClock
    from stead.probes.kernel_files import parse_loadavg_tasks
    from stead.probes.members import Members
    from stead.probes.proc_table import Table

    host = host or LocalHost()
    if not (config.protect or config.best_effort) or host.system != "linux":
        return ()
    members, table, now = Members(config.intent), Table(), SystemClock().now()
    try:
        table.update(host, now, parse_loadavg_tasks(host.read("/proc/loadavg", 256).decode())[1])
        members.update(host, Groups.of(host), table, now)
        return members.matched()
    finally:
        table.close()


def intent_lines(matched: tuple[Matched, ...]) -> list[str]:
    """One line a protected thing or pattern, and one for each reason why something is left out."""
    width = max((len(one.name) for one in matched), default=0)
    lines = []
    for one in matched:
        style = "good" if one.role == "protect" else "dim"
        lines.append(f"{styled(f'{ROLES[one.role]:<13}', style)}  {printable(one.name):<{width}}  {printable(_found(one))}")
        lines += [f"{'':<13}  {'':<{width}}  left alone: {printable(why)}" for why in one.left_out]
    return lines


def _found(one: Matched) -> str:
    """Who it is, what it loses, and its objective."""
    if not one.found:
        words = "nothing that may be slowed matches now" if one.left_out else "nothing matches now"
    else:
        more = f" and {len(one.found) - MOST} more" if len(one.found) > MOST else ""
        count = f" ({one.processes} processes)" if one.processes > len(one.found) else ""
        words = f"{', '.join(one.found[:MOST])}{more}{count}"
    if one.lost and one.found:
        known = [(RESOURCE_WORDS[resource], value) for resource, value in one.lost.items() if value is not None]
        told = ", ".join(f"{number(value, 'percent')} of its time for {resource}" for resource, value in known)
        words += f"; held up {told}" if told else "; what it loses is not known"
    if one.objective:
        miss = "" if one.miss is None else f": {number(one.miss, 'ratio')} times that, {'missed' if one.miss > 1 else 'kept'}"
        words += f"; {one.objective}{miss}"
    return words
