"""Does a study keep the laws of studies? Every study in the registry is held to these, ours and others'.

A law yields a sentence for each thing that is broken, as those of methods do (`check_method`). All run at the scale `tiny`.
Limits: laws are about form, honesty and tidiness; whether a recipe is that of the paper, no law can say.
"""

from __future__ import annotations

import inspect
import io
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from cutaway.core import registry
from cutaway.core.claim import Claim
from cutaway.core.registry import Entry
from cutaway.core.result import Result
from cutaway.core.roles import resolve
from cutaway.core.study import Findings, InMemory, Study, StudyRun
from cutaway.runtime import study_records
from cutaway.runtime.studies import carry_out, prepare
from cutaway.studies.report import claims_written
from cutaway.testing.citations import missing_citations

Law = Callable[["Subject"], Iterator[str]]
T = TypeVar("T")
LONGEST = 20.0  # seconds at the scale tiny, when nothing else runs
_TIMES = re.compile(r"\b(faster|slower|seconds?|minutes?|ms)\b")  # figures of the clock are never the same twice


@dataclass(frozen=True)
class Subject:
    """A study with how it is found."""

    entry: Entry
    references: Path | None = None

    @cached_property
    def study(self) -> Study:
        """The study itself."""
        found: Study = registry.get("study", self.entry.name)
        return found

    @cached_property
    def first(self) -> _Watched:
        """A first run, kept in memory."""
        return watched(self.study)


@dataclass
class _Watched:
    """A run with what it did."""

    findings: Findings
    keeper: _Counting
    seconds: float


@dataclass
class _Counting(InMemory):
    """Keeps in memory, and says which steps were made; fails after some of them where that is wanted."""

    made: list[str] = field(default_factory=list)
    fails_before: int | None = None

    def step(self, name: str, make: Callable[[], T]) -> T:
        """See `Keeper`."""
        if name not in self.kept:
            if self.fails_before == len(self.made):
                raise _Interruption(name)
            self.made.append(name)
        return super().step(name, make)


class _Interruption(Exception):  # noqa: N818 - raised on purpose
    """A study is interrupted before a step."""


def watched(study: Study, seed: int = 0) -> _Watched:
    """Run a study at the scale tiny."""
    keeper = _Counting()
    clock = time.perf_counter()
    findings = study(StudyRun("tiny", seed, keeper))
    return _Watched(findings, keeper, time.perf_counter() - clock)


def check_study(study: str, *, laws: Sequence[str] | None = None, references: Path | None = None) -> None:
    """Hold a study to the laws of studies, at the scale tiny.

    Args:
        study: its name.
        laws: names from `STUDY_LAWS`; all of them by default.
        references: a BibTeX file that must have the key of the paper.

    Raises:
        AssertionError: with a sentence for each law that is broken.
    """
    subject = _shared(registry.find("study", study).name, references)
    broken = [f"{law}: {said}" for law in laws or STUDY_LAWS for said in STUDY_LAWS[law](subject)]
    if broken:
        raise AssertionError(f"the study {study!r} breaks these laws:\n" + "\n".join(f"- {b}" for b in broken))


@lru_cache(maxsize=64)
def _shared(name: str, references: Path | None) -> Subject:
    """Laws tried one by one share the first run."""
    return Subject(registry.find("study", name), references)


def _says_what_it_is(subject: Subject) -> Iterator[str]:
    study = subject.study
    module = inspect.getmodule(study.function)
    text = (module.__doc__ if module else "") or ""
    if not study.asks.strip().endswith("?"):
        yield f"asks is {study.asks!r}; it is a question"
    if not (study.function.__doc__ or "").strip():
        yield "the function has no docstring"
    if "tiny" not in study.seconds or "small" not in study.seconds:
        yield "seconds does not say how long the scales tiny and small take"
    known = {entry.name for entry in registry.entries("method")}
    yield from (f"uses names {name!r}, which is no method" for name in study.uses if name not in known)
    yield from missing_citations(study.paper, text, subject.references)


def _claims_are_read_without_importing(subject: Subject) -> Iterator[str]:
    if claims_written(subject.entry) != subject.study.claims:
        yield "its claims as listed are not its claims: write Claim(...) out, with numbers and text alone in it"


def _claims_can_fail(subject: Subject) -> Iterator[str]:
    for claim in subject.study.claims:
        for end in (claim.at_least, claim.at_most):
            if end is not None and not math.isfinite(end):
                yield f"the criterion of {claim.key!r} is {claim.criterion}, which everything or nothing meets"
        if claim.theirs and not claim.where:
            yield f"{claim.key!r} has a figure of the paper and does not say where it stands"


def _figures_belong_to_claims(subject: Subject) -> Iterator[str]:
    figures = subject.first.findings.figures
    if not figures:
        yield "it measured nothing"
    for key, figure in figures.items():
        if figure.low is not None and figure.high is not None and not figure.low <= figure.value <= figure.high:
            yield f"the figure of {key!r} ({figure.value}) lies outside its interval [{figure.low}, {figure.high}]"
        if figure.control is not None and not figure.control_is:
            yield f"the control of {key!r} does not say what it was"


def _has_controls(subject: Subject) -> Iterator[str]:
    findings = subject.first.findings
    controlled = [key for key, figure in findings.figures.items() if figure.control is not None]
    if not controlled and not findings.result.checks:
        yield "no figure has a control, and the result has no check"


def _verdicts_follow(subject: Subject) -> Iterator[str]:
    findings = subject.first.findings
    for claim in subject.study.judged(findings, "tiny"):
        if claim.verdict != "not tested here":
            yield f"{claim.key!r} is {claim.verdict!r} at the scale tiny, where weights are random"
    for claim in subject.study.judged(findings, "small"):
        expected = _expected(claim)
        if claim.verdict != expected:
            yield f"{claim.key!r} is {claim.verdict!r}, and by its criterion {expected!r}"


def _expected(claim: Claim) -> str:
    if claim.figure is None:
        return "not tested here"
    value = claim.figure.value
    low = -math.inf if claim.at_least is None else claim.at_least
    high = math.inf if claim.at_most is None else claim.at_most
    return "same phenomenon at small scale" if low <= value <= high else "not reproduced"


def _can_be_seen(subject: Subject) -> Iterator[str]:
    findings = subject.first.findings
    if not findings.result.views:
        yield "its result has no view: a reader would recognise nothing"
    for view in findings.result.views:
        resolve(view, findings.result.data)
        if not view.title:
            yield f"a {view.kind} view has no title"
    findings.result.show("terminal", console=Console(file=io.StringIO(), width=80))
    if len(findings.differs.split()) < 8:
        yield f"what differs from the paper is said in {len(findings.differs.split())} words: {findings.differs!r}"


def _is_quick(subject: Subject) -> Iterator[str]:
    if subject.first.seconds > LONGEST:
        yield f"at the scale tiny it took {subject.first.seconds:.0f} s, more than {LONGEST:.0f} s"


def _repeats(subject: Subject) -> Iterator[str]:
    assert subject.first, "the first run comes first"
    again = watched(subject.study).findings
    yield from _differences(subject, again, "run again with the same seed")


def _resumes(subject: Subject) -> Iterator[str]:
    """After a failure before each of its steps, what was finished is not made again."""
    names = subject.first.keeper.made
    if not names:
        yield "it has no steps: interrupted, it would begin anew"
    kept: dict[str, Any] = {}
    for done in range(len(names)):
        keeper = _Counting(dict(kept), fails_before=1 if done else 0)
        try:
            subject.study(StudyRun("tiny", 0, keeper))
            yield f"it went on when it was interrupted before the step {names[done]!r}"
        except _Interruption:
            pass
        made_again = set(keeper.made) & set(kept)
        if made_again:
            yield f"resumed, it made {sorted(made_again)} again"
        kept = keeper.kept
    last = _Counting(dict(kept))
    findings = subject.study(StudyRun("tiny", 0, last))
    yield from _differences(subject, findings, "interrupted before each step and resumed")


def _differences(subject: Subject, other: Findings, how: str) -> Iterator[str]:
    first = subject.first.findings
    units = {claim.key: claim.unit for claim in subject.study.claims}
    if set(first.figures) != set(other.figures):
        yield f"{how} it measured other claims"
        return
    for key, figure in first.figures.items():
        again = other.figures[key].value
        same = again == figure.value or (math.isnan(again) and math.isnan(figure.value))
        if not same and not _TIMES.search(units[key]):
            yield f"{how} the figure of {key!r} is {again}, and was {figure.value}"


def _leaves_a_record(subject: Subject) -> Iterator[str]:
    """Kept on disk, the steps and the record come back as they were."""
    with _apart():
        prepared = prepare(subject.entry.name, scale="tiny")
        outcome = carry_out(prepared)
        written = study_records.write(outcome.record, outcome.findings.result)
        place = study_records.place_to_write(subject.entry.name)
        back = study_records.read(place / f"{subject.entry.name.replace('/', '--')}.json")
        if len(back) != 1 or study_records.as_json(back[0]) != study_records.as_json(written):
            yield "its record is not the same after writing and reading"
        picture = study_records.picture_of(written)
        if picture is not None and Result.load(picture).id != outcome.findings.result.id:
            yield "its picture is not the same after writing and reading"
        if not outcome.record.models:
            yield "its record names no model: say run.seen(model) of those that it opens by other ways"
        if prepared.before:
            yield f"its steps {prepared.before} are still kept after it ended"
    yield from _differences(subject, outcome.findings, "kept on disk")


@contextmanager
def _apart() -> Iterator[None]:
    """A cache and records of its own; nothing of the user's is read or written."""
    before = {name: os.environ.get(name) for name in ("CUTAWAY_RECORDS", "CUTAWAY_STUDIES")}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(CUTAWAY_RECORDS=f"{folder}/records", CUTAWAY_STUDIES=f"{folder}/studies")
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name)
                else:
                    os.environ[name] = value


STUDY_LAWS: Mapping[str, Law] = {
    "says_what_it_is": _says_what_it_is,
    "claims_are_read_without_importing": _claims_are_read_without_importing,
    "claims_can_fail": _claims_can_fail,
    "figures_belong_to_claims": _figures_belong_to_claims,
    "has_controls": _has_controls,
    "verdicts_follow": _verdicts_follow,
    "can_be_seen": _can_be_seen,
    "is_quick": _is_quick,
    "repeats": _repeats,
    "resumes": _resumes,
    "leaves_a_record": _leaves_a_record,
}
