"""Taking workers up again after the agent was killed: by identity, by mark, or, when the record is lost, by their status file.

Nothing is adopted on a pid alone. What ran in an earlier boot is gone; what was meant to be started but has no pid
recorded is looked for by the mark in its environment; what an ended leader left behind in its group is ended.
"""

from __future__ import annotations

import signal
import time
import uuid
from pathlib import Path
from typing import Final

from stead.model.observe import Now
from stead.model.workload import WorkloadSpec
from stead.protocols import Host
from stead.workloads import children
from stead.workloads.pool import Pool
from stead.workloads.records import SlotRecord, WorkloadFiles, WorkloadRecord
from stead.workloads.slot import Slot

LOOKS: Final = 4
LOOK_AGAIN_S: Final = 0.05  # at most three times, and only after a kill between a worker's start and its record


def open_pool(spec: WorkloadSpec, files: WorkloadFiles, host: Host, now: Now) -> Pool:
    """A defined workload with the workers that still run. A changed definition is a new generation, so they are replaced."""
    files.prepare(spec.name)
    record = files.load(spec.name) or _rebuild(spec, files, host)
    pool = Pool(spec, record, files, host, now)
    if record.spec.workers != spec.workers:
        pool.wanted = spec.workers  # a person changed the number: it rules over what was set since
    pool.wanted = min(max(pool.wanted, spec.min_workers), spec.max_workers)
    if _command(record.spec) != _command(spec):
        pool.generation += 1
    _take_up(pool, record, host, now)
    return pool


def open_removed(name: str, files: WorkloadFiles, host: Host, now: Now) -> Pool | None:
    """A workload that is defined no more: its workers will be stopped, by the definition that they were started with."""
    record = files.load(name)
    if record is None:
        return None
    files.prepare(name)
    pool = Pool(record.spec, record, files, host, now)
    pool.removed = True
    _take_up(pool, record, host, now)
    return pool


def _command(spec: WorkloadSpec) -> tuple[object, ...]:
    return (spec.argv, spec.env, spec.cwd, spec.port, spec.cpus)


def _take_up(pool: Pool, record: WorkloadRecord, host: Host, now: Now) -> None:
    here = [slot for slot in record.slots if slot.boot_id == host.boot_id]
    lost = {slot.spawn for slot in here if slot.spawn and slot.pid is None}
    marked = _look_for(lost, host)
    for slot_record in here:
        slot = _slot(slot_record, now)
        slot.child = _find(slot_record, marked.get(slot_record.spawn, []), host)
        if slot.child is None and slot_record.pid is not None:
            children.signal_marked(host, slot_record.spawn, slot_record.pid, signal.SIGKILL)
            if not slot_record.stopping:
                pool.crashes += 1
                slot.crashed(pool.spec, "it ended while nobody looked", now)
        if slot.child is not None:
            pool.slots[slot.index] = slot
        elif not slot_record.stopping and slot_record.streak + slot.streak:
            slot.stopping_mono_ms = None
            pool.slots[slot.index] = slot


def _look_for(lost: set[str], host: Host) -> dict[str, list[int]]:
    """Spawn mark → pids. A process that is in the middle of its exec shows no environment yet, so it is looked for again."""
    marked: dict[str, list[int]] = {}
    for attempt in range(LOOKS):
        if not lost - marked.keys():
            break
        if attempt:
            time.sleep(LOOK_AGAIN_S)
        marked = children.find_marked(host, children.MARK)
    return marked


def _find(record: SlotRecord, pids: list[int], host: Host) -> children.Child | None:
    """The worker of this record, running. Started but not recorded: it leads the session that has its mark."""
    if record.pid is not None:
        return children.adopt(host, record.pid, record.start_ticks or 0, record.spawn)
    for pid in pids:
        ticks = host.start_ticks(pid)
        if ticks is not None and children.leads_session(pid):
            return children.adopt(host, pid, ticks, record.spawn)
    if pids:
        children.signal_marked(host, record.spawn, None, signal.SIGKILL)
    return None


def _slot(record: SlotRecord, now: Now) -> Slot:
    slot = Slot(record.index)
    slot.spawn, slot.generation = record.spawn, record.generation
    slot.started_ms, slot.started_mono_ms = record.started_ms, record.started_mono_ms
    slot.streak, slot.not_before_mono_ms = record.streak, record.not_before_mono_ms
    slot.stopping_mono_ms = now.mono_ms if record.stopping else None
    return slot


def _rebuild(spec: WorkloadSpec, files: WorkloadFiles, host: Host) -> WorkloadRecord:
    """A first record; or, where the record was lost, one made from the workers that report to this workload's folder."""
    folder = files.folder / spec.name
    identity, slots = uuid.uuid4().hex, {}
    if any(folder.iterdir()):  # it ran before
        for status, pids in children.find_marked(host, "STEAD_STATUS").items():
            if Path(status).parent != folder:
                continue
            for pid in filter(children.leads_session, pids):
                said = children.variables(host, pid)
                slot = _said(said, pid, host)
                identity = said.get("STEAD_WORKLOAD_ID", identity)
                slots[slot.index] = slot
    generation = max((slot.generation for slot in slots.values()), default=1)
    wanted = max((spec.workers, *(index + 1 for index in slots)))
    return WorkloadRecord(identity, spec, generation, wanted if slots else spec.workers, slots=tuple(slots.values()))


def _said(variables: dict[str, str], pid: int, host: Host) -> SlotRecord:
    return SlotRecord(
        index=int(variables.get("STEAD_WORKER", "0")),
        spawn=variables.get(children.MARK, ""),
        generation=int(variables.get("STEAD_GENERATION", "1")),
        pid=pid,
        start_ticks=host.start_ticks(pid),
        boot_id=host.boot_id,
    )
