"""The laws of studies find what breaks them."""

from __future__ import annotations

import dataclasses
import itertools
import sys
from pathlib import Path

import pytest

from cutaway.core import registry
from cutaway.core.study import Claim, Figure, Findings, StudyRun
from cutaway.testing import STUDY_LAWS, check_study
from cutaway.testing.check_study import STUDY_LAWS as LAWS
from cutaway.testing.check_study import Subject

ECHO = Path(__file__).parents[1] / "runtime" / "echo_study.py"


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.setattr(registry, "_files", {})
    registry.load_file(ECHO)
    return Subject(registry.find("study", "echo_study"))


def changed(subject: Subject, **fields: object) -> Subject:
    """The same study with other words or another function."""
    other = Subject(subject.entry, subject.references)
    vars(other)["study"] = dataclasses.replace(subject.study, **fields)
    return other


def broken(subject: Subject, law: str) -> str:
    return "; ".join(LAWS[law](subject))


@pytest.mark.parametrize("law", LAWS)
def test_a_sound_study_keeps_every_law(subject: Subject, law: str) -> None:
    assert broken(subject, law) == ""
    assert law in STUDY_LAWS


def test_what_it_is_has_to_be_said(subject: Subject) -> None:
    said = broken(changed(subject, asks="It leads", seconds={}, uses=("nothing",)), "says_what_it_is")
    assert "it is a question" in said
    assert "'nothing', which is no method" in said
    assert "seconds does not say" in said


def test_claims_that_are_not_those_listed_are_found(subject: Subject) -> None:
    others = (*subject.study.claims, Claim("late", "Added when the module is run", at_least=0.0))
    assert "not its claims" in broken(changed(subject, claims=others), "claims_are_read_without_importing")


def test_criteria_that_everything_meets_are_found(subject: Subject) -> None:
    claims = (Claim("any", "Anything goes", "7", at_least=float("-inf")),)
    said = broken(changed(subject, claims=claims), "claims_can_fail")
    assert "which everything or nothing meets" in said
    assert "does not say where it stands" in said


def finding(subject: Subject, **figures: Figure) -> Subject:
    def function(run: StudyRun) -> Findings:
        """One figure of our choice."""
        run.step("one", lambda: 1)
        return Findings(figures, subject.first.findings.result, "It differs in every way that there is to differ in.")

    return changed(subject, function=function)


def test_figures_outside_their_interval_and_unnamed_controls_are_found(subject: Subject) -> None:
    wrong = finding(subject, lead=Figure(5.0, low=1.0, high=2.0, control=0.0))
    said = broken(wrong, "figures_belong_to_claims")
    assert "lies outside its interval" in said
    assert "does not say what it was" in said
    assert broken(finding(subject), "figures_belong_to_claims") == "it measured nothing"


def test_a_study_without_a_control_is_found(subject: Subject) -> None:
    assert "no figure has a control" in broken(finding(subject, lead=Figure(1.0)), "has_controls")


def test_a_verdict_of_ones_own_is_found(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Claim, "verdict", "reproduced")
    said = broken(subject, "verdicts_follow")
    assert "at the scale tiny, where weights are random" in said
    assert "by its criterion 'same phenomenon at small scale'" in said


def test_a_result_without_pictures_is_found(subject: Subject) -> None:
    first = subject.first.findings
    bare = dataclasses.replace(first.result, views=())

    def function(run: StudyRun) -> Findings:
        """Nothing to be seen."""
        return Findings(first.figures, bare, "Nothing.")

    said = broken(changed(subject, function=function), "can_be_seen")
    assert "no view" in said
    assert "in 1 words: 'Nothing.'" in said


def test_figures_that_change_are_found(subject: Subject) -> None:
    numbers = itertools.count()

    def function(run: StudyRun) -> Findings:
        """Another number at each call."""
        value = float(next(numbers))
        figure = Figure(value, control=0.0, control_is="nothing")
        return Findings(
            {"lead": figure}, subject.first.findings.result, "It differs in all that there is to differ in."
        )

    restless = changed(subject, function=function)
    assert "run again with the same seed the figure of 'lead' is 1.0, and was 0.0" in broken(restless, "repeats")
    assert "it has no steps" in broken(restless, "resumes")


def test_steps_that_are_not_the_same_after_resuming_are_found(subject: Subject) -> None:
    state = {"sum": 0.0}

    def function(run: StudyRun) -> Findings:
        """What the second step gives depends on whether the first was run or read back."""

        def first() -> float:
            state["sum"] = 1.0
            return 1.0

        state["sum"] = 0.0
        run.step("first", first)
        total = run.step("second", lambda: state["sum"])
        figure = Figure(total, control=0.0, control_is="nothing")
        return Findings(
            {"lead": figure}, subject.first.findings.result, "It differs in all that there is to differ in."
        )

    said = broken(changed(subject, function=function), "resumes")
    assert "interrupted before each step and resumed the figure of 'lead' is 0.0, and was 1.0" in said


def test_a_slow_study_is_found(subject: Subject) -> None:
    subject.first.seconds = 99.0
    assert "it took 99 s" in broken(subject, "is_quick")


def test_all_sentences_come_together(monkeypatch: pytest.MonkeyPatch, subject: Subject) -> None:
    module = sys.modules["cutaway.testing.check_study"]
    monkeypatch.setattr(module, "_shared", lambda name, references: finding(subject, lead=Figure(1.0)))
    with pytest.raises(AssertionError, match=r"the study 'echo_study' breaks these laws:\n- has_controls: no figure"):
        check_study("echo_study", laws=["has_controls"])
