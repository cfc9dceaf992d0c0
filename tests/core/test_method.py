"""A method stays a plain function, and gains checks, a schema and provenance."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import pytest
import xarray as xr
from pydantic import Field

from cutaway.core.errors import MethodError, ParameterError, TaskError
from cutaway.core.method import as_task, format, method, renderer, task
from cutaway.core.result import Result
from cutaway.core.task import Task


@dataclass(frozen=True)
class Build:
    features: frozenset[str] = frozenset({"causal", "unembedding"})


@dataclass(frozen=True)
class Network:
    """The least that the core asks of a model: see `OpenModel`."""

    name: str = "toy"
    source: str = "made by hand"
    dtype: str = "torch.float32"
    device: str = "cpu"
    attention_implementation: str = "eager"
    anatomy: Any = field(default_factory=Build)


@method(asks="How long are the prompts?", cites="nobody2020", needs=("causal",))
def lengths(
    model: Network,
    task: Task,
    *,
    factor: Annotated[int, Field(ge=1, description="multiplies every length")] = 1,
    names: Sequence[str] = ("characters",),
) -> Result:
    """Number of characters of each prompt."""
    values = np.array([[len(p) * factor for p in task.prompts] for _ in names])
    return Result(xr.Dataset({"length": (("name", "prompt"), values)}, coords={"name": list(names)}))


@method(asks="What differs?", needs=("contrast", "answers"))
def differences(model: Network, task: Task) -> Result:
    """Needs more of a task."""
    return Result(xr.Dataset({"n": ((), len(task.contrasts))}))


@method(asks="Is this a result?")
def wrong_return(model: Network, task: Task) -> Result:
    """Returns something else."""
    return {"n": 1}  # type: ignore[return-value]


@task(asks="Can it count?", cites="nobody2020")
def counting(*, n: Annotated[int, Field(ge=1)] = 3, seed: int = 0) -> Task:
    """Numbers in a row."""
    return Task.from_prompts([f"{i} {i + 1}" for i in range(n)], name="counting")


FRANCE = Task.from_prompts(["The capital of France is"], ["The capital of Italy is"], [" Paris"], [" Rome"])


def test_a_method_is_called_like_the_function_it_was() -> None:
    result = lengths(Network(), FRANCE, factor=2)
    assert result.data["length"].values.tolist() == [[48]]
    assert lengths.__name__ == "lengths"
    assert lengths.__doc__ == "Number of characters of each prompt."
    assert list(inspect.signature(lengths).parameters) == ["model", "task", "factor", "names"]
    assert lengths(model=Network(), task=FRANCE).data["length"].values.tolist() == [[24]]


def test_a_method_is_copied_and_pickled_as_a_function_is() -> None:
    assert copy.deepcopy(lengths) is lengths
    assert lengths.__reduce__() == "lengths"


@pytest.mark.parametrize("given", ["one prompt", ["one prompt"], ("one prompt",), Task.from_prompts("one prompt")])
def test_prompts_become_a_task(given: Any) -> None:
    assert as_task(given).prompts == ("one prompt",)
    assert lengths(Network(), given).data["length"].values.tolist() == [[10]]


@pytest.mark.parametrize("given", [7, None, [], [1, 2], {"prompt": "x"}])
def test_what_is_no_task_is_refused(given: Any) -> None:
    with pytest.raises(TaskError, match=r"a task cannot be made from .*; it is a Task, a prompt, or a list of prompts"):
        lengths(Network(), given)


def test_parameters_are_checked() -> None:
    with pytest.raises(ParameterError, match=r"'lengths' has no parameter 'factr'; did you mean 'factor'\?"):
        lengths(Network(), FRANCE, factr=2)  # type: ignore[call-arg]
    with pytest.raises(ParameterError, match=r"'factor' of 'lengths' is 0; it should be greater than or equal to 1"):
        lengths(Network(), FRANCE, factor=0)


def test_parameters_go_by_name() -> None:
    with pytest.raises(ParameterError) as raised:
        lengths(Network(), FRANCE, 2)  # type: ignore[call-arg]
    assert str(raised.value) == (
        "'lengths' was given 2 (int) by position; parameters are given by name (factor, names). "
        "Write lengths(…, factor=2)."
    )


def test_what_the_model_lacks_is_said_before_anything_runs() -> None:
    headless = Network(anatomy=Build(frozenset()))
    with pytest.raises(MethodError) as raised:
        lengths(headless, FRANCE)
    assert str(raised.value) == (
        "'lengths' cannot run: model 'toy' has no causal mask; it needs a causal mask. "
        "`cutaway check MODEL` lists what a model has."
    )


def test_what_the_task_lacks_is_said() -> None:
    assert differences(Network(), FRANCE).data["n"].item() == 1
    with pytest.raises(
        MethodError, match=r"task 'prompts' has no contrasts; it needs contrasts and answers\. .*--contrast"
    ):
        differences(Network(), "one prompt")
    with pytest.raises(MethodError, match="task 'prompts' has no answers"):
        differences(Network(), Task.from_prompts("a b", contrasts="a c"))


def test_the_result_says_where_it_comes_from() -> None:
    record = json.loads(json.dumps(dict(lengths(Network(), counting(n=2), factor=3).provenance)))
    assert record["method"] == "lengths"
    assert record["cites"] == "nobody2020"
    assert record["parameters"] == {"factor": 3, "names": ["characters"]}
    assert record["model"] == {
        "name": "toy",
        "source": "made by hand",
        "dtype": "float32",
        "device": "cpu",
        "attention": "eager",
    }
    assert record["task"]["name"] == "counting"
    assert record["task"]["parameters"] == {"n": 2}
    assert record["command"] == "cutaway run lengths --model toy --task counting task.n=2 factor=3"
    assert record["seconds"] >= 0
    assert record["started"].endswith("+00:00")


def test_the_same_question_gives_the_same_result() -> None:
    first, second = (lengths(Network(), FRANCE, names=["a"], factor=2) for _ in range(2))
    assert first.id == second.id == lengths(Network(), FRANCE, factor=2, names=["a"]).id


def test_a_method_must_return_a_result() -> None:
    with pytest.raises(MethodError, match=r"'wrong_return' returned .*dict.*; a method returns a Result"):
        wrong_return(Network(), FRANCE)


def test_a_task_builder_makes_tasks_and_checks_its_parameters() -> None:
    assert len(counting(n=5)) == 5
    assert counting.schema()["properties"]["n"]["minimum"] == 1
    assert counting.parse({"n": "4"}) == {"n": 4, "seed": 0}
    with pytest.raises(ParameterError, match="'n' of 'counting' is 0"):
        counting(n=0)
    with pytest.raises(ParameterError, match=r"'counting' was given 5 \(int\) by position"):
        counting(5)  # type: ignore[call-arg]


def test_renderers_and_formats_stay_functions() -> None:
    def draw(result: Result) -> str:
        return result.id

    assert renderer("plain")(draw) is draw
    assert format("plain", suffixes=(".txt",))(draw) is draw
    with pytest.raises(MethodError, match="'a b' cannot be a name"):
        renderer("a b")
