"""The conformance suite finds what it is there to find."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stead.model.change import ABSENT, Step, Target
from stead.testing import FakeHost
from stead.testing import actuators as suite
from tests.flow.kit import Dial, Dials

ONE, OTHER, NONE = Target("dial", "a", {"life": "1"}), Target("dial", "a", {"life": "2"}), Target("dial", "z")


class Deaf(Dials):
    async def write(self, *arguments: Any) -> None:
        pass


class Forgetful(Dials):
    def plan(self, *arguments: Any) -> Step:
        return msgspec.structs.replace(super().plan(*arguments), before={"level": 0})


class Hasty(Dials):
    async def read(self, host: Any, target: Target) -> Any:
        return self.dials.get("a", ABSENT)


class Blind(Dials):
    def met(self, now: Any, want: Any) -> bool:
        return True


def case(tmp_path: Path, kind: type[Dials]) -> suite.Case:
    return suite.Case(kind(a=Dial(1, "red")), FakeHost(tmp_path), ONE, (Dial(5), Dial(6, "blue")), NONE, OTHER)


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda check: check.__name__)
async def test_a_good_one_passes(check: Callable[[suite.Case], Awaitable[None]], tmp_path: Path) -> None:
    await check(case(tmp_path, Dials))


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (Deaf, suite.reads_back_what_it_wrote),
        (Deaf, suite.writes_the_same_twice_without_harm),
        (Deaf, suite.never_touches_a_successor),
        (Deaf, suite.says_what_it_really_did),
        (Forgetful, suite.says_before_what_will_be),
        (Forgetful, suite.puts_back_exactly_what_it_says_it_can),
        (Hasty, suite.knows_what_is_not_there),
        (Hasty, suite.never_touches_a_successor),
        (Blind, suite.says_before_what_will_be),
        (Blind, suite.knows_what_is_not_there),
    ],
)
async def test_a_bad_one_does_not(kind: type[Dials], check: Callable[[suite.Case], Awaitable[None]], tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        await check(case(tmp_path, kind))
