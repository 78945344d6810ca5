"""A clock that stands still until a test moves it."""

from __future__ import annotations

from stead.model.observe import Now


class FakeClock:
    """protocols.Clock by hand. Both times move together, unless the wall clock is stepped."""

    def __init__(self, unix_ms: int = 1_700_000_000_000, mono_ms: int = 1_000_000) -> None:
        self.unix_ms = unix_ms
        self.mono_ms = mono_ms

    def now(self) -> Now:
        """Read it."""
        return Now(self.unix_ms, self.mono_ms)

    def advance(self, ms: int) -> Now:
        """Let time pass, and read the clock."""
        self.unix_ms += ms
        self.mono_ms += ms
        return self.now()

    def step(self, ms: int) -> Now:
        """Set the wall clock forward or back, as an administrator does: durations don't notice."""
        self.unix_ms += ms
        return self.now()
