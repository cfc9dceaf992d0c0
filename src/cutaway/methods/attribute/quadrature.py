"""How is a slope along a path added up? Fixed rules, and one that looks where the score really moves.

A fixed rule has nodes and weights. The adaptive one (Simpson's rule on halves, halved again where needed) uses what
is special here: the integral of the slope of each score over *any* piece of the path is known, it is the difference of
the score between its ends, and the scores at all nodes come with the slopes. So the error of every piece is measured,
not estimated, pieces are halved where it is, and all nodes are used again. Scores that share the path are refined each
on its own: a piece that is settled for one score costs nothing more for it.

The adaptive rule ends when for each score both the whole error and the root of the sum of squares of the pieces'
errors are within the tolerance: errors of opposite sign that cancel by chance do not end it.
At the start of a path that begins at zero embeddings a norm can make the slope infinite. The first piece may therefore
do without its first node (the midpoint rule), where that misses less.

Limits: a bump between two nodes at which nothing is seen stays unseen, as with any rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rule = Literal["gauss_legendre", "midpoint", "trapezoid"]
Floats = NDArray[np.float64]
Piece = tuple[float, float]
# Nodes in [0, 1] and the scores whose slopes are wanted -> values [node, score], slopes [node, wanted score, position].
Evaluate = Callable[[Sequence[float], Sequence[int]], tuple[Floats, Floats]]
PIECES = 2


def fixed_rule(name: Rule, steps: int) -> tuple[Floats, Floats]:
    """Nodes in [0, 1] and weights that sum to one."""
    match name:
        case "gauss_legendre":
            nodes, weights = np.polynomial.legendre.leggauss(steps)
            return (nodes + 1) / 2, weights / 2
        case "midpoint":
            return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)
        case "trapezoid":
            if steps == 1:
                return np.array([1.0]), np.array([1.0])
            weights = np.full(steps, 1 / (steps - 1))
            weights[[0, -1]] /= 2
            return np.linspace(0, 1, steps), weights


@dataclass(frozen=True)
class Integral:
    """What was added up.

    Attributes:
        values: the integral of the slopes [score, position].
        change: the score at the end of the path minus that at its start [score].
        nodes: how many nodes were looked at.
        slopes: how many slopes of single scores were taken.
        settled: whether the tolerance was reached.
    """

    values: Floats
    change: Floats
    nodes: int
    slopes: int
    settled: bool

    @property
    def gap(self) -> Floats:
        """The integral summed over positions minus the change [score]."""
        whole: Floats = self.values.sum(axis=1)
        return whole - self.change


def integrate(evaluate: Evaluate, *, tolerances: Sequence[float] | Floats, max_nodes: int) -> Integral:
    """Add up slopes along a path until the error of every score is within its tolerance.

    Args:
        evaluate: values and slopes at nodes.
        tolerances: for the error of each score, in its own unit.
        max_nodes: no more nodes than these are looked at (the first five are).
    """
    path, scores = _Path(evaluate), len(tolerances)
    pieces = [[(i / PIECES, (i + 1) / PIECES) for i in range(PIECES)] for _ in range(scores)]
    path.look(pieces)
    while True:
        errors = [np.array([path.error(score, piece) for piece in pieces[score]]) for score in range(scores)]
        open_scores = [score for score in range(scores) if not _within(errors[score], tolerances[score])]
        finer = [
            _halved(pieces[score], errors[score], tolerances[score]) if score in open_scores else pieces[score]
            for score in range(scores)
        ]
        if not open_scores or path.would_have(finer) > max_nodes:
            break
        pieces = finer
        path.look(pieces)
    values = np.stack([sum(path.sum(score, piece) for piece in pieces[score]) for score in range(scores)])
    change = path.values[1.0] - path.values[0.0]
    return Integral(values, change, len(path.values), sum(map(len, path.slopes.values())), not open_scores)


@dataclass
class _Path:
    evaluate: Evaluate
    values: dict[float, Floats] = field(default_factory=dict)
    slopes: dict[float, dict[int, Floats]] = field(default_factory=dict)

    def look(self, pieces: Sequence[Sequence[Piece]]) -> None:
        """Take the slopes that the pieces of each score need and that are not known."""
        together: dict[tuple[int, ...], list[float]] = {}
        for node, wanted in sorted(_needed(pieces).items()):
            missing = tuple(sorted(wanted - set(self.slopes.get(node, ()))))
            if missing:
                together.setdefault(missing, []).append(node)
        for wanted_scores, nodes in together.items():
            values, slopes = self.evaluate(nodes, wanted_scores)
            for row, node in enumerate(nodes):
                self.values.setdefault(node, values[row])
                self.slopes.setdefault(node, {}).update(zip(wanted_scores, slopes[row], strict=True))

    def would_have(self, pieces: Sequence[Sequence[Piece]]) -> int:
        return len(set(self.values) | set(_needed(pieces)))

    def sum(self, score: int, piece: Piece) -> Floats:
        """The integral over a piece: Simpson's rule, or the midpoint's where the path begins too steeply for it."""
        first, middle, last = (self.slopes[node][score] for node in _nodes(piece))
        width, change = piece[1] - piece[0], self.change(score, piece)
        simpson: Floats = (first + 4 * middle + last) * width / 6
        midpoint: Floats = middle * width
        steep = piece[0] == 0 and not abs(simpson.sum() - change) <= abs(midpoint.sum() - change)
        return midpoint if steep else simpson

    def change(self, score: int, piece: Piece) -> float:
        return float(self.values[piece[1]][score] - self.values[piece[0]][score])

    def error(self, score: int, piece: Piece) -> float:
        return float(self.sum(score, piece).sum() - self.change(score, piece))


def _nodes(piece: Piece) -> tuple[float, float, float]:
    # Halves of halves of one: exact as floating-point numbers, so a node is found again.
    return piece[0], (piece[0] + piece[1]) / 2, piece[1]


def _needed(pieces: Sequence[Sequence[Piece]]) -> dict[float, set[int]]:
    needed: dict[float, set[int]] = {}
    for score, mine in enumerate(pieces):
        for piece in mine:
            for node in _nodes(piece):
                needed.setdefault(node, set()).add(score)
    return needed


def _within(errors: Floats, tolerance: float) -> bool:
    return bool(max(abs(errors.sum()), np.sqrt((errors**2).sum())) <= tolerance)


def _halved(pieces: list[Piece], errors: Floats, tolerance: float) -> list[Piece]:
    """The pieces, with those of the largest errors halved: what the others leave is half the tolerance."""
    left = float(np.abs(errors).sum())
    large: set[int] = set()
    for place in np.argsort(-np.abs(errors), kind="stable"):
        if large and left <= tolerance / 2:
            break
        large.add(int(place))
        left -= abs(float(errors[place]))
    finer: list[Piece] = []
    for place, piece in enumerate(pieces):
        first, middle, last = _nodes(piece)
        finer += [(first, middle), (middle, last)] if place in large else [piece]
    return finer
