"""The errors that both clients raise when nobody answers: one wording, one code."""

from __future__ import annotations

from stead.model.errors import EXIT_TIMEOUT, EXIT_UNREACHABLE, SteadError


def unreachable(path: str, error: OSError | None = None) -> SteadError:
    """No agent behind this socket, or none that this user may speak to."""
    if isinstance(error, PermissionError):
        what, fix = f"you may not speak to the agent at {path}", "run as the agent's user or as root"
        return SteadError(what, "", fix, code="agent.no-permission", exit_code=EXIT_UNREACHABLE)
    if error is not None and "too long" in str(error):
        what, fix = f"the socket's path is too long for the system: {path}", "choose a shorter --state directory"
        return SteadError(what, "", fix, code="agent.path-too-long", exit_code=EXIT_UNREACHABLE)
    what, fix = f"no agent answers at {path}", "start it with `stead up` or `stead agent`"
    return SteadError(what, "", fix, code="agent.unreachable", exit_code=EXIT_UNREACHABLE)


def lost(path: str) -> SteadError:
    """The agent went away between question and answer: an order may or may not have been carried out."""
    what = f"the agent at {path} went away before it answered"
    fix = "what was asked may or may not have been done; look with `stead status` and `stead runs`"
    return SteadError(what, "", fix, code="agent.lost", exit_code=EXIT_UNREACHABLE)


def too_slow(path: str, timeout_s: float) -> SteadError:
    """No answer in time."""
    what = f"the agent at {path} did not answer within {timeout_s:g} s"
    fix = "what was asked may still be done; look with `stead status` and `stead runs`"
    return SteadError(what, "", fix, code="agent.timeout", exit_code=EXIT_TIMEOUT)
