"""`python -m stead.hub`: the hub as a process of its own."""

from __future__ import annotations

import argparse
import sys

from stead.model.errors import SteadError


def run(argv: list[str] | None = None) -> int:
    """Parse the arguments and run. Exit codes: 0 stopped as told, 1 could not start (a port in use), 2 wrong use or settings."""
    parser = argparse.ArgumentParser(prog="stead hub", description="Serve this host's stead over HTTP on loopback.")
    parser.add_argument("--state", metavar="DIR", help="state directory (default: STEAD_STATE_DIR, else the system's)")
    parser.add_argument("--config", metavar="FILE", help="configuration file (default: STEAD_CONFIG, else the system's)")
    parser.add_argument("--port", type=int, metavar="N", help="port for people (default: hub.port, 8000)")
    given = parser.parse_args(argv)
    try:
        try:
            from stead.hub.app import main
        except ModuleNotFoundError as error:
            raise _missing(error) from None
        return main(state=given.state, config=given.config, port=given.port)
    except SteadError as error:
        print(f"stead hub: {error.problem}", file=sys.stderr)
        return error.problem.exit_code


def _missing(error: ModuleNotFoundError) -> SteadError:
    """The agent needs none of the hub's libraries, so they may not be there. What is stead's own is a defect, raised as it is."""
    library = (error.name or "").partition(".")[0]
    if library in ("", "stead"):
        raise error
    fix = "install requirements/hub.txt (or the extra stead[hub]) into this environment; the agent and the other verbs need none"
    return SteadError(f"the hub's libraries are not installed: {library} is missing", "", fix, code="hub.libraries")


if __name__ == "__main__":
    sys.exit(run())
