"""The busiest processes, by CPU, memory and IO, and what each of the hungriest costs the others.

A process that took a twentieth of a core is followed while it lives and for ten minutes after it calmed down, so that a
finding about it can clear, and what was done about it can be verified, on values that were really read.
"""

from __future__ import annotations

import sys
from typing import Final

from stead.model.observe import Fact, MetricSpec, Now, ProcessUse, Reading, Sample, Top
from stead.probes.kernel_files import parse_loadavg_tasks, parse_schedstat
from stead.probes.proc_details import Details
from stead.probes.proc_elsewhere import Elsewhere
from stead.probes.proc_table import Table, Task, most
from stead.probes.proc_threads import Threads, TooManyThreadsError
from stead.probes.reading import FIRST, Rates, Source, SystemProbe
from stead.protocols import Host

HOT_CORES: Final = 0.05
FOLLOW_MS: Final = 600_000
TOP_MS: Final = 3_000  # how often the list of the busiest is put together: as often as top(1) does
QUIET: Final = 0.02  # seconds of waiting a second below which nobody contends
_MOST_FOLLOWED: Final = 20
_TOP: Final = 10
_MOST_IO: Final = 128


class Processes(SystemProbe):
    """The process table, condensed."""

    name = "process"
    interval_s = 1.0 if sys.platform == "linux" else 5.0  # psutil reads everything of every process each time
    metrics = (
        MetricSpec("infra.processes_total", "processes", "Processes there are", "last"),
        MetricSpec("infra.processes_running", "processes", "Tasks that run or wait for a CPU, but for stead's own"),
        MetricSpec("infra.process_cpu_cores", "cores", "Cores that one process takes"),
        MetricSpec(
            "infra.others_run_delay",
            "ratio",
            "Of the time that all other tasks wanted a CPU, the share that they had to wait for it",
        ),
    )

    def __init__(self, table: Table | None = None) -> None:
        self._loadavg = Source("/proc/loadavg")
        self._schedstat = Source("/proc/schedstat")
        self._table = table or Table()
        self._threads = Threads()
        self._details = Details()
        self._elsewhere = Elsewhere()
        self._rates = Rates()
        self._followed: dict[str, tuple[Task, int]] = {}  # subject → the process, and when it was last hot
        self._top_due_ms = 0

    def read_linux(self, host: Host, now: Now) -> Reading:
        """Make a pass over the table."""
        running, last_pid = parse_loadavg_tasks(self._loadavg.text(host))
        table = self._table
        table.update(host, now, last_pid)
        for task in table.ran if len(table.ran) <= _MOST_IO else most(table.ran, _MOST_IO, "cores"):
            table.read_io(host, task)
        self._follow(now)
        samples = [
            Sample("infra.processes_total", "host", float(len(table.tasks))),
            Sample("infra.processes_running", "host", float(max(0, running - 1))),
        ]
        facts = []
        delays = self._run_delays(host, now)
        for task, _ in self._followed.values():
            subject = task.subject
            samples.append(Sample("infra.process_cpu_cores", subject, task.cores, "" if task.cores is not None else FIRST))
            delay, reason = delays[subject]
            samples.append(Sample("infra.others_run_delay", subject, delay, reason))
            facts.append(Fact("process", subject, self._details.words(host, task, now)))
        return Reading(tuple(samples), tuple(facts), self._top(host, now, running) if self._is_due(now) else None)

    def _is_due(self, now: Now) -> bool:
        if now.mono_ms < self._top_due_ms:
            return False
        if self._table.elapsed_ms:  # before that there are no rates to show
            self._top_due_ms = now.mono_ms + TOP_MS
        return True

    def read_psutil(self, host: Host, now: Now) -> Reading:
        """Read everything of every process through psutil."""
        return self._elsewhere.read(host, now)

    def close(self) -> None:
        """Let every descriptor go."""
        self._table.close()
        self._threads.forget()

    def _follow(self, now: Now) -> None:
        """Choose whom to report: the hungriest, and those who were so and still live, at most twenty."""
        for task in most(self._table.ran, _TOP, "cores"):
            if (task.cores or 0.0) >= HOT_CORES:
                self._followed[task.subject] = (task, now.mono_ms)
        for subject, (task, hot_ms) in list(self._followed.items()):
            if self._table.tasks.get(task.pid) is not task or now.mono_ms - hot_ms > FOLLOW_MS or task.state in "ZX":
                del self._followed[subject]
        while len(self._followed) > _MOST_FOLLOWED:
            del self._followed[min(self._followed, key=lambda subject: self._followed[subject][1])]

    def _run_delays(self, host: Host, now: Now) -> dict[str, tuple[float | None, str]]:
        """For each followed process: of the time that all others wanted a CPU, the share that they had to wait for it.

        A share rather than seconds, so that others who come and go in the meantime move it little. Where they wait for less
        than QUIET of a second each second, nobody contends: 0.
        """
        if not self._followed:
            self._threads.forget()
            self._rates.keep(())  # a rate over the time in which nobody asked would be no rate of now
            return {}
        try:
            own, total, reason = self._waits(host, now)
        except TooManyThreadsError as failure:
            return {subject: (None, str(failure)) for subject in self._followed}
        used = sum(task.cores or 0.0 for task in self._table.ran)
        delays: dict[str, tuple[float | None, str]] = {}
        for subject, (task, _) in self._followed.items():
            mine = own[subject]
            if total is None or mine is None:
                delays[subject] = (None, reason or FIRST)
            else:
                delays[subject] = (waiting_share(total - mine, used - (task.cores or 0.0)), "")
        return delays

    def _waits(self, host: Host, now: Now) -> tuple[dict[str, float | None], float | None, str]:
        """Measure seconds waited per second: of each followed process, and of all tasks.

        /proc/schedstat knows the whole. Where the kernel has none it is the sum over the processes that ran, which the
        table has read anyway; what ended within the interval is missing from it.
        """
        table, threads = self._table, self._threads
        followed = {task.pid for task, _ in self._followed.values()}
        try:
            whole = self._rates.sample("run_delay", "host", parse_schedstat(self._schedstat.text(host)), now.mono_ms)
        except (OSError, ValueError, IndexError):
            whole = None
        wanted = [task for task in table.ran if whole is None or task.pid in followed]
        waited = {task.pid: threads.waited(host, task, table.elapsed_ms) for task in wanted}
        threads.keep(table.tasks.keys())
        own = {task.subject: waited.get(task.pid, 0.0) for task, _ in self._followed.values()}
        if whole is not None:
            return own, whole.value, whole.reason
        if not table.elapsed_ms:
            return own, None, FIRST
        known = [value for value in waited.values() if value is not None]
        return (
            own,
            sum(known) if known or not wanted else None,
            "" if known or not wanted else "this kernel does not count run delay",
        )

    def _top(self, host: Host, now: Now, running: int) -> Top:
        ran = self._table.ran

        def uses(tasks: list[Task]) -> tuple[ProcessUse, ...]:
            return tuple(self._details.use(host, task, now) for task in tasks)

        return Top(
            at_ms=now.unix_ms,
            total=len(self._table.tasks),
            running=max(0, running - 1),
            by_cpu=uses(most(ran, _TOP, "cores")),
            by_memory=uses(self._table.largest(_TOP)),
            by_io=uses(most(ran, _TOP, "io_bytes_per_s")),
        )


def waiting_share(waited_s: float, ran_s: float) -> float:
    """Waiting as a share of waiting and running, both in seconds a second; 0 where waiting is below QUIET."""
    return waited_s / (waited_s + max(ran_s, 0.0)) if waited_s >= QUIET else 0.0


def probe(process_table: Table | None = None) -> Processes:
    """Make the probe, on the table that it shares with others where there is one."""
    return Processes(process_table)
