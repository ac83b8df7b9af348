"""What goes wrong, told the way RFC 9457 has it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import JSONResponse

from cxrmodels import NOTICE

MEDIA_TYPE = "application/problem+json"


class ProblemError(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        detail: what came, what was expected, what to do.
        headers: more headers of the answer.
    """

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})

    def response(self) -> JSONResponse:
        content = {
            "type": "about:blank",  # RFC 9457, 4.2.1: the status says what kind of problem it is.
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "notice": NOTICE,
        }
        return JSONResponse(content, self.status, self.headers, MEDIA_TYPE)


def busy(detail: str, retry_after: int) -> ProblemError:
    """More is asked than the program can do at the moment."""
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": str(retry_after)})
