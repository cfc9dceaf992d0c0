"""What came out of the studies that were run? One JSON file a study, with an entry for each scale and each other model.

A record holds each claim with the paper's figure and ours, and everything that a reader needs to trust them: seed,
versions, device, models, duration, date. The picture of a run lies beside it as NetCDF where it is small.
Records of cutaway's own studies lie in the package where that can be written to (a checkout), all others in the
user's data folder; both are read, and the newer entry of a scale counts. CUTAWAY_RECORDS names one folder instead.
Limits: needs no torch to be read; the newest run of a scale (of a model) replaces the one before.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from cutaway.core.claim import Claim, Figure, Scale
from cutaway.core.errors import StoreError, nearest
from cutaway.models.weights import read_json
from cutaway.store.atomic import write_bytes

if TYPE_CHECKING:
    from cutaway.core.result import Result

FORMAT = 1
LARGEST_PICTURE = 300 * 1024  # bytes
SHIPPED = Path(__file__).parents[1] / "studies" / "records"
SCALES: tuple[Scale, ...] = ("paper", "small", "tiny")  # the one that says most comes first


@dataclass(frozen=True)
class Record:
    """One run of a study.

    Attributes:
        study: its name.
        scale: at which scale it ran.
        claims: with what was measured.
        differs: what differs from the paper, and why.
        seed: drew everything that was drawn.
        versions: of what computed the figures.
        device: where.
        models: what was measured, with fingerprints.
        seconds: how long it took, steps that were kept from before included.
        date: when it ended, UTC.
        code: hash of the study's file.
        steps: name, seconds, and whether it was kept from an interrupted run.
        picture: id of the result that shows it, and its file beside the record, or an empty file.
        command: what repeats it.
        model: that was asked for in place of the scale's own.
    """

    study: str
    scale: Scale
    claims: tuple[Claim, ...]
    differs: str
    seed: int
    versions: Mapping[str, str]
    device: str
    models: tuple[Mapping[str, Any], ...]
    seconds: float
    date: str
    code: str
    steps: tuple[Mapping[str, Any], ...] = ()
    picture: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    model: str = ""
    place: Path | None = None

    @property
    def entry(self) -> str:
        """What its run is called in the file: the scale, and the model where it is not the scale's own."""
        return f"{self.scale} {self.model}" if self.model else self.scale

    @property
    def verdicts(self) -> dict[str, int]:
        """How many claims have each verdict."""
        found = [str(claim.verdict) for claim in self.claims]
        return {verdict: found.count(verdict) for verdict in dict.fromkeys(found)}


def places() -> list[Path]:
    """The folders of records, the package's first."""
    if chosen := os.environ.get("CUTAWAY_RECORDS"):
        return [Path(chosen).expanduser()]
    return [SHIPPED, Path(platformdirs.user_data_dir("cutaway")) / "studies" / "records"]


def place_to_write(study: str) -> Path:
    """The folder for a record: the package's for our own studies in a checkout, the user's otherwise."""
    first, *others = places()
    ours = "/" not in study and others
    return others[0] if others and not (ours and _checkout(first)) else first


def records() -> dict[str, dict[str, Record]]:
    """All records by study and entry (see `Record.entry`), from every place."""
    found: dict[str, dict[str, Record]] = {}
    for record in _all():
        of_study = found.setdefault(record.study, {})
        known = of_study.get(record.entry)
        if known is None or record.date >= known.date:
            of_study[record.entry] = record
    return found


def shipped() -> dict[str, dict[str, Record]]:
    """The records that come with the package."""
    found: dict[str, dict[str, Record]] = {}
    for path in sorted(SHIPPED.glob("*.json")):
        for record in read(path):
            found.setdefault(record.study, {})[record.entry] = record
    return found


def best(of_study: Mapping[str, Record]) -> Record | None:
    """The record that says most: of the largest scale."""
    return next((of_study[scale] for scale in SCALES if scale in of_study), None)


def read(path: Path) -> list[Record]:
    """The records in a file; those that a newer version wrote, or that are damaged, are an error.

    Raises:
        StoreError: the file cannot be read as records.
    """
    content = read_json(path)
    if content is None or content.get("format", 0) > FORMAT:
        raise StoreError(
            f"{path} is {'damaged' if content is None else 'written by a newer version'};",
            "a record of a study is one JSON file, as `cutaway study run` wrote it.",
            "Delete it and run the study again." if content is None else "Install a newer cutaway.",
        )
    try:
        return [_record(content["study"], run, path.parent) for run in content["runs"].values()]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} lacks {error};", "a record is written by `cutaway study run`.") from error


def write(record: Record, picture: Result | None = None, folder: Path | None = None) -> Record:
    """Write a record beside those of other scales, with its picture where that is small.

    Returns:
        The record as it is on disk, with its picture and its place.

    Raises:
        StoreError: the folder cannot be written to.
    """
    target = folder or place_to_write(record.study)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{target} cannot be made: {error.strerror}.", instead="Name another with CUTAWAY_RECORDS."
        ) from error
    stem = record.study.replace("/", "--")
    path = target / f"{stem}.json"
    if picture is not None:
        file = re.sub(r"[^\w.-]+", "-", record.entry)[-100:]
        record = dataclasses.replace(record, picture=_picture(picture, target / f"{stem}.{file}.nc"))
    before = (read_json(path) or {}).get("runs", {})
    runs = {**before, record.entry: as_json(record)}
    order = [*(scale for scale in SCALES if scale in runs), *sorted(set(runs) - set(SCALES))]
    content = {"format": FORMAT, "study": record.study, "runs": {entry: runs[entry] for entry in order}}
    write_bytes(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return dataclasses.replace(record, place=target)


def picture_of(record: Record) -> Path | None:
    """The file of the picture, where it was kept."""
    name = record.picture.get("file", "")
    path = record.place / name if record.place and name else None
    return path if path is not None and path.is_file() else None


def as_json(record: Record) -> dict[str, Any]:
    """The record as JSON values; verdicts and criteria are written out for readers, and follow anew when read."""
    said = {f.name: getattr(record, f.name) for f in dataclasses.fields(record) if f.name not in ("study", "place")}
    if not record.model:
        del said["model"]
    return {
        **said,
        "claims": [claim_json(claim) for claim in record.claims],
        "models": [dict(model) for model in record.models],
        "steps": [dict(step) for step in record.steps],
        "versions": dict(record.versions),
        "picture": dict(record.picture),
    }


def claim_json(claim: Claim) -> dict[str, Any]:
    """A claim with the figures, the criterion in words, and the verdict."""
    said = {f.name: getattr(claim, f.name) for f in dataclasses.fields(claim) if f.name not in ("figure", "scale")}
    figure = {"ours": None} if claim.figure is None else {"ours": claim.figure.value, **_but_value(claim.figure)}
    return {**said, **figure, "criterion": claim.criterion, "verdict": claim.verdict}


def claim_from(said: Mapping[str, Any], scale: Scale) -> Claim:
    """The claim that `claim_json` wrote down."""
    fields = {f.name for f in dataclasses.fields(Claim)} - {"figure", "scale"}
    of_figure = {f.name for f in dataclasses.fields(Figure)} - {"value"}
    ours = said.get("ours")
    figure = None if ours is None else Figure(float(ours), **{k: v for k, v in said.items() if k in of_figure})
    return Claim(**{k: v for k, v in said.items() if k in fields}, figure=figure, scale=scale)


def _but_value(figure: Figure) -> dict[str, Any]:
    return {f.name: getattr(figure, f.name) for f in dataclasses.fields(figure) if f.name != "value"}


def _record(study: str, run: Mapping[str, Any], place: Path) -> Record:
    known = {f.name for f in dataclasses.fields(Record)} - {"study", "claims", "models", "steps", "place"}
    return Record(
        study=study,
        claims=tuple(claim_from(said, run["scale"]) for said in run["claims"]),
        models=tuple(run["models"]),
        steps=tuple(run.get("steps", ())),
        place=place,
        **{key: value for key, value in run.items() if key in known},
    )


def _picture(picture: Result, path: Path) -> dict[str, str]:
    picture.save(path)
    if path.stat().st_size > LARGEST_PICTURE:
        path.unlink()
        return {"id": picture.id, "file": ""}
    return {"id": picture.id, "file": path.name}


def _all() -> Iterator[Record]:
    for place in places():
        for path in sorted(place.glob("*.json")):
            yield from read(path)


def _checkout(folder: Path) -> bool:
    """Whether the package is a checkout of its own: an installed one is not written into."""
    root = folder.parents[3] if len(folder.parents) > 3 else folder
    return (root / "pyproject.toml").is_file() and os.access(folder.parent, os.W_OK)


def known(study: str) -> dict[str, Record]:
    """The records of one study.

    Raises:
        StoreError: there are none.
    """
    found = records()
    if study not in found:
        raise StoreError(
            f"there is no record of {study!r};", nearest(study, found), f"Write cutaway study run {study}."
        )
    return found[study]
