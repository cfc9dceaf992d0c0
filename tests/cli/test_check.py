"""`cutaway check MODEL`: the laws on a model, as tables or JSON, and an exit status that a script can use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_a_sound_model_passes(cutaway: Run, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = cutaway("check", model_folder)
    assert said.status == 0
    assert "Every law holds." in said.out
    assert "reading every site changes nothing" in said.out
    assert "the layer has no mixture of experts" in said.out


def test_json_has_every_law_and_site(cutaway: Run, model_folder: Path) -> None:
    said = cutaway("check", model_folder, "--json", "--attention", "eager")
    record = json.loads(said.out)
    assert record["passed"] is True
    assert record["attention"] == "eager"
    assert {"idle", "reads", "write_back", "sums", "resumes"} <= {law["law"] for law in record["laws"]}
    assert all(law["passed"] for law in record["laws"])
    assert {"resid_pre", "z", "pattern", "logits"} <= {site["kind"] for site in record["sites"]}


def test_a_law_that_fails_is_exit_status_1_and_says_where(
    cutaway: Run, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cutaway.core.site import Site
    from cutaway.models.law_bench import Bench, Finding

    def broken(bench: Bench) -> Finding:
        return Finding("sums", 0.5, 0.0, 4, {Site("mlp_contrib", 1): "the stream is not the sum of its parts"})

    monkeypatch.setattr("cutaway.models.check.LAWS", (broken,))
    said = cutaway("check", model_folder)
    assert said.status == 1
    assert "A law fails" in said.out
    assert "mlp_contrib[1]" in said.out


def test_an_unknown_model_is_exit_status_2(cutaway: Run) -> None:
    said = cutaway("check", "smollm3x")
    assert said.status == 2
    assert "smollm2" in said.err


def test_every_law_has_words(model_folder: Path) -> None:
    from cutaway.cli.check import _SAYS
    from cutaway.models.check import check
    from cutaway.models.open import open

    assert {law.law for law in check(open(str(model_folder))).laws} == set(_SAYS)
