"""What a loss of power may leave of the files, after any operation of a trace that a `power.Disk` recorded.

A sync makes all earlier writes of that file durable, and its name. Of every write since, each is kept, dropped, or torn (of
its 512-byte sectors each is kept, dropped or garbage) by itself, so in any order; a truncation or a deletion that nothing
synced is kept or dropped. What was written before a sync that failed may never become durable, whatever later syncs say: the
system takes such pages for clean.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tests.ledger.power import SECTOR, Op, put

GARBAGE = 0.1  # of the sectors of a torn write


class _State(msgspec.Struct):
    """One name: what surely survives (None: no such file), and what was done since its last sync."""

    durable: bytearray | None = None
    pending: list[Op] = []
    old: bytearray | None = None  # deleted, but the directory was not synced since: it may come back


class Loss(NamedTuple):
    """The power failed after `at` operations: what is left of each file, and the notes made before."""

    at: int
    files: dict[str, bytes]
    told: list[Any]


def losses(
    trace: Sequence[Op], points: Sequence[int], choose: random.Random, files: Mapping[str, bytes] | None = None
) -> Iterator[Loss]:
    """One random loss for each point (a number of operations, in rising order), from one pass over the trace.

    `files` are what was durable before it.
    """
    states = {name: _State(bytearray(data)) for name, data in (files or {}).items()}
    told: list[Any] = []
    done = 0
    for point in points:
        for op in trace[done:point]:
            if op.kind == "note":
                told.append(op.mark)
            else:
                _follow(states, op, choose)
        done = max(done, point)
        left = {name: _left(state, choose) for name, state in states.items()}
        yield Loss(point, {name: data for name, data in left.items() if data is not None}, list(told))


def _follow(states: dict[str, _State], op: Op, choose: random.Random) -> None:
    state = states.setdefault(op.name, _State())
    if op.kind == "sync":
        if state.durable is None:  # the first sync of a new file syncs the directory too, as SQLite does it on POSIX
            state.durable = bytearray()
            for other in states.values():
                other.old = None
        for one in state.pending:
            _apply(state.durable, one)
        state.pending = []
    elif op.kind == "rename":
        states[op.mark] = states.pop(op.name)
    elif op.kind == "unsynced":
        kept = [one for one in state.pending if choose.random() < 0.5]
        for one in kept if state.durable is not None else ():
            _apply(state.durable, one)
        state.pending = []
    elif op.kind == "delete":
        state.old = None if op.size or state.durable is None else state.durable
        state.durable, state.pending = None, []
    else:
        state.pending.append(op)


def _apply(data: bytearray, op: Op) -> None:
    if op.kind == "truncate":
        del data[op.size :]
    else:
        put(data, op.offset, op.data)


def _left(state: _State, choose: random.Random) -> bytes | None:
    """What is there after the loss; None: no file."""
    if state.durable is None and not (state.pending and choose.random() < 0.5):
        return bytes(state.old) if state.old is not None and choose.random() < 0.5 else None
    data = bytearray(state.durable or b"")
    for op in state.pending:
        fate = choose.random()
        if fate < 1 / 3:
            _apply(data, op)
        elif fate < 2 / 3 and op.kind == "write":
            _tear(data, op, choose)
    return bytes(data)


def _tear(data: bytearray, op: Op, choose: random.Random) -> None:
    """Of each sector that the write touches: the new bytes, the old ones, or garbage."""
    end = op.offset + len(op.data)
    for start in range(op.offset - op.offset % SECTOR, end, SECTOR):
        low, high = max(start, op.offset), min(start + SECTOR, end)
        fate = choose.random()
        if fate < GARBAGE:
            put(data, low, choose.randbytes(high - low))
        elif fate < 0.5 + GARBAGE / 2:
            put(data, low, op.data[low - op.offset : high - op.offset])
