"""The one door to the operating system: files, processes, commands and the scheduler, under a root directory."""

from __future__ import annotations

from stead.host.clock import SystemClock
from stead.host.local import LocalHost, person_name
from stead.host.redaction import redact, redact_environment

__all__ = ["LocalHost", "SystemClock", "person_name", "redact", "redact_environment"]
