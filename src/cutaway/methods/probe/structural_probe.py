"""Is the tree of a sentence in the vectors of its words? The structural probe, layer by layer.

A linear map is learned under which squared distances between words are their distances in the dependency tree, and another
one under which squared lengths are depths [@hewitt2019]. On sentences that were not trained on: the share of edges of the
gold tree in the smallest spanning tree (without direction and punctuation), Spearman's correlation of distances and of
depths, and how often the shallowest word is the root. Two fifths of the sentences are kept from training: one fifth
chooses the layer, the other is reported.
Controls: the same probe on the network with its weights in random order, maps that were not trained, and the chain
that joins each word to the next.
Limits: a probe says what can be read off by a linear map, not what the model uses. The prompts are shown with the trees that
the probe draws for them, which nobody has checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import Field

from cutaway.core import view as views
from cutaway.core.artifact import Artifact
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.data.conllu import Sentence
from cutaway.data.treebank import treebank_sentences
from cutaway.methods.bootstrap import mean_interval, share_interval
from cutaway.methods.control import compared, unchecked
from cutaway.methods.distances import principal, spanning_tree
from cutaway.methods.held_out import parts
from cutaway.methods.labels import described
from cutaway.methods.random_twin import random_twin
from cutaway.methods.reading_options import ShuffledNetworks, Streams, Treebank
from cutaway.methods.tree_probe import (
    TreeProbe,
    TreeScores,
    score_distances,
    score_probe,
    train_probe,
    untrained_probe,
)
from cutaway.methods.words import WordTokens, sentences_in_tokens, streams_of, word_tokens, word_vectors
from cutaway.models.model import Model

PARTS = (0.6, 0.2, 0.2)
MEASURES = ("edges", "distance correlation", "depth correlation", "root")


@method(
    asks="Is the tree of a sentence in the vectors of its words?",
    cites="hewitt2019",
)
def structural_probe(
    model: Model,
    task: Task,
    *,
    treebank: Treebank = "made",
    sentences: Annotated[int, Field(ge=10, description="how many of them; 6 of 10 are trained on")] = 100,
    sites: Streams = "resid_post[*]",
    rank: Annotated[int, Field(ge=1, description="dimensions after the map")] = 32,
    epochs: Annotated[int, Field(ge=1, description="how often each sentence is trained on")] = 20,
    controls: ShuffledNetworks = 5,
    seed: Annotated[int, Field(ge=0, description="draws sentences, first maps and shuffled weights")] = 0,
) -> Result:
    """Distances and depths of words against those of the dependency tree, layer by layer."""
    streams = streams_of(model, sites)
    trees = treebank_sentences(treebank, sentences, seed)
    kept, found, said = sentences_in_tokens(model, trees)
    trees = tuple(trees[index] for index in kept)
    train, choice, test = parts(len(trees), PARTS, seed)
    vectors = word_vectors(model, found, streams)
    rank = min(rank, model.anatomy.d_model)
    probes = [
        train_probe([trees[i] for i in train], [vectors[i][layer] for i in train], rank, epochs, seed)
        for layer in track(range(len(streams)), "probes")
    ]

    def scored(layer: int, which: NDArray[np.int64], probe: TreeProbe | None = None) -> TreeScores:
        return score_probe(probe or probes[layer], [trees[i] for i in which], [vectors[i][layer] for i in which])

    best = int(np.argmax([scored(layer, choice).attachment for layer in range(len(streams))]))
    random = [untrained_probe([vectors[i][layer] for i in train], rank, seed) for layer in range(len(streams))]
    trained = [scored(layer, test) for layer in range(len(streams))]
    untrained = [scored(layer, test, random[layer]) for layer in range(len(streams))]
    chain = chain_scores([trees[i] for i in test])
    twins = []
    for draw in track(range(controls), "probes of shuffled weights"):
        twin = random_twin(model, seed + 1 + draw)
        twins.append(_twin_score(twin, trees, found, streams[best], train, test, rank, epochs, seed))
    data = _data(streams, trained, untrained, chain, seed)
    data = _with_prompt(data, model, task, streams[best], probes[best])
    return Result(
        data=data,
        metrics={
            "best_layer": str(streams[best]),
            "edges": trained[best].attachment,
            "edges_untrained_map": untrained[best].attachment,
            "edges_chain": chain.attachment,
            "distance_correlation": float(trained[best].distance.mean()),
            "depth_correlation": float(trained[best].depth.mean()),
        },
        views=_views(streams[best]),
        checks=(_check(trained[best].attachment, twins, streams[best]),) if controls else (),
        notes=(*said, f"Tested on {len(test)} sentences of {treebank}.", *unchecked(controls)),
        artifacts={"probe": _artifact(probes[best], streams[best])},
    )


def chain_scores(trees: Sequence[Sentence]) -> TreeScores:
    """What is right when each word is joined to the next, and depth is the place in the sentence."""
    places = [np.arange(len(tree.words)) for tree in trees]
    return score_distances(trees, [np.abs(p[:, None] - p[None]) for p in places], places)


def _twin_score(
    twin: Model,
    trees: Sequence[Sentence],
    found: Sequence[WordTokens],
    stream: Site,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    rank: int,
    epochs: int,
    seed: int,
) -> float:
    vectors = [each[0] for each in word_vectors(twin, found, [stream])]
    probe = train_probe([trees[i] for i in train], [vectors[i] for i in train], rank, epochs, seed)
    return score_probe(probe, [trees[i] for i in test], [vectors[i] for i in test]).attachment


def _check(measured: float, controls: Sequence[float], stream: Site) -> Check:
    return compared(
        measured,
        controls,
        claim=f"The vectors at {stream} hold the trees of sentences.",
        how="Train a linear map on some sentences and count edges of the gold trees on others; the control trains as large a "
        "map on the network with the numbers of each weight matrix in random order.",
        unit="share of edges",
    )


# --- the result --------------------------------------------------------------------------------------------------


def _data(
    streams: Sequence[Site],
    trained: Sequence[TreeScores],
    untrained: Sequence[TreeScores],
    chain: TreeScores,
    seed: int,
) -> xr.Dataset:
    rows = [_figures(scores, seed) for scores in trained]
    others = [_figures(scores, seed)[0] for scores in untrained]
    joined = _figures(chain, seed)[0]
    data = xr.Dataset(
        {
            "score": (("site", "measure"), np.array([row[0] for row in rows])),
            "low": (("site", "measure"), np.array([row[1] for row in rows])),
            "high": (("site", "measure"), np.array([row[2] for row in rows])),
            "edges": (
                ("site", "by"),
                np.array([[row[0][0], other[0], joined[0]] for row, other in zip(rows, others)]),
            ),
            "untrained_map": (("site", "measure"), np.array(others)),
            "chain": (("measure",), joined),
        },
        coords={
            "site": [str(site) for site in streams],
            "measure": list(MEASURES),
            "by": ["trained map", "map not trained", "chain"],
        },
    )
    return described(data, score="on sentences not trained on", edges="share of edges that are right")


def _figures(scores: TreeScores, seed: int) -> NDArray[np.float64]:
    """[value, low and high; measure]."""
    columns = [share_interval(scores.edges, scores.edge_count, seed)]
    columns += [mean_interval(each, seed) for each in (scores.distance, scores.depth, scores.root)]
    return np.array(columns).T


def _with_prompt(data: xr.Dataset, model: Model, task: Task, stream: Site, probe: TreeProbe) -> xr.Dataset:
    """The tree that the probe draws for the first prompt, and its words after the map in two dimensions."""
    found = word_tokens(model, task.prompts[0])
    vectors = word_vectors(model, [found], [stream])[0][0]
    edges = spanning_tree(probe.distances(vectors))
    points, _ = principal(probe.mapped(vectors))
    names = [f"{place} {word}" for place, word in enumerate(found.words)]
    data["source"] = (("edge",), np.array([names[a] for a, _ in edges], dtype=object))
    data["target"] = (("edge",), np.array([names[b] for _, b in edges], dtype=object))
    data["x"], data["y"] = (("word",), points[:, 0]), (("word",), points[:, 1])
    data["depth"] = (("word",), probe.depths(vectors))
    return data.assign_coords(word=names)


def _artifact(probe: TreeProbe, stream: Site) -> Artifact:
    tensors = {name: getattr(probe, name) for name in ("distance", "depth", "mean", "scale")}
    return Artifact(kind="probe", tensors=tensors, about={"reads": str(stream), "predicts": "the dependency tree"})


def _views(stream: Site) -> tuple[views.View, ...]:
    return (
        views.curves(value="edges", x="site", series="by", title="Edges of the tree that are right, layer by layer"),
        views.curves(value="score", x="site", series="measure", title="The trained probe, layer by layer"),
        views.graph(source="source", target="target", title=f"The tree of the first prompt, by the probe at {stream}"),
        views.scatter(x="x", y="y", label="word", value="depth", title="Its words after the map (colour: depth)"),
    )
