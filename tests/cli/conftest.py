"""A tiny model in a folder, a stranger's method in a file, and the command line run in this process."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cutaway.cli.main import run_words
from cutaway.core import registry


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cutaway import tasks
    from cutaway.testing import texts_of, tiny_folder

    texts = ["The capital of France is Paris", "The capital of Italy is Rome", *texts_of(tasks.ioi(n=8))]
    return tiny_folder(tmp_path_factory.mktemp("tiny-llama"), texts=texts)


@pytest.fixture
def cutaway(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Run `cutaway WORDS` here; the width of the terminal is 80."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(registry, "_files", {})

    def run(*words: str | Path) -> Said:
        given = shlex.split(words[0]) if len(words) == 1 and isinstance(words[0], str) else [str(w) for w in words]
        capfd.readouterr()
        status = run_words(given)
        out, err = capfd.readouterr()
        return Said(status, out, err)

    return run
