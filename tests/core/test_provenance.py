"""Where a result comes from, and the command that makes it again."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

from cutaway.core.provenance import Origin, command_line, origin_of, record_of_task, remember_origin, versions
from cutaway.core.task import Task

FRANCE = Task.from_prompts(["The capital of France is"], answers=[" Paris"], wrong=[" Rome"])


def test_a_task_remembers_how_it_was_made_until_it_is_changed() -> None:
    task = remember_origin(replace(FRANCE), Origin("capitals", {"n": 1}))
    assert origin_of(task) == Origin("capitals", {"n": 1})
    assert task == FRANCE
    assert origin_of(replace(task, name="mine")) is None
    assert origin_of(FRANCE) is None


def test_the_record_of_a_task_is_json_with_its_fingerprint() -> None:
    record = record_of_task(remember_origin(replace(FRANCE, seed=4), Origin("capitals", {"n": 1})))
    assert json.loads(json.dumps(record)) == {
        "name": "prompts",
        "n": 1,
        "seed": 4,
        "parameters": {"n": 1},
        "sha256": FRANCE.fingerprint,
    }


def test_a_named_task_is_repeated_by_its_name() -> None:
    task = remember_origin(replace(FRANCE), Origin("capitals", {"n": 20, "seed": 3}))
    line = command_line("logit_lens", "smollm2", task, {"top": 3, "layers": [1, 2]})
    expected = "cutaway run logit_lens --model smollm2 --task capitals task.n=20 task.seed=3 top=3 'layers=[1, 2]'"
    assert line == expected


def test_prompts_are_repeated_word_for_word() -> None:
    task = Task.from_prompts(["It's “so”", "-x"], answers=[" a", [" b", " c"]], metric="rank")
    words = shlex.split(command_line("lens", "m", task, {}))
    assert words[5:] == [
        "--prompt",
        "It's “so”",
        "--prompt=-x",
        "--answer",
        " a",
        "--answer",
        " b| c",
        "--metric",
        "rank",
    ]


def test_a_file_is_repeated_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("prompt,answer\nTwo and two are, four\n")
    assert f"--file {file}" in command_line("lens", "m", Task.from_file(file), {})


def test_options_of_the_model_and_loose_files_are_in_the_command() -> None:
    line = command_line("lens", "m", FRANCE, {}, options={"dtype": "bfloat16"}, plugins=[Path("mine.py")])
    assert line.startswith("cutaway --plugin=mine.py run lens --model m --dtype=bfloat16 --prompt")


def test_what_no_command_can_say_has_none() -> None:
    placed = Task.from_prompts(["The capital of France is"], positions={"subject": "France"})
    assert command_line("lens", "m", placed, {}) == ""
    assert command_line("lens", "m", Task.from_prompts(["word " * 2000]), {}) == ""
    assert command_line("lens", "m", Task.from_prompts(["a"], answers=["|"]), {}) == ""


def test_versions_are_those_installed() -> None:
    import torch

    assert versions()["torch"] == torch.__version__
