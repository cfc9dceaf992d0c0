"""How far apart are heads, words and trees? Distances, and the pictures that keep them.

    Jensen–Shannon    H((p + q) / 2) − (H(p) + H(q)) / 2 in nats; its root is a distance [@endres2003]
    tree              edges between two words of a sentence
    scaling           points whose distances are the given ones, from the eigenvectors of the centred squares
    tree embedding    one direction for each edge: squared distances are then the tree's [@coenen2019]

Limits: dense matrices; thousands of points, not millions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def entropy(p: Tensor) -> Tensor:
    """In nats, along the last dimension."""
    return -torch.special.xlogy(p, p).sum(dim=-1)


def jensen_shannon(maps: Tensor) -> Tensor:
    """The mean over rows of the divergence between each two of the maps [map, row, column] -> [map, map], in nats."""
    own = entropy(maps)
    table = torch.zeros(len(maps), len(maps), dtype=maps.dtype, device=maps.device)
    for first in range(len(maps)):
        middle = entropy((maps[first] + maps[first:]) / 2)
        table[first, first:] = (middle - (own[first] + own[first:]) / 2).mean(dim=-1)
    return (table + table.T).clamp_min(0)  # the diagonal is zero


def scaling(squares: Array, dimensions: int = 2) -> tuple[Array, Array]:
    """Classical multidimensional scaling.

    Args:
        squares: [point, point] squared distances.
        dimensions: of the points that are returned.

    Returns:
        Points [point, dimension], whose directions have signs such that the largest coordinate is positive; and the share
        of the (positive) variance in each dimension.
    """
    size = len(squares)
    centre = np.eye(size) - 1 / size
    values, vectors = np.linalg.eigh(-0.5 * centre @ squares @ centre)
    order = np.argsort(-values)[:dimensions]
    points = vectors[:, order] * np.sqrt(np.maximum(values[order], 0))
    share = np.maximum(values[order], 0) / max(float(np.maximum(values, 0).sum()), 1e-30)
    return _padded(_signed(points), dimensions), np.pad(share, (0, dimensions - len(share)))


def principal(vectors: Array, dimensions: int = 2) -> tuple[Array, Array]:
    """Principal components: centred points [point, dimension], and the share of the variance in each."""
    centred = vectors - vectors.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    points = (left * sizes)[:, :dimensions]
    share = sizes[:dimensions] ** 2 / max(float((sizes**2).sum()), 1e-30)
    return _padded(_signed(points), dimensions), np.pad(share, (0, max(0, dimensions - len(share))))


def _signed(points: Array) -> Array:
    """Axes have no direction of their own: the coordinate furthest from zero is made positive."""
    if not len(points):
        return points
    furthest = points[np.abs(points).argmax(axis=0), np.arange(points.shape[1])]
    return points * np.where(furthest < 0, -1.0, 1.0)


def _padded(points: Array, dimensions: int) -> Array:
    return np.pad(points, ((0, 0), (0, max(0, dimensions - points.shape[1]))))


def clusters(distances: Array, count: int) -> NDArray[np.int64]:
    """Which of `count` clusters each point is in, by average linkage; numbered by size, the largest is 0."""
    groups = [[point] for point in range(len(distances))]
    between = distances.astype(np.float64).copy()
    np.fill_diagonal(between, np.inf)
    alive = np.ones(len(groups), dtype=bool)
    while alive.sum() > max(count, 1):
        a, b = divmod(int(between.argmin()), len(between))
        sizes = len(groups[a]), len(groups[b])
        merged = (sizes[0] * between[a] + sizes[1] * between[b]) / sum(sizes)
        between[a], between[:, a] = merged, merged
        between[a, a] = np.inf
        between[b], between[:, b] = np.inf, np.inf
        groups[a] += groups[b]
        alive[b] = False
    labels = np.zeros(len(distances), dtype=np.int64)
    ordered = sorted((groups[i] for i in np.flatnonzero(alive)), key=lambda group: (-len(group), min(group)))
    for label, group in enumerate(ordered):
        labels[group] = label
    return labels


# --- trees -------------------------------------------------------------------------------------------------------


def depths(heads: Sequence[int]) -> NDArray[np.int64]:
    """How many edges lie between each word and the root; `heads` has -1 for the root."""
    found = [-1] * len(heads)
    for place in range(len(heads)):
        path, here = [], place
        while here >= 0 and found[here] < 0:
            path.append(here)
            here = heads[here]
        known = found[here] if here >= 0 else -1
        for step, word in enumerate(reversed(path), start=1):
            found[word] = known + step
    return np.array(found, dtype=np.int64)


def tree_distances(heads: Sequence[int]) -> NDArray[np.int64]:
    """How many edges lie between each two words [word, word]."""
    paths = _edges(heads)
    return np.asarray(np.abs(paths[:, None] - paths[None]).sum(axis=-1), dtype=np.int64)


def _edges(heads: Sequence[int]) -> NDArray[np.int64]:
    """[word, word] 1 where the edge above the second word lies on the way from the root to the first."""
    table = np.zeros((len(heads), len(heads)), dtype=np.int64)
    for place in range(len(heads)):
        here = place
        while here >= 0 and heads[here] >= 0:
            table[place, here] = 1
            here = heads[here]
    return table


def tree_embedding(heads: Sequence[int]) -> Array:
    """Points [word, n - 1] whose *squared* distances are the distances in the tree."""
    inner = [place for place, head in enumerate(heads) if head >= 0]
    return _edges(heads)[:, inner].astype(np.float64)


def spanning_tree(distances: Array) -> list[tuple[int, int]]:
    """The edges (smaller place first) of the tree with the least sum of distances."""
    if len(distances) < 2:
        return []
    nearest = distances[0].astype(np.float64).copy()
    source = np.zeros(len(distances), dtype=np.int64)
    outside = np.ones(len(distances), dtype=bool)
    outside[0] = False
    edges = []
    while outside.any():
        new = int(np.where(outside, nearest, np.inf).argmin())
        edges.append((min(new, int(source[new])), max(new, int(source[new]))))
        outside[new] = False
        closer = outside & (distances[new] < nearest)
        nearest[closer], source[closer] = distances[new][closer], new
    return sorted(edges)
