"""Slopes add up: exactly where the rule promises it, and within the tolerance where it looks for the error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.methods.attribute.quadrature import PIECES, Evaluate, Floats, fixed_rule, integrate

# Ends and middles of the pieces that are looked at first.
FIRST = 2 * PIECES + 1

Coefficients = list[float]
numbers = st.floats(-5, 5, allow_nan=False, allow_subnormal=False)


def path(scores: Sequence[Coefficients]) -> Evaluate:
    """Scores that are polynomials of the place on the path; the slope lies half on each of two positions."""
    values = [np.polynomial.Polynomial(each) for each in scores]
    slopes = [each.deriv() for each in values]

    def evaluate(nodes: Sequence[float], wanted: Sequence[int]) -> tuple[Floats, Floats]:
        at = np.asarray(nodes)
        found = np.stack([slopes[score](at) for score in wanted], axis=1)
        return np.stack([each(at) for each in values], axis=1), np.stack([found / 2, found / 2], axis=2)

    return evaluate


@given(st.lists(numbers, min_size=2, max_size=5))
def test_cubic_slopes_are_added_up_exactly_with_the_first_nodes(score: Coefficients) -> None:
    found = integrate(path([score]), tolerances=[1e-6], max_nodes=FIRST)
    assert found.settled and found.nodes == FIRST
    assert found.values[0, 0] == pytest.approx(found.values[0, 1])
    assert float(found.values.sum()) == pytest.approx(sum(score[1:]), abs=1e-9)


@given(st.lists(numbers, min_size=1, max_size=9), st.integers(5, 12))
def test_gauss_legendre_is_exact_for_polynomials(score: Coefficients, steps: int) -> None:
    nodes, weights = fixed_rule("gauss_legendre", steps)
    slope = np.polynomial.Polynomial(score)
    assert float(weights @ slope(nodes)) == pytest.approx(float(slope.integ()(1.0)), abs=1e-9)


@given(st.sampled_from(["gauss_legendre", "midpoint", "trapezoid"]), st.integers(1, 60))
def test_weights_sum_to_one_inside_the_path(rule: str, steps: int) -> None:
    nodes, weights = fixed_rule(rule, steps)  # type: ignore[arg-type]
    assert len(nodes) == len(weights) == steps
    assert weights.sum() == pytest.approx(1) and (weights > 0).all()
    assert ((nodes >= 0) & (nodes <= 1)).all() and (np.diff(nodes) > 0).all()


def step_at(place: float, width: float) -> Evaluate:
    """A score that rises from 0 to 1 around a place."""

    def evaluate(nodes: Sequence[float], wanted: Sequence[int]) -> tuple[Floats, Floats]:
        at = (np.asarray(nodes) - place) / width
        value = 1 / (1 + np.exp(-at))
        slope = value * (1 - value) / width
        flat = np.zeros_like(value)
        columns = {0: slope, 1: flat}
        return np.stack([value, flat], axis=1), np.stack([columns[score] for score in wanted], axis=1)[..., None]

    return evaluate


@settings(max_examples=40)
@given(st.floats(0.1, 0.9), st.floats(0.003, 0.3), st.floats(1e-4, 0.05))
def test_the_gap_is_within_the_tolerance(place: float, width: float, tolerance: float) -> None:
    found = integrate(step_at(place, width), tolerances=[tolerance, tolerance], max_nodes=5000)
    assert found.settled
    assert np.abs(found.gap).max() <= tolerance


def test_nodes_go_where_the_score_moves() -> None:
    asked: list[tuple[float, int]] = []
    inner = step_at(0.6, 0.004)

    def evaluate(nodes: Sequence[float], wanted: Sequence[int]) -> tuple[Floats, Floats]:
        asked.extend((node, score) for node in nodes for score in wanted)
        return inner(nodes, wanted)

    found = integrate(evaluate, tolerances=[0.01, 0.01], max_nodes=5000)
    moving = [node for node, score in asked if score == 0]
    assert len(set(asked)) == len(asked) == found.slopes  # no slope is taken twice
    assert sum(score == 1 for _, score in asked) == FIRST  # a score that does not move costs the first look only
    assert np.mean([abs(node - 0.6) < 0.1 for node in moving]) > 0.6
    # A fixed rule with as many nodes is far off.
    nodes, weights = fixed_rule("gauss_legendre", len(moving))
    _, slopes = inner(nodes.tolist(), [0])
    assert abs(weights @ slopes[:, 0, 0] - 1) > 2 * abs(found.gap[0])


def test_the_number_of_nodes_is_bounded() -> None:
    found = integrate(step_at(0.37, 0.001), tolerances=[1e-9, 1e-9], max_nodes=30)
    assert not found.settled and FIRST <= found.nodes <= 30


def test_a_slope_that_is_not_finite_is_gone_around() -> None:
    """The square root rises infinitely fast at its start; its slopes still add up."""

    def evaluate(nodes: Sequence[float], wanted: Sequence[int]) -> tuple[Floats, Floats]:
        at = np.asarray(nodes)
        with np.errstate(divide="ignore"):
            return np.sqrt(at)[:, None], (0.5 / np.sqrt(at))[:, None, None]

    found = integrate(evaluate, tolerances=[0.01], max_nodes=500)
    assert found.settled and abs(float(found.values.sum()) - 1) <= 0.01
