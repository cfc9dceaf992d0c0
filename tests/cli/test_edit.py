"""`cutaway edit`: an edit made by `cutaway run`, shown, applied to a folder, and taken back bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cutaway = Callable[..., Any]
ASKED = ("-p", "The capital of France is", "--answer", " Rome", "--wrong", " Paris", "subject=France", "layer=1")
QUICK = ("steps=3", "contexts=1", "controls=0", "unrelated=1", "other_facts=2")


@pytest.fixture
def edit(cutaway: Cutaway, model_folder: Path, tmp_path: Path) -> Path:
    file = tmp_path / "rome.safetensors"
    said = cutaway("run", "rome", "-m", model_folder, *ASKED, *QUICK, "--artifact", file)
    assert said.status == 0, said.err
    return file


def test_an_edit_is_applied_to_a_folder_and_undone_bit_for_bit(
    cutaway: Cutaway, model_folder: Path, edit: Path, tmp_path: Path
) -> None:
    edited, restored = tmp_path / "edited", tmp_path / "restored"
    said = cutaway("edit", "apply", edit, "-m", model_folder, "--save", edited)
    assert said.status == 0, said.err
    assert "Edits that it carries: " in " ".join(said.out.split())
    said = cutaway("edit", "undo", edit, "-m", edited, "--save", restored)
    assert said.status == 0, said.err
    assert "Undone, bit for bit" in said.out
    weights = [(folder / "model.safetensors").read_bytes() for folder in (model_folder, edited, restored)]
    assert weights[0] == weights[2] != weights[1]
    assert json.loads((restored / "cutaway_edits.json").read_text())["edits"] == []


def test_an_edit_is_shown(cutaway: Cutaway, edit: Path) -> None:
    said = cutaway("edit", "show", edit)
    assert "The capital of France is Rome" in said.out
    assert "by rome" in said.out
    record = json.loads(cutaway("edit", "show", edit, "--json").out)
    assert record["layers"] == [1]
    assert list(record["parameters"]) == ["model.layers.1.mlp.down_proj.weight"]
    assert record["facts"] == [{"prompt": "The capital of France is", "subject": "France", "answer": " Rome"}]


def test_what_cannot_be_done_is_said(cutaway: Cutaway, model_folder: Path, edit: Path, tmp_path: Path) -> None:
    for words, sentence in (
        (("edit", "aply", edit), "There is no action 'aply'; did you mean 'apply'?"),
        (("edit", "apply", edit, "-m", model_folder), "Apply was asked for without a place for the model;"),
        (("edit", "undo", edit, "-m", model_folder, "--save", tmp_path / "x"), "is not what it was after this edit"),
        (
            ("edit", "apply", edit, "-m", model_folder, "--save", tmp_path),
            "exists. A model is saved into a new folder.",
        ),
        (("edit", "show", tmp_path / "absent.safetensors"), "does not exist"),
    ):
        said = cutaway(*words)
        assert said.status == 2
        assert sentence in " ".join(said.err.split()), said.err
        assert "Traceback" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["rome.safetensors"]


def test_a_method_runs_on_the_edited_model_and_says_so(
    cutaway: Cutaway, model_folder: Path, edit: Path, tmp_path: Path
) -> None:
    asked = ("run", "logit_lens", "-m", model_folder, "-p", "The capital of France is", "--answer", " Rome", "--json")
    plain, edited = (json.loads(cutaway(*asked, *more).out) for more in ((), ("--edit", edit)))
    assert plain["metrics"] != edited["metrics"]
    assert f"--edit={edit}" in edited["provenance"]["command"]
    assert "--edit" not in plain["provenance"]["command"]
    other = tmp_path / "other.safetensors"
    other.write_bytes(edit.read_bytes()[:100])
    assert "damaged" in cutaway(*asked, "--edit", other).err
