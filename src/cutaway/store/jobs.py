"""Which pieces of work were asked for, how far are they, and who is at it?

A job that runs remembers the process that runs it: when that process is gone and the store is opened again, the
job is `interrupted`. A job that has ended stays as it ended.
Limits: only processes of this machine can be asked whether they live; jobs of others stay as they are.
"""

from __future__ import annotations

import json
import os
import platform
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import psutil
from sqlalchemy import Connection, RowMapping, Text, insert, select, type_coerce, update

from cutaway.core.errors import ParameterError, nearest
from cutaway.store.ground import Ground, NotKept, now
from cutaway.store.tables import jobs

STATES = ("queued", "running", "done", "failed", "cancelled", "interrupted")
ENDED = STATES[2:]
KINDS = ("method", "explain")
_CHANGED = ("state", "what", "done", "total", "fraction", "error", "results", "report", "started", "finished")
_ID = re.compile(r"[0-9a-f]{32}")
_ITEM = re.compile(r"[0-9a-f]{64}")
_CLOCK = 10.0  # seconds by which the same process may seem to have started at another time, when the clock is set


@dataclass(frozen=True)
class Job:
    """A piece of work.

    Attributes:
        id: 32 hexadecimal digits.
        kind: `method` or `explain`.
        spec: what was asked for; JSON values.
        state: `queued`, `running`, `done`, `failed`, `cancelled` or `interrupted`.
        what: the step it is at, in words.
        done: how many parts of that step are done.
        total: how many it has, where that is known.
        fraction: how much is done, from 0 to 1, where that is known.
        created: when it was asked for; ISO 8601, UTC, like the two below.
        started: when it began.
        finished: when it ended.
        error: why it failed.
        results: ids of what it made.
        report: what it has to say beside its results; JSON values.
    """

    id: str
    kind: str
    spec: Mapping[str, Any]
    state: str
    what: str
    done: int
    total: int | None
    fraction: float | None
    created: str
    started: str | None
    finished: str | None
    error: str
    results: tuple[str, ...]
    report: Mapping[str, Any] | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED

    def record(self) -> dict[str, Any]:
        """The job as JSON values."""
        report = None if self.report is None else dict(self.report)
        return {**vars(self), "spec": dict(self.spec), "results": list(self.results), "report": report}


def add(ground: Ground, spec: Mapping[str, Any]) -> Job:
    """Write down what is asked for; `spec["kind"]` says what kind of work it is.

    Raises:
        ParameterError: a kind that there is not, or something that JSON does not hold.
    """
    kind = spec.get("kind", "method")
    if kind not in KINDS:
        raise ParameterError(f"there is no kind of job {str(kind)[:80]!r};", nearest(str(kind)[:80], KINDS))
    try:
        json.dumps(dict(spec))
    except (TypeError, ValueError) as error:
        raise ParameterError(f"what a job is asked cannot be written as JSON ({error}).") from error
    row = _blank() | {"id": uuid.uuid4().hex, "kind": kind, "spec": dict(spec), "created": now()}
    with ground.writing() as connection:
        connection.execute(insert(jobs).values(row))
    return get(ground, row["id"])


def get(ground: Ground, job: str) -> Job:
    """The job with this id.

    Raises:
        NotKept: there is none.
    """
    with ground.reading() as connection:
        row = connection.execute(select(jobs).where(jobs.c.id == refuse_job_id(job))).mappings().one_or_none()
    if row is None:
        raise _unknown(job)
    return _job(row)


def latest(ground: Ground, state: str = "", limit: int = 50) -> tuple[Job, ...]:
    """Jobs, the latest first.

    Raises:
        ParameterError: a state that there is not.
    """
    query = select(jobs).order_by(jobs.c.created.desc(), jobs.c.id).limit(max(1, limit))
    if state:
        _refuse_state(state)
        query = query.where(jobs.c.state == state)
    with ground.reading() as connection:
        return tuple(_job(row) for row in connection.execute(query).mappings())


def change(ground: Ground, job: str, fields: Mapping[str, Any]) -> Job:
    """Write how far a job is. Who says `running` is taken for the process that runs it.

    Raises:
        ParameterError: a field or a state that there is not, or a job that has ended and is to go on.
        NotKept: there is no such job.
    """
    for name in fields:
        if name not in _CHANGED:
            raise ParameterError(f"a job has no field {name!r} that changes;", nearest(name, _CHANGED))
    with ground.writing() as connection:
        query = select(jobs).where(jobs.c.id == refuse_job_id(job)).with_for_update()
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise _unknown(job)
        connection.execute(update(jobs).where(jobs.c.id == job).values(_changes(row, fields)))
    return get(ground, job)


def link_result(connection: Connection, job: str, item: str) -> None:
    """Write down that a job made a result. A job that the store does not have is passed over."""
    query = select(jobs.c.results).where(jobs.c.id == refuse_job_id(job)).with_for_update()
    known = connection.scalar(query)
    if known is not None and item not in known:
        connection.execute(update(jobs).where(jobs.c.id == job).values(results=[*known, item]))


def forget_result(connection: Connection, item: str) -> None:
    """Take a deleted result out of the jobs that made it."""
    query = select(jobs.c.id, jobs.c.results).where(type_coerce(jobs.c.results, Text).contains(item))
    for row in connection.execute(query).all():
        left = [each for each in row.results if each != item]
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(results=left))


def interrupt_abandoned(ground: Ground) -> int:
    """Mark the jobs whose process is gone; how many."""
    columns = (jobs.c.id, jobs.c.process, jobs.c.process_started)
    query = select(*columns).where(jobs.c.state == "running", jobs.c.host == platform.node())
    with ground.reading() as connection:
        abandoned = [row.id for row in connection.execute(query).all() if not _lives(row.process, row.process_started)]
    ended = {"state": "interrupted", "error": "The process that ran it ended before it did.", "finished": now()}
    for job in abandoned:
        with ground.writing() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job, jobs.c.state == "running").values(ended))
    return len(abandoned)


def enter(connection: Connection, record: Mapping[str, Any]) -> bool:
    """Take in a job of another store; False when there is one with this id.

    Raises:
        KeyError: it lacks a part.
        TypeError: a part of it is something else.
        ValueError: a part of it cannot be.
    """
    row = _entered(record)
    if connection.scalar(select(jobs.c.id).where(jobs.c.id == row["id"])) is not None:
        return False
    connection.execute(insert(jobs).values(row))
    return True


def is_id(text: Any) -> bool:
    """Whether this can be the id of a job."""
    return isinstance(text, str) and bool(_ID.fullmatch(text))


def plain_time(text: str) -> str:
    """A time of another store, written as here.

    Raises:
        ValueError: it is no time.
    """
    return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="microseconds")


def _entered(record: Mapping[str, Any]) -> dict[str, Any]:
    """A row from what another store wrote, of which nothing is taken for granted."""
    results = record["results"]
    if not is_id(record["id"]) or record["kind"] not in KINDS or record["state"] not in STATES:
        raise ValueError("its id, kind or state cannot be")
    if not all(isinstance(item, str) and _ITEM.fullmatch(item) for item in results):
        raise ValueError("it names results that cannot be")
    row = _blank() | {name: record[name] for name in ("id", "kind", "state")}
    row |= {name: str(record[name])[:100_000] for name in ("what", "error")}
    row |= {name: record[name] and plain_time(record[name]) for name in ("created", "started", "finished")}
    row |= {"spec": dict(record["spec"]), "report": record["report"] and dict(record["report"])}
    row |= {"results": list(results), "done": int(record["done"])}
    row["total"] = None if record["total"] is None else int(record["total"])
    row["fraction"] = None if record["fraction"] is None else float(record["fraction"])
    if row["state"] not in ENDED:
        row |= {"state": "interrupted", "error": "It had not ended when it was exported."}
    return row


def _blank() -> dict[str, Any]:
    texts = dict.fromkeys(("what", "error", "host"), "")
    unknown = dict.fromkeys(("total", "fraction", "started", "finished", "report", "process", "process_started"))
    return {"state": "queued", "done": 0, "results": [], **texts, **unknown}


def _changes(row: RowMapping, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that change, with those that follow from others."""
    changed = dict(fields)
    if "results" in changed:
        changed["results"] = list(changed["results"])
    if changed.get("report") is not None:
        changed["report"] = dict(changed["report"])
    state = changed.get("state", row["state"])
    if state != row["state"]:
        changed |= _turn(row, state, changed)
    done, total = (changed.get(key, row[key]) for key in ("done", "total"))
    if state == "done":
        changed["fraction"] = 1.0
    elif {"done", "total"} & set(changed) and "fraction" not in changed:
        changed["fraction"] = min(1.0, done / total) if total else None
    return changed


def _turn(row: RowMapping, state: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """What comes with a change of state."""
    _refuse_state(state)
    if row["state"] in ENDED:
        raise ParameterError(
            f"the job {row['id']} is {row['state']} and cannot become {state};",
            "a job that has ended stays as it ended.",
            "Submit it again as a new one.",
        )
    if state == "running":
        me = psutil.Process(os.getpid())
        owner = {"host": platform.node(), "process": me.pid, "process_started": me.create_time()}
        return {**owner, "started": said.get("started") or now()}
    return {"finished": said.get("finished") or now()} if state in ENDED else {}


def _lives(process: int | None, started: float | None) -> bool:
    if process is None or started is None:
        return False
    try:
        found = psutil.Process(process)
        return abs(found.create_time() - started) < _CLOCK and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _job(row: RowMapping) -> Job:
    plain = {name: row[name] for name in Job.__dataclass_fields__}
    report = None if row["report"] is None else MappingProxyType(row["report"])
    return Job(**plain | {"spec": MappingProxyType(row["spec"]), "results": tuple(row["results"]), "report": report})


def refuse_job_id(job: str) -> str:
    """The id itself.

    Raises:
        NotKept: it cannot be the id of a job.
    """
    if not isinstance(job, str) or not _ID.fullmatch(job):
        raise NotKept(f"{str(job)[:80]!r} is not the id of a job;", "an id is 32 hexadecimal digits.")
    return job


def _unknown(job: str) -> NotKept:
    return NotKept(f"the store has no job {job}.", "It may have been made in another store.")


def _refuse_state(state: str) -> None:
    if state not in STATES:
        raise ParameterError(f"there is no state {str(state)[:80]!r};", nearest(str(state)[:80], STATES))
