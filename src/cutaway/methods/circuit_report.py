"""What is said of every circuit: how many edges, how much of the metric it keeps, and whether random ones keep less."""

from __future__ import annotations

import numpy as np
import xarray as xr

from cutaway.core import view as views
from cutaway.core.circuit import Circuit, between
from cutaway.core.edge import Bools
from cutaway.core.result import Check
from cutaway.core.task import EncodedTask
from cutaway.methods.circuit_runs import Runs
from cutaway.methods.control import compared, interval
from cutaway.methods.labels import described
from cutaway.models.edge_positions import Positions


def circuit_metrics(runs: Runs, circuit: Circuit) -> dict[str, float | int]:
    """Sizes of a circuit, its faithfulness and the divergence of its prediction."""
    scores = runs.of([circuit])
    divergence = runs.of([circuit], runs.divergence)
    return {
        "edges": circuit.n_edges,
        "edges_of_model": circuit.most_edges,
        "share_of_edges": circuit.share,
        "parts": len(circuit.parts),
        "metric": float(runs.whole.mean()),
        "metric_of_circuit": float(scores.mean()),
        "metric_of_nothing": float(runs.empty.mean()),
        "faithfulness": float(runs.normalised(scores)[0]),
        "kl": float(divergence.mean()),
    }


def random_circuits(circuit: Circuit, count: int, seed: int) -> Bools:
    """Random circuits of as many edges [circuit, source, target]; at positions, of as many edges at each of them.

    Edges are drawn from all of the network, but so that each lies on a way to the logits: a random set of edges
    would nearly always be cut off, and easy to beat.
    """
    random = np.random.default_rng(seed)
    draw = random_circuit_at if circuit.positions else random_circuit
    return np.stack([draw(circuit, random) for _ in range(count)])


def random_circuit(circuit: Circuit, random: np.random.Generator) -> Bools:
    """One random circuit with as many edges as another, all on ways from the embeddings to the logits where it can be."""
    edges = random.permutation(np.argwhere(_room(circuit, random, circuit.n_edges)))
    kept = np.zeros(circuit.graph.shape, dtype=bool)
    kept[tuple(edges[: circuit.n_edges].T)] = True
    return kept


def random_circuit_at(circuit: Circuit, random: np.random.Generator) -> Bools:
    """The same for a circuit at positions: random edges between the same random parts, as many at each position."""
    sizes = circuit.edges.sum(axis=(0, 1)).tolist()
    edges = np.argwhere(_room(circuit, random, max(sizes)))
    kept = np.zeros(circuit.edges.shape, dtype=bool)
    for position, size in enumerate(sizes):
        kept[(*random.permutation(edges)[:size].T, position)] = True
    return kept


def _room(circuit: Circuit, random: np.random.Generator, size: int) -> Bools:
    """All edges between random parts: as many parts as a circuit has, and more until there are so many edges."""
    graph = circuit.graph
    nodes = np.array([source.kind == "embed" for source in graph.sources])
    order = random.permutation(np.flatnonzero(~nodes))
    wanted = max(1, int(circuit.sources.sum()) - 1)
    for place, node in enumerate(order):
        nodes[node] = True
        room = between(graph, nodes)
        if place + 1 >= wanted and int(room.sum()) >= size:
            break
    return between(graph, nodes)


def circuit_check(runs: Runs, circuit: Circuit, controls: int, seed: int) -> Check:
    """Does the circuit keep more of the behaviour than random circuits of the same size?

    Where the task has a metric it is the faithfulness that is compared; without, how near the prediction stays.
    """
    drawn = random_circuits(circuit, controls, seed)
    kept = np.concatenate([circuit.edges[None], drawn])
    how = (
        f"Let all edges outside carry {runs.engine.other.name}; the control is random circuits of as many edges "
        f"that join the embeddings to the logits{', as many at each position' if circuit.positions else ''}."
    )
    places = " at positions" if circuit.positions else ""
    claim = f"{circuit.n_edges} of {circuit.most_edges} edges{places} ({circuit.share:.1%}) carry the behaviour."
    shares = runs.faithfulness(kept)
    if runs.metric.name != "kl" and np.isfinite(shares).all():
        # A circuit that overshoots is as far off as one that falls short by as much.
        near = 1 - np.abs(1 - shares)
        return compared(float(near[0]), near[1:].tolist(), claim=claim, how=how, unit="share of the metric kept")
    near = -runs.of(kept, runs.divergence).mean(axis=1)
    return compared(float(near[0]), near[1:].tolist(), claim=claim, how=how, unit="nats of KL divergence, negative")


def tested_pair(encoded: EncodedTask, positions: Positions | None = None) -> xr.Dataset:
    """A prompt and its contrast, on which a reader can try single edges.

    `tested_text` along `pair`, and with positions the name of each token's: `tested_position` along `tested_token`.
    """
    if not encoded.contrast_ids:
        return xr.Dataset()
    prompt = encoded.kept[0]
    texts = np.array([encoded.task.prompts[prompt], encoded.task.contrasts[prompt]], dtype=object)
    found = xr.Dataset({"tested_text": ("pair", texts)}, coords={"pair": ["prompt", "contrast"]})
    if positions is not None:
        names = [positions.names[label] for label in positions.labels[0]]
        found["tested_position"] = ("tested_token", np.array(names, dtype=object))
    return found


def layer_counts(circuit: Circuit) -> xr.Dataset:
    """How many edges of the circuit go from each layer to each other one [from_layer, to_layer]."""
    graph = circuit.graph
    labels = ["embed", *map(str, range(graph.n_layers)), "logits"]
    counts = np.zeros((len(labels), len(labels)))
    rows, columns = np.nonzero(circuit.edges)[:2]
    np.add.at(counts, (graph.source_layer[rows] + 1, graph.target_layer[columns] + 1), 1)
    data = xr.Dataset(
        {"edges_between_layers": (("from_layer", "to_layer"), counts[:-1, 1:])},
        coords={"from_layer": labels[:-1], "to_layer": labels[1:]},
    )
    return described(data, edges_between_layers="edges of the circuit", from_layer="from layer", to_layer="to layer")


def layer_views() -> tuple[views.View, ...]:
    """The picture of `layer_counts`."""
    title = "Edges of the circuit between layers"
    return (views.heatmap(value="edges_between_layers", x="to_layer", y="from_layer", title=title, scale="sequential"),)


def band(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float, float]:
    """Low end, middle and high end of values, without those that are not known."""
    known = values[np.isfinite(values)]
    return interval(known.tolist()) if len(known) else (np.nan, np.nan, np.nan)
