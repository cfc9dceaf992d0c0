"""Where does a variable live, and would chance find it as well? A grid of sites, and the controls of the best one.

At each site a subspace is trained on one part of the pairs and tested on the other. The site with the highest accuracy
on the *training* pairs is named, so that its accuracy on the held-out pairs is not picked for being high. Three
controls stand beside it: random subspaces of the same size; the same training on the network with its weights shuffled;
the same training with labels drawn by lot.
Limits: where training pairs are few, several sites fit them all; the first of the highest is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cutaway.core import view as views
from cutaway.core.artifact import Artifact
from cutaway.core.errors import ParameterError
from cutaway.core.result import Check, Result
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask
from cutaway.methods.alignment import (
    Aligned,
    Pairs,
    Subspace,
    Training,
    aligned,
    held_out,
    pairs_of,
    random_subspace,
    right,
    train,
)
from cutaway.methods.cells import cells_of, grids, in_words, map_views
from cutaway.methods.control import compared, unchecked
from cutaway.methods.labels import described
from cutaway.methods.random_twin import random_twin
from cutaway.models.model import Model

LAYERS = 5  # of the default grid
IIA = ("interchange intervention accuracy", "share of held-out pairs")


@dataclass(frozen=True, eq=False)
class Grid:
    """What training at each site gave.

    Attributes:
        sites: where.
        spaces: the subspace learned at each.
        train_pairs, test_pairs: which pairs were trained on and tested on.
        fitted: share of the training pairs answered as predicted, at each site.
        tested: for each site and held-out pair whether it was.
    """

    sites: tuple[Site, ...]
    spaces: tuple[Subspace, ...]
    train_pairs: tuple[int, ...]
    test_pairs: tuple[int, ...]
    fitted: NDArray[np.float64]
    tested: NDArray[np.bool_]

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Of each site on the held-out pairs."""
        return np.asarray(self.tested.mean(axis=1), dtype=float)

    @property
    def best(self) -> int:
        """The site that fits the training pairs best."""
        return int(np.argmax(self.fitted))


def one_site_each(model: Model, encoded: EncodedTask, sites: str) -> list[Site]:
    """The sites of a grid: those named, or the stream at the last token after five layers.

    Raises:
        ParameterError: a site without one position.
    """
    if not sites:
        n = model.anatomy.n_layers
        layers = sorted({round(i) for i in np.linspace(0, n - 1, min(n, LAYERS) + 1)[:-1]})
        kind = "resid_post" if "resid_post" in model.anatomy.stacks[""].layers[0].places else "resid_pre"
        return [Site(kind, layer, position=-1) for layer in layers]
    shortest = min(map(len, encoded.ids))
    found = cells_of(model, sites, shortest)
    for site in found:
        if not isinstance(site.position, int | str):
            raise ParameterError(
                f"the site '{site}' has no position;",
                "a subspace is exchanged at one token.",
                f"Write for example sites='{site}@-1'.",
            )
    return found


def trained_grid(model: Model, pairs: Pairs, sites: Sequence[Site], how: Training, seed: int) -> Grid:
    """Train a subspace at each site, and test it on pairs that were held out."""
    numbers, tested_on = held_out(pairs, seed)
    spaces, fitted, tested = [], [], []
    for site in sites:
        found = aligned(model, pairs, site)
        space = train(found, numbers, how)
        spaces.append(space)
        fitted.append(float(right(found, numbers, space).mean()))
        tested.append(right(found, tested_on, space))
    return Grid(tuple(sites), tuple(spaces), tuple(numbers), tuple(tested_on), np.array(fitted), np.array(tested))


# --- the controls ------------------------------------------------------------------------------------------------


def controls_of(
    model: Model, pairs: Pairs, grid: Grid, how: Training, count: int, seed: int, *, where: str
) -> tuple[Check, ...]:
    """Random subspaces, the network with shuffled weights, and labels drawn by lot, at the best site."""
    site, space = grid.sites[grid.best], grid.spaces[grid.best]
    measured = float(grid.accuracy[grid.best])
    found = aligned(model, pairs, site)
    return (
        _random(found, grid, space, count, seed, measured, where),
        _untrained(model, pairs, grid, how, seed, measured, where),
        _by_lot(found, grid, how, seed, measured, where),
    )


def _random(found: Aligned, grid: Grid, space: Subspace, count: int, seed: int, measured: float, where: str) -> Check:
    size = max(1, space.size)
    others = [random_subspace(found.width, size, seed + 1 + i, space.rotation.dtype) for i in range(count)]
    values = [float(right(found, grid.test_pairs, other).mean()) for other in others]
    return compared(
        measured,
        values,
        claim=f"A subspace of {space.size} of {found.width} dimensions of {where} decides the answer.",
        how="Exchange it between held-out prompts; the control exchanges random subspaces of the same size.",
        unit="share of held-out pairs",
    )


def _untrained(model: Model, pairs: Pairs, grid: Grid, how: Training, seed: int, measured: float, where: str) -> Check:
    site = grid.sites[grid.best]
    found = aligned(random_twin(model, seed + 1), pairs, site)
    space = train(found, grid.train_pairs, how)
    tested = right(found, grid.test_pairs, space)
    return _above(
        measured,
        tested,
        claim=f"What decides the answer in {where} was learned by the network, not by the rotation.",
        how="The same training and test on the network with its weights in random order.",
    )


def _by_lot(found: Aligned, grid: Grid, how: Training, seed: int, measured: float, where: str) -> Check:
    pairs = found.pairs.with_random_labels(seed + 1)
    space = train(found, grid.train_pairs, how, pairs)
    tested = right(found, grid.test_pairs, space, pairs)
    return _above(
        measured,
        tested,
        claim=f"A rotation in {where} cannot be trained to just any answers.",
        how="The same training and test with answers drawn by lot.",
    )


def _above(measured: float, tested: NDArray[np.bool_], *, claim: str, how: str) -> Check:
    """Higher than the control by more than the control's own sampling error (95 %)."""
    mean, n = float(tested.mean()), len(tested)
    error = 1.96 * float(np.sqrt(max(mean * (1 - mean), 0.25 / n) / n))
    band = (max(0.0, mean - error), min(1.0, mean + error))
    return Check(claim, how, measured, mean, band, n, measured > band[1], "share of held-out pairs")


# --- the result --------------------------------------------------------------------------------------------------


def result_of(
    model: Model,
    encoded: EncodedTask,
    sites: str,
    how: Training,
    controls: int,
    seed: int,
) -> Result:
    """The Result of `das` and `boundless_das`: pairs of the task, the grid, the controls, the best subspace."""
    places = one_site_each(model, encoded, sites)
    pairs = pairs_of(model, encoded, seed=seed)
    grid = trained_grid(model, pairs, places, how, seed)
    site, space = grid.sites[grid.best], grid.spaces[grid.best]
    where = f"{in_words(model, encoded.ids, [site])} ({site})"
    checks = controls_of(model, pairs, grid, how, controls, seed, where=where) if controls else ()
    maps = grids(model, encoded.ids, places, grid.accuracy, IIA)
    data = dataset_of(grid).merge(maps)
    return Result(
        data=data,
        metrics={
            "accuracy": float(grid.accuracy[grid.best]),
            "site": str(site),
            "dimensions": space.size,
            "width": int(space.rotation.shape[0]),
            "pairs_trained": len(grid.train_pairs),
            "pairs_tested": len(grid.test_pairs),
        },
        views=grid_views(maps),
        checks=checks,
        notes=(*encoded.notes, *_few(grid, encoded), *unchecked(controls)),
        artifacts={"subspace": artifact_of(space, site, grid, model.name)},
    )


def dataset_of(grid: Grid) -> xr.Dataset:
    """Accuracy and size at each site."""
    data = xr.Dataset(
        {
            "accuracy": ("site", grid.accuracy),
            "accuracy_on_training_pairs": ("site", grid.fitted),
            "dimensions": ("site", np.array([space.size for space in grid.spaces], dtype=np.int64)),
            "right": (("site", "pair"), grid.tested),
        },
        coords={"site": [str(site) for site in grid.sites], "pair": list(grid.test_pairs)},
    )
    return described(data, accuracy=IIA, dimensions=("dimensions exchanged", "dimensions"))


def grid_views(maps: xr.Dataset) -> tuple[views.View, ...]:
    """The map of accuracies, and a table of sites."""
    pictures = []
    for view in map_views(maps, "Interchange intervention accuracy at"):
        options = {name: value for name, value in view.options.items() if name != "scale"}
        pictures.append(replace(view, options=options))
    columns = ["site", "accuracy", "accuracy_on_training_pairs", "dimensions"]
    return (*pictures, views.table(columns=columns, title="Accuracy and size of the subspace at each site"))


def artifact_of(space: Subspace, site: Site, grid: Grid, model: str) -> Artifact:
    """The subspace as something to keep: its rotation, and how much of each direction is exchanged."""
    about: dict[str, Any] = {
        "site": str(site),
        "model": model,
        "dimensions": space.size,
        "accuracy": float(grid.accuracy[grid.best]),
    }
    return Artifact("subspace", {"rotation": space.rotation, "mask": space.mask}, about)


def _few(grid: Grid, encoded: EncodedTask) -> tuple[str, ...]:
    notes = []
    if grid.train_pairs == grid.test_pairs:
        notes.append("There is one prompt with its contrast only: it was trained on and tested on.")
    elif len(encoded) < 20:
        notes.append(f"Only {len(encoded)} prompts: a subspace that is trained on few pairs may fit them by chance.")
    return tuple(notes)
