"""One error for everything a person can get wrong or a machine can refuse.

A `SteadError` always answers three questions: what happened, where, and what to do about it. The CLI prints
it as one sentence and exits with its code; the API renders it as an RFC 9457 problem. Nothing else is shown to users.
"""

from __future__ import annotations

from typing import Final

import msgspec

EXIT_OK: Final = 0
EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNDONE: Final = 3  # verification failed, rolled back
EXIT_UNDO_FAILED: Final = 4  # needs a person
EXIT_APPROVAL: Final = 5  # approval required or denied
EXIT_WINDOW: Final = 6  # outside its window
EXIT_PAUSED: Final = 7  # budget exhausted or paused
EXIT_UNREACHABLE: Final = 8
EXIT_TIMEOUT: Final = 124


class Problem(msgspec.Struct, frozen=True, tag="problem"):
    """An error as a value: it travels on the socket, in REST answers and in logs."""

    what: str
    where: str
    fix: str
    code: str = "failure"  # a stable slug, e.g. "config.unknown-key", "agent.unreachable"
    exit_code: int = EXIT_FAILURE

    def __str__(self) -> str:
        """Read as one sentence: what (where): what to do."""
        where = f" ({self.where})" if self.where else ""
        fix = f": {self.fix}" if self.fix else ""
        return f"{self.what}{where}{fix}"


class SteadError(Exception):
    """A `Problem` on its way to a person."""

    def __init__(
        self, what: str, where: str = "", fix: str = "", *, code: str = "failure", exit_code: int = EXIT_FAILURE
    ) -> None:
        self.problem = Problem(what, where, fix, code, exit_code)
        super().__init__(str(self.problem))

    @classmethod
    def of(cls, problem: Problem) -> SteadError:
        """Raise again what came over the wire."""
        return cls(problem.what, problem.where, problem.fix, code=problem.code, exit_code=problem.exit_code)
