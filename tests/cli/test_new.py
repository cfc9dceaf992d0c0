"""`cutaway new`: what is written works at once and keeps the laws."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutaway.core import registry
from cutaway.testing import METHOD_LAWS, TASK_LAWS, check_method, check_task

Cutaway = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_loose_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_files", {})


@pytest.fixture
def written(cutaway: Cutaway, tmp_path: Path) -> Path:
    """A folder with a new method and a new task."""
    for kind, name in (("method", "certainty"), ("task", "week-days")):
        said = cutaway("new", kind, name, "--folder", tmp_path)
        assert said.status == 0, said.err
        assert f"cutaway --plugin {tmp_path}" in said.out
    return tmp_path


def test_files_and_tests_are_written(written: Path) -> None:
    names = sorted(path.name for path in written.iterdir())
    assert names == ["certainty.py", "test_certainty.py", "test_week_days.py", "week_days.py"]
    assert "NAME" not in "".join(path.read_text() for path in written.iterdir())


def test_a_new_method_keeps_every_law(written: Path) -> None:
    registry.load_file(written / "certainty.py")
    assert len(METHOD_LAWS) >= 12
    check_method("certainty")


def test_a_new_task_keeps_every_law(written: Path) -> None:
    registry.load_file(written / "week_days.py")
    assert len(TASK_LAWS) >= 8
    check_task("week_days")


def test_the_tests_that_are_written_pass(written: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_week_days.py"]
    done = subprocess.run(command, cwd=written, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert f"{len(TASK_LAWS)} passed" in done.stdout


def test_what_is_written_is_clean(written: Path) -> None:
    root = Path(__file__).parents[2]
    files = sorted(str(path) for path in written.iterdir())
    for check in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, "--config", str(root / "pyproject.toml"), *files]
        done = subprocess.run([*command, "--no-cache"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_runs_from_the_command_line(cutaway: Cutaway, written: Path, model_folder: Path) -> None:
    plugins = ["--plugin", written / "certainty.py", "--plugin", written / "week_days.py"]
    words = ["run", "certainty", "-m", model_folder, "-p", "The capital of France is", "controls=5"]
    said = cutaway(*plugins, *words)
    assert said.status == 0, said.err
    assert "Entropy of the next token" in said.out
    assert "Check:" in said.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("new metod x", "There is nothing to begin called 'metod'; did you mean 'method'?"),
        ("new method 3x", "'3x' cannot name a method; a name is small letters, digits and underscores"),
        ("new method class", "'class' cannot name a method"),
        ("new method Lens", "'Lens' cannot name a method"),
        ("new task ioi", "Cutaway has a task 'ioi' already; plug-ins do not take the names of built-ins."),
    ],
)
def test_a_name_that_cannot_be_is_refused(cutaway: Cutaway, words: str, sentence: str) -> None:
    said = cutaway(words)
    assert said.status == 2
    assert sentence in " ".join(said.err.split())


def test_nothing_is_overwritten(cutaway: Cutaway, tmp_path: Path) -> None:
    (tmp_path / "test_certainty.py").write_text("precious")
    said = cutaway("new", "method", "certainty", "--folder", tmp_path)
    assert said.status == 2
    assert "test_certainty.py is there already; nothing is overwritten." in " ".join(said.err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["test_certainty.py"]
    assert (tmp_path / "test_certainty.py").read_text() == "precious"
