from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import TaskError
from cutaway.core.provenance import origin_of
from cutaway.core.task import Task
from cutaway.core.task_file import read_rows, span_of


def message(call: Callable[[], object]) -> str:
    with pytest.raises(TaskError) as caught:
        call()
    return str(caught.value)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_gives_the_columns(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "mine.csv",
        'prompt,contrast,answer,wrong,template,positions,remark\n'
        '"The capital of France, is","The capital of Italy, is"," Paris","["" Rome"", "" Milan""]",a,'
        '"{""country"": ""France""}",my own\n'
        '\n'
        '"The\nyear",,,,,,\n',
    )  # fmt: skip
    assert "mine.csv, line 4, has no contrast." in message(lambda: Task.from_file(path))
    path.write_text("\n".join(path.read_text().split("\n")[:2]), encoding="utf-8")
    task = Task.from_file(path)
    assert task == Task(
        "mine", ("The capital of France, is",), ((" Paris",),), ((" Rome", " Milan"),),
        ("The capital of Italy, is",), {"country": ((15, 21),)}, template=("a",), source="mine.csv",
    )  # fmt: skip
    origin = origin_of(task)
    assert origin is not None
    assert origin.file == str(path)


def test_json_lines_give_the_columns(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a b", "answer": [" x", " y"], "positions": {"p": [0, 1]}, "contrast": "c b",
         "contrast_positions": {"p": "c"}},
        {"prompt": "d\u2028e", "answer": " z", "positions": {"p": "d"}, "contrast": "f e",
         "contrast_positions": {"p": [0, 1]}},
    ]  # fmt: skip
    text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    task = Task.from_file(written(tmp_path, "mine.jsonl", "\ufeff" + text))
    assert task.prompts == ("a b", "d\u2028e")
    assert task.answers == ((" x", " y"), (" z",))
    assert task.positions == {"p": ((0, 1), (0, 1))}
    assert task.contrast_positions == {"p": ((0, 1), (0, 1))}
    assert task.metric == "log_probability"
    assert task.template == ()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "", "a.csv has no prompts. One prompt a line is needed. Write lines such as"),
        ("a.csv", "prompt\n", "a.csv has no prompts."),
        ("a.jsonl", "\n\n", "a.jsonl has no prompts."),
        ("a.csv", "text,answer\nx,y\n", "a.csv, line 1, has no column 'prompt' (found: text, answer)."),
        ("a.csv", "prompts\nx\n", "a.csv, line 1, has a column 'prompts'. did you mean 'prompt'?"),
        ("a.csv", "prompt,answers\nx,y\n", "has a column 'answers'. did you mean 'answer'?"),
        ("a.csv", "prompt,prompt\nx,y\n", "has the column 'prompt' twice."),
        ("a.csv", "prompt,answer\nx,y\nz\n", "a.csv, line 3, has 1 cells. The header has 2: prompt, answer."),
        ("a.csv", "prompt,answer\nx, y, z\n", "line 2, has 3 cells."),
        ("a.csv", 'prompt\n"x\n', "is not CSV (unexpected end of data)."),
        ("a.csv", "prompt,answer\nx,y\n,z\n", "a.csv, line 3, has an empty prompt."),
        ("a.csv", 'prompt,answer\nx,"[1]"\n', "line 2, has answer = [1]. It is a text or a list of texts."),
        ("a.csv", "prompt,positions\nx,first\n", "line 2, has positions = first."),
        ("a.csv", 'prompt,positions\nx,"{""p"": ""y""}"\n', "that do not fit ('y' occurs 0 times in 'x')."),
        ("a.tsv", "prompt\tanswer\nx\ty\nz\t\n", "a.tsv, line 3, has no answer. Line 2 has one;"),
        ("a.jsonl", '{"prompt": 3}', 'a.jsonl, line 1, has prompt = 3. It is a text. Write "prompt": "…".'),
        ("a.jsonl", '{"prompt": "x"}\n\n{"prompt": "y"', "a.jsonl, line 3, is not JSON ("),
        ("a.jsonl", '["x"]', "a.jsonl, line 1, is a JSON list. Every line is a JSON object."),
        ("a.jsonl", '{"prompt": "x", "wrong": 4}', "line 1, has wrong = 4."),
        ("a.jsonl", '{"prompt": "x", "answer": []}', "line 1, has answer = []."),
        ("a.jsonl", '{"prompt": "x", "positions": {"p": [0, 9]}}', "with 0 <= start < end <= 1."),
        ("a.jsonl", '{"prompt": "x", "positions": {"p": "x"}}\n{"prompt": "y"}', "names the positions none."),
        ("a.jsonl", '{"prompt": "x", "positions": {"two words": [0, 1]}}', "Call it 'two_words'."),
        ("a.txt", "x", "not known (.txt). Prompts are read from .csv .tsv .jsonl .ndjson."),
        ("a", "x", "is of a kind that is not known (no suffix)."),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_says_what_and_where(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = written(tmp_path, name, text)
    assert said in message(lambda: Task.from_file(path))


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    written(tmp_path, "prompts.csv", "prompt\nx\n")
    assert "did you mean 'prompts.csv'?" in message(lambda: Task.from_file(tmp_path / "promts.csv"))
    assert "there is no file" in message(lambda: Task.from_file(tmp_path / "nowhere" / "a.csv"))
    (tmp_path / "latin.csv").write_bytes("prompt\nCaf\u00e9\n".encode("latin-1"))
    assert "latin.csv is not UTF-8 text (byte 10 cannot be read)." in message(
        lambda: Task.from_file(tmp_path / "latin.csv")
    )
    (tmp_path / "folder.csv").mkdir()
    assert "folder.csv cannot be read" in message(lambda: Task.from_file(tmp_path / "folder.csv"))


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("files")
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("prompt", "contrast"), *rows])
    lines = "\n".join(json.dumps({"prompt": p, "contrast": c}, ensure_ascii=False) for p, c in rows)
    (folder / "a.jsonl").write_bytes(lines.encode())
    for name in ("a.csv", "a.jsonl"):
        assert [(row.prompt, row.contrast) for row in read_rows(folder / name)] == rows


def test_a_word_is_found_where_it_occurs_once() -> None:
    assert span_of("in France", "France") == (3, 9)
    assert "'' occurs 0 times" in message(lambda: span_of("a", ""))
