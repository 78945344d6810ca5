"""Settings for every test."""

from __future__ import annotations

from hypothesis import settings

# A busy machine makes any example slow; what hangs is ended by pytest-timeout.
settings.register_profile("stead", deadline=None)
settings.load_profile("stead")
