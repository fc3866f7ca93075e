"""The page at /: static files, served from memory."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.types import Receive, Scope, Send

from gateway.http.errors import Headers
from gateway.http.sse import send_reply
from services.core.errors import NotFound

PAGE_DIR = Path(__file__).parent.parent / "page"

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".mjs": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
# Nothing from elsewhere, nothing inline: what a model says can load and run nothing.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    b" connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    packed: bytes
    content_type: bytes
    etag: bytes


class Page:
    """ASGI endpoint of / and /ui/{path}: reads its files once, when constructed."""

    def __init__(self, directory: Path = PAGE_DIR) -> None:
        self._files: Mapping[str, _File] = {
            path.relative_to(directory).as_posix(): _read(path)
            for path in sorted(directory.rglob("*"))
            if path.suffix in _TYPES
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        name = scope["path_params"].get("path", "index.html")
        file = self._files.get(name)
        if file is None:
            raise NotFound(f"there is no page {name}", reason="PAGE_NOT_FOUND")
        given = dict(scope["headers"])
        headers: Headers = [
            (b"etag", file.etag),
            (b"cache-control", b"no-cache"),
            (b"content-security-policy", _POLICY),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"vary", b"accept-encoding"),
        ]
        if given.get(b"if-none-match") == file.etag:
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        body = file.content
        if b"gzip" in given.get(b"accept-encoding", b""):
            body = file.packed
            headers.append((b"content-encoding", b"gzip"))
        await send_reply(send, 200, body, headers=headers, content_type=file.content_type)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return _File(
        content, gzip.compress(content, mtime=0), _TYPES[path.suffix], f'"{digest}"'.encode()
    )
