"""Shapley values, LIME and paths: the axioms, against definitions that are written out."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.task import Task
from cutaway.methods.attribute.deletion import scores_without
from cutaway.methods.attribute.discretized_integrated_gradients import discretized_integrated_gradients, word_path
from cutaway.methods.attribute.gradient_shap import gradient_shap
from cutaway.methods.attribute.integrated_gradients import integrated_gradients
from cutaway.methods.attribute.kernel_shap import coalitions, kernel_shap, shapley
from cutaway.methods.attribute.lime import lime, random_masks, straight_line
from cutaway.methods.attribute.neutral import neutral_embedding, vocabulary
from cutaway.methods.attribute.occlusion import occlusion, seen_places
from cutaway.methods.attribute.sequential_integrated_gradients import sequential_integrated_gradients
from cutaway.methods.attribute.targets import targets_of
from cutaway.models.model import Model

SHORT = Task.from_prompts(["When Mary and John went"], answers=[" to"])


def by_definition(places: int, value: dict[frozenset[int], float]) -> list[float]:
    """Shapley values from the game's value at every set."""
    found = []
    for player in range(places):
        others = [place for place in range(places) if place != player]
        total = 0.0
        for size in range(places):
            weight = factorial(size) * factorial(places - size - 1) / factorial(places)
            for team in map(frozenset, combinations(others, size)):
                total += weight * (value[team | {player}] - value[team])
        found.append(total)
    return found


def game(places: int, seed: int) -> dict[frozenset[int], float]:
    random = np.random.default_rng(seed)
    teams = [frozenset(team) for size in range(places + 1) for team in combinations(range(places), size)]
    return {team: float(random.normal()) if team else 0.0 for team in teams}


def solved(places: int, value: dict[frozenset[int], float], samples: int = 1000, seed: int = 0) -> np.ndarray:
    kept, weights = coalitions(places, samples, seed)
    gains = np.array([value[frozenset(np.flatnonzero(row).tolist())] for row in kept])
    return shapley(kept, weights, gains, value[frozenset(range(places))])


@given(st.integers(1, 6), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_all_sets_give_the_shapley_values(places: int, seed: int) -> None:
    value = game(places, seed)
    assert solved(places, value) == pytest.approx(by_definition(places, value), abs=1e-8)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_dummy_gets_nothing_and_twins_get_the_same(seed: int) -> None:
    inner = game(3, seed)
    with_dummy = {team: inner[team - {3}] for team in game(4, 0)}
    assert solved(4, with_dummy)[3] == pytest.approx(0, abs=1e-8)
    twins = {team: float(len(team & {0, 1})) ** 2 + inner[frozenset()] + (2 in team) * seed for team in game(3, 0)}
    found = solved(3, twins)
    assert found[0] == pytest.approx(found[1], abs=1e-8)


def test_drawn_sets_come_close_and_add_up() -> None:
    additive = {team: float(sum((place + 1) ** 2 for place in team)) for team in game(8, 0)}
    drawn = solved(8, additive, samples=64)
    assert drawn == pytest.approx([(place + 1) ** 2 for place in range(8)], abs=1e-6)
    value = game(8, 3)
    found = solved(8, value, samples=200)
    assert found.sum() == pytest.approx(value[frozenset(range(8))], abs=1e-8)
    assert np.corrcoef(found, by_definition(8, value))[0, 1] > 0.8


def test_it_is_the_game_of_texts_with_holes(model: Model) -> None:
    result = kernel_shap(model, SHORT, score="logit", continuation=" to the", samples=2000, controls=5)
    targets = targets_of(model, SHORT, "logit", continuation=" to the")
    inside = seen_places(model, targets, 0)
    teams = list(game(len(inside), 0))
    out = [[place for i, place in enumerate(inside) if i not in team] for team in teams]
    scores = scores_without(model, targets, 0, out, neutral_embedding(model, "mean"))
    for target, position in enumerate(targets.positions[0]):
        nothing = scores[teams.index(frozenset()), target]
        value = {team: scores[row, target] - nothing for row, team in enumerate(teams)}
        expected = by_definition(len(inside), value)
        for place, number in zip(inside, expected, strict=True):
            found = result.data["attribution"].values[0, target, place]
            if place <= position:
                assert found == pytest.approx(number, abs=2e-5)
            else:
                assert np.isnan(found)


@given(st.integers(2, 9), st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_straight_line_is_found(places: int, seed: int) -> None:
    weights = np.random.default_rng(seed).normal(size=places)
    kept = random_masks(places, 400, seed)
    found, fit = straight_line(kept, kept @ weights + 3.0, width=0.25, ridge=0.0)
    assert found == pytest.approx(weights, abs=1e-6) and fit == pytest.approx(1, abs=1e-6)


def test_lime_has_the_sign_of_occlusion_where_one_token_decides(straight: Model, one: Task) -> None:
    found = lime(straight, one, score="logit", neutral="zero", controls=0, ridge=0.0)
    held = occlusion(straight, one, score="logit", instead="zero", controls=0)
    assert np.nan_to_num(found.data["attribution"].values) == pytest.approx(
        np.nan_to_num(held.data["attribution"].values), abs=1e-5
    )
    assert found.metrics["r2"] == pytest.approx(1, abs=1e-6)


def test_a_path_of_one_token_is_occlusion(model: Model, one: Task) -> None:
    found = sequential_integrated_gradients(model, one, steps=40, score="log_probability", controls=0)
    held = occlusion(model, one, instead="mean", score="log_probability", controls=0)
    inside = ~np.isnan(held.data["attribution"].values)
    assert found.data["attribution"].values[inside] == pytest.approx(held.data["attribution"].values[inside], abs=2e-3)
    assert found.metrics["gap"] < 2e-2  # type: ignore[operator]
    rough = sequential_integrated_gradients(model, one, steps=2, score="log_probability", controls=0)
    assert rough.metrics["gap"] > found.metrics["gap"]  # type: ignore[operator]


def test_a_path_of_words_goes_one_way_and_adds_up(model: Model, one: Task) -> None:
    nothing, every = neutral_embedding(model, "mean"), vocabulary(model)
    targets = targets_of(model, one, "logit")
    text = every[list(targets.ids[0])]
    path = word_path(text, nothing, every, steps=12, neighbours=20)
    assert torch.equal(path[-1], text) and torch.allclose(path[0], nothing.expand_as(text)) and len(path) == 13
    moves = (path[1:] - path[:-1]) * (text - nothing)
    assert (moves >= -1e-9).all()
    assert len(torch.unique(path.flatten(1), dim=0)) == 13, "every step goes on"
    result = discretized_integrated_gradients(model, one, steps=12, score="logit", controls=0)
    gap = np.nansum(result.data["attribution"].values[0]) - result.data["change_from_baseline"].values[0]
    assert result.metrics["completeness_gap"] == pytest.approx(abs(gap), abs=1e-5)


def test_random_points_come_close_to_the_integral(model: Model, one: Task) -> None:
    asked = {"baseline": "mean", "score": "log_probability", "controls": 0}
    exact = integrated_gradients(model, one, **asked, tolerance=1e-4, max_steps=300)
    drawn = gradient_shap(model, one, **asked, samples=400, noise=0.0)
    far = np.abs(exact.data["attribution"].values - drawn.data["attribution"].values)
    assert np.nanmax(far) < 6 * drawn.metrics["largest_standard_error"]  # type: ignore[operator]
    assert gradient_shap(model, one, **asked, seed=1).id != gradient_shap(model, one, **asked, seed=2).id


@pytest.mark.parametrize(
    "method", [sequential_integrated_gradients, discretized_integrated_gradients, gradient_shap, kernel_shap]
)
def test_a_linear_network_is_known_exactly(straight: Model, one: Task, method: object) -> None:
    """There only the last token is seen: it has all of the change, and the others nothing."""
    asked = {"noise": 0.0} if method is gradient_shap else {}
    name = {"neutral": "zero"} if method is kernel_shap else {"baseline": "zero"}
    result = method(straight, one, score="logit", controls=0, **asked, **name)  # type: ignore[operator]
    found = np.nan_to_num(result.data["attribution"].values[0])
    targets = targets_of(straight, one, "logit")
    zero = neutral_embedding(straight, "zero")
    change = scores_without(straight, targets, 0, [(), [len(found) - 1]], zero)[:, 0]
    assert found[-1] == pytest.approx(change[0] - change[1], abs=1e-4)
    assert np.allclose(found[:-1], 0, atol=1e-5)
