"""`python -m stead.demo`: what `stead demo` becomes."""

from __future__ import annotations

import argparse
import sys

from stead.demo.script import run
from stead.model.errors import SteadError


def main(argv: list[str]) -> int:
    """Run the demo; one sentence on stderr if it can't be run at all."""
    parser = argparse.ArgumentParser("stead demo", description="Three real faults, healed live.")
    parser.add_argument("--state", help="keep state, record and logs in this directory")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    given = parser.parse_args(argv)
    try:
        return run(given.state, given.output)
    except SteadError as error:
        print(error, file=sys.stderr)
        return error.problem.exit_code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
