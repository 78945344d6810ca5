"""What is watched and what answers it: metrics with their bands, playbooks and policy, as YAML that people can change."""

from __future__ import annotations

from typing import Final

from stead.catalog.loader import load_catalog
from stead.catalog.policy import load_policy
from stead.catalog.validation import validate
from stead.catalog.windows import in_window

# category → the title of its group on dashboards
GROUPS: Final[dict[str, str]] = {
    "api": "API & Gateway",
    "executor": "Executor & Queue",
    "learning": "Learning",
    "autonomy": "Autonomy & Governance",
    "infra": "Infrastructure",
    "workload": "Workloads",
    "stead": "Stead itself",
}

__all__ = ["GROUPS", "in_window", "load_catalog", "load_policy", "validate"]
