"""Which vectors are near each other? Points on a plane, and how far the plane can be believed.

    pca     principal components: turned, never bent; far stays far [@jolliffe2016]
    umap    neighbours kept, distances given up; only who is near whom can be read [@mcinnes2018]

How many nearest neighbours the plane keeps is counted for both.
Limits: UMAP is another package (umap-learn, the extra `umap`); with a seed it runs on one core. Neighbours are by cosine.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cutaway.core.errors import MethodError
from cutaway.methods.distances import principal

Array = NDArray[np.float64]
Projection = Literal["pca", "umap"]
NEIGHBOURS = 15  # of each point, as UMAP takes by default
LEAST = 4  # points that UMAP needs


def plane(vectors: Array, projection: Projection, seed: int) -> tuple[Array, float | None]:
    """Vectors on a plane.

    Args:
        vectors: [row, d_model].
        projection: how.
        seed: of UMAP's steps.

    Returns:
        Points [row, 2], and the share of the variance that they hold, which UMAP does not say.

    Raises:
        MethodError: UMAP is not installed, or there are too few vectors for it.
    """
    points, share = principal(vectors)
    if projection == "pca":
        return points, float(share.sum())
    return _umap(vectors, points, seed), None


def neighbours_kept(points: Array, near: Array) -> float:
    """The share of rows whose nearest row is also the nearest one on the plane.

    Args:
        points: [row, 2].
        near: [row, row], larger is nearer; a row's own is left out.
    """
    apart = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    own = np.eye(len(points), dtype=bool)
    on_plane = np.where(own, np.inf, apart).argmin(axis=1)
    return float((np.where(own, -np.inf, near).argmax(axis=1) == on_plane).mean())


def _umap(vectors: Array, start: Array, seed: int) -> Array:
    if len(vectors) < LEAST:
        raise MethodError(
            f"{len(vectors)} vectors are too few for projection='umap';",
            f"it needs {LEAST}.",
            "Write projection='pca'.",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what numba and others say to their own developers as they are imported
        try:
            umap = importlib.import_module("umap")
        except ImportError as error:
            raise MethodError(
                f"projection='umap' needs umap-learn, which cannot be imported ({error});",
                "projection='pca' needs nothing.",
                'Write pip install "cutaway[umap]", or projection="pca".',
            ) from error
        fitted = umap.UMAP(
            n_neighbors=min(NEIGHBOURS, len(vectors) - 1), metric="cosine", init=start, random_state=seed, n_jobs=1
        )
        points = fitted.fit_transform(vectors)
    return np.asarray(points, dtype=np.float64)
