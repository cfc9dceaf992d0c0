"""Pruning keeps the edges of the plain loop, and on compiled programs exactly the edges of the program."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.circuit import Circuit
from cutaway.core.edge import Bools
from cutaway.core.errors import ParameterError, TaskError
from cutaway.core.task import Task
from cutaway.methods.circuit_runs import How, Measure, runs_of
from cutaway.methods.circuits.acdc import acdc
from cutaway.methods.edge_pruning_order import Floats, one_by_one, order_of, pruned
from cutaway.models.edges import graph_of
from cutaway.models.toy_program import Indices, Tokens
from cutaway.models.toy_programs import program
from cutaway.testing.known_circuits import case
from cutaway.testing.tiny import tiny, tiny_task

GRAPH = graph_of(tiny("llama"))


def _of_one_length(task: Task) -> Task:
    """The prompts of five words: one pass a run, for the loop's sake."""
    kept = [i for i, prompt in enumerate(task.prompts) if len(prompt.split()) == 5]
    columns = {
        name: tuple(getattr(task, name)[i] for i in kept) for name in ("prompts", "contrasts", "answers", "wrong")
    }
    return replace(task, **columns)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "measure", "threshold"), [("contrast", "metric", 1e-2), ("zero", "kl", 3e-2), ("mean", "kl", 1e-3)]
)
def test_the_edges_kept_are_those_of_the_loop(how: How, threshold: float, measure: Measure) -> None:
    made = program("count")
    compiled = made.compiled(seed=1)
    runs = runs_of(compiled.model, _of_one_length(made.task(24)).encode(compiled.model.tokenizer), how)
    distances = partial(runs.distances, measure=measure)
    fast, slow = pruned(runs.graph, distances, threshold), one_by_one(runs.graph, distances, threshold)
    assert np.array_equal(fast.kept, slow.kept)
    assert fast.distance == pytest.approx(slow.distance, abs=1e-9)
    assert fast.tried < slow.tried == runs.graph.n_edges
    assert fast.kept.any()


@pytest.mark.all
def test_the_edges_kept_are_those_of_the_loop_on_a_random_network() -> None:
    model = tiny("llama")
    model.hf.double()
    runs = runs_of(model, tiny_task().encode(model.tokenizer))
    distances = partial(runs.distances, measure="kl")
    fast, slow = pruned(runs.graph, distances, 1e-3), one_by_one(runs.graph, distances, 1e-3)
    assert np.array_equal(fast.kept, slow.kept)
    assert 0 < fast.kept.sum() < runs.graph.n_edges


def _additive(costs: Floats) -> partial[Floats]:
    """A model that each edge moves by its own cost, if its part reaches the logits by edges that are not changed."""

    def distances(costs: Floats, sets: Bools) -> Floats:
        found = []
        for changed in sets:
            useful = np.asarray(GRAPH.connected(GRAPH.exists & ~changed).any(axis=0), dtype=bool)
            reaches = np.array(
                [
                    t.kind == "logits" or (GRAPH.feeds[i] & _out(changed, useful)).any()
                    for i, t in enumerate(GRAPH.targets)
                ]
            )
            found.append(float((costs * changed * reaches[None, :]).sum()))
        return np.array(found)

    return partial(distances, costs)


def _out(changed: Bools, useful: Bools) -> Bools:
    return np.asarray((GRAPH.exists & ~changed & useful[None, :]).any(axis=1), dtype=bool)


@given(st.integers(0, 10**6), st.floats(0.05, 0.9))
@settings(max_examples=10, deadline=None)
def test_batches_and_skips_decide_as_the_loop_does(seed: int, threshold: float) -> None:
    costs = np.random.default_rng(seed).random(GRAPH.shape) ** 4
    fast = pruned(GRAPH, _additive(costs), threshold)
    kept = GRAPH.exists & (costs >= threshold)
    expected = GRAPH.connected(kept)  # what hangs loose does not move the model
    assert np.array_equal(fast.kept, expected)


def test_edges_go_from_the_logits_back_and_from_the_latest_source() -> None:
    order = order_of(GRAPH)
    assert len(order) == GRAPH.n_edges
    targets = [target for _, target in order]
    assert targets == sorted(targets, reverse=True)
    first = [source for source, target in order if target == targets[0]]
    assert first == sorted(first, reverse=True)


def test_the_circuit_of_a_program_is_found_and_kept() -> None:
    one = case("induction", "contrast", prompts=8)
    task = program("induction").task(8)
    result = acdc(one.compiled.model, task, measure="metric", controls=5)
    circuit = Circuit.from_artifact(one.runs.graph, result.artifacts["circuit"])
    assert np.array_equal(circuit.edges, one.known & ~one.hidden) or result.metrics["edges_dropped"]
    assert result.metrics["faithfulness"] == pytest.approx(1.0)
    assert result.metrics["kl"] == pytest.approx(0.0, abs=1e-6)
    (check,) = result.checks
    assert check.passed
    assert check.control < 0.5


def test_a_threshold_above_everything_leaves_nothing_and_says_so() -> None:
    result = acdc(tiny("llama"), tiny_task(), threshold=1e6, controls=0)
    assert result.metrics["edges"] == 0
    assert any("No edge is left" in note for note in result.notes)
    assert result.checks == ()


def test_wrong_thresholds_and_tasks_without_contrasts_are_refused() -> None:
    with pytest.raises(ParameterError, match="threshold"):
        acdc(tiny("llama"), tiny_task(), threshold=0.0)
    model = tiny("llama")
    alone = type(tiny_task()).from_prompts(["When Mary and John", "Then Anna and Paul"])
    with pytest.raises(TaskError, match=r'no contrasts;.*\n?.*Give how="mean"'):
        runs_of(model, alone.encode(model.tokenizer), "contrast")


def test_programs_read_tokens_and_positions() -> None:
    step = program("induction").output
    kinds = {type(v) for v in step.operands.values()}
    assert Tokens in kinds
    assert Indices not in kinds
