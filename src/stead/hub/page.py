"""The plain page at `/`: three hand-written files, read once at start, with a policy that lets nothing else run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from litestar import Request, Response, get

FILES: Final = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
FOLDER: Final = Path(__file__).parent / "page"
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def serve(path: str, name: str, media_type: str) -> Any:
    """The route of one file."""
    body = (FOLDER / name).read_bytes()
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'

    @get(path, opt={"permission": "open"}, include_in_schema=False, media_type=media_type, name=f"page {name}")
    async def file(request: Request[Any, Any, Any]) -> Response[bytes]:
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        if etag in request.headers.get("if-none-match", ""):
            return Response(b"", status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=media_type)

    return file


def routes() -> list[Any]:
    """The page's routes, files read."""
    return [serve(path, name, media_type) for path, (name, media_type) in FILES.items()]
