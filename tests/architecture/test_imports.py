"""Who may import whom, and what may be imported at all before it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "xarray", "numpy")


def test_the_layers_hold() -> None:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as c; c()",
        "--no-cache",
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "100"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def loaded_after(code: str) -> list[str]:
    program = f"{code}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found: list[str] = [name.strip("'") for name in done.stdout.strip().strip("[]").split(", ") if name]
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import cutaway",
        "import cutaway\ncutaway.method, cutaway.Task, cutaway.Site, cutaway.patch, dir(cutaway.tasks)",
        "import cutaway.core.method, cutaway.core.registry, cutaway.core.task, cutaway.core.site",
        "import cutaway.cli.main",
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(code: str) -> None:
    assert loaded_after(code) == []


@pytest.mark.parametrize("module", ["cutaway.core.view", "cutaway.core.result", "cutaway.store.netcdf"])
def test_looking_at_results_needs_no_torch(module: str) -> None:
    assert "torch" not in loaded_after(f"import {module}")


def test_importing_changes_nothing_in_the_process() -> None:
    code = (
        "import sys, warnings, signal, locale, os\n"
        "before = (sys.excepthook, sys.displayhook, list(warnings.filters), signal.getsignal(signal.SIGINT),"
        " dict(os.environ), sys.getrecursionlimit(), list(sys.meta_path), list(sys.path))\n"
        "import cutaway, cutaway.cli.main, cutaway.core.registry\n"
        "after = (sys.excepthook, sys.displayhook, list(warnings.filters), signal.getsignal(signal.SIGINT),"
        " dict(os.environ), sys.getrecursionlimit(), list(sys.meta_path), list(sys.path))\n"
        "assert before == after"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_and_list_are_quick() -> None:
    """As ratios, so that a slow machine does not fail it: the figures themselves are in the bench."""

    def seconds(*words: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        return time.perf_counter() - start

    works = {"typer": ("-c", "import typer"), "import": ("-c", "import cutaway"), "list": ("-m", "cutaway", "list")}
    best = dict.fromkeys(works, float("inf"))
    for _ in range(15):  # in turns: one load for all; the least time of a work is known the better, the more there are
        best = {name: min(best[name], seconds(*words)) for name, words in works.items()}
        if best["import"] < best["typer"] and best["list"] < 6 * best["typer"]:
            return
    raise AssertionError(best)
