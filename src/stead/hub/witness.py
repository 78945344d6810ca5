"""This host as a C2SP `tlog-witness` for other hosts' logs: HTTP in, one message to the agent, HTTP out.

No token: by the standard the checkpoint's own signature, of a log that this host knows, is the authorisation. So the route
has a permission of its own and limits of its own, and what is no request at all never reaches the agent. The key and the
state stay with the agent; the hub only carries bytes.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Operation

from stead.hub.routes import Agent, problems
from stead.model import witness_messages as w

MAX_BODY_BYTES: Final = 65_536  # 63 hashes and a checkpoint with a hundred signatures fit
BURST: Final = 50.0
PER_S: Final = 10.0
BURST_OF_ALL: Final = 200.0
PER_S_OF_ALL: Final = 40.0
REMEMBERED: Final = 1024  # addresses
SIZE: Final = "text/x.tlog.size"
MEANINGS: Final = {
    200: "Cosignature lines of this witness",
    400: "Not a request of the standard, or the old size is larger than the checkpoint's",
    403: "No signature by a key that this witness knows for the log",
    404: "The log is not one of those that this witness cosigns",
    409: "The old size is not that of the checkpoint cosigned last, which the body says; or the same size with another root",
    413: "The body is larger than 64 KiB",
    422: "The consistency proof does not lead from the checkpoint cosigned last to this one",
    429: "More requests than this witness takes; Retry-After says when to come again",
}


class Bucket:
    """Lets `burst` requests through at once and `per_s` a second in the long run."""

    def __init__(self, burst: float, per_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_s, self._clock_s = burst, per_s, clock_s
        self._left, self._at_s = burst, clock_s()

    def wait_s(self) -> float:
        """Take one: 0 when there was one, else the seconds until there is."""
        now_s = self._clock_s()
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._per_s


class Turnstile:
    """A bucket for each client's address, and a larger one for all of them: one client can't use up what others need.

    Of the addresses those that asked last are remembered, so that a stranger with many of them costs a bounded table. A
    stranger has a whole /64 of IPv6 addresses: it counts as one. Behind a proxy on this machine an address is what the proxy
    says (`X-Forwarded-For`, taken over by uvicorn); behind one that does not say, all clients are one.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._all = Bucket(BURST_OF_ALL, PER_S_OF_ALL, clock_s)
        self._each: OrderedDict[str, Bucket] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """Let one request through: 0, else the seconds until there is room for it."""
        name = _network(client)
        bucket = self._each.pop(name, None) or Bucket(BURST, PER_S, self._clock_s)
        self._each[name] = bucket
        if len(self._each) > REMEMBERED:
            self._each.popitem(last=False)
        return bucket.wait_s() or self._all.wait_s()


def _network(client: str) -> str:
    """The address; of IPv6 its /64. What is no address (a proxy's word) as it is, up to a length."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client[:64]
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


Limits = NamedDependency[Turnstile]


class TextRequest(Operation):
    """The body is text in the standard's own form, which no struct describes: so the description says it here."""

    def to_schema(self) -> dict[str, Any]:
        """The operation with its body."""
        words = "A line `old <size>`, the consistency proof's hashes, an empty line, the checkpoint as a signed note"
        text = {"type": "string", "pattern": "^old [0-9]+\\n", "description": words}
        return {**super().to_schema(), "requestBody": {"required": True, "content": {"text/plain": {"schema": text}}}}


def _described(status: int) -> ResponseSpec:
    media: Any = SIZE if status == 409 else "text/plain"
    return ResponseSpec(str, generate_examples=False, description=MEANINGS[status], media_type=media)


@post(
    "/witness/add-checkpoint",
    opt={"permission": "witness"},
    security=[],
    status_code=200,
    media_type="text/plain",
    operation_class=TextRequest,
    request_max_body_size=MAX_BODY_BYTES,
    response_description=MEANINGS[200],
    responses={**problems(500, 503), **{status: _described(status) for status in MEANINGS if status != 200}},
)
async def add_checkpoint(
    request: Request[Any, Any, Any], gateway: Agent, turnstile: NamedDependency[Turnstile]
) -> Response[bytes]:
    """Cosign a log's checkpoint, as a C2SP tlog-witness with the submission prefix `/witness`. Its signature authorises it."""
    wait_s = turnstile.wait_s(request.client.host if request.client else "")
    if wait_s:
        return _text(429, b"too many requests\n", {"Retry-After": str(int(wait_s) + 1)})
    body = await request.body()
    if not body.startswith(b"old "):
        return _text(400, b"not an add-checkpoint request: it begins with a line `old <size>`\n")
    reply = await gateway.ask(w.AddCheckpoint(body), w.WitnessReply)
    return Response(reply.body, status_code=reply.status, headers={"Content-Type": reply.content_type})  # exact: clients compare


def _text(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response[bytes]:
    return Response(body, status_code=status, media_type="text/plain", headers=headers or {})


ROUTES = [add_checkpoint]
