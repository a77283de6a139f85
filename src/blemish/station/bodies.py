"""Reading the bodies of requests, within limits."""

from __future__ import annotations

import tempfile
from typing import IO, Any

from fastapi import HTTPException, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_JSON, LARGEST_TENSOR = 1 << 20, 128 << 20
"""Bytes of a JSON body, and of one that may hold an image."""
IN_MEMORY = 16 << 20
ARRIVED = "blemish.arrived"
"""The name in a request's scope of when it arrived, in monotonic seconds."""
IMAGE_KINDS = ("image/png", "image/jpeg", "image/tiff", "image/bmp", "image/webp", "application/octet-stream")
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def _form(field: str) -> dict[str, Any]:
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    return {"schema": {"type": "object", "properties": {field: files}, "required": [field]}}


UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": dict.fromkeys((*IMAGE_KINDS, "application/zip"), _BINARY) | {"multipart/form-data": _form("images")},
    }
}
"""What OpenAPI says of a body that is one image, an archive, or a form with several."""
IMAGE_BODY = {
    "requestBody": {
        "required": True,
        "content": dict.fromkeys(IMAGE_KINDS, _BINARY) | {"multipart/form-data": _form("image")},
    }
}
MANY_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": _form("images")}}}
FILE_BODY = {"requestBody": {"required": True, "content": {"application/zip": _BINARY}}}


def content_kind(request: Request) -> str:
    """The media type of the body, in lower case."""
    return request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()


async def read_body(request: Request, largest: int) -> bytes:
    """The body; raises HTTPException 413 where it is larger, before all of it is read, and 422 where it is empty."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        _check_size(size, largest)
        parts.append(part)
    if not size:
        raise HTTPException(422, "The body is empty; an image file is needed.")
    return b"".join(parts)


async def spooled_body(request: Request, largest: int) -> IO[bytes]:
    """The body as a temporary file; raises HTTPException 413 where it is larger."""
    file, size = tempfile.SpooledTemporaryFile(IN_MEMORY), 0  # noqa: SIM115 - the caller closes it
    try:
        async for part in request.stream():
            size += len(part)
            _check_size(size, largest)
            file.write(part)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _check_size(size: int, largest: int) -> None:
    if size > largest:
        raise HTTPException(413, f"At most {largest >> 20} MB are taken.")


class Limited:
    """Refuses a body of JSON or of a form that is larger than what any request needs, as it arrives."""

    def __init__(self, app: ASGIApp, largest: int):
        self._app, self._largest = app, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        of_json = LARGEST_TENSOR if scope["path"].startswith("/v2/") else LARGEST_JSON
        largest, size = of_json if b"json" in kind else self._largest, 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            _check_size(size, largest)
            return message

        await self._app(scope, limited, send)
