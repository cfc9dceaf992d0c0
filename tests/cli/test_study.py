"""`cutaway study`: what there is, what came out, and what an interrupted run leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cutaway = Callable[..., Any]
ECHO = Path(__file__).parents[1] / "runtime" / "echo_study.py"


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTAWAY_STUDIES", str(tmp_path / "studies"))
    monkeypatch.setenv("CUTAWAY_RECORDS", str(tmp_path / "records"))
    monkeypatch.delenv("ECHO_FAILS", raising=False)
    monkeypatch.setenv("COLUMNS", "100")


def words(text: str) -> str:
    return " ".join(text.split())


def test_every_paper_is_listed(cutaway: Cutaway) -> None:
    listed = json.loads(cutaway("study list --json").out)
    papers = {each["item"]: each for each in listed}
    assert len([item for item in papers if item[0] in "PA"]) == 53
    assert papers["P1"]["status"] == "to come"
    assert papers["P26"]["link"].endswith("2304.01373")
    assert {"name": "ablate", "exists": True} in papers["P1"]["methods"]
    said = words(cutaway("study list").out)
    assert "How many neurons does it take to represent a feature?" in said


def test_a_run_shows_claims_picture_and_what_differs(cutaway: Cutaway, tmp_path: Path) -> None:
    page = tmp_path / "study.html"
    said = cutaway("--plugin", ECHO, "study", "run", "echo_study", "--html", page)
    assert said.status == 0, said.err
    out = words(said.out)
    for piece in ("The favourite", "1.0 (from", "0.5 (nothing)", "phenomenon"):  # columns break lines
        assert piece in out
    assert "Two largest logits" in out
    assert "What differs: All of it is another thing than what the paper did." in out
    assert "Repeat: cutaway study run echo_study/echo_study --scale small" in out
    assert "echo_study/echo_study at small scale, seed 0. It takes about 1 seconds on two cores." in words(said.err)
    assert f"Recorded in {tmp_path / 'records'}." in said.err
    text = page.read_text()
    assert "The favourite leads" in text
    assert "<svg" in text


def test_what_was_recorded_is_shown_again(cutaway: Cutaway, tmp_path: Path) -> None:
    cutaway("--plugin", ECHO, "study", "run", "echo_study", "--seed", "4", "--json")
    shown = json.loads(cutaway("--plugin", ECHO, "study", "show", "echo_study", "--json").out)
    assert shown["status"] == "recorded"
    assert shown["record"]["seed"] == 4
    assert shown["verdicts"] == {"same phenomenon at small scale": 1, "not tested here": 1}
    assert "Two largest logits" in cutaway("--plugin", ECHO, "study", "show", "echo_study").out
    report = tmp_path / "report.html"
    said = cutaway("--plugin", ECHO, "study", "report", "--html", report)
    assert "The favourite" in said.out
    assert report.read_text().count("<section") >= 53


def test_a_tiny_run_is_not_recorded(cutaway: Cutaway, tmp_path: Path) -> None:
    said = cutaway("--plugin", ECHO, "study", "run", "echo_study", "--scale", "tiny")
    assert "A tiny run tests no claim: no record." in said.err
    assert not (tmp_path / "records").exists()


def test_a_failed_run_says_what_is_kept_and_goes_on(cutaway: Cutaway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_FAILS", "picture")
    with pytest.raises(RuntimeError, match="failed at picture"):
        cutaway("--plugin", ECHO, "study", "run", "echo_study")
    monkeypatch.delenv("ECHO_FAILS")
    said = cutaway("--plugin", ECHO, "study", "run", "echo_study")
    assert said.status == 0
    assert "Going on after 1 finished steps (lead)." in words(said.err)
    assert "2 of 3 steps kept from before" in words(said.out)


def test_models_are_trained_by_themselves(cutaway: Cutaway) -> None:
    assert "trained network: took" in cutaway("--plugin", ECHO, "study", "train", "echo_study").out
    assert cutaway("--plugin", ECHO, "study", "train", "echo_study").out == "trained network: was kept from before\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("study lst", "There is no action 'lst'; did you mean 'list'?"),
        ("study run", "Run was given no name; it is about one study."),
        ("study list P1", "List was given 'P1'; it is about all studies."),
        ("study run wang2022_iio --scale smal", "There is no study 'wang2022_iio';"),
        ("study show wang2022_ioi --model gpt2", "Show was given --model gpt2; only run measures a model."),
        ("study run heimersheim2023_docstring --model gpt2", "heimersheim2023_docstring was given the model 'gpt2';"),
        ("study report --html nowhere/page.html", "The folder nowhere does not exist;"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(cutaway: Cutaway, given: str, said: str) -> None:
    done = cutaway(given)
    assert done.status == 2
    assert words(done.err).startswith(said)


def test_a_stopped_run_says_how_to_go_on(tmp_path: Path) -> None:
    slow = tmp_path / "slow_study.py"
    text = ECHO.read_text().replace("echo_study", "slow_study").replace('    _fail("picture")', "    time.sleep(60)")
    slow.write_text(text.replace("import os\n", "import os\nimport time\n"))
    command = [sys.executable, "-m", "cutaway", "--plugin", str(slow), "study", "run", "slow_study"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    end = time.monotonic() + 60
    while not list((tmp_path / "studies").glob("steps/*/*/lead-*")) and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)  # the first asks for the end of the step, the second does not wait
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Stopped. Kept: lead. Go on with cutaway study run slow_study/slow_study --scale small" in words(err)
