"""What is there? The server itself, methods, tasks, kinds of picture, references, models. None of it needs torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

import cutaway
from cutaway.web import catalogue
from cutaway.web.answers import answer, encoded
from cutaway.web.records import Health, MethodEntry, ModelEntry, Reference, TaskEntry, ViewKind
from cutaway.web.routes.shared import FAILURES, bench_of
from cutaway.web.workbench import Workbench

router = APIRouter(tags=["catalogue"], responses=FAILURES)


@router.get("/health", response_model=Health)
async def health(request: Request) -> Response:
    """The server is there."""
    settings = bench_of(request).settings
    return answer({"name": "cutaway", "version": cutaway.__version__, "loopback": settings.loopback})


@router.get("/methods", response_model=list[MethodEntry])
async def methods(request: Request) -> Response:
    """All methods, with the JSON Schema of their parameters."""
    return await _listed(bench_of(request), "method", catalogue.method_records)


@router.get("/tasks", response_model=list[TaskEntry])
async def tasks(request: Request) -> Response:
    """All tasks, with the JSON Schema of their parameters."""
    return await _listed(bench_of(request), "task", catalogue.task_records)


@router.get("/views", response_model=list[ViewKind])
async def views(request: Request) -> Response:
    """The kinds of picture."""
    return answer(await bench_of(request).in_thread(catalogue.view_records))


@router.get("/references", response_model=dict[str, Reference])
async def references(request: Request) -> Response:
    """What methods and tasks cite."""
    return answer(await bench_of(request).in_thread(catalogue.references))


@router.get("/models", response_model=list[ModelEntry])
async def models(request: Request) -> Response:
    """The models that open here, and those that could be installed."""
    bench = bench_of(request)
    return answer(await bench.in_thread(catalogue.model_records, bench.opened, bench.settings.models))


async def _listed(bench: Workbench, kind: str, records: Callable[..., list[dict[str, Any]]]) -> Response:
    async def make() -> bytes:
        found, schemas = await bench.schemas()
        return encoded(await bench.in_thread(records, found[kind], schemas[kind]))

    return Response(await bench.listed.get(kind, make), media_type="application/json")
