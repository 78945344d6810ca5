"""How a route is declared: with its permission, its security and the problems it can answer, for the gate and for OpenAPI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from litestar import Request, Response, get, post
from litestar.datastructures import ResponseHeader
from litestar.datastructures.state import State
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec

from stead.hub.gateway import Gateway, Name
from stead.hub.problems import MEDIA_TYPE, ProblemDetails

SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"cookie": []}]
MEANINGS: Final = {
    400: "The request is wrong; `errors` names each key",
    401: "No valid token",
    403: "Wrong Host or Origin, or this person may not",
    404: "No such thing",
    409: "Not possible in this state, or the Idempotency-Key was used for another request",
    412: "The plan is not the one that was seen",
    413: "The body is larger than 1 MiB",
    428: "If-Match with the plan's hash is needed",
    500: "A defect",
    503: "The agent does not answer",
}
READ_PROBLEMS: Final = (400, 401, 403, 404, 409, 500, 503)
ORDER_PROBLEMS: Final = (400, 401, 403, 404, 409, 412, 413, 428, 500, 503)
HubRequest = Request[str | None, Any, State]
Agent = NamedDependency[Gateway]
Declared = Callable[[Callable[..., Any]], HTTPRouteHandler]


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """The OpenAPI entries of these problem statuses."""
    return {
        status: ResponseSpec(
            ProblemDetails, generate_examples=False, description=MEANINGS[status], media_type=cast(Any, MEDIA_TYPE)
        )
        for status in statuses
    }


def read(path: str | list[str], **more: Any) -> Declared:
    """A GET that needs the token."""
    return get(
        path,
        opt={"permission": "read"},
        security=SECURITY,
        responses=problems(*READ_PROBLEMS),
        response_headers=[ResponseHeader(name="ETag", description="Changes with the body", documentation_only=True)],
        **more,
    )


def order(path: str, **more: Any) -> Declared:
    """A POST that needs the token, and from a browser its Origin."""
    return post(
        path, opt={"permission": "order"}, security=SECURITY, status_code=200, responses=problems(*ORDER_PROBLEMS), **more
    )


async def kept(request: HubRequest, gateway: Gateway, name: Name) -> Response[Any]:
    """A kept answer as it is, or 304 when the client has it."""
    answer = await gateway.get(name)
    headers = {"ETag": answer.etag, "Cache-Control": "no-cache, private"}
    if answer.etag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers=headers)
    return Response(answer.body, headers=headers, media_type="application/json")
