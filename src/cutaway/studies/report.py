"""What has become of each paper of the list? The catalogue joined with the studies that exist and with their records.

A paper is `to come` while it has no study, `not run yet` while its study has no record, and `recorded` then. A claim without
a figure is "not tested here". The records are given by who asks (they lie on disk); nothing is run.
Limits: of a study that was run at several scales the largest scale is shown, and beside it the runs on other models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, get_args

from cutaway.core import registry
from cutaway.core.claim import Claim, Scale, Verdict
from cutaway.core.errors import MethodError
from cutaway.core.recipe import fingerprint
from cutaway.core.registry import Entry
from cutaway.studies.catalogue import Paper, groups, papers, tools

Status = Literal["recorded", "not run yet", "to come"]
STATUSES: tuple[Status, ...] = get_args(Status)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_SCALES: tuple[Scale, ...] = ("paper", "small", "tiny")


class Recorded(Protocol):
    """What is asked of a record: see `cutaway.runtime.study_records.Record`."""

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The claims with what was measured."""

    @property
    def differs(self) -> str:
        """What differs from the paper."""

    @property
    def code(self) -> str:
        """Hash of the study's file when it ran."""


@dataclass(frozen=True)
class Standing:
    """Where a paper stands.

    Attributes:
        paper: what the list and the catalogue say of it.
        study: the entry of its study in the registry, or None.
        scales: the scales that have a record, the largest first.
        record: the record of the largest scale, or None.
        claims: with what was measured, or as the study words them.
        stale: the study was changed after it was recorded.
        others: the records of runs on other models than the scale's own.
    """

    paper: Paper
    study: Entry | None
    scales: tuple[Scale, ...]
    record: Any
    claims: tuple[Claim, ...]
    stale: bool
    others: tuple[Any, ...] = ()

    @property
    def status(self) -> Status:
        """What has become of it."""
        if self.study is None:
            return "to come"
        return "not run yet" if self.record is None else "recorded"

    @property
    def verdicts(self) -> dict[Verdict, int]:
        """How many claims have each verdict; those that none has are left out."""
        found = [claim.verdict for claim in self.claims]
        return {verdict: found.count(verdict) for verdict in VERDICTS if verdict in found}

    @property
    def methods(self) -> tuple[tuple[str, bool], ...]:
        """The methods that the study uses, each with whether it exists."""
        uses = self.study.facts.get("uses") if self.study else None
        known = {entry.name for entry in registry.entries("method")}
        return tuple((name, name in known) for name in (uses or self.paper.methods))


def standings(records: Mapping[str, Mapping[str, Recorded]], *, strangers: bool = True) -> list[Standing]:
    """Every paper of the list in its order, and after them the studies of other items.

    Args:
        records: by study and entry: a scale, and runs on other models.
        strangers: whether studies of plug-ins are shown too.
    """
    entries = [entry for entry in registry.entries("study") if strangers or entry.distribution == registry.OURS]
    of_item: dict[str, Entry] = {}
    for entry in entries:
        of_item.setdefault(str(entry.facts.get("item") or entry.name), entry)
    found = [_standing(paper, of_item.get(paper.item) or of_item.get(paper.same), records) for paper in papers()]
    shown = [standing.study for standing in found]
    others = [entry for entry in entries if entry not in shown]
    return [*found, *(_standing(_paper_of(entry), entry, records) for entry in others)]


def standing_of(name: str, records: Mapping[str, Mapping[str, Recorded]]) -> Standing:
    """Where a study stands, by its name; also by the item, for papers that have none yet.

    Raises:
        MethodError: there is neither a study nor an item called so.
    """
    every = standings(records)
    wanted = name.replace("-", "_")
    for standing in every:
        if name in (standing.paper.item, standing.paper.key) and standing.study is None:
            return standing
    entry = registry.find("study", wanted)
    return next(each for each in every if each.study == entry)


def claims_written(entry: Entry) -> tuple[Claim, ...]:
    """The claims as they stand in the study's file, read without importing it; those that are computed are left out."""
    return tuple(claim for each in entry.facts.get("claims") or () for claim in _written(each))


def _written(said: Mapping[str, Any]) -> Iterator[Claim]:
    known = {f.name for f in fields(Claim)}
    try:
        yield Claim(**{key: value for key, value in said.items() if key in known})
    except (MethodError, TypeError):  # `check_study` finds it, and a listing goes on
        return


def totals(found: Sequence[Standing]) -> dict[str, int]:
    """How many papers have each status, and how many claims each verdict."""
    counts: dict[str, int] = {status: sum(each.status == status for each in found) for status in STATUSES}
    for verdict in VERDICTS:
        counts[verdict] = sum(each.verdicts.get(verdict, 0) for each in found)
    return counts


def about(standing: Standing) -> list[str]:
    """Who wrote it and what it asks, where the study stands, and what it uses, in sentences."""
    paper = standing.paper
    by = ", ".join(part for part in (paper.authors, str(paper.year or "")) if part)
    uses = ", ".join(name if here else f"{name} (to come)" for name, here in standing.methods)
    lines = [f"{paper.question} {f'({by})' if by else ''}".strip(), f"Status: {standing_in_words(standing)}."]
    return [*lines, *([f"Methods: {uses}."] if uses else []), *([paper.note] if paper.note else [])]


def standing_in_words(standing: Standing) -> str:
    """The status with the counts of verdicts, the scale and the date."""
    if standing.record is None:
        return standing.status
    record = standing.record
    counts = ", ".join(f"{count} {verdict}" for verdict, count in standing.verdicts.items())
    changed = "; the study was changed since" if standing.stale else ""
    model = f" with {record.model}" if record.model else ""
    return f"recorded at {record.scale} scale{model} on {record.date[:10]}: {counts}{changed}"


def theirs(claim: Claim) -> str:
    """The paper's figure, with how it is known where it was not read."""
    mark = {"secondary": " (second hand)", "memory": " (from memory)", "derived": " (derived)"}.get(claim.mark, "")
    return f"{claim.theirs}{mark}" if claim.theirs else "–"


def ours(claim: Claim) -> str:
    """Our figure with its interval."""
    if claim.figure is None:
        return "–"
    figure = claim.figure
    unit = f" {claim.unit}" if claim.unit and claim.unit != "%" else claim.unit
    ends = f" [{_number(figure.low)}, {_number(figure.high)}]" if figure.low is not None else ""
    return f"{_number(figure.value)}{unit}{ends}"


def elsewhere(standing: Standing) -> list[tuple[str, tuple[tuple[str, Verdict], ...]]]:
    """Each claim with our figure and the verdict on every other model, in the order of `standing.others`."""
    found = []
    for claim in standing.claims:
        each = [next((one for one in record.claims if one.key == claim.key), None) for record in standing.others]
        none: tuple[str, Verdict] = ("–", "not tested here")
        found.append((claim.sentence, tuple(none if one is None else (ours(one), one.verdict) for one in each)))
    return found if standing.others else []


def control(claim: Claim) -> str:
    """The figure of the control, and what the control was."""
    if claim.figure is None or claim.figure.control is None:
        return "–"
    what = f" ({claim.figure.control_is})" if claim.figure.control_is else ""
    return f"{_number(claim.figure.control)}{what}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.3g}"


def _standing(paper: Paper, entry: Entry | None, records: Mapping[str, Mapping[str, Recorded]]) -> Standing:
    if entry is None:
        return Standing(paper, None, (), None, (), stale=False)
    of_study = records.get(entry.name, {})
    scales = tuple(scale for scale in _SCALES if scale in of_study)
    record = of_study[scales[0]] if scales else None
    claims = record.claims if record is not None else claims_written(entry)
    others = tuple(of_study[name] for name in sorted(of_study) if name not in _SCALES)
    stale = record is not None and not _same_code(entry, record)
    return Standing(paper, entry, scales, record, claims, stale, others)


def _same_code(entry: Entry, record: Recorded) -> bool:
    """Whether the record came from what the study does now; its texts may have changed."""
    known = fingerprint(entry.path), hashlib.sha256(entry.path.read_bytes()).hexdigest()
    return any(each.startswith(record.code) for each in known)


def _paper_of(entry: Entry) -> Paper:
    """What is known of the paper of a study that the list has as a tool, or not at all."""
    item = str(entry.facts.get("item") or "")
    neighbour = next((each for each in (*tools(), *groups()) if each.item == item), None)
    return Paper(
        item=item,
        key=entry.cites,
        title=neighbour.title if neighbour else entry.summary.rstrip("."),
        authors="",
        year=0,
        link=neighbour.link if neighbour else "",
        question=entry.asks,
        methods=tuple(entry.facts.get("uses") or ()),
        note="On the list as a tool." if neighbour else "",
    )
