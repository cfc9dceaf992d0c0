"""Longer work: put a method or an explanation into the queue, hear how far it is, cancel it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from starlette.responses import Response, StreamingResponse

from cutaway.core import registry
from cutaway.web.answers import Refusal, answer
from cutaway.web.events import job_record, stream
from cutaway.web.records import ExplainJob, JobRecord, MethodJob, State
from cutaway.web.routes.shared import FAILURES, JobId, bench_of
from cutaway.web.workbench import Workbench

router = APIRouter(tags=["jobs"], responses=FAILURES)
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events named `state` or `progress`, each with the job as JSON, until the job is over.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}

Job = Annotated[MethodJob | ExplainJob, Body(discriminator="kind")]


@router.post("/jobs", status_code=202, response_model=JobRecord)
async def submit(request: Request, job: Job) -> Response:
    """Put a job at the end of the queue. Names and values are checked before it is taken."""
    bench = bench_of(request)
    await bench.require_model(job.model)
    spec = job.model_dump(exclude_none=True)
    if isinstance(job, MethodJob):
        await _check(bench, job, spec)
    elif not job.prompt.strip():
        raise Refusal(422, "the prompt is empty.", "It has one word or more,", "as in “The capital of France is”.")
    taken = await bench.in_thread(bench.jobs.submit, spec)
    bench.changed()
    return answer(job_record(taken), 202)


@router.get("/jobs", response_model=list[JobRecord])
async def jobs(
    request: Request, state: State | None = None, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> Response:
    """The newest jobs, in one state where it is named. Reports are left out."""
    found = await bench_of(request).newest_jobs(state or "", limit)
    return answer([{**job_record(job), "report": None} for job in found])


@router.get("/jobs/{id}", response_model=JobRecord)
async def job(request: Request, id: JobId) -> Response:
    """A job as it is now."""
    bench = bench_of(request)
    return answer(job_record(await bench.in_thread(bench.jobs.job, id)))


@router.post("/jobs/{id}/cancel", response_model=JobRecord)
async def cancel(request: Request, id: JobId) -> Response:
    """Stop a job: at once where it waits, at its next step where it runs. One that is over stays as it is."""
    bench = bench_of(request)
    return answer(job_record(await bench.in_thread(bench.jobs.cancel, id)))


@router.get("/jobs/{id}/events", response_class=StreamingResponse, responses=EVENTS)
async def events(request: Request, id: JobId) -> Response:
    """Hear of a job until it is over, as server-sent events."""
    bench = bench_of(request)
    first = await bench.in_thread(bench.jobs.job, id)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    told = stream(bench.jobs, id, first, request.app.state.leaving)
    return StreamingResponse(told, media_type="text/event-stream", headers=headers)


async def _check(bench: Workbench, job: MethodJob, spec: dict[str, Any]) -> None:
    """Everything that can be found out without a model.

    Raises:
        CutawayError: an unknown method, task or parameter, or a value that is not allowed.
    """
    if (job.task is None) == (job.prompts is None):
        both = "both a task and prompts were given;" if job.task else "there is nothing to run on;"
        raise Refusal(422, both, "a job has a task or prompts.", 'Send "task": "ioi", or "prompts": {"prompts": […]}.')
    await bench.in_thread(registry.find, "method", job.method)
    if job.task is not None:
        await bench.in_thread(registry.find, "task", job.task)
    await bench.ask({"do": "validate", "spec": spec}, light=True)
