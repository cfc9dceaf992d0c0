"""Studies of papers: all of the list with what became of each, and one with its claims, its record and its picture."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from cutaway.web import study_records
from cutaway.web.answers import answer
from cutaway.web.arrays import Sent, describe, read_part, selection_of
from cutaway.web.routes.results import PART
from cutaway.web.routes.shared import FAILURES, bench_of
from cutaway.web.study_records import StudyEntry, StudyPicture, StudyRecord

router = APIRouter(tags=["studies"], responses=FAILURES)

StudyName = Annotated[
    str,
    Path(
        pattern="^[A-Za-z0-9_.-]{1,200}$",
        description="Name of a study, with -- for the / of a plug-in's; or an item of the list, such as P34.",
    ),
]


@router.get("/studies", response_model=list[StudyEntry])
async def studies(request: Request) -> Response:
    """Every paper of the list, with its claims and verdicts."""
    return answer(await bench_of(request).in_thread(study_records.study_entries))


@router.get("/studies/{name}", response_model=StudyRecord)
async def study(request: Request, name: StudyName) -> Response:
    """One study with its record."""
    return answer(await bench_of(request).in_thread(study_records.study_record, name))


@router.get("/studies/{name}/picture", response_model=StudyPicture)
async def picture(request: Request, name: StudyName) -> Response:
    """What shows a study, without its numbers."""

    def read() -> dict[str, object]:
        file = study_records.picture_file(name)
        record = study_records.study_record(name)["record"]
        return {"id": record["picture"]["id"], **describe(file)}

    return answer(await bench_of(request).in_thread(read))


@router.get("/studies/{name}/array/{array}", response_class=Response, responses=PART)
async def array(request: Request, name: StudyName, array: Annotated[str, Path(max_length=300)]) -> Response:
    """An array of the picture, or the part of it that the query selects."""
    bench = bench_of(request)
    selected = selection_of(request.query_params.multi_items())

    def read() -> Sent:
        return read_part(study_records.picture_file(name), array, selected, bench.settings.largest_answer)

    sent = await bench.in_thread(read)
    return Response(sent.body, headers=sent.headers, media_type=sent.media_type)
