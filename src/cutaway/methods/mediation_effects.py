"""How much of a contrast's effect goes through each part, and past it? Logarithms of ratios of odds, prompt by prompt.

Every part is changed on its own: a sweep over the prompt's run gives the indirect effects, one over the contrast's run the
direct ones [@vig2020]. Where parts are many, a gradient chooses those that are measured.
Limits: as in `cutaway.methods.intervene.mediation`, which this belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.errors import TaskError
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask
from cutaway.methods.cell_slopes import slopes_of_cells
from cutaway.models.metric import Metric
from cutaway.models.model import Model

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Effects:
    """Logarithms of ratios of odds; `np.expm1` makes them the paper's effects.

    Attributes:
        total: [prompt].
        indirect, direct: [prompt, part].
        odds: of the plain prompt, log y [prompt].
    """

    total: Floats
    indirect: Floats
    direct: Floats
    odds: Floats

    @property
    def way(self) -> float:
        """1 where the contrast makes the wrong answer likelier on average, -1 where less likely."""
        return -1.0 if self.total.mean() < 0 else 1.0

    @property
    def towards(self) -> Floats:
        """Indirect effects, positive where they go the way of the total one [prompt, part]."""
        return self.way * self.indirect


def effects_of(model: Model, encoded: EncodedTask, metric: Metric, cells: Sequence[Site]) -> Effects:
    """Every part on its own: a sweep over the prompt's run, and one over the contrast's."""
    into = model.sweep(encoded, over=cells, edit="patch", direction="noise", metric=metric)
    out_of = model.sweep(encoded, over=cells, edit="patch", direction="denoise", metric=metric)
    # The metric is the answer's lead: log y with the sign changed.
    total = numbers(into.base - into.source)
    if float(np.abs(total).max()) <= 1e-5 * float(np.abs(numbers(into.base)).max() + 1e-30):
        raise TaskError(
            "prompts and contrasts have the same odds;",
            "mediation splits the difference between them, so there must be one.",
            "Give contrasts that change the answer.",
        )
    base = into.base[:, None]
    return Effects(total, numbers(base - into.values), numbers(base - out_of.values), -numbers(into.base))


def numbers(values: Tensor) -> Floats:
    """Of a tensor, in double precision, missing ones 0."""
    found: Floats = values.double().nan_to_num().cpu().numpy()
    return found


def screened(
    model: Model, encoded: EncodedTask, metric: Metric, every: list[Site], exact: int
) -> tuple[list[Site], Floats | None, tuple[str, ...]]:
    """The parts to measure: all of them, or those that a gradient finds largest; with its estimates."""
    if len(every) <= exact:
        return every, None, ()
    estimate = -slopes_of_cells(model, encoded, metric, every).mean(axis=0)
    kept = sorted(np.argsort(-np.abs(estimate), kind="stable")[:exact].tolist())
    note = f"{exact} of {len(every)} parts are measured: those with the largest effects to first order."
    return [every[i] for i in kept], estimate, (note,)


def order_of(indirect: Floats, rank_by: str) -> NDArray[np.intp]:
    """Parts from the largest effect down."""
    return np.argsort(-summary(indirect, rank_by), kind="stable")


def summary(logs: Floats, how: str) -> Floats:
    """One number for each column of log ratios: their mean, or mean or median of the ratios."""
    match how:
        case "mean":
            found: Floats = np.expm1(logs).mean(axis=0)
        case "median":
            found = np.median(np.expm1(logs), axis=0)
        case _:
            found = logs.mean(axis=0)
    return found
