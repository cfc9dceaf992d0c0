"""`cutaway attribute`: from a prompt to a map of its words, in every file that it can be kept in."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cutaway.core.result import Result

Cutaway = Callable[..., Any]
FRANCE = "The capital of France is"


def asked(model: Path, *words: str | Path) -> list[str]:
    return ["attribute", *map(str, words), "--model", str(model)]


def test_a_prompt_becomes_a_map_with_its_test(cutaway: Cutaway, model_folder: Path) -> None:
    said = cutaway(*asked(model_folder, FRANCE, "steps=4", "controls=5"))
    assert said.status == 0, said.err
    assert "Integrated gradients: probability" in said.out
    assert "Check:" in said.out and "France" in said.out


def test_every_file_is_written(cutaway: Cutaway, model_folder: Path, tmp_path: Path) -> None:
    page, numbers, tex, kept = (tmp_path / f"map.{end}" for end in ("html", "json", "tex", "nc"))
    files = ["--html", page, "--json", numbers, "--latex", tex, "--out", kept]
    words = ["-c", " Paris", "--method", "saliency", "--score", "entropy", "controls=5", "--group", "word"]
    said = cutaway(*asked(model_folder, FRANCE, *words, *files))
    assert said.status == 0, said.err
    assert "<html" in page.read_text() and "France" in page.read_text()
    assert json.loads(numbers.read_text())["metrics"]["scored"] == "entropy"
    assert r"\colorbox{red!60}" in tex.read_text()
    assert "France" in Result.load(kept).data["token"].values[0].tolist()[4]


def test_two_prompts_are_compared(cutaway: Cutaway, model_folder: Path) -> None:
    words = ["--contrast", "The capital of Italy is", "--method", "input-x-gradient", "-c", " Paris", "controls=5"]
    said = cutaway(*asked(model_folder, FRANCE, *words))
    assert said.status == 0, said.err
    assert "France" in said.out and "Italy" in said.out and "first minus second" in said.out


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--method", "compare", 'methods=["saliency", "occlusion"]', "orders=5"], "Lead over random orders"),
        (["--faithfulness", "--method", "occlusion", "orders=5"], "Comprehensiveness"),
    ],
)
def test_maps_are_tested_in_full(cutaway: Cutaway, model_folder: Path, words: list[str], shown: str) -> None:
    said = cutaway(*asked(model_folder, FRANCE, *words))
    assert said.status == 0, said.err
    assert shown in said.out


def test_a_file_of_prompts_goes_on_where_it_stopped(cutaway: Cutaway, model_folder: Path, tmp_path: Path) -> None:
    file, folder = tmp_path / "mine.csv", tmp_path / "maps"
    file.write_text("prompt,answer\nThe capital of France is, Paris\nThe capital of Italy is, Rome\n")
    words = ["--file", file, "--out-folder", folder, "--method", "saliency", "controls=0"]
    assert cutaway(*asked(model_folder, *words)).status == 0
    kept = sorted(folder.glob("*.nc"))
    assert len(kept) == 2 and (folder / "rows.jsonl").exists()
    times = [path.stat().st_mtime_ns for path in kept]
    kept[1].unlink()
    said = cutaway(*asked(model_folder, *words))
    assert "2 results" in said.out and "1 of them from before" in said.out
    assert kept[0].stat().st_mtime_ns == times[0] and kept[1].exists()
    other = cutaway(*asked(model_folder, *words, "norm=l1"))
    assert "from before" not in other.out and len(list(folder.glob("*.nc"))) == 4


def test_a_row_that_fails_is_said(cutaway: Cutaway, model_folder: Path, tmp_path: Path) -> None:
    file, folder = tmp_path / "mine.csv", tmp_path / "maps"
    file.write_text("prompt\nThe capital of France is\nThe\n")
    words = ["--file", file, "--out-folder", folder, "--method", "integrated_gradients", "layer=99", "controls=0"]
    said = cutaway(*asked(model_folder, *words))
    assert said.status == 1
    assert "0 results" in said.out
    assert "2 of 2 rows failed" in said.err and "rows.jsonl; row 0:" in said.err and "99" in said.err


def inseq_file(path: Path, *, wide: bool, packed: bool) -> np.ndarray:
    """What Inseq 0.7 writes, by hand: tokens, and a safetensors tensor in base64 (or a plain list)."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(5, 2, 3) if wide else (5, 2)).astype(np.float32)
    values[4, 0] = np.nan
    header = json.dumps(
        {"attribution": {"dtype": "F32", "shape": list(values.shape), "data_offsets": [0, values.nbytes]}}
    )
    header += " " * (-len(header) % 8)
    raw = struct.pack("<Q", len(header)) + header.encode() + values.tobytes()
    tokens = [{"attributes": {"id": i, "token": text}} for i, text in enumerate(["The", "Ġcat", "Ġsat", "Ġon", "Ġa"])]
    sequence = {
        "source": tokens[:3],
        "target": tokens,
        "source_attributions": None,
        "target_attributions": base64.b64encode(raw).decode(),
        "step_scores": {"probability": [0.5, 0.25]},
        "attr_pos_start": 3,
        "attr_pos_end": 5,
    }
    whole = {"attributes": {"info": {"attribution_method": "saliency", "input_texts": ["The cat sat"]}}}
    whole["attributes"]["sequence_attributions"] = [{"attributes": sequence}]  # type: ignore[dict-item]
    text = json.dumps(whole).encode()
    path.write_bytes(gzip.compress(text) if packed else text)
    return values


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_what_inseq_saved_is_shown(cutaway: Cutaway, tmp_path: Path, wide: bool, packed: bool) -> None:
    from cutaway.methods.attribution_inseq import from_inseq

    values = inseq_file(tmp_path / "out.json", wide=wide, packed=packed)
    result = from_inseq(tmp_path / "out.json")
    expected = np.sqrt((values**2).sum(-1)).T if wide else values.T
    assert np.allclose(result.data["attribution"].values[0], expected, equal_nan=True)
    assert result.data["target_token"].values[0].tolist() == [" on", " a"]
    assert result.data["probability"].values[0].tolist() == [0.5, 0.25]
    said = cutaway("attribute", "--inseq", tmp_path / "out.json", "--out", tmp_path / "kept.nc")
    assert said.status == 0 and "Saliency (Inseq)" in said.out
    assert Result.load(tmp_path / "kept.nc").id == result.id


def test_refusals(cutaway: Cutaway, model_folder: Path, tmp_path: Path) -> None:
    nothing = cutaway("attribute")
    assert nothing.status == 2 and "One of PROMPT, --file and --inseq" in " ".join(nothing.err.split())
    unknown = cutaway(*asked(model_folder, FRANCE, "--method", "saliencyy"))
    assert unknown.status == 2 and "saliency" in unknown.err
    alone = cutaway("attribute", "--file", "x.csv")
    assert alone.status == 2 and "--out-folder" in alone.err
    jobs = cutaway("attribute", FRANCE, "--jobs", "2")
    assert jobs.status == 2 and "--jobs 2 was given without --file" in " ".join(jobs.err.split())
    (tmp_path / "no.json").write_text("[]")
    foreign = cutaway("attribute", "--inseq", tmp_path / "no.json")
    assert foreign.status == 2 and "out.save(...)" in foreign.err
    nowhere = cutaway(*asked(model_folder, FRANCE, "--html", tmp_path / "none" / "a.html"))
    assert nowhere.status == 2 and "mkdir -p" in nowhere.err
    score = cutaway(*asked(model_folder, FRANCE, "--score", "entrpy"))
    assert score.status == 2 and "entropy" in score.err
