"""`cutaway run`: from words to a result, and back to the words that repeat it."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutaway.core.result import Result

Cutaway = Callable[..., Any]
MARGIN = Path(__file__).parents[1] / "plugin_package" / "src" / "cutaway_margin" / "margin.py"
FRANCE = "The capital of France is"


def margin(model: Path, *words: str | Path) -> list[str]:
    return ["--plugin", str(MARGIN), "run", "margin", "--model", str(model), *map(str, words)]


def record(text: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(text)
    return read


def test_a_method_is_run_on_prompts_and_drawn(cutaway: Cutaway, model_folder: Path) -> None:
    said = cutaway(*margin(model_folder, "--prompt", FRANCE, "-p", "The capital of Italy is", "runner_up=3"))
    assert said.status == 0
    assert "Lead of the favourite token (logits)" in said.out
    assert "The capital of France is" in said.out
    assert f"Repeat: cutaway --plugin={MARGIN} run margin --model {model_folder}" in said.out
    assert said.out.rstrip().endswith("runner_up=3")


def test_the_command_that_is_printed_repeats_the_result(cutaway: Cutaway, model_folder: Path) -> None:
    words = (
        "-p",
        FRANCE,
        "--contrast",
        "The capital of Italy is",
        "--answer",
        " Paris",
        "--wrong",
        " Rome| Italy",
    )
    first = record(cutaway(*margin(model_folder, *words, "runner_up=3", "--json")).out)
    repeated = shlex.split(first["provenance"]["command"])
    assert repeated[0] == "cutaway"
    again = record(cutaway(*repeated[1:], "--json").out)
    assert again["id"] == first["id"]
    assert again["provenance"]["command"] == first["provenance"]["command"]
    assert again["provenance"]["task"]["sha256"] == first["provenance"]["task"]["sha256"]


def test_a_named_task_takes_its_own_parameters(cutaway: Cutaway, model_folder: Path) -> None:
    said = record(cutaway(*margin(model_folder, "--task", "ioi", "task.n=8", "task.order=baba", "--json")).out)
    assert said["provenance"]["task"]["name"] == "ioi"
    assert said["provenance"]["task"]["parameters"] == {"n": 8, "order": "baba"}
    assert "--task ioi task.n=8 task.order=baba" in said["provenance"]["command"]


def test_a_file_of_prompts_is_a_task(cutaway: Cutaway, model_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("prompt,answer\nThe capital of France is, Paris\nThe capital of Italy is, Rome\n")
    said = record(cutaway(*margin(model_folder, "--file", file, "--metric", "rank", "--json")).out)
    assert said["provenance"]["task"]["n"] == 2
    assert f"--file {file} --metric=rank" in said["provenance"]["command"]


def test_a_result_is_kept_where_it_is_asked_for(cutaway: Cutaway, model_folder: Path, tmp_path: Path) -> None:
    kept = [tmp_path / "r.nc", tmp_path / "r.json"]
    said = cutaway(*margin(model_folder, "-p", FRANCE, "--out", kept[0], "-o", kept[1]))
    assert said.status == 0
    assert f"cutaway show {kept[0]} draws it again" in said.out.replace("\n", " ")
    first, second = (Result.load(path) for path in kept)
    assert first.id == second.id
    assert first.provenance["method"] == "margin"


def test_json_is_alone_on_standard_output(cutaway: Cutaway, model_folder: Path) -> None:
    said = cutaway(*margin(model_folder, "-p", FRANCE, "--json"))
    assert record(said.out)["metrics"]["mean_margin"] > 0
    assert "Repeat: cutaway" in said.err


def test_how_the_model_is_opened_is_part_of_the_command(cutaway: Cutaway, model_folder: Path) -> None:
    said = record(cutaway(*margin(model_folder, "-p", FRANCE, "--dtype", "bfloat16", "--device=cpu", "--json")).out)
    assert said["provenance"]["model"]["dtype"] == "bfloat16"
    assert "--device=cpu --dtype=bfloat16" in said["provenance"]["command"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("run logit_lns -p x", "There is no method 'logit_lns'; "),
        ("run margin -p x runnerup=3", "'margin' has no parameter 'runnerup'; did you mean 'runner_up'?"),
        (
            "run margin -p x runner_up=1",
            "is 1; it should be greater than or equal to 2. Write for example runner_up=2.",
        ),
        ("run margin -p x runner_up", "'runner_up' is not a parameter; parameters are written key=value"),
        (
            "run margin -p x runner_up=3 runner_up=4",
            "'runner_up' was given twice; each parameter has one value.",
        ),
        (
            "run margin --task ioi task.m=3",
            "'ioi' has no parameter 'm'; Its parameters: n, seed, contrast, order.",
        ),
        ("run margin --task oi", "There is no task 'oi'; did you mean 'ioi'?"),
        ("run margin --task ioi -p x", "Both the task 'ioi' and prompts were given; a run has one task."),
        ("run margin -p x task.n=3", "task.n was given without a task; it belongs to --task."),
        ("run margin", "There is nothing to run on; a task is given by name, by prompts, or by a file"),
        ("run margin --file absent.csv", "There is no file 'absent.csv'"),
        (
            "run margin -p x --answer a --answer b",
            "Task 'prompts' has 1 prompts and 2 answers; there is one for each",
        ),
        ("run margin -p x --out r.foo", "The file r.foo ends in '.foo'; the suffixes are .csv, "),
        (
            "run margin -p x --out no/such/r.nc",
            "The folder no/such does not exist; a file is written into one.",
        ),
        ("run margin -p x -m no/such/model", "no/such/model"),
        ("run margin -p x --metric rang", "There is no metric 'rang'; did you mean 'rank'?"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_status_two(cutaway: Cutaway, words: str, sentence: str) -> None:
    said = cutaway("--plugin", MARGIN, *shlex.split(words))
    assert said.status == 2
    assert sentence in " ".join(said.err.split())
    assert "Traceback" not in said.err
    assert said.out == ""


def test_help_says_all_about_a_method(cutaway: Cutaway) -> None:
    said = cutaway("--plugin", MARGIN, "run", "margin", "--help")
    assert said.status == 0
    assert "By how much does the favourite lead?" in said.out
    assert "rank of the token that is compared with" in " ".join(said.out.split())
    assert "cutaway --plugin margin.py run margin --task ioi runner_up=2" in said.out


def test_help_fits_the_terminal(cutaway: Cutaway) -> None:
    for words in ("--help", "run --help", "list --help", "new --help", "list", "list ioi", "list views"):
        said = cutaway(words)
        assert said.status == 0, words
        assert max(map(len, said.out.splitlines())) <= 80, words


def test_ctrl_c_ends_with_a_sentence_and_status_130(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        textwrap.dedent(
            """
            import time
            import cutaway as ca
            from cutaway.core.progress import track

            @ca.method(asks="How long is it?")
            def slow(model, task):
                '''Takes its time.'''
                print("started", flush=True)
                for _ in track(range(600), "waiting"):
                    time.sleep(0.1)
            """
        )
    )
    words = ["--plugin", str(tmp_path / "slow.py"), "run", "slow", "-m", str(model_folder), "-p", "x"]
    command = [sys.executable, "-m", "cutaway", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "Stopping after this step" in error
    assert error.rstrip().endswith("Cancelled while waiting.")
    assert "Traceback" not in error
