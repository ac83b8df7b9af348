"""The addresses of the API, for a server of its own and for that of the pages."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from cxrmodels import NOTICE, __version__
from cxrmodels.api.access import Access, Guard, client
from cxrmodels.api.answers import Answers, Question, listing
from cxrmodels.api.document import document
from cxrmodels.api.numbers import MEDIA_TYPE, Numbers
from cxrmodels.api.problems import ProblemError, busy
from cxrmodels.api.upload import read_film
from cxrmodels.models import available
from cxrmodels.service import Service

_log = logging.getLogger(__name__)
_Endpoint = Callable[[Request], Awaitable[Response]]

MOST_AT_ONCE = 16
"""Films whose requests are at work at once: each may have its bytes and its pixels in memory."""


class _Api:
    def __init__(self, service: Callable[[], Service], access: Access, prefix: str) -> None:
        self._service, self._guard, self._prefix = service, Guard(access), prefix
        self._numbers, self._answers = Numbers(), Answers()
        self._at_work = 0

    def route(self, path: str, endpoint: _Endpoint, method: str, *, guarded: bool = True) -> Route:
        """An address: what it does is counted and timed, and what goes wrong is told as a problem."""

        async def run(request: Request) -> Response:
            with self._numbers.timed(path) as status:
                try:
                    if guarded:
                        self._guard.check(request)
                    response = await endpoint(request)
                except ProblemError as problem:
                    response = problem.response()
                except Exception:
                    _log.exception("%s %s failed", method, path)
                    response = ProblemError(
                        HTTPStatus.INTERNAL_SERVER_ERROR,
                        "The program failed, through no fault of yours; its log has the details.",
                    ).response()
                status[0] = response.status_code
            return response

        return Route(path, run, methods=[method])

    async def predict(self, request: Request) -> Response:
        question = await run_in_threadpool(Question.of, request.query_params)
        if self._at_work >= MOST_AT_ONCE:
            raise busy(f"The program is busy: {MOST_AT_ONCE} films are being answered. Try again in a second.", 1)
        self._at_work += 1
        try:
            radiograph = await read_film(request)
            service = await run_in_threadpool(self._service)
            answer = await self._answers.answer(service, radiograph, question, client(request))
        finally:
            self._at_work -= 1
        return JSONResponse(answer)

    async def models(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(lambda: listing(self._service())))

    async def openapi(self, request: Request) -> Response:
        server = f"{request.url.scheme}://{request.url.netloc}{self._prefix}"
        return JSONResponse(await run_in_threadpool(document, server, available()))

    async def health(self, request: Request) -> Response:
        keys = await run_in_threadpool(available)
        state = {"status": "ok" if keys else "no models", "version": __version__, "models": len(keys), "notice": NOTICE}
        return JSONResponse(state, HTTPStatus.OK if keys else HTTPStatus.SERVICE_UNAVAILABLE)

    async def metrics(self, request: Request) -> Response:
        text = await run_in_threadpool(lambda: self._numbers.text(self._service()))
        # Not as `media_type`: Starlette would add a second charset.
        return Response(text, headers={"Content-Type": MEDIA_TYPE})


async def _not_found(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: an unknown address, or a method that this one has not."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    words = {
        HTTPStatus.NOT_FOUND: "There is nothing at this address; /api/v1/openapi.json lists what there is.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"This address has no {request.method}; /api/v1/openapi.json lists what it has.",
    }
    return ProblemError(status, words.get(status, error.detail), error.headers).response()


def routes(service: Callable[[], Service], access: Access, prefix: str = "") -> list[BaseRoute]:
    """The addresses of the API.

    Args:
        service: gives the service that answers; called when it is needed.
        access: who may ask.
        prefix: stands before every address, as "/lab"; empty for none.
    """
    api = _Api(service, access, prefix)
    inner = Starlette(
        routes=[
            api.route("/v1/predict", api.predict, "POST"),
            api.route("/v1/models", api.models, "GET"),
            api.route("/v1/openapi.json", api.openapi, "GET"),
        ],
        exception_handlers={HTTPException: _not_found},
    )
    return [
        Mount(f"{prefix}/api", app=inner),
        # Open to everybody: it tells nothing, and what looks after a server has to see it.
        api.route(f"{prefix}/healthz", api.health, "GET", guarded=False),
        api.route(f"{prefix}/metrics", api.metrics, "GET"),
    ]


@functools.cache
def _own_service() -> Service:
    """The service of a server without pages, its models being loaded."""
    service = Service()
    service.warm_up(available(), lambda: None)
    return service


def application(access: Access) -> Starlette:
    """The API alone, for any ASGI server."""
    return Starlette(routes=routes(_own_service, access), exception_handlers={HTTPException: _not_found})
