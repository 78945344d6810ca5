"""What tests stand on: hosts out of a directory and recorded answers, and a clock that only moves when told."""

from __future__ import annotations

from stead.testing.clock import FakeClock
from stead.testing.hosts import FakeHost, FakePsutil, FakeScheduler, Transcripts

__all__ = ["FakeClock", "FakeHost", "FakePsutil", "FakeScheduler", "Transcripts"]
