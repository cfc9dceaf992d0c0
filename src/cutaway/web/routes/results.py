"""Kept results: list, look, change what is said about them, delete, and read their arrays part by part."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import FileResponse, Response

from cutaway.store.index import ResultSummary as Summary
from cutaway.web.answers import answer, encoded
from cutaway.web.arrays import Sent, describe, read_part, selection_of
from cutaway.web.exports import TYPES, Format, Theme, export
from cutaway.web.python_lines import python_lines
from cutaway.web.records import PythonLines, ResultChange, ResultPage, ResultRecord
from cutaway.web.routes.shared import BINARY, FAILURES, ResultId, WholeId, bench_of
from cutaway.web.workbench import Workbench

router = APIRouter(tags=["results"], responses=FAILURES)

Filter = Annotated[str, Query(max_length=500)]
_FOR_EVER = {"cache-control": "private, max-age=31536000, immutable"}
_TEXTS: dict[str, Any] = {"application/json": {"schema": {"type": "array", "items": {}}}}
PART: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Numbers in C order, little-endian; text as a flat list. The headers X-Dims, X-Shape and "
        "X-Dtype say what they are. Every dimension may be selected in the query: DIM=3, DIM=0:10, DIM=0:100:2.",
        "content": {**BINARY, **_TEXTS},
    }
}


_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file, as an attachment.",
        "content": {
            kind.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}} for kind in TYPES.values()
        },
    }
}


@router.get("/results", response_model=ResultPage)
async def results(
    request: Request,
    text: Filter = "",
    method: Filter = "",
    model: Filter = "",
    task: Filter = "",
    tag: Filter = "",
    order: Annotated[str, Query(max_length=40, description="Such as -created, title, method.")] = "-created",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Response:
    """A part of the list of results."""
    bench = bench_of(request)
    window = {"order": order, "limit": limit, "offset": offset}
    filters = {"text": text, "method": method, "model": model, "task": task, "tag": tag}

    def read() -> bytes:
        page = bench.store.results(**filters, **window)  # type: ignore[arg-type]
        return encoded({"items": [_summary(item) for item in page.items], "total": page.total})

    key = tuple({**filters, **window}.items())
    return Response(await bench.lists.get(key, lambda: bench.in_thread(read)), media_type="application/json")


@router.get("/results/{id}", response_model=ResultRecord)
async def result(request: Request, id: ResultId) -> Response:
    """All about a result but its numbers."""
    return Response(await _record(bench_of(request), id), media_type="application/json")


@router.patch("/results/{id}", response_model=ResultRecord)
async def change(request: Request, id: WholeId, said: ResultChange) -> Response:
    """Write a title, tags or a note; what is left out stays as it is."""
    bench = bench_of(request)
    fields = said.model_dump(exclude_none=True)
    await bench.in_thread(lambda: bench.store.update_result(id, **fields))
    bench.changed()
    return Response(await _record(bench, id), media_type="application/json")


@router.delete("/results/{id}", status_code=204, response_class=Response)
async def delete(request: Request, id: WholeId) -> Response:
    """Delete a result and its file."""
    bench = bench_of(request)
    await bench.in_thread(bench.store.delete_result, id)
    bench.changed()
    bench.parts.forget(lambda key: isinstance(key, tuple) and id.startswith(key[0]))
    return Response(status_code=204)


@router.get("/results/{id}/array/{name}", response_class=Response, responses=PART)
async def array(request: Request, id: ResultId, name: Annotated[str, Path(max_length=300)]) -> Response:
    """An array, or the part of it that the query selects."""
    bench = bench_of(request)
    if request.headers.get("if-none-match") == f'"{id}"':
        return Response(status_code=304)
    selected = selection_of(request.query_params.multi_items())
    key = (id, name, str(sorted(selected.items(), key=lambda item: item[0])))

    def read() -> Sent:
        return read_part(bench.store.path(id), name, selected, bench.settings.largest_answer)

    sent = await bench.parts.get(key, lambda: bench.in_thread(read))
    return Response(sent.body, media_type=sent.media_type, headers={**sent.headers, **_FOR_EVER, "etag": f'"{id}"'})


@router.get("/results/{id}/export", response_class=Response, responses=_FILE)
async def exported(
    request: Request,
    id: ResultId,
    format: Format,
    view: Annotated[int | None, Query(ge=0, le=10_000)] = None,
    theme: Theme = "light",
) -> Response:
    """The result, or one of its pictures, as a file. `theme` is that of the pictures svg and png."""
    bench = bench_of(request)
    made = await bench.in_thread(export, bench.store, id, format, view, theme)
    headers = {"content-disposition": f'attachment; filename="{made.name}"'}
    if made.path is not None:
        return FileResponse(made.path, media_type=made.media_type, headers=headers)
    return Response(made.body, media_type=made.media_type, headers=headers)


@router.get("/results/{id}/python", response_model=PythonLines)
async def python(request: Request, id: ResultId) -> Response:
    """The Python lines that make this result and show it."""
    bench = bench_of(request)

    def read() -> str:
        known = bench.store.summary(id)
        return python_lines(known.command, describe(bench.store.path(id))["provenance"], known.id)

    return answer({"text": await bench.in_thread(read)})


async def _record(bench: Workbench, id: str) -> bytes:
    def read() -> bytes:
        summary = _summary(bench.store.summary(id))
        return encoded({**summary, **describe(bench.store.path(id))})

    return await bench.records.get(id, lambda: bench.in_thread(read))


def _summary(item: Summary) -> dict[str, Any]:
    return {**vars(item), "tags": list(item.tags), "views": [dict(view) for view in item.views]}
