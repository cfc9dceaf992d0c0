"""A file of prompts, one result a row: by one process or several the same, and what is done stays done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cutaway.core import registry
from cutaway.core.errors import Cancelled, ParameterError, StoreError
from cutaway.core.progress import reporting
from cutaway.core.result import Result
from cutaway.models.open import open
from cutaway.runtime.attribute_dataset import ROWS, attribute_dataset
from cutaway.runtime.requests import WorkerError
from cutaway.testing import tiny_folder

PROMPTS = ["The capital of France is", "Paris", "The capital of Italy is", "of Italy is Rome", "Rome is the capital"]
ASKED = {"method": "saliency", "controls": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = ["The capital of France is Paris", "Rome is the capital of Italy"]
    return tiny_folder(tmp_path_factory.mktemp("tiny-llama"), texts=texts)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Five prompts."""
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS), encoding="utf-8")
    return path


class StopAfter:
    """Cancels after some rows."""

    def __init__(self, rows: int) -> None:
        self.left, self.depth = rows, 0

    def start(self, what: str, total: int | None) -> None:
        self.depth += 1

    def advance(self, n: int) -> None:
        self.left -= n if self.depth == 1 else 0

    def done(self) -> None:
        self.depth -= 1

    def cancelled(self) -> bool:
        return self.left <= 0


def same(one: Path, other: Path) -> None:
    """Equal results: every number bit for bit, and where they come from but for the time that it took."""
    first, second = Result.load(one), Result.load(other)
    assert first.id == second.id
    for name in first.data.variables:
        assert np.array_equal(first.data[name].values, second.data[name].values), name
    timeless = [
        {k: v for k, v in each.provenance.items() if k not in ("started", "seconds")} for each in (first, second)
    ]
    assert timeless[0] == timeless[1]


PLUGIN = '''
"""A map that fails for some prompts."""
import cutaway as ca
from cutaway.core.errors import TaskError


@ca.method(asks="Does it fail?", describes_only=True)
def brittle(model: ca.Model, task: ca.Task) -> ca.Result:
    """Fail where the prompt starts with Rome, and refuse Paris."""
    if task.prompts[0].startswith("Rome"):
        raise ValueError("no Rome")
    if task.prompts[0] == "Paris":
        raise TaskError("no Paris;", "another town.", "Write Rome.")
    return ca.methods.saliency(model, task, controls=0)
'''


def test_several_processes_give_what_one_gives(
    folder: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_files", {})
    (tmp_path / "mine.py").write_text(PLUGIN, encoding="utf-8")
    registry.load_file(tmp_path / "mine.py")
    one = attribute_dataset(str(folder), file, tmp_path / "one", method="brittle")
    many = attribute_dataset(str(folder), file, tmp_path / "many", method="brittle", jobs=2)
    assert [row.row for row in many] == [row.row for row in one] == list(range(len(PROMPTS)))
    assert [bool(row.path) for row in many] == [True, False, True, True, False]
    assert (tmp_path / "many" / ROWS).read_bytes() == (tmp_path / "one" / ROWS).read_bytes()
    for first, second in zip(one, many, strict=True):
        assert first.error == second.error
        if first.path and second.path:
            assert first.path.name == second.path.name
            same(first.path, second.path)
    listed = [json.loads(line) for line in (tmp_path / "many" / ROWS).read_text().splitlines()]
    assert listed[0] == {"row": 0, "prompt": PROMPTS[0], "file": one[0].path.name}  # type: ignore[union-attr]
    assert listed[1] == {"row": 1, "prompt": "Paris", "error": "no Paris; another town. Write Rome."}
    assert listed[4] == {"row": 4, "prompt": "Rome is the capital", "error": "ValueError: no Rome"}
    again = attribute_dataset(str(folder), file, tmp_path / "many", method="brittle")
    assert [row.found for row in again] == [True, False, True, True, False]


def test_stopped_and_started_again_it_goes_on(folder: Path, file: Path, tmp_path: Path) -> None:
    model, out = open(str(folder)), tmp_path / "maps"
    with reporting(StopAfter(2)), pytest.raises(Cancelled):
        attribute_dataset(model, file, out, **ASKED)
    listed = [json.loads(line) for line in (out / ROWS).read_text().splitlines()]
    assert [(line["row"], line["prompt"]) for line in listed] == list(enumerate(PROMPTS[:2]))
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.nc")}
    assert len(times) == 2
    rows = attribute_dataset(model, file, out, **ASKED)
    assert [row.found for row in rows] == [True, True, False, False, False]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    other = attribute_dataset(model, file, out, **{**ASKED, "norm": "l1"})
    assert not any(row.found for row in other)


def test_refusals(folder: Path, file: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"jobs=0 was given; .* Write jobs=1 or more"):
        attribute_dataset(str(folder), file, tmp_path / "maps", jobs=0)
    with pytest.raises(ParameterError, match=r"open in this process; .* Give its name: attribute_dataset\('"):
        attribute_dataset(open(str(folder)), file, tmp_path / "maps", jobs=2)
    with pytest.raises(ParameterError, match="normm"):
        attribute_dataset(str(folder), file, tmp_path / "maps", method="saliency", normm="l1")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        attribute_dataset(str(folder), file, tmp_path / "file" / "maps")
    assert not (tmp_path / "maps" / ROWS).exists()


@pytest.mark.all
def test_a_model_that_does_not_open_is_said_once(file: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="There is no folder") as caught:
        attribute_dataset(str(tmp_path / "none"), file, tmp_path / "maps", jobs=2)
    assert caught.value.kind == "ModelError"
