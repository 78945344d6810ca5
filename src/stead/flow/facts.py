"""Facts: those of the host itself as they are, and what is not recorded yet of those that people must be able to prove."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from stead.model.errors import SteadError
from stead.model.observe import Fact
from stead.protocols import Ledger

RECORDED_MAX: Final = 1024  # in one life of the agent: names come from outside, and the record must not grow by them for ever
_LAST: Final = 16  # entries of one subject that a new one is held against


class Facts:
    """What probes told. A value that comes and goes is recorded once; None, the end of a fact, is not."""

    def __init__(self, ledger: Ledger) -> None:
        self.of_host: dict[str, Fact] = {}  # by name
        self._ledger = ledger
        self._known: set[Fact] = set()

    def take(self, facts: Iterable[Fact]) -> Iterator[Fact]:
        """Take in what one tick's readings say; give what is to be recorded."""
        for fact in facts:
            if fact.subject == "host":
                self.of_host[fact.name] = fact
            if fact.recorded and fact.value is not None and fact not in self._known and len(self._known) < RECORDED_MAX:
                self._known.add(fact)
                if not self._is_recorded(fact):
                    yield fact

    def _is_recorded(self, fact: Fact) -> bool:
        """Did an earlier life of the agent?"""
        try:
            stored = self._ledger.entries(_LAST, fact.subject, ("fact.seen",))
        except SteadError:
            return False  # twice is better than never
        bodies = [msgspec.json.decode(one.leaf)["body"] for one in stored]
        return any((body.get("name"), body.get("value")) == (fact.name, fact.value) for body in bodies)
