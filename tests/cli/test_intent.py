from __future__ import annotations

from pathlib import Path

import click
import pytest

from stead.cli.check import checked_lines, checked_of
from stead.cli.doctor import intent_checks
from stead.cli.intent import intent_lines, matched_now
from stead.model.config import Config
from stead.model.intent import Matched, Objective, Protect
from stead.testing import FakeHost
from tests.probes.crowd import Crowd

CONFIG = Config(protect=(Protect(("web",), "shop", Objective(5.0, pressure="cpu")),), best_effort=("make", "cgroup:/batch.slice"))


@pytest.fixture
def crowd(tmp_path: Path) -> Crowd:
    made = Crowd(tmp_path)
    made.born(10, "web")
    made.born(20, "make")
    made.born(21, "cc1", parent=20)
    return made


def plain(lines: list[str]) -> list[str]:
    return [click.unstyle(line).rstrip() for line in lines]


def test_what_an_intent_matches_now_is_shown_with_what_is_left_alone(crowd: Crowd) -> None:
    crowd.group("/batch.slice")
    crowd.born(30, "sshd", group="/batch.slice")
    assert plain(intent_lines(matched_now(CONFIG, crowd.host))) == [
        "protect        shop                 web (pid 10); p95 of CPU pressure below 5 % over 60 s",
        "may be slowed  process:make         make (pid 20) (2 processes)",
        "may be slowed  cgroup:/batch.slice  nothing that may be slowed matches now",
        "                                    left alone: /batch.slice: sshd (pid 30) is in it, and is the way in by ssh",
    ]


def test_many_are_counted() -> None:
    many = Matched("protect", "web", ("web",), tuple(f"web (pid {n})" for n in range(7)), 7)
    assert plain(intent_lines((many,)))[0].endswith("web (pid 0), web (pid 1), web (pid 2), web (pid 3) and 3 more")


@pytest.mark.parametrize(
    ("lost", "miss", "words"),
    [
        (
            {"cpu": 4.25, "memory": None, "io": 0.0},
            None,
            "web (pid 1); held up 4.25 % of its time for CPU, 0 % of its time for IO",
        ),
        ({"cpu": None, "memory": None, "io": None}, None, "web (pid 1); what it loses is not known"),
        ({"cpu": 9.0}, 1.8, "web (pid 1); held up 9 % of its time for CPU; below 5: 1.8 times that, missed"),
        ({"cpu": 2.0}, 0.4, "web (pid 1); held up 2 % of its time for CPU; below 5: 0.4 times that, kept"),
    ],
)
def test_an_agent_tells_what_is_lost_and_how_an_objective_is_kept(lost: dict[str, float], miss: float | None, words: str) -> None:
    objective = "below 5" if miss is not None else ""
    told = Matched("protect", "web", ("web",), ("web (pid 1)",), 1, objective, lost=lost, miss=miss)  # type: ignore[arg-type]
    assert plain(intent_lines((told,)))[0].partition("web  ")[2] == words


def test_a_terminal_is_not_obeyed() -> None:
    told = Matched("protect", "web", ("web",), ("we\x1b[2Jb (pid 1)",), 1)
    assert "\x1b[2J" not in intent_lines((told,))[0]


def test_only_linux_and_only_an_intent_is_looked_at(tmp_path: Path, crowd: Crowd) -> None:
    assert matched_now(CONFIG, FakeHost(tmp_path, system="darwin")) == ()
    assert matched_now(Config(), crowd.host) == ()
    assert checked_lines(checked_of(("a.yaml",), ())) == ["a.yaml: right"]


@pytest.mark.parametrize(
    ("config", "result", "detail"),
    [
        (CONFIG, "ok", "1 protected, 1 may be slowed now"),
        (Config(best_effort=("make",)), "warn", "best_effort is set and nothing is protected, so nothing is slowed"),
        (Config(protect=("nginx", "web"), best_effort=("make",)), "warn", "nothing matches nginx now"),
        (Config(protect=("cc1",), best_effort=("cgroup:/user.slice",)), "warn", "left alone: /user.slice: cc1 (pid 31) is in it"),
    ],
)
def test_the_doctor_looks_at_an_intent(crowd: Crowd, config: Config, result: str, detail: str) -> None:
    crowd.group("/user.slice")
    crowd.born(31, "cc1", group="/user.slice")
    (check,) = intent_checks(config, crowd.host)
    assert (check.result, check.detail[: len(detail)]) == (result, detail)
    assert bool(check.fix) is (result == "warn")


def test_the_doctor_says_nothing_of_what_nobody_asked_for_and_what_can_not_be_here(tmp_path: Path, crowd: Crowd) -> None:
    assert intent_checks(Config(), crowd.host) == []
    (check,) = intent_checks(CONFIG, FakeHost(tmp_path, system="windows"))
    assert (check.result, "only Linux" in check.detail) == ("warn", True)


def test_a_script_is_told_by_its_own_name_and_who_is_left_alone_with_the_reason(crowd: Crowd) -> None:
    """A pattern that PID 1 or protected work fits too: it says so, instead of that nothing fits."""
    for pid in range(40, 46):
        crowd.born(pid, "python3", f"/usr/bin/python3 job-{pid}.py")
    crowd.born(1, "systemd", parent=0)
    crowd.born(50, "bash", "bash nightly.sh")
    shop = Protect(("process:job-4[1-5].py",), "shop")
    told = plain(
        intent_lines(matched_now(Config(protect=(shop,), best_effort=("process:job-*", "nightly.sh", "*ystem*")), crowd.host))
    )
    assert told == [
        "protect        shop                job-41.py (pid 41), job-42.py (pid 42), job-43.py (pid 43), job-44.py (pid 44)"
        " and 1 more",
        "may be slowed  process:job-*       job-40.py (pid 40)",
        "                                   left alone: job-41.py (pid 41), job-42.py (pid 42), job-43.py (pid 43),"
        " job-44.py (pid 44) and 1 more: protected",
        "may be slowed  process:nightly.sh  nightly.sh (pid 50)",
        "may be slowed  process:*ystem*     nothing that may be slowed matches now",
        "                                   left alone: systemd (pid 1): the init system",
    ]
