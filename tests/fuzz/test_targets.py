"""Drives every fuzz target with mutated inputs, so that the parsers are fuzzed in every run, without atheris."""

from __future__ import annotations

import importlib.util

import pytest

from tests.fuzz.__main__ import feed, main
from tests.fuzz.mutate import mutations
from tests.fuzz.targets import TARGETS, Target

FEW = 2_000
MANY = 500_000
named = pytest.mark.parametrize("name", TARGETS)


@named
def test_valid_inputs_are_accepted(name: str) -> None:
    target = TARGETS[name]
    assert target.seeds
    assert all(feed(target, seed) for seed in target.seeds)


@named
def test_mutated_inputs_are_read_or_refused(name: str) -> None:
    refused = sum(not feed(TARGETS[name], data) for data in mutations(TARGETS[name].seeds, FEW, 1))
    assert refused > FEW // 4  # mutation reaches what is refused


DEGENERATE = (
    *(b"", b"\n", b"\n\n", b"\0", b"\xff" * 40, b"\xef\xbb\xbf{}", "—".encode(), b"\n" * 2_000_000),
    *(
        b"[" * 70_000,
        *(b'{"a":' + b"[" * depth + b"]" * depth + b"}" for depth in (300, 700, 5_000)),
        b'{"a":' + b"9" * 5_000 + b"}",
    ),
)


@named
@pytest.mark.parametrize("data", DEGENERATE, ids=range(len(DEGENERATE)))
def test_degenerate_inputs_are_refused(name: str, data: bytes) -> None:
    assert not feed(TARGETS[name], data)


def test_a_target_that_raises_something_else_is_seen() -> None:
    def broken(data: bytes) -> None:
        raise KeyError(data)

    with pytest.raises(KeyError):
        feed(Target(broken, (b"",)), b"x")


def test_the_same_number_gives_the_same_inputs() -> None:
    seeds = TARGETS["note"].seeds
    assert list(mutations(seeds, 50, 7)) == list(mutations(seeds, 50, 7)) != list(mutations(seeds, 50, 8))


@pytest.mark.skipif(importlib.util.find_spec("atheris") is not None, reason="atheris is installed, so this would fuzz")
def test_without_atheris_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["note"]) == 2
    assert "atheris" in capsys.readouterr().err


def test_an_unknown_target_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert "note" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.timeout(900)
@named
def test_many_mutated_inputs_are_read_or_refused(name: str) -> None:
    """Some hundred times as many: what needs several edits at the right places."""
    for data in mutations(TARGETS[name].seeds, MANY, 2):
        feed(TARGETS[name], data)
