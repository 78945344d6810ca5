"""Raw values on their way to disk: cheap to add to on the agent's loop, taken away whole by the writer thread."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from math import nan

from stead.model.observe import Now, Sample
from stead.stats.blocks import Block, Column


class Pending:
    """The ticks since the last flush, by metric and subject. Processes' series are not kept raw."""

    __slots__ = ("at_ms", "began_mono_ms", "columns")

    def __init__(self) -> None:
        self.at_ms = array("q")
        self.began_mono_ms = 0
        self.columns: dict[tuple[str, str], Column] = {}

    def add(self, now: Now, samples: Iterable[Sample]) -> None:
        """One tick."""
        row = len(self.at_ms)
        if not row:
            self.began_mono_ms = now.mono_ms
        self.at_ms.append(now.unix_ms)
        columns = self.columns
        for sample in samples:
            subject = sample.subject
            if subject.startswith("process:"):
                continue
            column = columns.get((sample.metric, subject))
            if column is None:
                column = columns[sample.metric, subject] = Column()
            elif column.rows and column.rows[-1] == row:
                column.values[-1] = nan if sample.value is None else sample.value
                continue
            column.rows.append(row)
            column.values.append(nan if sample.value is None else sample.value)

    def block(self, id_of: Callable[[str, str], int]) -> Block:
        """The same with series ids."""
        return Block(self.at_ms, {id_of(*key): column for key, column in self.columns.items()})

    def series(self, metric: str, subject: str) -> list[tuple[int, float]]:
        """(Unix ms, value) of one series."""
        column = self.columns.get((metric, subject))
        return [(self.at_ms[row], value) for row, value in zip(column.rows, column.values, strict=True)] if column else []
