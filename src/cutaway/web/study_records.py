"""What do answers about studies look like, and what are they made of? Shapes, and the catalogue joined with the records.

Limits: read without torch; a picture is shown where its file was kept beside the record.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from cutaway.core.claim import MARKS
from cutaway.core.errors import CutawayError
from cutaway.runtime.study_records import as_json, claim_json, picture_of, records
from cutaway.studies.report import Standing, about, control, elsewhere, ours, standing_of, standings, theirs
from cutaway.web.answers import NotHere
from cutaway.web.records import ArrayInfo, Check, Json, View

Verdict = Literal["reproduced", "same phenomenon at small scale", "not reproduced", "not tested here"]


class ClaimRecord(BaseModel):
    """A sentence of a paper beside what was measured."""

    key: str
    sentence: str
    theirs: str = Field(description="The paper's figure, with how it is known where it was not read.")
    where: str
    mark: str
    known: str = Field(description="How the paper's figure is known, in words.")
    ours: float | None
    said: str = Field(description="Our figure with its unit and interval.")
    low: float | None
    high: float | None
    control: str
    criterion: str
    unit: str
    note: str
    verdict: Verdict


class MethodUsed(BaseModel):
    """A method that a study uses."""

    name: str
    exists: bool


class StudyEntry(BaseModel):
    """A paper of the list, and what became of it."""

    item: str
    title: str
    authors: str
    year: int
    link: str
    question: str
    note: str
    listed: str = Field(description="The link in the list, where that leads elsewhere.")
    study: str | None = Field(description="Name of its study, where there is one.")
    status: Literal["recorded", "not run yet", "to come"]
    scale: str | None
    methods: list[MethodUsed]
    claims: list[ClaimRecord]


class FigureElsewhere(BaseModel):
    """What was measured of a claim on another model."""

    said: str
    verdict: Verdict


class ClaimElsewhere(BaseModel):
    """A claim on the other models, in the order of `other_models`."""

    sentence: str
    figures: list[FigureElsewhere]


class StudyRecord(StudyEntry):
    """The same, with all that the record of its run says."""

    about: list[str]
    doc: str
    command: str
    differs: str
    stale: bool
    record: dict[str, Json] | None
    picture: bool = Field(description="Whether its picture was kept.")
    other_models: list[str] = Field(description="Models that it was run on beside the scale's own.")
    elsewhere: list[ClaimElsewhere]


class StudyPicture(BaseModel):
    """The result that shows a study, without its numbers."""

    id: str
    provenance: dict[str, Json]
    notes: list[str]
    checks: list[Check]
    views: list[View]
    arrays: list[ArrayInfo]
    dims: dict[str, int]


def study_entries() -> list[dict[str, Any]]:
    """Every paper of the list."""
    return [_entry(standing) for standing in standings(records())]


def study_record(name: str) -> dict[str, Any]:
    """One study, or one paper of the list that has none yet.

    Raises:
        NotHere: there is neither.
    """
    standing = _standing(name)
    record = standing.record
    file = picture_of(record) if record is not None else None
    return {
        **_entry(standing),
        "about": about(standing),
        "doc": standing.study.summary if standing.study else "",
        "command": record.command if record else f"cutaway study run {standing.study.name}" if standing.study else "",
        "differs": record.differs if record else "",
        "stale": standing.stale,
        "record": as_json(record) if record else None,
        "picture": file is not None,
        "other_models": [other.model for other in standing.others],
        "elsewhere": [
            {"sentence": said, "figures": [{"said": figure, "verdict": verdict} for figure, verdict in each]}
            for said, each in elsewhere(standing)
        ],
    }


def picture_file(name: str) -> Path:
    """The file of the picture of a study.

    Raises:
        NotHere: there is none.
    """
    standing = _standing(name)
    file = picture_of(standing.record) if standing.record is not None else None
    if file is None:
        raise NotHere(
            f"the study {name!r} has no picture;", "one is kept with a record.", f"Run cutaway study run {name}."
        )
    return file


def _standing(name: str) -> Standing:
    try:
        return standing_of(name.replace("--", "/"), records())
    except CutawayError as error:
        raise NotHere(error.what, error.expected, error.instead) from error


def _entry(standing: Standing) -> dict[str, Any]:
    paper = dataclasses.asdict(standing.paper)
    kept = ("item", "title", "authors", "year", "link", "question", "note", "listed")
    return {
        **{name: paper[name] for name in kept},
        "study": standing.study.name if standing.study else None,
        "status": standing.status,
        "scale": standing.record.scale if standing.record else None,
        "methods": [{"name": name, "exists": exists} for name, exists in standing.methods],
        "claims": [
            {
                **{key: value for key, value in claim_json(claim).items() if key in ClaimRecord.model_fields},
                "theirs": theirs(claim),
                "known": MARKS[claim.mark],
                "said": ours(claim),
                "control": control(claim),
                "low": claim.figure.low if claim.figure else None,
                "high": claim.figure.high if claim.figure else None,
                "note": claim.figure.note if claim.figure else "",
            }
            for claim in standing.claims
        ],
    }
