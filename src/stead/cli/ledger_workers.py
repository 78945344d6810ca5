"""Several processes look at a long ledger at once: each opens it for itself, and reads and hashes its share of the entries.

Processes and not threads: nearly all of the time is Python's own. They are started anew and not forked, because a connection
to SQLite must not be carried over a fork. Only what can be opened twice is read so, a file or a folder; an agent's socket is not.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stead.model.errors import Problem, SteadError

if TYPE_CHECKING:
    from stead.ledger.source import LogSource
    from stead.ledger.span import Seen
    from stead.ledger.verify import Looks

LEAST: Final = 150_000  # entries; below, starting the processes takes longer than they save
MOST_WORKERS: Final = 8
_opened: list[tuple[LogSource, bool]] = []  # of this worker: what it reads, and whether it looks deep


@contextlib.contextmanager
def workers(path: Path, size: int, *, deep: bool) -> Iterator[Looks | None]:
    """Look by several processes at the ledger of this file or folder; None where it is short, or there is one CPU only."""
    count = min(_cpus(), MOST_WORKERS)
    if size < LEAST or count < 2:
        yield None
        return
    from multiprocessing import get_context

    with get_context("spawn").Pool(count, _open, (str(path), deep)) as pool:

        def looks(spans: Sequence[tuple[int, int]]) -> Iterable[Seen]:
            for seen in pool.imap(_look, spans):
                if isinstance(seen, Problem):
                    raise SteadError.of(seen)
                yield seen

        yield looks


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open(path: str, deep: bool) -> None:
    """What a worker does first. Ctrl-C ends it by way of the command that started it."""
    from stead.ledger.exported import ExportSource
    from stead.ledger.offline import open_offline
    from stead.ledger.stored import StoreSource

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    place = Path(path)
    _opened.append((ExportSource(place) if place.is_dir() else StoreSource(open_offline(place)), deep))


def _look(span: tuple[int, int]) -> Seen | Problem:
    """Look at one stretch. What is wrong goes back as a value: an exception would lose its parts on the way."""
    from stead.ledger.span import look

    source, deep = _opened[0]
    try:
        return look(source, *span, deep=deep)
    except SteadError as error:
        return error.problem
