"""One workload: the workers it has, and the next small step from there to what is wanted.

`converge` is called every tick, and more often while something moves. It never waits: it looks at who has ended, starts
who is missing, stops who is too many, and during a rolling restart replaces one worker at a time, and only while all the
others are healthy, so that N-1 of them keep working.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from stead.host.memory_merge import lost_it, merging
from stead.model.observe import Now
from stead.model.workload import Worker, WorkloadSpec, WorkloadStatus
from stead.protocols import Host, Note
from stead.workloads import children
from stead.workloads.health import fill
from stead.workloads.records import WorkloadFiles, WorkloadRecord, cap_log
from stead.workloads.reports import Report, Tally, read_report
from stead.workloads.scopes import scoped
from stead.workloads.slot import Slot

LOG_LIMIT_BYTES = 1_000_000
KILL_MS = 2_000  # an ended group is gone within this, also on a busy machine


def unnoted(operation: str) -> None:
    """Nobody records what is done now."""


class Pool:
    """The workers of one workload."""

    def __init__(self, spec: WorkloadSpec, record: WorkloadRecord, files: WorkloadFiles, host: Host, now: Now) -> None:
        self.spec = spec
        self.id = record.id
        self.generation = record.generation
        self.wanted = record.wanted
        self.crashes = record.crashes
        self.restarts = record.restarts
        self.reached = record.reached
        self.removed = False  # no longer defined: its workers are stopped and its record goes
        self.closing = False  # stop all workers, without forgetting how many are wanted
        self.reason = ""
        self.unsupported = ""  # what of the definition this system can't do
        self.note: Note = unnoted  # told what is done to the workers, by whoever last wanted a change
        self.tally = Tally()
        self.slots: dict[int, Slot] = {}
        self._files = files
        self._host = host
        self._now = now

    # -- what is ------------------------------------------------------------

    def record(self) -> WorkloadRecord:
        """The durable part."""
        slots = tuple(slot.record(self._host.boot_id) for _, slot in sorted(self.slots.items()))
        return WorkloadRecord(self.id, self.spec, self.generation, self.wanted, self.crashes, self.restarts, slots, self.reached)

    def save(self) -> None:
        """Write the durable part."""
        self._files.save(self.record())

    def status(self) -> WorkloadStatus:
        """The workload as it is."""
        workers = tuple(self._worker(slot) for _, slot in sorted(self.slots.items()))
        reasons = [f"worker {slot.index}: {slot.reason}" for _, slot in sorted(self.slots.items()) if slot.reason]
        joined = self.tally.joined
        return WorkloadStatus(
            name=self.spec.name,
            id=self.id,
            generation=self.generation,
            wanted=self.wanted,
            workers=workers,
            crashes=self.crashes,
            restarts=self.restarts,
            reached=self.reached,
            requests_total=joined.requests_total,
            errors_total=joined.errors_total,
            busy=joined.busy,
            capacity=joined.capacity,
            queue_depth=joined.queue_depth,
            oldest_job_s=joined.oldest_job_s,
            arrival_per_s=joined.arrival_per_s,
            service_s=joined.service_s,
            latency_p95_ms=joined.latency_p95_ms,
            min_workers=self.spec.min_workers,
            max_workers=self.spec.max_workers,
            replace_s=self.spec.stop_grace_s + self.spec.start_grace_s + KILL_MS / 1000,
            reason="; ".join([self.reason, *reasons] if self.reason else reasons),
            unsupported=self.unsupported,
        )

    def state(self, slot: Slot) -> str:
        """A slot's state at the last convergence."""
        return slot.state(self.spec, self._now)

    @property
    def settled(self) -> bool:
        """Nothing is left to do: all wanted workers run, healthy, of the present generation, and no other."""
        if self.closing or self.removed:
            return not self.slots
        return set(self.slots) == set(range(self.wanted)) and all(
            slot.generation == self.generation and self.state(slot) == "healthy" for slot in self.slots.values()
        )

    @property
    def stuck(self) -> bool:
        """It will not settle by itself soon: a worker of the present generation crash-loops or is unhealthy."""
        mine = [slot for slot in self.slots.values() if slot.generation == self.generation]
        return any(self.state(slot) == "unhealthy" or (slot.child is None and slot.streak > 1) for slot in mine)

    @property
    def moving(self) -> bool:
        """A worker is being started or stopped: it is worth looking more often than once a tick."""
        return any(self.state(slot) in ("starting", "stopping") for slot in self.slots.values())

    # -- what is next -------------------------------------------------------

    def converge(self, now: Now) -> None:
        """Take every step that can be taken now. Never waits."""
        self._now = now
        before = self.record()
        for slot in list(self.slots.values()):
            self._look_at(slot)
        wanted = 0 if self.closing or self.removed else self.wanted
        for slot in list(self.slots.values()):
            if slot.index >= wanted:
                self._stop(slot)
        for index in range(wanted):
            self._fill(index)
        self._roll()
        if self.settled and wanted:
            self.reached = self.generation
        if self.record() != before:
            self.save()

    def try_again(self) -> None:
        """A restart came to a halt at workers that would not become healthy: replace those, without waiting any longer."""
        for slot in list(self.slots.values()):
            slot.not_before_mono_ms = self._now.mono_ms
            if self.state(slot) == "unhealthy":
                self._stop(slot)

    def observe(self, now: Now) -> None:
        """Read the workers' reports, and keep their logs small."""
        reports: dict[str, Report | None] = {}
        for slot in self.slots.values():
            if slot.child is not None:
                reports[slot.spawn] = read_report(self._files.status_path(self.spec.name, slot.index), now.unix_ms)
                cap_log(self._files.log_path(self.spec.name, slot.index), LOG_LIMIT_BYTES)
        self.tally.update(reports)

    def let_go(self) -> None:
        """Close what we hold of the workers; they run on."""
        for slot in self.slots.values():
            if slot.child is not None:
                slot.child.let_go()

    def port(self, slot: Slot) -> int | None:
        """The port that this worker listens on."""
        return None if self.spec.port is None else self.spec.port + slot.index

    # -- the steps ----------------------------------------------------------

    def _look_at(self, slot: Slot) -> None:
        if slot.child is None:
            return
        if slot.child.alive:
            slot.steady(self.spec, self._now)
            grace_ms = self.spec.stop_grace_s * 1000
            if slot.stopping_mono_ms is not None and self._now.mono_ms - slot.stopping_mono_ms >= grace_ms and not slot.killed:
                slot.killed = True
                self._signal(slot, slot.child, signal.SIGKILL)
            return
        slot.child.bury()
        slot.child = None
        if slot.stopping_mono_ms is not None:
            del self.slots[slot.index]
        else:
            self.crashes += 1
            slot.crashed(self.spec, "it ended by itself", self._now)

    def _stop(self, slot: Slot) -> None:
        if slot.child is None:
            del self.slots[slot.index]
        elif slot.stopping_mono_ms is None:
            slot.stopping_mono_ms = self._now.mono_ms
            self.save()
            self._signal(slot, slot.child, signal.SIGTERM)

    def _fill(self, index: int) -> None:
        slot = self.slots.setdefault(index, Slot(index))
        if slot.child is not None or slot.stopping_mono_ms is not None:
            return
        if slot.generation == self.generation and slot.not_before_mono_ms > self._now.mono_ms:
            return
        slot.begin(self.generation, self._now)
        self._files.status_path(self.spec.name, index).unlink(missing_ok=True)
        self.save()  # the intent: whoever comes after us can find the process by its mark
        try:
            slot.child = self._start(slot)
        except (OSError, ValueError, IndexError) as error:
            self.crashes += 1
            slot.crashed(self.spec, f"it could not be started: {error}", self._now)
            self.note(f"start worker {index} of {self.spec.name}: {type(error).__name__}")
        else:
            self.note(f"start worker {index} of {self.spec.name}: process {slot.child.pid}")

    def _start(self, slot: Slot) -> children.Child:
        """Start a worker, in a scope of its own where systemd makes those, its memory mergeable if that is wanted. OSError."""
        argv = [fill(part, self.port(slot), slot.index) for part in self.spec.argv]
        command, alone = scoped(self._host, argv, self.spec.name, slot.spawn)
        with merging(self.spec.merge_memory) as lacking:
            child = children.start(
                self._host,
                command,
                self._environment(slot),
                self.spec.cwd,
                self._files.log_path(self.spec.name, slot.index),
                self.spec.cpus,
                slot.spawn,
            )
        if self.spec.merge_memory and not lacking and lost_it(self._host, child.pid):
            lacking = "this kernel forgets at the start of a program that its memory may be merged (Linux 6.7)"
        self.unsupported = "; ".join(filter(None, (f"merge_memory: {lacking}" if lacking else "", alone)))
        return child

    def _signal(self, slot: Slot, child: children.Child, number: signal.Signals) -> None:
        child.signal_group(number)
        self.note(f"{number.name} to worker {slot.index} of {self.spec.name}: process group {child.pid}")

    def _roll(self) -> None:
        """Replace one worker of an older generation, unhealthy ones first, while all others are well."""
        old = [slot for slot in self.slots.values() if slot.child is not None and slot.generation != self.generation]
        if self.closing or self.removed or not old:
            return
        ailing = [slot for slot in old if self.state(slot) != "healthy"]
        if any(slot.stopping_mono_ms is not None for slot in old):
            return
        newer = [slot for slot in self.slots.values() if slot not in old]
        if any(self.state(slot) != "healthy" for slot in newer):
            return
        self._stop(min(ailing or old, key=lambda slot: slot.index))

    def _environment(self, slot: Slot) -> Mapping[str, str]:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("STEAD_", "NOTIFY_", "WATCHDOG_"))
        }
        environment |= self.spec.env
        environment |= {
            children.MARK: slot.spawn,
            "STEAD_WORKLOAD": self.spec.name,
            "STEAD_WORKLOAD_ID": self.id,
            "STEAD_WORKER": str(slot.index),
            "STEAD_GENERATION": str(slot.generation),
            "STEAD_STATUS": str(self._files.status_path(self.spec.name, slot.index)),
        }
        port = self.port(slot)
        return environment if port is None else environment | {"STEAD_PORT": str(port)}

    def _worker(self, slot: Slot) -> Worker:
        child = slot.child
        pid, ticks = (child.pid, child.start_ticks) if child else (0, 0)
        state = slot.state(self.spec, self._now)
        return Worker(slot.index, pid, ticks, self._host.boot_id, slot.started_ms, slot.generation, state)
