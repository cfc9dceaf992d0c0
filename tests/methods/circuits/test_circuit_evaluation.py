"""Measures of circuits: their laws, and every method on every compiled program."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.circuit import Circuit
from cutaway.methods.circuit_measures import (
    SHARES,
    agreement,
    auroc,
    completeness,
    curve,
    parts_in,
    random_parts,
)
from cutaway.methods.circuit_report import random_circuits
from cutaway.methods.circuits.circuit_evaluation import circuit_evaluation
from cutaway.methods.edge_ranking import scores_of
from cutaway.methods.minimality import minimality
from cutaway.models.toy_programs import PROGRAMS, program
from cutaway.testing.known_circuits import REACH, REPLACEMENTS, Case, agreements, case


@pytest.fixture(scope="module")
def induction() -> Case:
    return case("induction", "contrast", prompts=8)


@pytest.fixture(scope="module")
def true_circuit(induction: Case) -> Circuit:
    return Circuit.of_edges(induction.runs.graph, induction.known & ~induction.hidden)


def test_the_whole_model_is_faithful_and_nothing_is_not(induction: Case) -> None:
    graph = induction.runs.graph
    full, nothing = induction.runs.faithfulness(np.stack([graph.exists, np.zeros_like(graph.exists)]))
    assert full == pytest.approx(1.0)
    assert nothing == pytest.approx(0.0, abs=1e-12)


def test_the_true_circuit_is_faithful_complete_and_minimal(induction: Case, true_circuit: Circuit) -> None:
    assert induction.runs.faithfulness(true_circuit.edges[None])[0] == pytest.approx(1.0)
    taken = completeness(induction.runs, true_circuit, random_parts(true_circuit, 6, seed=0))
    assert taken.gaps.max() < 1e-6
    found = minimality(induction.runs, true_circuit)
    assert list(found.parts) == parts_in(true_circuit)
    assert (found.changes > 1.0).all()


def test_a_circuit_with_an_idle_part_is_not_minimal_and_half_a_circuit_not_complete(
    induction: Case, true_circuit: Circuit
) -> None:
    graph, used = induction.runs.graph, set(true_circuit.parts)
    idle = next(str(s) for s in graph.sources if s.kind == "z" and str(s) not in used and s.layer == 0)
    wider = Circuit.of_edges(graph, [*true_circuit.edge_list(), f"{idle} -> logits"])
    found = minimality(induction.runs, wider)
    assert found.changes[[str(graph.sources[i]) for i in found.parts].index(idle)] < 1e-6
    half = Circuit.of_edges(graph, [edge for edge in true_circuit.edge_list() if edge.target.kind != "k"])
    assert completeness(induction.runs, half, [()]).gaps[0] > 1.0


def test_the_slow_way_gives_the_same_completeness(induction: Case, true_circuit: Circuit) -> None:
    runs, part = induction.runs, parts_in(true_circuit)[0]
    taken = completeness(runs, true_circuit, [(part,)])
    outside = runs.graph.exists & ~true_circuit.edges
    outside[part] = runs.graph.exists[part]
    assert taken.of_circuit[0] == pytest.approx(runs.without(outside[None]).mean())


def test_the_curve_ends_at_the_whole_model_and_its_areas_are_those_of_its_points(induction: Case) -> None:
    found = curve(induction.runs, scores_of(induction.runs, "exact"))
    assert found.faithfulness[-1] == pytest.approx(1.0)
    assert found.divergence[-1] == pytest.approx(0.0, abs=1e-9)
    assert found.accuracy[-1] == 1.0
    assert len(found.sizes) == len(SHARES)
    points = list(zip([0.0, *found.shares], [0.0, *found.faithfulness], strict=True))
    by_hand = sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in zip(points, points[1:], strict=False))
    assert found.cpr == pytest.approx(by_hand)
    assert 0 <= found.cmd <= 0.2
    backwards = curve(induction.runs, 1 / (1e-9 + np.abs(scores_of(induction.runs, "exact"))))
    assert backwards.cpr < found.cpr - 0.3


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
@settings(max_examples=40, deadline=None)
def test_auroc_is_the_share_of_pairs_in_order(members: list[tuple[int, bool]]) -> None:
    scores, truth = np.array([float(s) for s, _ in members]), np.array([t for _, t in members])
    pairs = [(a, b) for a, t in members if t for b, u in members if not u]
    if not pairs:
        assert np.isnan(auroc(scores, truth))
        return
    expected = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs])
    assert auroc(scores, truth) == pytest.approx(expected)
    assert auroc(-scores, truth) == pytest.approx(1 - expected)
    assert auroc(np.exp(scores), truth) == pytest.approx(expected)


def test_agreement_counts_no_edge_that_cannot_be_shown(induction: Case) -> None:
    graph = induction.runs.graph
    wrong = (induction.known & ~induction.hidden).astype(float)
    perfect = agreement(graph, wrong, induction.known, induction.hidden)
    assert (perfect.edges, perfect.nodes) == (1.0, 1.0)
    assert agreement(graph, wrong, induction.known).edges < 1.0


def test_random_circuits_have_the_size_and_join_embeddings_and_logits(true_circuit: Circuit) -> None:
    drawn = random_circuits(true_circuit, 10, seed=0)
    assert drawn.shape[0] == 10
    assert all(int(one.sum()) == true_circuit.n_edges for one in drawn)
    assert np.array_equal(drawn, random_circuits(true_circuit, 10, seed=0))
    assert len({one.tobytes() for one in drawn}) > 5


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("how", REPLACEMENTS)
@pytest.mark.all
def test_methods_find_the_circuits_of_programs(name: str, how: str) -> None:
    found = agreements(case(name, how))  # type: ignore[arg-type]
    for method, reach in REACH.items():
        if method != "gates":
            assert found[method].edges >= reach, method
    if how == "contrast":
        assert found["gates"].nodes >= REACH["gates"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_pruning_finds_every_program_exactly(name: str) -> None:
    from cutaway.testing.known_circuits import SCORERS

    one = case(name, "zero", prompts=6)
    found = agreement(one.runs.graph, SCORERS["acdc"](one.runs), one.known, one.hidden)
    assert found.edges >= REACH["acdc"]
    assert found.nodes >= REACH["acdc"]


def test_a_kept_circuit_is_evaluated_and_compared_with_the_known_one(
    induction: Case, true_circuit: Circuit, tmp_path: Path
) -> None:
    file = tmp_path / "known.safetensors"
    true_circuit.artifact().save(file)
    result = circuit_evaluation(
        induction.compiled.model,
        program("induction").task(6),
        circuit=str(file),
        known=str(file),
        by="exact",
        sets=3,
        controls=5,
    )
    assert result.metrics["faithfulness"] == pytest.approx(1.0)
    assert result.metrics["auroc_edges"] == 1.0
    assert result.metrics["largest_incompleteness"] == pytest.approx(0.0, abs=1e-6)
    assert result.metrics["predictions_kept"] == 1.0
    assert result.checks[0].passed
    assert json.dumps(dict(result.metrics))
