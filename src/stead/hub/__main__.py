"""`python -m stead.hub`: the hub as a process of its own."""

from __future__ import annotations

import argparse
import sys

from stead.hub.app import main
from stead.model.errors import SteadError


def run(argv: list[str] | None = None) -> int:
    """Parse the arguments and run. Exit codes: 0 stopped as told, 1 could not start (a port in use), 2 wrong use or settings."""
    parser = argparse.ArgumentParser(prog="stead hub", description="Serve this host's stead over HTTP on loopback.")
    parser.add_argument("--state", metavar="DIR", help="state directory (default: STEAD_STATE_DIR, else the system's)")
    parser.add_argument("--config", metavar="FILE", help="configuration file (default: STEAD_CONFIG, else the system's)")
    parser.add_argument("--port", type=int, metavar="N", help="port for people (default: hub.port, 8000)")
    given = parser.parse_args(argv)
    try:
        return main(state=given.state, config=given.config, port=given.port)
    except SteadError as error:
        print(f"stead hub: {error.problem}", file=sys.stderr)
        return error.problem.exit_code


if __name__ == "__main__":
    sys.exit(run())
