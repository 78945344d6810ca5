"""Old data stays readable: a kept or sent type may gain defaulted fields and choices, and lose nothing."""

from __future__ import annotations

import copy

import pytest

from tests.style.schemas import FOLDER, broken, module_names, present, recorded

RECORD = "record them with `python -m tests.style.schemas`"


@pytest.mark.parametrize("name", module_names())
def test_what_was_written_can_still_be_read(name: str) -> None:
    assert broken(recorded(name), present(name), name) == []


@pytest.mark.parametrize("name", module_names())
def test_new_fields_are_recorded(name: str) -> None:
    assert present(name) == recorded(name), RECORD


def test_no_type_vanished() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} <= set(module_names())
    assert len(recorded("change")) > 5


def test_a_defaulted_field_is_no_break() -> None:
    new = copy.deepcopy(recorded("change"))
    new["Attempt"]["properties"]["note"] = {"type": "string", "default": ""}
    assert broken(recorded("change"), new) == []


@pytest.mark.parametrize("harm", ["required", "removed", "retyped", "choice"])
def test_each_break_is_seen(harm: str) -> None:
    new = copy.deepcopy(recorded("change"))
    if harm == "required":
        new["Attempt"]["properties"]["note"] = {"type": "string"}
        new["Attempt"]["required"].append("note")
    elif harm == "removed":
        del new["Attempt"]["properties"]["at_ms"]
    elif harm == "retyped":
        new["Attempt"]["properties"]["at_ms"] = {"type": "string"}
    else:
        new["Attempt"]["properties"]["direction"]["enum"].pop()
    assert broken(recorded("change"), new)
