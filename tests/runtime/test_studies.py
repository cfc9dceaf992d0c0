"""A study is resumed from its finished steps, its record comes back as it was, its models are trained once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cutaway.core import registry
from cutaway.core.claim import Claim, Figure
from cutaway.core.errors import MethodError, ParameterError, StoreError
from cutaway.core.result import Result
from cutaway.core.study import StudyRun, keepable
from cutaway.runtime import study_records
from cutaway.runtime.studies import carry_out, prepare, run, train
from cutaway.runtime.study_keeping import alone
from cutaway.runtime.study_recipe import fingerprint_of_training, opens_a_model
from cutaway.studies.pages import html_report, markdown
from cutaway.studies.report import elsewhere, ours, standing_of
from cutaway.testing import tiny

NAME = "echo_study"


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache, records and loose files of its own."""
    monkeypatch.setenv("CUTAWAY_STUDIES", str(tmp_path / "studies"))
    monkeypatch.setenv("CUTAWAY_RECORDS", str(tmp_path / "records"))
    monkeypatch.setenv("ECHO_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(registry, "_files", {})
    registry.load_file(Path(__file__).with_name("echo_study.py"))
    yield


@dataclass
class Made:
    """What the study made, in order, since it was asked last."""

    log: Path

    def now(self) -> list[str]:
        lines = self.log.read_text().split() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "log")


@pytest.mark.parametrize(
    ("at", "kept", "left"),
    [
        ("training", [], ["training", "lead", "picture", "end"]),
        ("lead", [], ["lead", "picture", "end"]),
        ("picture", ["lead"], ["picture", "end"]),
        ("end", ["lead", "picture"], ["end"]),
    ],
)
def test_a_study_that_failed_goes_on_where_it_was(
    at: str, kept: list[str], left: list[str], monkeypatch: pytest.MonkeyPatch, made: Made, tmp_path: Path
) -> None:
    expected = run(NAME, scale="small")
    made.now()
    monkeypatch.setenv("ECHO_FAILS", at)
    if at == "training":  # the model of the first run must not be found
        monkeypatch.setenv("CUTAWAY_STUDIES", str(tmp_path / "another"))
    with pytest.raises(RuntimeError, match=f"failed at {at}"):
        run(NAME, scale="small")
    monkeypatch.delenv("ECHO_FAILS")
    made.now()
    prepared = prepare(NAME, scale="small")
    assert prepared.before == kept
    outcome = carry_out(prepared)
    assert made.now() == left
    assert outcome.findings.figures == expected.findings.figures
    assert outcome.findings.result == expected.findings.result
    assert [step["name"] for step in outcome.record.steps if step["kept"] and "trained" not in step["name"]] == kept
    assert prepared.before == []


def test_fresh_forgets_the_steps(monkeypatch: pytest.MonkeyPatch, made: Made) -> None:
    monkeypatch.setenv("ECHO_FAILS", "end")
    with pytest.raises(RuntimeError):
        run(NAME, scale="small")
    assert prepare(NAME, scale="small", seed=1).before == []
    assert prepare(NAME, scale="tiny").before == []
    assert prepare(NAME, scale="small", fresh=True).before == []


def test_a_damaged_step_is_made_again(monkeypatch: pytest.MonkeyPatch, made: Made, tmp_path: Path) -> None:
    monkeypatch.setenv("ECHO_FAILS", "end")
    with pytest.raises(RuntimeError):
        run(NAME, scale="small")
    monkeypatch.delenv("ECHO_FAILS")
    made.now()
    (file,) = (tmp_path / "studies" / "steps").rglob("*.nc")
    file.write_bytes(file.read_bytes()[:100])
    run(NAME, scale="small")
    assert made.now() == ["picture", "end"]


def test_a_model_is_trained_once(made: Made) -> None:
    assert [each["kept"] for each in train(prepare(NAME))] == [False]
    assert [each["kept"] for each in train(prepare(NAME))] == [True]
    assert made.now() == ["training"]
    run(NAME)
    assert "training" not in made.now()
    assert [each["kept"] for each in train(prepare(NAME, seed=1))] == [False]


def test_two_processes_do_not_run_the_same() -> None:
    prepared = prepare(NAME)
    with alone(prepared.kept), pytest.raises(StoreError, match="is being run by another process"):
        carry_out(prepare(NAME))


def test_the_recipe_is_the_function_and_what_it_uses(tmp_path: Path) -> None:
    text = Path(__file__).with_name("echo_study.py").read_text()

    def fingerprint(changed: str, name: str) -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(changed)
        registry.load_file(path)
        study = registry.get("study", f"{name}/{NAME}")
        return fingerprint_of_training(study.function.__globals__["small_network"])

    before = fingerprint(text, "before")
    assert fingerprint(text.replace('"""Not trained at all."""', '"""Other words."""'), "words") == before
    assert fingerprint(text.replace("The favourite leads", "It leads"), "claims") == before
    assert fingerprint(text.replace("LATER = 1", "LATER = 2"), "constant") != before
    assert fingerprint(text.replace('tiny("gpt2"', 'tiny("llama"'), "network") != before


def test_a_record_comes_back_as_it_was() -> None:
    outcome = run(NAME, scale="small", seed=3)
    assert outcome.written
    (back,) = study_records.read(Path(outcome.record.place or "") / f"{NAME}--{NAME}.json")
    assert back == outcome.record
    assert back.claims[0].verdict == "same phenomenon at small scale"
    assert back.claims[1].verdict == "not tested here"
    assert back.seed == 3
    assert back.models[0]["name"] == f"{NAME}/{NAME}/network"
    assert back.versions["cutaway"]
    picture = study_records.picture_of(back)
    assert picture is not None
    assert Result.load(picture) == outcome.findings.result


def test_each_scale_has_its_entry() -> None:
    run(NAME, scale="small")
    run(NAME, scale="paper")
    found = study_records.records()[f"{NAME}/{NAME}"]
    assert list(found) == ["paper", "small"]
    best = study_records.best(found)
    assert best is not None
    assert best.claims[0].verdict == "reproduced"


def test_another_model_has_an_entry_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "other model"
    other = tiny("llama")
    other.hf.save_pretrained(folder)
    other.tokenizer.save_pretrained(folder)
    run(NAME, scale="small")
    outcome = run(NAME, model=str(folder))
    assert outcome.record.command == f"cutaway study run {NAME}/{NAME} --scale small --model '{folder}'"
    found = study_records.records()[f"{NAME}/{NAME}"]
    assert list(found) == ["small", f"small {folder}"]
    assert found[f"small {folder}"] == outcome.record
    assert study_records.best(found) == found["small"]
    pictures = [study_records.picture_of(record) for record in found.values()]
    assert None not in pictures and len(set(pictures)) == 2
    standing = standing_of(f"{NAME}/{NAME}", study_records.records())
    assert standing.record == found["small"] and standing.others == (outcome.record,)
    ((sentence, (figure,)), (_, (none,))) = elsewhere(standing)
    lead = outcome.record.claims[0]
    assert lead.figure and lead.figure.value != found["small"].claims[0].figure.value  # type: ignore[union-attr]
    assert (sentence, figure) == (lead.sentence, (ours(lead), "same phenomenon at small scale"))
    assert none == ("–", "not tested here")
    for page in (markdown([standing], ""), html_report([standing])):
        assert f"on {folder}" in page and ours(lead) in page


@pytest.mark.parametrize(
    ("name", "scale", "said"),
    [
        (NAME, "paper", "asked for at the scale paper; .* measured at small scale"),
        (NAME, "tiny", "asked for at the scale tiny"),
        (
            "heimersheim2023_docstring",
            "small",
            "measures a model that it trains, .* study run heimersheim2023_docstring",
        ),
    ],
)
def test_another_model_is_refused_where_it_means_nothing(name: str, scale: Any, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        prepare(name, scale=scale, model="gemma3-270m")


def test_studies_open_the_model_that_was_asked_for() -> None:
    own = [entry for entry in registry.entries("study") if entry.distribution == registry.OURS]
    able = {entry.name for entry in own if opens_a_model(entry.path)}
    assert {"wang2022_ioi", "conmy2023_acdc", "gould2023_successor_heads"} <= able
    assert not able & {"heimersheim2023_docstring", "chan2022_causal_scrubbing", "clark2019_attention"}


def test_a_tiny_run_is_not_recorded() -> None:
    outcome = run(NAME, scale="tiny")
    assert not outcome.written
    assert {claim.verdict for claim in outcome.record.claims} == {"not tested here"}
    assert study_records.records() == {}


def test_a_verdict_written_by_hand_is_not_believed(tmp_path: Path) -> None:
    outcome = run(NAME, scale="small")
    path = Path(outcome.record.place or "") / f"{NAME}--{NAME}.json"
    content = json.loads(path.read_text())
    content["runs"]["small"]["claims"][0].update(verdict="reproduced", ours=-9.0, low=-9.0)
    path.write_text(json.dumps(content))
    (back,) = study_records.read(path)
    assert back.claims[0].verdict == "not reproduced"


def test_a_damaged_record_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"format": 1,')
    with pytest.raises(StoreError, match="is damaged; .* Delete it and run the study again"):
        study_records.read(path)
    path.write_text('{"format": 99}')
    with pytest.raises(StoreError, match="written by a newer version"):
        study_records.read(path)


def test_a_large_picture_is_left_out(tmp_path: Path) -> None:
    import xarray as xr

    outcome = run(NAME, scale="small")
    noise = np.random.default_rng(0).normal(size=100_000)
    written = study_records.write(outcome.record, Result(data=xr.Dataset({"noise": ("place", noise)})))
    assert study_records.picture_of(written) is None
    assert written.picture["id"]


def test_strangers_records_are_the_users_and_ours_the_checkouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUTAWAY_RECORDS")
    assert study_records.place_to_write("wang2022_ioi") == study_records.SHIPPED
    assert study_records.place_to_write("package/other") == study_records.places()[1]


def test_what_cannot_be_kept_is_a_sentence() -> None:
    with pytest.raises(MethodError, match=r"the step 'x' gave object; .*numbers"):
        keepable(object(), "x")
    with pytest.raises(MethodError, match=r"a mapping with the key 3; keys are text"):
        keepable({3: 1}, "x")
    assert keepable({"a": (1, np.float32(0.5)), "b": torch.ones(2)}, "x") == {"a": [1, 0.5], "b": [1.0, 1.0]}


def test_unknown_names_and_scales_are_sentences() -> None:
    with pytest.raises(MethodError, match=r"there is no study 'echo_stdy'; did you mean 'echo_study'\?"):
        prepare("echo_stdy")
    with pytest.raises(ParameterError, match="there is no scale 'smal'; .*'small'"):
        prepare(NAME, scale="smal")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="there is no scale"):
        StudyRun(scale="large")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "scale", "verdict"),
    [
        (2.0, "tiny", "not tested here"),
        (2.0, "small", "same phenomenon at small scale"),
        (2.0, "paper", "reproduced"),
        (0.5, "paper", "not reproduced"),
        (3.5, "small", "not reproduced"),
        (float("nan"), "paper", "not reproduced"),
    ],
)
def test_the_verdict_follows_from_criterion_and_scale(value: float, scale: str, verdict: str) -> None:
    claim = Claim("a", "A.", at_least=1.0, at_most=3.0)
    assert claim.measured(Figure(value), scale).verdict == verdict  # type: ignore[arg-type]
    assert claim.measured(None, scale).verdict == "not tested here"  # type: ignore[arg-type]


def test_a_claim_needs_a_criterion_and_a_known_mark() -> None:
    with pytest.raises(MethodError, match=r"'a' has no criterion; .* Write at_least"):
        Claim("a", "A.")
    with pytest.raises(MethodError, match=r"the mark 'memry'; .*did you mean 'memory'\?"):
        Claim("a", "A.", at_least=1.0, mark="memry")  # type: ignore[arg-type]
    with pytest.raises(MethodError, match="its first end is the lower one"):
        Figure(1.0, low=2.0, high=1.0)
