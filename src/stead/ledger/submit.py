"""A short-lived process that hands checkpoints to witnesses over HTTP: the agent holds neither TLS nor an HTTP library.

One JSON object comes by stdin, one JSON list goes to stdout, in the order of the requests:

    {"timeout_s": 10, "requests": [{"url": "https://witness.example/add-checkpoint", "body": "old 0\\n\\n…"}]}
    [{"status": 200, "content_type": "text/plain", "body": "<base64>", "error": ""}]

`status` 0 with an `error` in words: there was no answer. All witnesses are asked at once, and one that hangs costs the others
nothing: after `timeout_s` it is reported as silent. Only the standard library, and none of stead's own modules, so that it
starts in a few milliseconds (`python -I -S submit.py`). Redirects and
proxies are not followed: a witness is where the policy says.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

ANSWER_MAX_BYTES: Final = 65_536
WORDS_MAX: Final = 1000  # of an error, which may be a stranger's status line
AGENT: Final = "stead-witness-client"


def main() -> None:
    """Read the requests, ask, print what came back, and end without waiting for who is silent."""
    given: dict[str, Any] = json.load(sys.stdin)
    answers = ask(given["requests"], float(given["timeout_s"]))
    print(json.dumps(answers), flush=True)
    os._exit(0)


def ask(requests: list[dict[str, str]], timeout_s: float) -> list[dict[str, Any]]:
    """All requests at the same time, each on a thread of its own; who has not answered after `timeout_s` is silent."""
    if not any(one["url"].startswith("https:") for one in requests):
        sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # http.client takes it along, and it is most of the cost
    silent = f"no answer within {timeout_s:g} s"
    answers = [_nothing(silent) for _ in requests]

    def one(index: int) -> None:
        answers[index] = post(requests[index]["url"], requests[index]["body"].encode(), timeout_s)

    threads = [threading.Thread(target=one, args=(index,), daemon=True) for index in range(len(requests))]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return list(answers)


def post(url: str, body: bytes, timeout_s: float) -> dict[str, Any]:
    """One POST. What goes wrong is words, never an exception."""
    import http.client

    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return _nothing(f"{url} is not an http or https address")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        try:
            headers = {"Content-Type": "text/plain; charset=utf-8", "User-Agent": AGENT, "Connection": "close"}
            connection.request("POST", _target(parts), body, headers)
            answer = connection.getresponse()
            data = answer.read(ANSWER_MAX_BYTES + 1)
        finally:
            connection.close()
    except TimeoutError:
        return _nothing(f"no answer within {timeout_s:g} s")
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)  # "Connection refused" without its number
        return _nothing(str(why)[:WORDS_MAX] or type(error).__name__)
    if len(data) > ANSWER_MAX_BYTES:
        return _nothing(f"an answer of more than {ANSWER_MAX_BYTES} bytes")
    kind_of = answer.getheader("Content-Type") or ""
    return {"status": answer.status, "content_type": kind_of, "body": base64.b64encode(data).decode(), "error": ""}


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _nothing(why: str) -> dict[str, Any]:
    return {"status": 0, "content_type": "", "body": "", "error": why}


if __name__ == "__main__":
    main()
