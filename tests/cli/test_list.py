"""`cutaway list`: what there is, quickly and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutaway.core import registry, view

Cutaway = Callable[..., Any]
MARGIN = Path(__file__).parents[1] / "plugin_package" / "src" / "cutaway_margin" / "margin.py"


def test_methods_and_tasks_are_listed_with_question_parameters_and_citation(cutaway: Cutaway) -> None:
    said = cutaway("list")
    assert said.status == 0
    words = " ".join(said.out.split())
    assert "Methods" in words
    assert "Tasks" in words
    assert "ioi Who is given the thing?" in words
    assert "n=50 seed=0 contrast='abc'" in words
    assert "wang2022" in words


@pytest.mark.parametrize("section", ["methods", "tasks", "renderers", "formats"])
def test_a_section_has_every_entry(cutaway: Cutaway, section: str) -> None:
    listed = json.loads(cutaway("list", section, "--json").out)
    assert [entry["name"] for entry in listed] == [e.name for e in registry.entries(section[:-1])]
    shown = cutaway("list", section).out
    assert all(entry["name"] in shown for entry in listed)


def test_json_has_all_that_is_known(cutaway: Cutaway) -> None:
    everything = json.loads(cutaway("list", "--json").out)
    assert sorted(everything) == ["formats", "methods", "renderers", "studies", "tasks"]
    (ioi,) = [entry for entry in everything["tasks"] if entry["name"] == "ioi"]
    assert ioi["cites"] == "wang2022"
    assert ioi["distribution"] == "cutaway"
    assert ioi["module"] == "cutaway.data.tasks.ioi"
    assert {"name": "n", "type": "int", "default": "50", "help": "how many prompts"} in ioi["parameters"]


def test_views_are_listed_with_their_parts(cutaway: Cutaway) -> None:
    listed = json.loads(cutaway("list", "views", "--json").out)
    assert tuple(entry["name"] for entry in listed) == view.KINDS
    (heatmap,) = [entry for entry in listed if entry["name"] == "heatmap"]
    assert heatmap["roles"] == {"value": True, "x": True, "y": True, "text": False}
    assert "value x y [text]" in cutaway("list", "views").out


def test_one_method_is_told_about_in_full(cutaway: Cutaway) -> None:
    said = cutaway("--plugin", MARGIN, "list", "margin")
    words = " ".join(said.out.split())
    assert "margin/margin method of margin.py" in words
    assert "needs: unembedding" in words
    assert "runner_up int 2 rank of the token that is compared with" in words
    record = json.loads(cutaway("--plugin", MARGIN, "list", "margin", "--json").out)
    assert record["needs"] == ["unembedding"]


def test_choices_are_written_out(cutaway: Cutaway) -> None:
    assert "both | baba | abba" in cutaway("list", "ioi").out


def test_an_unknown_name_gets_the_nearest(cutaway: Cutaway) -> None:
    said = cutaway("list", "metods")
    assert said.status == 2
    assert said.err.startswith("There is no method, task, study or section 'metods'; did you mean 'methods'?")


def test_a_plug_in_file_that_is_absent_is_a_sentence(cutaway: Cutaway, tmp_path: Path) -> None:
    said = cutaway("--plugin", tmp_path / "absent.py", "list")
    assert said.status == 2
    assert "absent.py cannot be read: No such file or directory" in " ".join(said.err.split())


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["list"],
        ["list", "--json"],
        ["list", "ioi"],
        ["run", "--help"],
        ["--version"],
        ["list", "studies"],
        ["study", "list"],
        ["study", "report", "--json"],
    ],
)
def test_what_only_tells_does_not_import_torch(words: list[str]) -> None:
    code = (
        "import sys\nfrom cutaway.cli.main import run_words\n"
        f"status = run_words({words!r})\n"
        "print([m for m in ('torch', 'transformers', 'xarray', 'numpy') if m in sys.modules])\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_help_has_every_command_with_the_first_line_of_its_docstring(cutaway: Cutaway) -> None:
    from cutaway.cli.main import COMMANDS

    said = cutaway("--help")
    for command in COMMANDS:
        assert command.file.exists() == (f"│ {command.name} " in said.out), command.name
    assert "Run a method on a model and a task." in said.out


def test_the_version_is_said(cutaway: Cutaway) -> None:
    from importlib.metadata import version

    assert cutaway("--version").out == f"cutaway {version('cutaway')}\n"


def test_an_unknown_command_is_status_two(cutaway: Cutaway) -> None:
    assert cutaway("lst").status == 2
