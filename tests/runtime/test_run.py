"""From a name and strings to a Result."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutaway.core.errors import MethodError, ParameterError, TaskError
from cutaway.core.provenance import origin_of
from cutaway.runtime.run import Prompts, split, task_from


def test_words_are_for_the_method_or_for_the_task() -> None:
    assert split(["top=3", "task.n=20", "sites=z[1]=x"]) == ({"top": "3", "sites": "z[1]=x"}, {"n": "20"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["top"], "'top' is not a parameter; parameters are written key=value"),
        (["=3"], "'=3' is not a parameter"),
        (["a=1", "a=2"], "'a' was given twice"),
        (["task.n=1", "task.n=2"], "'task.n' was given twice"),
    ],
)
def test_other_words_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        split(words)


def test_a_task_is_made_by_name_from_strings() -> None:
    task = task_from("greater-than", Prompts(), {"n": "4", "seed": "2"})
    assert (task.name, len(task), task.seed) == ("greater_than", 4, 2)


def test_a_task_is_made_from_prompts() -> None:
    task = task_from(None, Prompts(("a b", "c d"), ("a e", "c f"), (" x", " y| z"), (" u", " v")), {})
    assert task.prompts == ("a b", "c d")
    assert task.contrasts == ("a e", "c f")
    assert task.answers == ((" x",), (" y", " z"))
    assert task.metric == "logit_difference"


def test_a_task_is_made_from_a_file_and_scored_as_asked(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("prompt,answer\nTwo and two are, four\n")
    task = task_from(None, Prompts(file=file, metric="rank"), {})
    assert task.metric == "rank"
    origin = origin_of(task)
    assert origin is not None
    assert (origin.file, origin.parameters) == (str(file), {"metric": "rank"})


@pytest.mark.parametrize(
    ("name", "prompts", "texts", "error", "message"),
    [
        (None, Prompts(), {}, TaskError, "there is nothing to run on"),
        ("ioi", Prompts(("a",)), {}, TaskError, "both the task 'ioi' and prompts were given"),
        (None, Prompts(("a",), file=Path("b.csv")), {}, TaskError, "both b.csv and prompts were given"),
        (None, Prompts(("a",)), {"n": "3"}, ParameterError, "task.n was given without a task"),
        ("ioii", Prompts(), {}, TaskError, "there is no task 'ioii'; did you mean 'ioi'"),
        ("ioi", Prompts(), {"n": "many"}, ParameterError, "parameter 'n' of 'ioi' is many; it should be"),
    ],
)
def test_what_is_no_task_is_refused(
    name: str | None, prompts: Prompts, texts: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        task_from(name, prompts, texts)


def test_a_method_is_run_by_name_with_strings() -> None:
    from cutaway.core import registry
    from cutaway.runtime.run import run
    from cutaway.testing import tiny

    file = Path(__file__).parents[1] / "plugin_package" / "src" / "cutaway_margin" / "margin.py"
    registry.load_file(file)
    try:
        result = run("margin", tiny(), "When Mary and John went to the store", {"runner-up": "3"})
        assert result.provenance["parameters"] == {"runner_up": 3}
        with pytest.raises(MethodError, match="there is no method 'margine'; did you mean 'margin'"):
            run("margine", tiny(), "When", {})
    finally:
        registry._files.pop(file)
