"""What is the server made of? The endpoints under /api, the pages everywhere else, and one door before both.

`create_app` makes the application; nothing is opened before it is started, and everything is closed when it
ends. Nothing in this process imports torch: models live in the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

import cutaway
from cutaway.core.errors import CutawayError
from cutaway.store.index import Store
from cutaway.web.answers import Refusal, refusal
from cutaway.web.pages import Pages
from cutaway.web.routes import catalogue, jobs, models, results, studies
from cutaway.web.safety import Door
from cutaway.web.settings import Settings, refuse_bad_token, refuse_open_door
from cutaway.web.workbench import Workbench

_LOG = logging.getLogger(__name__)
_SETTLED = 1.0  # seconds after the start, when the first page is out


def create_app(settings: Settings | None = None, store: Store | None = None) -> FastAPI:
    """The application.

    Args:
        settings: how it is set up.
        store: an opened store, which is closed with it; by default the one that the settings name.

    Raises:
        CutawayError: it would be reached by others without a token.
    """
    chosen = settings or Settings()
    refuse_bad_token(chosen.token)
    refuse_open_door(chosen)
    app = FastAPI(
        title="Cutaway",
        version=cutaway.__version__,
        description="Methods, results and models of the workbench.",
        docs_url=None,  # its pages would load scripts from elsewhere
        redoc_url=None,
        lifespan=_running(chosen, store),
        separate_input_output_schemas=False,
    )
    app.state.leaving = lambda: False
    for group in (catalogue, models, jobs, results, studies):
        app.include_router(group.router, prefix="/api")
    app.add_exception_handler(CutawayError, _sentence)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain_refusal)
    register_url_convertor("page", _PageConvertor())
    app.add_route("/{path:page}", Pages(chosen.static).answer, include_in_schema=False)
    app.add_middleware(_Inside)
    app.add_middleware(Door, settings=chosen)
    return app


def _running(
    settings: Settings, store: Store | None
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        kept = store if store is not None else await asyncio.to_thread(Store.open, settings.store)
        bench = app.state.bench = Workbench(settings, kept)
        tasks = [asyncio.create_task(_open(bench, name)) for name in settings.models]
        tasks.append(asyncio.create_task(_warm_up(bench)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.to_thread(bench.close)
            kept.close()

    return running


async def _open(bench: Workbench, name: str) -> None:
    """Open a model that the server was started with; who asks for it before waits for the same opening."""
    try:
        await bench.ask({"do": "open", "model": name})
    except CutawayError as error:
        _LOG.warning("%s could not be opened: %s", name, error)


async def _warm_up(bench: Workbench) -> None:
    """Import what reading results needs, once the first page is out."""
    await asyncio.sleep(_SETTLED)
    for module in ("xarray", "h5netcdf", "cutaway.core.result"):
        await bench.in_thread(importlib.import_module, module)


async def _sentence(request: Request, error: Exception) -> Response:
    assert isinstance(error, CutawayError)
    return refusal(error)


async def _invalid(request: Request, error: Exception) -> Response:
    """What is wrong with a request, from the first thing that is."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    value = first.get("input")
    shown = "missing" if first["type"] == "missing" else repr(value)[:80]
    said = first["msg"].removeprefix("Input should be ").rstrip(".")
    return refusal(Refusal(422, f"{place[:200]} is {shown};", f"it should be: {said}."))


async def _plain_refusal(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: an unknown path, a wrong verb, a body that is no JSON."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path[:80]}: {str(error.detail)[:200]}."
    response = refusal(Refusal(error.status_code, what, "", "The interface is described in /openapi.json."))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


class _PageConvertor(Convertor[str]):
    """Every path but those of the API, which answers for itself."""

    regex = r"(?!api(?:/|$)).*"

    def convert(self, value: str) -> str:
        """The path as it is."""
        return value

    def to_string(self, value: str) -> str:
        """The path as it is."""
        return value


class _Inside:
    """Turns what nobody expected into a sentence; the traceback goes to the log, not to the visitor."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        """Pass the request on."""
        started = False

        async def sending(message) -> None:  # type: ignore[no-untyped-def]
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except CutawayError as error:
            if not started:
                await refusal(error)(scope, receive, send)
        except Exception:
            _LOG.exception("while answering %s %s", scope.get("method"), scope.get("path"))
            if scope["type"] != "http" or started:
                raise
            fault = Refusal(500, "the server failed unexpectedly.", "This is a fault of the program.", "See its log.")
            await refusal(fault)(scope, receive, send)
