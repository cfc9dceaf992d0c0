"""Parts taken out alone and after others: against the slow way, and where two parts stand in for each other."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from cutaway.core.circuit import Circuit
from cutaway.core.errors import ParameterError, SiteError
from cutaway.methods.circuit_measures import parts_in
from cutaway.methods.circuit_runs import Runs, runs_of
from cutaway.methods.circuits.circuit_evaluation import circuit_evaluation
from cutaway.methods.minimality import NOTHING, edges_of, greedy_minimality, minimality
from cutaway.testing import tiny, tiny_task

NODES = ("z[0].head[1]", "z[1].head[0]", "z[1].head[2]", "mlp_contrib[1]")


@pytest.fixture(scope="module")
def runs() -> Runs:
    """Four heads of a tiny Llama in double precision."""
    model = tiny("llama")
    model.hf.double()
    return runs_of(model, tiny_task().encode(model.tokenizer))


@pytest.fixture(scope="module")
def circuit(runs: Runs) -> Circuit:
    return Circuit.of_nodes(runs.graph, NODES)


def metric(runs: Runs, circuit: Circuit, names: tuple[str, ...]) -> float:
    """The slow way: one circuit, some of its edges crossed out one by one."""
    kept = circuit.edges.copy()
    for source, target in np.argwhere(circuit.edges):
        edge = runs.graph.edge(int(source), int(target))
        if str(edge.source) in names or str(edge) in names:
            kept[source, target] = False
    return float(runs.of(kept[None]).mean())


def change(runs: Runs, circuit: Circuit, part: str, before: tuple[str, ...]) -> float:
    return abs(metric(runs, circuit, (*before, part)) - metric(runs, circuit, before))


def test_the_largest_change_over_the_sets_is_that_of_the_slow_way(runs: Runs, circuit: Circuit) -> None:
    sets = ("z[0].head[1], mlp_contrib[1]", "z[1].head[0] -> logits")
    found = minimality(runs, circuit, sets)
    assert [str(runs.graph.sources[row]) for row in found.parts] == list(NODES)
    for part, measured, named in zip(NODES, found.changes, found.before, strict=True):
        every = {NOTHING: (), sets[0]: ("z[0].head[1]", "mlp_contrib[1]"), sets[1]: ("z[1].head[0] -> logits",)}
        slow = {name: change(runs, circuit, part, taken) for name, taken in every.items()}
        assert measured == pytest.approx(max(slow.values()), rel=1e-9)
        assert slow[named] == pytest.approx(max(slow.values()), rel=1e-9)


def test_alone_is_a_set_of_nothing(runs: Runs, circuit: Circuit) -> None:
    found = minimality(runs, circuit)
    assert found.before == (NOTHING,) * 4
    assert found.changes.tolist() == pytest.approx([change(runs, circuit, part, ()) for part in NODES])


def test_a_set_that_is_grown_makes_no_part_matter_less(runs: Runs, circuit: Circuit) -> None:
    alone, grown = minimality(runs, circuit), greedy_minimality(runs, circuit, largest=1)
    assert (grown.changes >= alone.changes).all()
    for part, measured, named in zip(NODES, grown.changes, grown.before, strict=True):
        others = [(), *((other,) for other in NODES if other != part)]
        assert measured == pytest.approx(max(change(runs, circuit, part, before) for before in others))
        assert named == NOTHING or measured == pytest.approx(change(runs, circuit, part, (named,)))
    wider = greedy_minimality(runs, circuit, largest=3)
    assert (wider.changes >= grown.changes).all()
    for part, measured, named in zip(NODES, wider.changes, wider.before, strict=True):
        before = () if named == NOTHING else tuple(named.split(", "))
        assert measured == pytest.approx(change(runs, circuit, part, before))
        every = [set_ for size in range(4) for set_ in combinations([o for o in NODES if o != part], size)]
        assert measured <= max(change(runs, circuit, part, before) for before in every) + 1e-12


class Spare:
    """A behaviour that any of its parts carries alone: what is kept of a circuit in which one stands in for the other."""

    def __init__(self, rows: list[int]) -> None:
        self.rows, self.ran = rows, 0

    def of(self, kept: np.ndarray) -> np.ndarray:
        self.ran += len(kept)
        return kept[:, self.rows].any(axis=(1, 2)).astype(float)[:, None]


def test_two_that_stand_in_for_each_other_matter_only_together(runs: Runs, circuit: Circuit) -> None:
    parts = parts_in(circuit)
    spare: Any = Spare(parts[:2])
    assert minimality(spare, circuit).changes.tolist() == [0, 0, 0, 0]
    found = greedy_minimality(spare, circuit, largest=2)
    assert found.changes.tolist() == [1, 1, 0, 0]
    assert found.before == (NODES[1], NODES[0], NOTHING, NOTHING)
    named = minimality(spare, circuit, [f"{NODES[0]}", f"{NODES[1]}"])
    assert named.changes.tolist() == [1, 1, 0, 0]


def test_each_set_is_run_once(circuit: Circuit) -> None:
    spare: Any = Spare([])
    greedy_minimality(spare, circuit, largest=1)
    assert spare.ran == 1 + 4 + 6  # nothing, each part, each pair


def test_sets_that_cannot_be_are_refused(runs: Runs) -> None:
    with pytest.raises(ParameterError, match=r"the set ' , ' holds nothing; .* Write for example"):
        edges_of(runs.graph, " , ")
    with pytest.raises(SiteError, match="no node of this network"):
        edges_of(runs.graph, "z[9].head[6]")
    with pytest.raises(SiteError, match="does not exist"):
        edges_of(runs.graph, "z[1].head[0] -> mlp_in[0]")


def test_the_evaluation_names_the_sets() -> None:
    model, task = tiny("llama"), tiny_task()
    asked: dict[str, Any] = {"share": 0.3, "by": "eap", "sets": 1, "controls": 0}
    plain = circuit_evaluation(model, task, **asked)
    grown = circuit_evaluation(model, task, before="greedy", largest_set=1, **asked)
    assert plain.data["set_before_part"].values.tolist() == [NOTHING] * plain.data.sizes["part"]
    assert (grown.data["change_without_part"] >= plain.data["change_without_part"] - 1e-9).all()
    first = str(plain.data["part"].values[0])
    named = circuit_evaluation(model, task, before=f"{first}; {first}, mlp_contrib[2]", **asked)
    assert named.metrics["least_change_of_a_part"] >= plain.metrics["least_change_of_a_part"] - 1e-9
    assert {view.title for view in grown.views} - {view.title for view in plain.views} == {
        "The sets after which each part matters most"
    }
