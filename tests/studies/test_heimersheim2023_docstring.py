"""The training of the docstring network: when it ends, that it goes on where it was, and what it is tested on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutaway.core.study import InMemory, StudyRun
from cutaway.data.python_source import files, functions
from cutaway.data.tasks.docstring import ARGUMENTS, METHODS, docstring
from cutaway.data.words import NOUNS
from cutaway.models.training import Training, train
from cutaway.studies import heimersheim2023_docstring as study


class Folder(InMemory):
    """Keeps the checkpoints of a training in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def scratch(self, name: str) -> Path | None:
        return self.folder / name


@given(st.lists(st.floats(0, 5), max_size=8))
def test_a_training_is_finished_when_two_rounds_in_a_row_gain_nothing(losses: list[float]) -> None:
    best = [min(losses[: place + 1]) for place in range(len(losses))]
    expected = len(losses) > 2 and all(loss > best[-3] - study.GAIN for loss in losses[-2:])
    assert study.finished(losses) == expected


def test_it_ends_by_the_loss_on_held_out_docstrings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, schedules = iter([3.0, 2.0, 1.999, 1.998, 1.9, 1.0]), list[str]()

    def trained(hf: object, *_: object, steps: int, schedule: str, **__: object) -> Training:
        schedules.append(schedule)
        return Training((), {steps: {"loss": next(losses)}})

    monkeypatch.setattr(study, "train", trained)
    monkeypatch.setattr(StudyRun, "size", lambda self, *, tiny, small, paper: 9 if tiny == 2 else tiny)
    study.train_network(StudyRun("tiny"))
    assert schedules == ["constant"] * 4 + ["cosine"] and list(losses) == [1.0]
    schedules.clear()
    monkeypatch.setattr(StudyRun, "size", lambda self, *, tiny, small, paper: tiny)
    losses = iter([3.0, 2.0])
    study.train_network(StudyRun("tiny"))
    assert schedules == ["constant", "cosine"]


def test_interrupted_it_goes_on_and_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = study.train_network(StudyRun("tiny", 3)).hf.state_dict()
    calls = list[int]()

    def interrupted(*args: object, **options: object) -> Training:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(study, "train", interrupted)
    run = StudyRun("tiny", 3, Folder(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        study.train_network(run)
    again = study.train_network(run).hf.state_dict()
    assert len(calls) == 4 and (tmp_path / "docstring_4l" / "round_1").is_dir()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_rows_are_pieces_of_the_library_and_docstrings_of_the_functions_given() -> None:
    text = "".join(files(10))[:200_000]
    tokenizer = study._tokenizer(text)
    source = np.array(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    known = functions(10)[:3]
    batch = study._batch(tokenizer, source, known, 6, np.random.default_rng(0), 2)
    texts = tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    assert all(each[:20] in text for each in texts[:2])
    assert all(each.startswith("def ") and ":param" in each for each in texts[2:])
    names = {name for one in known for name in one.arguments} | set(ARGUMENTS)
    said = {part.partition("(")[2].partition(")")[0] for each in texts[2:] for part in each.split("def ")[1:2]}
    assert {name for each in said for name in each.split(", ")} - {"self"} <= names
    learned = batch["labels"] != -100
    assert learned[:2].all() and (batch["labels"][learned] == batch["input_ids"][learned]).all()
    assert (batch["input_ids"][~learned] == tokenizer.bos_token_id).all()


def test_words_of_the_task_are_single_tokens() -> None:
    tokenizer = study._tokenizer("".join(files(10))[:200_000])
    words = [f" {word}" for word in (*ARGUMENTS, *NOUNS, *METHODS)]
    assert {len(ids) for ids in tokenizer(words, add_special_tokens=False)["input_ids"]} == {1}
    assert len(docstring(n=20).encode(tokenizer).kept) == 20
