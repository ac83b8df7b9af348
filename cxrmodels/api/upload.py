"""The body of a request -> a film. It stays in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from cxrmodels.api.problems import ProblemError
from cxrmodels.radiograph import MAX_BYTES, Radiograph, RadiographError, read_radiograph

PART = "file"
"""Name of the part that holds the film in a multipart body."""

_AROUND = 64 * 1024  # what a multipart body has beside the file


class _InMemory(MultiPartParser):
    """Starlette's parser puts what is larger than a megabyte on the disk; films are not to get there."""

    spool_max_size = MAX_BYTES + _AROUND


async def read_film(request: Request) -> Radiograph:
    """The film that a request brings, as the whole body or as the part `file` of a multipart one.

    Raises:
        ProblemError: it is too large, incomplete, or no radiograph.
    """
    if request.headers.get("Content-Type", "").lower().startswith("multipart/form-data"):
        data, name = await _from_parts(request)
    else:
        data, name = b"".join([chunk async for chunk in _limited(request)]), ""
    try:
        return await run_in_threadpool(read_radiograph, data, name)
    except RadiographError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None


async def _from_parts(request: Request) -> tuple[bytes, str]:
    try:
        parser = _InMemory(request.headers, _limited(request), max_files=1, max_fields=16, max_part_size=4096)
        form = await parser.parse()
    except MultiPartException as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"The multipart body cannot be read: {error.message}") from None
    try:
        part = form.get(PART)
        if not isinstance(part, UploadFile):
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"The multipart body has no file named {PART!r}; send the film as one, with a file name.",
            )
        return await part.read(), part.filename or ""
    finally:
        await form.close()


async def _limited(request: Request) -> AsyncGenerator[bytes, None]:
    """The body piece by piece, up to the largest that is taken."""
    declared = request.headers.get("Content-Length", "")
    if declared.isdecimal() and int(declared) > MAX_BYTES + _AROUND:
        raise _too_large()
    received = 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received > MAX_BYTES + _AROUND:
                raise _too_large()
            yield chunk
    except ClientDisconnect:
        raise ProblemError(HTTPStatus.BAD_REQUEST, "The body ended before it was complete. Send it again.") from None


def _too_large() -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body has more than {MAX_BYTES // 2**20} MB; expected at most that. Export the film smaller.",
        {"Connection": "close"},
    )
