"""A real process is killed right before each call that changes something: what is left is told for what it is, and put back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from stead.files.cleaner import Look
from stead.model.change import Target
from tests.files.kit import Place, everything

PROGRAM = str(Path(__file__).with_name("killed.py"))
ROOT = Path(__file__).parents[2]
PATH = "/var/log/app.log.1"
CALLS_MAX = 60


def killed(place: Place, target: Target, want: str, call: int) -> bool:
    """Was it killed? Else it was done before that many calls."""
    argv = [sys.executable, PROGRAM, str(place.root), msgspec.json.encode(target).decode(), want, str(call)]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def look(place: Place, target: Target) -> Look:
    found = place.cleaner.look(target)
    assert found is not None, "it is nowhere"
    return found


def strays(place: Place) -> set[str]:
    """What is in quarantine beside what tells where files came from."""
    return {name for name in place.names() if not name.endswith(".json")}


@pytest.mark.long
@pytest.mark.parametrize(
    ("first", "want"), [("here", "quarantine"), ("here", "compressed"), ("quarantine", "here"), ("compressed", "here")]
)
def test_killed_before_each_call(tmp_path: Path, first: str, want: str) -> None:
    """Some 60 real kills, at half a second each."""
    for call in range(1, CALLS_MAX):
        (tmp_path / str(call)).mkdir()
        place = Place(tmp_path / str(call))
        place.file(PATH)
        os.setxattr(place.real(PATH), "user.note", b"kept")
        before = everything(place.real(PATH))
        target = place.target(PATH, inode="compressed" not in (first, want))
        if first != "here":
            place.move(target, first)
        alive = not killed(place, target, want, call)
        if alive:
            assert call > 4 and look(place, target).place == want
        else:
            seen = look(place, target)
            pairs = {(first, first == "compressed"), (want, want == "compressed"), ("here", True)}
            assert (seen.place, seen.compressed_copy) in pairs, (call, seen)
        place.move(target, "here")
        assert everything(place.real(PATH)) == before, call
        assert os.listdir(place.real("/var/log")) == [b"app.log.1"] and strays(place) == set(), call
        if alive:
            return
    raise AssertionError("it never came to an end")


@pytest.mark.long
def test_a_purge_that_was_killed_is_done_or_not(tmp_path: Path) -> None:
    """A dozen real kills."""
    for call in range(1, CALLS_MAX):
        (tmp_path / str(call)).mkdir()
        place = Place(tmp_path / str(call))
        target = place.target(place.file(PATH))
        place.move(target, "quarantine")
        alive = not killed(place, target, "gone", call)
        found = place.cleaner.look(target)
        assert found is None or (found.place == "quarantine" and not alive)
        if found is not None:
            place.move(target, None)
        assert place.cleaner.look(target) is None and strays(place) == set()
        if alive:
            return
    raise AssertionError("it never came to an end")
