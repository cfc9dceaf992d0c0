from __future__ import annotations

import copy

import numpy as np
import pytest
import xarray as xr

from cutaway.core import view as views
from cutaway.core.errors import ParameterError
from cutaway.core.roles import ROLES, index_of, resolve
from cutaway.core.view import KINDS, View, view_from_record, view_record


@pytest.fixture
def data() -> xr.Dataset:
    return xr.Dataset(
        {
            "effect": (("prompt", "layer", "position"), np.zeros((2, 3, 4))),
            "token": (
                ("prompt", "position"),
                np.array([["a", "b", "c", "d"], ["e", "f", "g", ""]], dtype=object),
            ),
            "score": (("layer",), np.zeros(3)),
            "pattern": (("layer", "query", "key"), np.zeros((3, 4, 4))),
            "three": (("other",), np.array(["a", "b", "c"], dtype=object)),
            "name": (("layer",), np.array(["early", "middle", "late"], dtype=object)),
        },
        coords={"layer": [4, 8, 12]},
    )


def test_there_are_ten_kinds_and_each_says_what_its_parts_are() -> None:
    assert len(KINDS) == 10
    assert set(ROLES) == set(KINDS)


def test_roles_may_be_variables_coordinates_labels_along_a_dimension_or_bare_dimensions(
    data: xr.Dataset,
) -> None:
    view = views.heatmap(value="effect", x="token", y="layer", at={"prompt": 1})
    found = resolve(view, data)
    assert found["value"].shape == (3, 4)
    assert found["x"].values.tolist() == ["e", "f", "g", ""]
    assert found["y"].values.tolist() == [4, 8, 12]
    bare = resolve(views.heatmap(value="effect", x="position", y="layer", at={"prompt": 0}), data)
    assert bare["x"].values.tolist() == [0, 1, 2, 3]


def test_the_title_is_made_from_the_roles_when_none_is_given() -> None:
    assert views.tokens(value="total_effect").title == "total effect"
    assert views.scatter(x="depth", y="norm").title == "depth, norm"


@pytest.mark.parametrize(("place", "index"), [(8, 1), (4, 0), (12.0, 2), (-1, 2), (-3, 0), ("late", 2), ("early", 0)])
def test_a_place_is_a_label_or_an_index(data: xr.Dataset, place: float | str, index: int) -> None:
    assert index_of(data, "layer", place) == index


def test_a_dimension_without_numbers_of_its_own_is_counted(data: xr.Dataset) -> None:
    assert [index_of(data, "position", place) for place in (0, 3, -1, -4)] == [0, 3, 3, 0]


def test_a_dimension_that_has_numbers_is_never_counted_by_accident(data: xr.Dataset) -> None:
    with pytest.raises(ParameterError) as error:
        index_of(data, "layer", 0)
    assert "stands at layer=0, which layer does not have" in str(error.value)
    assert "its values are 4, 8, 12" in str(error.value)
    assert 'Write at={"layer": 4}' in str(error.value)


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (views.tokens(value="effct"), ["takes its value from 'effct'", "did you mean 'effect'?"]),
        (
            views.heatmap(value="effect", x="position", y="layer"),
            [
                "shows 'effect' as its value",
                "3 dimensions (prompt, layer, position)",
                'Write at={"prompt": 0}',
            ],
        ),
        (
            views.heatmap(value="effect", x="position", y="layer", at={"promt": 0}),
            ["stands at 'promt'", "no dimension", "did you mean 'prompt'?"],
        ),
        (
            views.heatmap(value="effect", x="position", y="layer", at={"prompt": 2}),
            ["stands at prompt=2", "it has the indices 0 to 1"],
        ),
        (
            views.heatmap(value="effect", x="position", y="query", at={"prompt": 0}),
            ["along (layer, position)", "lies along (position, query)"],
        ),
        (views.curves(value="name", x="layer"), ["which holds words", "effect"]),
        (
            views.attention(value="pattern", token="three", at={"layer": 4}),
            ["labels 4 positions (query) with 3 words", "key_token"],
        ),
        (views.table(columns=["score", "token"], at={"prompt": 0}), ["along (position)", "along (layer)"]),
        (
            views.bars(value="score", label="layer", low="effect", at={"prompt": 0}),
            ["takes its low from 'effect'", "along (layer)"],
        ),
    ],
)
def test_a_view_that_does_not_fit_is_refused_in_words(data: xr.Dataset, view: View, words: list[str]) -> None:
    with pytest.raises(ParameterError) as error:
        resolve(view, data)
    for part in words:
        assert part in str(error.value)


def test_an_unknown_kind_or_part_is_refused_in_words() -> None:
    with pytest.raises(ParameterError, match=r"no view of kind 'heatmp'.*did you mean 'heatmap'\?"):
        View("heatmp", "t", {})  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=r"has no part 'vale'.*did you mean 'value'\?"):
        View("tokens", "t", {"vale": "a", "token": "b"})
    with pytest.raises(ParameterError, match="does not say what its x and y is"):
        View("heatmap", "t", {"value": "a"})
    with pytest.raises(ParameterError, match="a table has no columns"):
        views.table(columns=[])


def test_a_view_survives_records_and_copies() -> None:
    view = views.histogram(value="a", group="b", bins=7, at={"layer": -1}, title="t", note="n")
    assert view_from_record(view_record(view)) == view
    assert copy.copy(view) == view
    assert copy.deepcopy(view) == view
    assert hash(copy.deepcopy(view)) == hash(view)


def test_a_view_cannot_be_changed() -> None:
    view = views.tokens(value="a")
    with pytest.raises(AttributeError):
        view.title = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        view.roles["value"] = "b"  # type: ignore[index]
