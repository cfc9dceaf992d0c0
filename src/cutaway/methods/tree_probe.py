"""Which linear map makes distances of words those of the tree? The structural probe [@hewitt2019].

Two maps B are learned: one such that the squared distance of two words' vectors after it is the number of edges
between them, the other such that the squared length of a word's vector after it is its depth. The loss is the mean
absolute error over pairs (words) of a sentence, then over sentences, as in the paper. Vectors are brought to one standard
deviation in each dimension first, which a linear map can undo.
Limits: Adam with a fixed number of steps; the maps start at random, with a seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.data.conllu import Sentence
from cutaway.methods.correlation import spearman
from cutaway.methods.distances import depths, spanning_tree, tree_distances

AT_ONCE = 20  # sentences in a step
RATE = 3e-3


@dataclass(frozen=True)
class TreeProbe:
    """The two maps.

    Attributes:
        distance: [rank, d_model].
        depth: [rank, d_model].
        mean: [d_model] of the training words.
        scale: [d_model] their standard deviation.
    """

    distance: Tensor
    depth: Tensor
    mean: Tensor
    scale: Tensor

    def distances(self, vectors: NDArray) -> NDArray[np.float64]:
        """Squared distances [word, word] of a sentence's words after the map."""
        mapped = self.mapped(vectors)
        return np.asarray(np.square(mapped[:, None] - mapped[None]).sum(axis=-1))

    def mapped(self, vectors: NDArray) -> NDArray[np.float64]:
        """A sentence's words after the map of distances [word, rank]."""
        return (self._standard(vectors) @ self.distance.T).double().numpy()

    def depths(self, vectors: NDArray) -> NDArray[np.float64]:
        """Squared lengths [word] after the map."""
        return (self._standard(vectors) @ self.depth.T).square().sum(dim=-1).double().numpy()

    def _standard(self, vectors: NDArray) -> Tensor:
        return (torch.as_tensor(vectors, dtype=torch.float32) - self.mean) / self.scale


@dataclass(frozen=True)
class TreeScores:
    """What a probe gets right on each sentence.

    Attributes:
        edges: how many edges of the gold tree are in the spanning tree (punctuation left out), and how many there are.
        distance: Spearman's correlation of distances, mean over the words of a sentence.
        depth: Spearman's correlation of depths.
        root: whether the word of the least depth is the root.
    """

    edges: NDArray[np.float64]
    edge_count: NDArray[np.float64]
    distance: NDArray[np.float64]
    depth: NDArray[np.float64]
    root: NDArray[np.float64]

    @property
    def attachment(self) -> float:
        """The undirected unlabelled attachment score: edges that are right, of all."""
        return float(self.edges.sum() / max(self.edge_count.sum(), 1))


def untrained_probe(vectors: Sequence[NDArray], rank: int, seed: int) -> TreeProbe:
    """Random maps: what distances say before anything is learned."""
    words = torch.as_tensor(np.concatenate(list(vectors)), dtype=torch.float32)
    scale = words.std(dim=0, correction=0)
    generator = torch.Generator().manual_seed(seed)
    size = words.shape[1]
    distance, depth = (torch.randn(rank, size, generator=generator) / (size * rank) ** 0.5 for _ in range(2))
    return TreeProbe(distance, depth, words.mean(dim=0), torch.where(scale > 1e-6, scale, 1.0))


def train_probe(trees: Sequence[Sentence], vectors: Sequence[NDArray], rank: int, epochs: int, seed: int) -> TreeProbe:
    """Train both maps.

    Args:
        trees: the sentences that are trained on.
        vectors: of each sentence [word, d_model].
        rank: dimensions after the map.
        epochs: how often each sentence is seen.
        seed: of the first maps and of the order of the sentences.
    """
    start = untrained_probe(vectors, rank, seed)
    maps = [start.distance.clone().requires_grad_(), start.depth.clone().requires_grad_()]
    batches = [_batch(trees, vectors, start, rows) for rows in _alike(trees)]
    optimiser = torch.optim.Adam(maps, lr=RATE)
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        for place in random.permutation(len(batches)):
            loss = _loss(*maps, *batches[place])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return TreeProbe(maps[0].detach(), maps[1].detach(), start.mean, start.scale)


def _alike(trees: Sequence[Sentence]) -> Iterator[list[int]]:
    order = sorted(range(len(trees)), key=lambda index: len(trees[index].words))
    for first in range(0, len(order), AT_ONCE):
        yield order[first : first + AT_ONCE]


def _batch(
    trees: Sequence[Sentence], vectors: Sequence[NDArray], start: TreeProbe, rows: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vectors, gold distances, gold depths and which words are there, of sentences of like length."""
    longest = max(len(trees[row].words) for row in rows)
    values = torch.zeros(len(rows), longest, len(start.mean))
    distance, depth = torch.zeros(len(rows), longest, longest), torch.zeros(len(rows), longest)
    there = torch.zeros(len(rows), longest)
    for place, row in enumerate(rows):
        heads = trees[row].heads
        size = len(heads)
        values[place, :size] = (torch.as_tensor(vectors[row]) - start.mean) / start.scale
        distance[place, :size, :size] = torch.from_numpy(tree_distances(heads)).float()
        depth[place, :size] = torch.from_numpy(depths(heads)).float()
        there[place, :size] = 1
    return values, distance, depth, there


def _loss(
    to_distance: Tensor, to_depth: Tensor, values: Tensor, distance: Tensor, depth: Tensor, there: Tensor
) -> Tensor:
    mapped = values @ to_distance.T
    apart = (mapped[:, :, None] - mapped[:, None]).square().sum(dim=-1)
    pairs = there[:, :, None] * there[:, None]
    long = (values @ to_depth.T).square().sum(dim=-1)
    wrong = ((apart - distance).abs() * pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2))
    deep = ((long - depth).abs() * there).sum(dim=1) / there.sum(dim=1)
    return (wrong + deep).mean()


def score_probe(probe: TreeProbe, trees: Sequence[Sentence], vectors: Sequence[NDArray]) -> TreeScores:
    """What a probe gets right on sentences that it was not trained on."""
    return score_distances(trees, [probe.distances(each) for each in vectors], [probe.depths(each) for each in vectors])


def score_distances(trees: Sequence[Sentence], distances: Sequence[NDArray], deep: Sequence[NDArray]) -> TreeScores:
    """Compare distances and depths of words with those of the gold trees."""
    rows = [_score(tree, apart, depth) for tree, apart, depth in zip(trees, distances, deep)]
    return TreeScores(*np.array(rows, dtype=np.float64).T)


def _score(tree: Sentence, apart: NDArray, depth: NDArray) -> tuple[float, float, float, float, float]:
    heads = tree.heads
    gold = tree_distances(heads)
    size = len(heads)
    words = [word for word, relation in enumerate(tree.relations) if relation != "punct"]
    found = {(words[a], words[b]) for a, b in spanning_tree(apart[np.ix_(words, words)])}
    edges = {(min(w, heads[w]), max(w, heads[w])) for w in words if heads[w] >= 0 and heads[w] in words}
    others = [[other for other in range(size) if other != word] for word in range(size)]
    near = [spearman(gold[word, rest], apart[word, rest]) for word, rest in enumerate(others)] if size > 2 else [0.0]
    return (
        len(found & edges),
        len(edges),
        float(np.mean(near)),
        spearman(depths(heads), depth),
        float(heads[int(np.asarray(depth).argmin())] < 0),
    )
