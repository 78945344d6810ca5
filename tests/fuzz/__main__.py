"""Run one target under atheris: `python -m tests.fuzz note [libFuzzer's arguments]`. Without atheris, say what is missing."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

from stead.tlog.strict import Malformed
from tests.fuzz.targets import TARGETS, Target


def main(arguments: list[str]) -> int:
    """Fuzz until a target fails or libFuzzer's arguments say stop. 2: no such target, or no atheris."""
    if not arguments or arguments[0] not in TARGETS:
        print(f"usage: python -m tests.fuzz {{{','.join(TARGETS)}}} [arguments of libFuzzer]", file=sys.stderr)
        return 2
    try:
        atheris = importlib.import_module("atheris")
    except ModuleNotFoundError:
        print("atheris is not installed; `pytest tests/fuzz` runs the same targets without it", file=sys.stderr)
        return 2
    target = TARGETS[arguments[0]]
    with tempfile.TemporaryDirectory(prefix="stead-fuzz-") as corpus:
        for number, seed in enumerate(target.seeds):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.instrument_all()
        atheris.Setup([sys.argv[0], corpus, *arguments[1:]], lambda data: feed(target, data))
        atheris.Fuzz()
    return 0


def feed(target: Target, data: bytes) -> bool:
    """Call a target; whether it accepted the bytes. Whatever it raises beside the declared error is a finding."""
    try:
        target.run(data)
    except Malformed:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
