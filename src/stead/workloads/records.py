"""What is remembered of a workload so that its workers can be adopted after the agent was killed.

One JSON file per workload, replaced atomically. A worker is recorded twice: as an intent (a fresh `spawn` mark, no pid)
before it is started and with its pid and start time after. A crash between the two leaves an intent, and the mark is in
the environment of the process that was started, so it is found again: never orphaned, never doubled.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from stead.model.errors import SteadError
from stead.model.workload import WorkloadSpec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class SlotRecord(msgspec.Struct, frozen=True):
    """One worker's place: who sits in it, by identity, and how often it crashed in a row. `*_mono_ms` is this boot's clock."""

    index: int
    spawn: str = ""
    generation: int = 1
    pid: int | None = None
    start_ticks: int | None = None
    boot_id: str = ""
    started_ms: int = 0
    started_mono_ms: int = 0
    stopping: bool = False
    streak: int = 0
    not_before_mono_ms: int = 0


class WorkloadRecord(msgspec.Struct, frozen=True):
    """A workload's durable part. The definition is kept too: a workload that left the configuration is still stopped by it."""

    id: str
    spec: WorkloadSpec
    generation: int
    wanted: int
    crashes: int = 0
    restarts: int = 0
    slots: tuple[SlotRecord, ...] = ()
    reached: int = 0
    v: int = 1


class WorkloadFiles:
    """The files of all workloads under `<state>/workloads`: records, and each worker's status and log."""

    def __init__(self, state_dir: str | Path) -> None:
        self.folder = Path(state_dir) / "workloads"

    def prepare(self, name: str) -> None:
        """Make the folder of one workload. Raises SteadError for an impossible name, or where it can't be made."""
        if not NAME.fullmatch(name):
            raise SteadError(
                f"{name!r} can't be a workload's name",
                "workloads",
                "use letters, digits, dot, dash and underscore",
                code="workload.name",
            )
        try:
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SteadError(
                f"the workloads' folder can't be written: {error.strerror}",
                str(self.folder),
                "give stead's user a writable state directory",
                code="state.unwritable",
            ) from error

    def recorded(self) -> list[str]:
        """The names of all workloads that have a record."""
        if not self.folder.is_dir():
            return []
        return sorted(path.stem for path in self.folder.glob("*.json") if NAME.fullmatch(path.stem))

    def load(self, name: str) -> WorkloadRecord | None:
        """The record, or None where there is none or it can't be read (its workers are then found by their environment)."""
        try:
            return msgspec.json.decode(self._record(name).read_bytes(), type=WorkloadRecord)
        except (OSError, msgspec.DecodeError):
            return None

    def save(self, record: WorkloadRecord) -> None:
        """Replace the record. It survives a kill at any instant; call `sync` where it has to survive a power cut."""
        path = self._record(record.spec.name)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(record))
        fresh.replace(path)

    def sync(self, name: str) -> None:
        """Make the record durable (blocks for an fsync)."""
        for path, flags in ((self._record(name), os.O_RDONLY), (self.folder, os.O_RDONLY | os.O_DIRECTORY)):
            descriptor = os.open(path, flags)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def forget(self, name: str) -> None:
        """Remove the record of a workload that is no longer defined."""
        self._record(name).unlink(missing_ok=True)

    def status_path(self, name: str, index: int) -> Path:
        """Where worker `index` reports."""
        return self.folder / name / f"{index}.status.json"

    def log_path(self, name: str, index: int) -> Path:
        """Where worker `index` writes its output."""
        return self.folder / name / f"{index}.log"

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def cap_log(path: Path, limit_bytes: int) -> None:
    """Keep a worker's log below `limit_bytes`: its newer half moves to `.1`, the file starts anew (it is open for append)."""
    try:
        if path.stat().st_size <= limit_bytes:
            return
        with path.open("rb") as log:
            log.seek(-(limit_bytes // 2), os.SEEK_END)
            tail = log.read(limit_bytes // 2)
        path.with_suffix(".log.1").write_bytes(tail)
        os.truncate(path, 0)
    except OSError:  # gone, or a full disk: tried again at the next look
        return
