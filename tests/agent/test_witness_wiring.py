from __future__ import annotations

from pathlib import Path

import pytest

from stead.agent.witness_wiring import known_logs
from stead.model.config import WitnessConfig
from stead.model.errors import SteadError
from tests.agent.witnessing import World, world

__all__ = ["world"]


def test_the_logs_that_are_cosigned_come_from_the_configuration(tmp_path: Path, world: World) -> None:
    box, _, _ = world
    (vkey,) = box.store.vkeys()
    (tmp_path / "logs").write_text(f"log {vkey}\nquorum none\n")
    found = known_logs(WitnessConfig(logs=(vkey,), policy=str(tmp_path / "logs")))
    assert [key.text for key in found] == [vkey]
    with pytest.raises(SteadError, match=r"witness\.logs\[0\]"):
        known_logs(WitnessConfig(logs=("box/ledger+00000000+AAAA",)))
    with pytest.raises(SteadError, match="can't be read"):
        known_logs(WitnessConfig(policy=str(tmp_path / "absent")))
