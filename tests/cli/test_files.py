"""`stead files`: who reads it must know what may go, what can be put back, and how."""

from __future__ import annotations

import msgspec

from stead.cli.files import lines
from stead.cli.plan import target_of
from stead.model.change import Target
from stead.model.cleaning import FileList, ListFiles
from tests.cli.fake_agent import T0, answers, proposal, step


def test_it_says_what_may_go_what_is_held_and_what_undoes_it() -> None:
    told = answers()[ListFiles]
    text = "\n".join(lines(told, T0))
    assert "package-cache" in text and "move away, remove later" in text
    assert "in 2 h" in text and "0199c7a0-3333" in text
    assert "/var/crash: a folder on the way is a symbolic link" in text


def test_an_empty_list_says_so() -> None:
    text = "\n".join(lines(FileList((), ()), T0))
    assert "no file that a rule names is old enough" in text and "nothing" in text and "can't be cleaned" not in text


def test_what_is_due_may_go_now() -> None:
    told = answers()[ListFiles]
    due = msgspec.structs.replace(told.quarantined[0], due_ms=T0, run="")
    assert "now" in "\n".join(lines(FileList((), (due,)), T0)) and "not known" in "\n".join(lines(FileList((), (due,)), T0))


def test_a_proposal_about_many_names_some() -> None:
    steps = tuple(msgspec.structs.replace(step(), target=Target("file", f"/tmp/{number}")) for number in range(32))
    many = msgspec.structs.replace(proposal(), steps=steps, labels={})
    assert target_of(many) == "file:/tmp/0, file:/tmp/1, 30 more"
