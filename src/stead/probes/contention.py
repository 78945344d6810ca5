"""What the protected work of an intent loses, and to whom: the probe that enforcement goes by.

Nothing is read where nothing is protected. CPU is told by each thread's run delay (/proc/PID/schedstat: how long it could have
run and did not), memory and IO by the pressure of the groups that only protected processes are in. What is lost is put
down to those that may be slowed (`blame`), so that what is found is about the contender, and so is its remedy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from stead.cgroups.own_groups import has_own
from stead.cgroups.owners import STEAD
from stead.cgroups.tree import Groups
from stead.host.procfs import page_bytes
from stead.model.intent import LOST, Intent, Objective, Resource
from stead.model.observe import Fact, MetricSpec, Now, Reading, Sample
from stead.probes.blame import Loss, Use, cpu_part, io_parts, memory_parts, waiting, worst
from stead.probes.kernel_files import parse_loadavg_tasks
from stead.probes.members import Members, Thing
from stead.probes.proc_details import Details, printable
from stead.probes.proc_table import Table, Task
from stead.probes.proc_threads import Threads, TooManyThreadsError
from stead.probes.reading import FIRST, Source, SystemProbe, unknown
from stead.probes.stalls import Stalls
from stead.protocols import Host

Readings = Callable[[str, str, float], list[float]]  # (metric, subject, the last … seconds) → the values, oldest first
RESOURCES: Final[tuple[Resource, ...]] = ("cpu", "memory", "io")
GROWTH_MS: Final = 10_000
MOST_TOLD: Final = 16  # contenders: a pattern may fit hundreds of processes that come and go
NOBODY: Final = "nothing matches it now"
NOT_APART: Final = "it shares its control group with others, or kernel and host have no pressure of groups"


class Contention(SystemProbe):
    """Losses of the protected, contributions and demand of the contenders, and how objectives are kept."""

    name = "contention"
    metrics = (
        MetricSpec(
            LOST["cpu"], "percent", "Of the time that protected work wanted a CPU, the share that it waited for one", "max"
        ),
        MetricSpec(LOST["memory"], "percent", "Time in which some of the protected work stood still for want of memory", "max"),
        MetricSpec(LOST["io"], "percent", "Time in which some of the protected work stood still for want of IO", "max"),
        MetricSpec("infra.cpu_contention", "percent", "The part of protected_cpu_wait that one contender makes up", "max"),
        MetricSpec("infra.memory_contention", "percent", "The part of protected_memory_stall that one contender makes up", "max"),
        MetricSpec("infra.io_contention", "percent", "The part of protected_io_stall that one contender makes up", "max"),
        MetricSpec("infra.contender_demand", "cores", "Cores that a contender wants: it runs, waits, or is held back by a quota"),
        MetricSpec("infra.contender_cores", "cores", "Cores that a contender takes"),
        MetricSpec("infra.contender_io", "bytes_per_second", "Bytes that a contender moves to and from disks"),
        MetricSpec("infra.objective_miss", "ratio", "An objective's value over its level: above 1 it is missed"),
    )

    def __init__(
        self, intent: Intent, table: Table | None = None, readings: Readings | None = None, members: Members | None = None
    ) -> None:
        self.members = members or Members(intent)
        self._table = table or Table()
        self._readings = readings
        self._loadavg = Source("/proc/loadavg")
        self._threads = Threads()
        self._stalls = Stalls()
        self._details = Details()
        self._groups: Groups | None = None
        self._lost: dict[str, deque[tuple[int, float]]] = {}  # subject → (mono_ms, what its objective is about), in its window
        self._held: dict[str, deque[tuple[int, int]]] = {}  # contender → (mono_ms, bytes)
        self._told: list[Thing] = []  # the contenders of this tick
        self._placed: bool | None = None  # is anything in a group of stead's own? None: not looked yet in this tick
        self._suffers: dict[str, str] = {}  # contender → the protected thing that it holds up most

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Read what the matching processes and groups tell; nothing where nothing is protected."""
        if not self.members.intent.protect:
            return Reading()
        if self._groups is None:
            self._groups = Groups.of(host)
        groups, table = self._groups, self._table
        table.update(host, now, parse_loadavg_tasks(self._loadavg.text(host))[1])
        self.members.update(host, groups, table, now)
        protected = {thing.subject: self._cpu(host, thing) for thing in self.members.protected}
        self._told, self._placed = self._chosen(), None
        contenders = {thing.subject: self._use(host, groups, thing, now) for thing in self._told}
        losses = {
            thing.subject: self._loss(host, groups, thing, protected[thing.subject], now) for thing in self.members.protected
        }
        self._threads.keep(table.tasks.keys())
        self._stalls.settle()
        self._held = {subject: held for subject, held in self._held.items() if subject in contenders}
        samples = [*_losses(losses), *self._blame(losses, protected, contenders)]
        return Reading(tuple(samples), self._facts(host, now))

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Say that only Linux tells how long work waited."""
        if not self.members.intent.protect:
            return Reading()
        return unknown(self.metrics[:3], f"{host.system} does not tell how long work waited")

    def close(self) -> None:
        """Let every descriptor go."""
        self._table.close()
        self._threads.forget()
        self._stalls.close()
        self._loadavg.close()

    def _cpu(self, host: Host, thing: Thing) -> Use:
        """Seconds that its threads ran and waited, per second."""
        ran = waited = 0.0
        known = False
        try:
            for task in thing.tasks:
                one_ran, one_waited = self._times(host, task)
                known = known or one_ran is not None
                ran, waited = ran + (one_ran or 0.0), waited + (one_waited or 0.0)
        except TooManyThreadsError:
            return Use()
        return Use(ran, waited) if known else Use()

    def _times(self, host: Host, task: Task) -> tuple[float | None, float | None]:
        if task.threads > 1 and not task.cores:
            return task.cores, task.waited_s
        return self._threads.times(host, task, self._table.elapsed_ms)

    def _chosen(self) -> list[Thing]:
        """Whom to tell of: those told of already while they are there, then the hungriest, at most sixteen."""
        there = {thing.subject: thing for thing in self.members.contenders}
        if len(there) <= MOST_TOLD:
            return self.members.contenders
        told = [there.pop(old.subject) for old in self._told if old.subject in there]
        others = sorted(there.values(), key=lambda thing: -sum(task.cores or 0.0 for task in thing.tasks))
        return [*told, *others[: MOST_TOLD - len(told)]]

    def _use(self, host: Host, groups: Groups, thing: Thing, now: Now) -> Use:
        """What a contender takes."""
        cpu = self._cpu(host, thing)
        for task in thing.tasks:
            if task.cores:
                self._table.read_io(host, task)
        moved = [task.io_bytes_per_s for task in thing.tasks if task.io_bytes_per_s is not None and not task.io_denied]
        size = self._stalls.held_bytes(host, groups, thing.path) if thing.path else None
        if size is None:
            size = page_bytes() * sum(task.rss_pages for task in thing.tasks)
        held = self._held.setdefault(thing.subject, deque())
        while held and held[0][0] < now.mono_ms - GROWTH_MS:
            held.popleft()
        held.append((now.mono_ms, size))
        back = self._stalls.throttled(host, groups, thing.path, now) if thing.path else 0.0
        idle = bool(cpu.ran) and self._is_idle(host, groups, thing, now)
        return Use(cpu.ran, cpu.waited, back, idle, size, max(0, size - held[0][1]), sum(moved) if moved else None)

    def _is_idle(self, host: Host, groups: Groups, thing: Thing, now: Now) -> bool:
        """Is it in an idle group: its own, or one below stead's?"""
        if thing.path:
            return self._stalls.idle(host, groups, thing.path)
        if self._placed is None:
            self._placed = has_own(host, groups, "cpu")
        if not self._placed:
            return False
        pid = int(thing.subject.partition(":")[2].partition("@")[0])
        return (groups.path_in(self.members.membership(host, pid, now), "cpu") or "").startswith(f"{STEAD}/")

    def _loss(self, host: Host, groups: Groups, thing: Thing, use: Use, now: Now) -> Loss:
        """What one protected thing loses, and how its objective is kept."""
        reasons: dict[str, str] = {}
        lost: dict[Resource, float | None] = {"cpu": waiting(use.ran, use.waited)}
        lost["memory"] = self._stalls.worst(host, groups, thing.apart, "memory", now)
        lost["io"] = self._stalls.worst(host, groups, thing.apart, "io", now)
        for resource, value in lost.items():
            if value is None:
                first = FIRST if resource == "cpu" or thing.apart else NOT_APART
                reasons[resource] = first if thing.tasks else NOBODY
        objective = thing.protect.objective if thing.protect else None
        miss = None if objective is None else self._miss(thing.subject, objective, lost, now)
        return Loss(lost["cpu"], lost["memory"], lost["io"], reasons, miss, objective)

    def _miss(self, subject: str, objective: Objective, lost: dict[Resource, float | None], now: Now) -> float | None:
        """The objective's value over its level; None when what it is about has no value in its window."""
        values: list[float] = []
        if objective.pressure is not None:
            history = self._lost.setdefault(subject, deque())
            value = lost[objective.pressure]
            if value is not None:
                history.append((now.mono_ms, value))
            while history and history[0][0] < now.mono_ms - objective.window_s * 1000:
                history.popleft()
            values = [value for _, value in history]
        elif self._readings is not None:
            values = self._readings(objective.metric, objective.subject or "host", objective.window_s)
        return statistic(values, objective.statistic) / objective.below if values else None

    def _blame(self, losses: dict[str, Loss], protected: dict[str, Use], contenders: dict[str, Use]) -> list[Sample]:
        """What each contender makes up of what is lost, by resource, and what it wants."""
        everybody = sum(task.cores or 0.0 for task in self._table.ran)
        memory, io = memory_parts(contenders), io_parts(contenders)
        samples = []
        self._suffers = {}
        for subject, use in contenders.items():
            by_cpu = [(loss.of("cpu"), cpu_part(use, everybody, protected[who]), who) for who, loss in losses.items()]
            by_memory = [(loss.of("memory"), memory[subject], who) for who, loss in losses.items()]
            by_io = [(loss.of("io"), io[subject], who) for who, loss in losses.items()]
            found = {"cpu": worst(by_cpu), "memory": worst(by_memory), "io": worst(by_io)}
            for resource, (value, _) in found.items():
                samples.append(
                    Sample(f"infra.{resource}_contention", subject, value, "" if value is not None else _unknown(losses))
                )
            self._suffers[subject] = max(found.values(), key=lambda one: one[0] or 0.0)[1]
            for metric, taken in (("contender_demand", use.demand), ("contender_cores", use.ran), ("contender_io", use.io)):
                samples.append(Sample(f"infra.{metric}", subject, taken, "" if taken is not None else FIRST))
        wanted = [use.demand for use in contenders.values() if use.demand is not None]
        known = bool(wanted) or not contenders  # what another one that left no longer takes is no effect of a remedy
        samples.append(Sample("infra.contender_demand", "host", sum(wanted) if known else None, "" if known else FIRST))
        return samples

    def _facts(self, host: Host, now: Now) -> tuple[Fact, ...]:
        """Who is left alone; what the contenders are called, and whom each holds up most: labels of what is found."""
        facts = [Fact("left_alone", subject, printable(why), recorded=True) for subject, why in self.members.left_alone]
        for thing in self._told:
            if not thing.path and thing.tasks:
                root = next((task for task in thing.tasks if task.subject == thing.subject), thing.tasks[0])
                facts.append(Fact("process", thing.subject, self._details.words(host, root, now)))
            facts.append(Fact("called", thing.subject, printable(thing.title)))
            facts.append(Fact("by_intent", thing.subject, thing.pattern))
            suffers = self._suffers.get(thing.subject, "").partition(":")[2]
            if suffers:
                facts.append(Fact("holds_up", thing.subject, suffers))
        return tuple(facts)


def statistic(values: Sequence[float], how: str) -> float:
    """One or more values as one: mean, max, last, or the 95th percentile (the nearest that is reached)."""
    if how == "mean":
        return sum(values) / len(values)
    if how == "max":
        return max(values)
    if how == "last":
        return values[-1]
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


def _losses(losses: dict[str, Loss]) -> list[Sample]:
    """Each protected thing's losses and its objective, and the worst of all as the host's."""
    samples = []
    for resource in RESOURCES:
        values = {subject: getattr(loss, resource) for subject, loss in losses.items()}
        for subject, value in values.items():
            reason = losses[subject].reasons.get(resource, "")
            samples.append(Sample(LOST[resource], subject, value, reason))
        known = [value for value in values.values() if value is not None]
        reason = next((loss.reasons[resource] for loss in losses.values() if resource in loss.reasons), "")
        samples.append(Sample(LOST[resource], "host", max(known) if known else None, "" if known else reason))
    for subject, loss in losses.items():
        if loss.objective is not None:
            reason = "" if loss.miss is not None else "its metric has no value in its window"
            samples.append(Sample("infra.objective_miss", subject, loss.miss, reason))
    return samples


def _unknown(losses: dict[str, Loss]) -> str:
    """Why a contribution is not known."""
    for subject, loss in losses.items():
        if loss.objective is not None and loss.objective.metric and loss.miss is None:
            return f"{loss.objective.metric} is unknown, and the objective of {subject.partition(':')[2]} is about it"
    return "what the protected work loses is not known"


def probe(
    intent: Intent | None = None,
    process_table: Table | None = None,
    readings: Readings | None = None,
    members: Members | None = None,
) -> Contention:
    """Make the probe for an intent: without one it reads nothing. `members` are shared with other probes of the intent."""
    return Contention(intent or Intent(), process_table, readings, members)
