"""Every error as an RFC 9457 problem: one shape, whether the agent refused, the request was wrong or the hub failed."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from stead.model.errors import (
    EXIT_APPROVAL,
    EXIT_PAUSED,
    EXIT_TIMEOUT,
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    EXIT_WINDOW,
    Problem,
    SteadError,
)

MEDIA_TYPE: Final = "application/problem+json"
BY_EXIT: Final = {
    EXIT_USAGE: 400,
    EXIT_APPROVAL: 409,
    EXIT_WINDOW: 409,
    EXIT_PAUSED: 409,
    EXIT_UNREACHABLE: 503,
    EXIT_TIMEOUT: 503,
}
BY_CODE: Final = (  # a part of the code's last word → status
    (("unknown", "not-found", "missing", "absent", "ambiguous"), 404),
    (("refused", "forbidden", "permission", "own-process", "person"), 403),
    (("hash", "stale", "changed", "mismatch"), 412),
    (("precondition",), 428),
    (("defect", "failed", "unfit", "unwritable", "closed"), 500),
    (("key",), 503),  # hub.key: this hub is not this agent's
)
log = logging.getLogger("stead.hub")


class BadKey(msgspec.Struct, frozen=True):
    """One thing that is wrong with a request: where (query, body, path, header), which key, and why."""

    key: str
    source: str
    message: str


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457, with stead's three answers: what (`detail`), where, and what to do (`fix`)."""

    type: str
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    code: str = ""
    where: str = ""
    fix: str = ""
    errors: tuple[BadKey, ...] = ()


def status_of(problem: Problem) -> int:
    """The HTTP status that says the same: by code where the code is telling, else by exit code, else 409."""
    if problem.exit_code in (EXIT_UNREACHABLE, EXIT_TIMEOUT):
        return 503
    last = problem.code.rpartition(".")[2]
    for words, status in BY_CODE:
        if any(word in last for word in words):
            return status
    return BY_EXIT.get(problem.exit_code, 409)


def details(problem: Problem, instance: str) -> ProblemDetails:
    """A problem of ours in the form of RFC 9457."""
    status = status_of(problem)
    title = "agent unreachable" if status == 503 else problem.what
    kind = f"urn:stead:problem:{problem.code}"
    return ProblemDetails(kind, title, status, str(problem), instance, problem.code, problem.where, problem.fix)


def from_stead(request: Request[Any, Any, Any], error: SteadError) -> Response[ProblemDetails]:
    """What the agent, or a rule of the hub, refused."""
    return answer(details(error.problem, request.url.path))


def from_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[ProblemDetails]:
    """What is wrong with the request itself. A 400 names each key."""
    phrase = HTTPStatus(error.status_code).phrase
    code = f"http.{phrase.lower().replace(' ', '-')}"
    wrong = _bad_keys(error.extra) if isinstance(error, ValidationException) else ()
    named = "; ".join(f"{bad.key}: {bad.message}" for bad in wrong)
    body = ProblemDetails(
        f"urn:stead:problem:{code}", phrase, error.status_code, named or error.detail, request.url.path, code, errors=wrong
    )
    return answer(body, error.headers or {})


def from_defect(request: Request[Any, Any, Any], error: Exception) -> Response[ProblemDetails]:
    """A defect of the hub: the log gets the trace, the client only the fact."""
    log.error("defect at %s %s", request.method, request.url.path, exc_info=error)
    fix = "see the hub's log"
    body = ProblemDetails(
        "urn:stead:problem:hub.defect",
        "the hub failed to answer",
        500,
        type(error).__name__,
        request.url.path,
        "hub.defect",
        "",
        fix,
    )
    return answer(body)


def answer(body: ProblemDetails, headers: dict[str, str] | None = None) -> Response[ProblemDetails]:
    """The response that carries a problem."""
    return Response(body, status_code=body.status, media_type=MEDIA_TYPE, headers=headers or {})


def _bad_keys(extra: Any) -> tuple[BadKey, ...]:
    if not isinstance(extra, list):
        return ()
    return tuple(_bad_key(item) for item in extra if isinstance(item, dict) and "message" in item)


def _bad_key(item: dict[str, Any]) -> BadKey:
    """Litestar's words for what is wrong. A body that is missing is only the name of the argument to it."""
    if str(item["message"]) == "'data'":
        return BadKey("body", "body", "it is missing: send a JSON object, {} at least")
    source = item.get("source", "")
    return BadKey(str(item.get("key") or "body"), str(getattr(source, "value", source)), str(item["message"]))
