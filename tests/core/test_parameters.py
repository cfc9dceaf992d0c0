"""Parameters: one signature, one schema; values from Python and strings from a command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from cutaway.core import parameters
from cutaway.core.errors import MethodError, ParameterError


def lens(
    model: Unknown,  # the types of the nouns are never looked at
    task: Unknown,
    *,
    top: Annotated[int, Field(ge=1, description="tokens shown")] = 5,
    sites: str = "resid_post[*]",
    how: Literal["zero", "mean"] = "zero",
    scales: Sequence[float] = (-4.0, 0.0),
    layers: list[int] | None = None,
    position: int | str = -1,
    strict: bool = False,
    names: tuple[str, ...] = ("a",),
) -> None:
    """Something with a parameter of every kind."""


def needy(model: Any, task: Any, *, toward: str) -> None:
    """One parameter without a default."""


def bare(model: Any, task: Any) -> None:
    """No parameters."""


def test_defaults_are_filled_in() -> None:
    values = parameters.validate(lens, {"top": 3})
    assert values["top"] == 3
    assert values["sites"] == "resid_post[*]"
    assert values["layers"] is None


def test_schema_is_json_with_help_bounds_and_choices() -> None:
    schema = json.loads(json.dumps(parameters.schema_of(lens)))
    assert schema["properties"]["top"] == {
        "default": 5,
        "description": "tokens shown",
        "minimum": 1,
        "title": "Top",
        "type": "integer",
    }
    assert schema["properties"]["how"]["enum"] == ["zero", "mean"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("top", "3", 3),
        ("strict", "true", True),
        ("how", "mean", "mean"),
        ("layers", "1,2, 3", [1, 2, 3]),
        ("layers", "[4]", [4]),
        ("layers", "none", None),
        ("scales", "-1,0.5", [-1.0, 0.5]),
        ("position", "3", 3),
        ("position", "subject", "subject"),
        ("names", "z[1,2], q[3]", ("z[1,2]", "q[3]")),
        ("sites", "z[1,2], q[3]", "z[1,2], q[3]"),
    ],
)
def test_strings_are_read(name: str, text: str, value: Any) -> None:
    assert parameters.parse(lens, {name: text})[name] == value


def test_dashes_and_underscores_are_the_same_on_a_command_line() -> None:
    def method(model: Any, task: Any, *, runner_up: int = 2) -> None:
        """A name with an underscore."""

    assert parameters.parse(method, {"runner-up": "4"}) == {"runner_up": 4}


@given(
    st.fixed_dictionaries(
        {
            "top": st.integers(1, 10**6),
            "sites": st.text(min_size=1),
            "how": st.sampled_from(["zero", "mean"]),
            "scales": st.lists(st.floats(allow_nan=False, allow_infinity=False)),
            "layers": st.none() | st.lists(st.integers()),
            "strict": st.booleans(),
            "names": st.lists(st.text()).map(tuple),
        }
    )
)
def test_what_is_written_is_read_back(values: dict[str, Any]) -> None:
    texts = {name: parameters.to_text(value) for name, value in values.items()}
    read = parameters.parse(lens, texts)
    assert {name: read[name] for name in values} == values


def test_python_values_keep_their_types() -> None:
    values = parameters.validate(lens, {"top": np.int64(7), "scales": [1, np.float32(2.5)], "names": ["a", "b"]})
    assert values["top"] == 7
    assert type(values["top"]) is int
    assert values["scales"] == [1.0, 2.5]
    assert values["names"] == ("a", "b")


@pytest.mark.parametrize(("name", "value"), [("top", "3"), ("top", True), ("top", 2.5), ("strict", 1), ("sites", 3)])
def test_python_values_of_another_type_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=f"parameter '{name}' of 'lens' is"):
        parameters.validate(lens, {name: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tops": 3}, "'lens' has no parameter 'tops'; did you mean 'top'? Its parameters: top, sites, how,"),
        (
            {"top": 0},
            "'top' of 'lens' is 0; it should be greater than or equal to 1. Write for example top=5.",
        ),
        ({"how": "zeros"}, "it should be 'zero' or 'mean'; did you mean 'zero'? Write for example how=zero."),
    ],
)
def test_a_wrong_name_or_value_is_said_in_three_parts(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError) as raised:
        parameters.validate(lens, values)
    assert message in str(raised.value)


def test_a_command_line_value_is_shown_as_it_was_typed() -> None:
    with pytest.raises(ParameterError, match="parameter 'top' of 'lens' is three; it should be a valid integer"):
        parameters.parse(lens, {"top": "three"})


def test_a_parameter_without_default_must_be_given() -> None:
    with pytest.raises(ParameterError, match=r"'toward' of 'needy' has no default and was not given"):
        parameters.validate(needy, {})
    assert parameters.validate(needy, {"toward": "x"}) == {"toward": "x"}


def test_a_method_without_parameters_says_so() -> None:
    assert parameters.validate(bare, {}) == {}
    with pytest.raises(ParameterError, match=r"'bare' has no parameter 'top'; it takes none."):
        parameters.validate(bare, {"top": 1})


def test_types_that_no_command_line_can_say_are_refused_where_they_are_written() -> None:
    def method(model: Any, task: Any, *, vector: np.ndarray) -> None:
        """A tensor as a parameter."""

    with pytest.raises(MethodError, match=r"parameter 'vector' of 'method' has the type .*ndarray"):
        parameters.schema_of(method)


def test_a_parameter_without_a_type_is_refused() -> None:
    def method(model: Any, task: Any, *, top=5) -> None:  # type: ignore[no-untyped-def]
        """No type."""

    message = "parameter 'top' of 'method' has no type; .* Write for example `top: int = 5`"
    with pytest.raises(MethodError, match=message):
        parameters.schema_of(method)


def test_names_that_pydantic_keeps_for_itself_are_free() -> None:
    def method(model: Any, task: Any, *, copy: int = 1, model_config: str = "x", json: bool = True) -> None:
        """Reserved names."""

    assert parameters.validate(method, {"copy": 2}) == {"copy": 2, "model_config": "x", "json": True}


def test_chosen_are_the_values_that_differ_from_the_defaults() -> None:
    values = parameters.validate(lens, {"top": 9, "how": "zero"})
    assert parameters.chosen(lens, values) == {"top": 9}
