"""Vectors on a plane: what must be kept, and what is said where a package is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from cutaway.core.errors import MethodError
from cutaway.methods.distances import principal
from cutaway.methods.neighbour_map import neighbours_kept, plane
from cutaway.methods.sense_space import cosines


def groups(of: int = 8) -> np.ndarray:
    """Two groups of vectors, far apart."""
    generator = np.random.default_rng(0)
    centres = np.repeat(np.eye(2, 6) * 5, of, axis=0)
    return centres + generator.normal(size=centres.shape) * 0.3


def test_the_plane_is_that_of_the_principal_components() -> None:
    points, share = plane(groups(), "pca", seed=0)
    expected, shares = principal(groups())
    np.testing.assert_array_equal(points, expected)
    assert share == pytest.approx(shares.sum())


def test_neighbours_kept_is_counted_row_by_row() -> None:
    vectors = groups()
    points, _ = plane(vectors, "pca", seed=0)
    near, kept = cosines(vectors), 0
    for row in range(len(vectors)):
        others = [other for other in range(len(vectors)) if other != row]
        nearest = max(others, key=lambda other: near[row, other])
        on_plane = min(others, key=lambda other: np.linalg.norm(points[row] - points[other]))
        kept += nearest == on_plane
    assert neighbours_kept(points, near) == kept / len(vectors)
    line = np.arange(5.0)[:, None] * np.array([[1.0, 0.0]])
    assert neighbours_kept(line, -np.abs(line[:, :1] - line[:, 0])) == 1.0


@pytest.mark.all
def test_umap_keeps_groups_apart_and_is_the_same_twice() -> None:
    pytest.importorskip("umap", reason="umap-learn is an extra")
    vectors = groups()
    points, share = plane(vectors, "umap", seed=3)
    assert points.shape == (16, 2) and share is None
    np.testing.assert_array_equal(points, plane(vectors, "umap", seed=3)[0])
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argmin(axis=1)
    assert ((nearest < 8) == (np.arange(16) < 8)).mean() > 0.9


def test_without_umap_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MethodError) as caught:
        plane(groups(), "umap", seed=0)
    assert str(caught.value) == (
        "projection='umap' needs umap-learn, which cannot be imported (import of umap halted; None in sys.modules); "
        "projection='pca' needs nothing. "
        'Write pip install "cutaway[umap]", or projection="pca".'
    )


def test_too_few_vectors_for_umap_are_refused() -> None:
    with pytest.raises(MethodError, match=r"3 vectors are too few for projection='umap'; it needs 4"):
        plane(groups()[:3], "umap", seed=0)
