"""What does the network say when some of its edges carry something else? Any set of edges in one forward pass.

A part reads the sum of what earlier parts wrote. To change the edges s -> t of a set, the stream that t reads becomes

    stream + Σ over the set's sources s of (other[s] - current[s])

where `current` is what s writes in this very run and `other` what it writes in another one (or zero, or a mean). So
one pass evaluates any set: a product of the set's matrix with the differences gives all targets of a layer their
streams; the network's own norm and the rows of its own matrices that belong to a head give that head's q, k or v, and
everything else is run by the network itself. The stream itself is never changed. [@conmy2023; @syed2023]

A set can also be of edges at some positions only (`edge_positions.py` gives tokens labels): then the sum is taken at the
tokens of each label alone [@haklay2025]. Many sets are rows of one batch. A pass starts at the first layer in which one
of its sets has a target: everything below is the base run's. Where all edges are changed the network computes the other
run; where none, the base run.
Limits: the metric is that of each prompt's last token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.core.edge import Bools, EdgeGraph
from cutaway.core.errors import PlanError
from cutaway.core.progress import track
from cutaway.models import memory
from cutaway.models.edge_base import Base
from cutaway.models.edge_parts import parts_of
from cutaway.models.edge_pass import Pass
from cutaway.models.edge_positions import Positions
from cutaway.models.edge_values import Contributions, mean, of_prompts, resampled, zero
from cutaway.models.encode import Encoded, Prompts, encode
from cutaway.models.forward import input_device
from cutaway.models.recording import by_length, record

if TYPE_CHECKING:
    from cutaway.models.model import Model

__all__ = ["Contributions", "EdgeRuns", "evaluate", "graph_of", "mean", "of_prompts", "prepare", "resampled", "zero"]

Sets = Bools | Bool[Tensor, "set source target *label"]
# What the differences of one pass may take, and those of the base run that are kept between calls.
PASS_BYTES, KEPT_BYTES = 400 * 2**20, 800 * 2**20


def graph_of(model: Model) -> EdgeGraph:
    """All edges of a network; `ModelError` says why where it has none that are exact."""
    return parts_of(model).graph


def prepare(model: Model, prompts: Prompts, other: Contributions) -> EdgeRuns:
    """Everything that is learned once, for many evaluations on the same prompts.

    Args:
        model: the network.
        prompts: the base run: texts, token ids, or a task (its prompts).
        other: what changed edges carry: `of_prompts(model, encoded.contrast_ids)`, `zero()`, `mean(...)`, …
    """
    encoded = encode(prompts, model.tokenizer)
    other.require(len(encoded.ids), max(encoded.lengths))
    return EdgeRuns(model, graph_of(model), encoded, other)


def evaluate(
    model: Model,
    prompts: Prompts,
    patched: Sets,
    other: Contributions,
    metric: Callable[[Tensor], Tensor],
    *,
    batch: int | str = "auto",
) -> Float[Tensor, "set prompt"]:
    """The metric of every prompt with every set of edges changed [set, prompt].

    Args:
        model: the network.
        prompts: the base run.
        patched: the sets, as matrices [set, source, target] in the numbering of `graph_of(model)`.
        other: what changed edges carry.
        metric: of the logits at each prompt's last token; a `Metric`, or a function [row, vocab] -> [row].
        batch: rows at once, or "auto": as many as fit.
    """
    return prepare(model, prompts, other).scores(patched, metric, batch=batch)


@dataclass
class EdgeRuns:
    """Evaluations of sets of edges on the same prompts; `prepare` makes it.

    Attributes:
        model, graph: the network and its edges.
        encoded: the base run's prompts.
        other: what changed edges carry.
    """

    model: Model
    graph: EdgeGraph
    encoded: Encoded
    other: Contributions
    _bases: dict[tuple[int, ...], Base] = field(default_factory=dict)

    def scores(
        self,
        patched: Sets,
        metric: Callable[[Tensor], Tensor],
        *,
        batch: int | str = "auto",
        what: str = "sets of edges",
        positions: Positions | None = None,
    ) -> Float[Tensor, "set prompt"]:
        """The metric of every prompt with every set of edges changed [set, prompt]; `evaluate` says more.

        Args:
            patched: the sets [set, source, target]; with positions [set, source, target, label].
            metric: of the logits at each prompt's last token.
            batch: rows at once, or "auto".
            what: what progress is reported as.
            positions: the labels of these prompts' tokens, where edges are changed at some positions only.
        """
        sets = self._checked(patched, positions)
        found = torch.full((len(sets), len(self.encoded.ids)), torch.nan, dtype=torch.float64)
        for rows, prompts, values in self._passes(sets, metric, batch, what, positions):
            found[rows[:, None], torch.tensor(prompts)[None]] = values.double().cpu().reshape(len(rows), -1)
        return found

    def logits(
        self, patched: Sets, *, batch: int | str = "auto", positions: Positions | None = None
    ) -> Float[Tensor, "set prompt vocab"]:
        """The logits at each prompt's last token with every set of edges changed [set, prompt, vocab]; as `scores`."""
        sets = self._checked(patched, positions)
        parts = list(self._passes(sets, None, batch, "sets of edges", positions))
        first = parts[0][2]
        found = first.new_zeros(len(sets), len(self.encoded.ids), first.shape[-1])
        for rows, prompts, values in parts:
            block = values.reshape(len(rows), len(prompts), -1).to(found.device)
            found[rows[:, None].to(found.device), torch.tensor(prompts, device=found.device)[None]] = block
        return found

    # --- inside --------------------------------------------------------------------------------------------------

    def _checked(self, patched: Sets, positions: Positions | None) -> Tensor:
        sets = torch.as_tensor(np.asarray(patched.cpu() if isinstance(patched, Tensor) else patched), dtype=torch.bool)
        wanted: tuple[int, ...] = self.graph.shape if positions is None else (*self.graph.shape, len(positions.names))
        sets = sets[None] if sets.dim() == len(wanted) else sets
        if sets.dim() != len(wanted) + 1 or tuple(sets.shape[1:]) != wanted or not len(sets):
            labels = f" at {wanted[2]} positions" if positions is not None else ""
            raise PlanError(
                f"The sets of edges have the shape {tuple(sets.shape)},",
                f"and this network has {self.graph.shape[0]} sources and {self.graph.shape[1]} targets{labels}.",
                "Give a boolean matrix [set, source, target], such as graph.mask(['embed -> logits']); "
                "with positions, [set, source, target, position], such as graph.mask(['embed -> logits'], positions.names).",
            )
        if positions is not None:
            positions.require(self.encoded.lengths)
        anywhere = sets if positions is None else sets.any(dim=3)
        beyond = anywhere & ~torch.from_numpy(self.graph.exists)
        if bool(beyond.any()):
            _, source, target = (int(i) for i in beyond.nonzero()[0])
            raise PlanError(
                f"A set holds '{self.graph.sources[source]} -> {self.graph.targets[target]}', which does not exist:",
                "that target is computed before that source.",
                "Take sets & graph.exists.",
            )
        return sets

    def _passes(
        self,
        sets: Tensor,
        metric: Callable[[Tensor], Tensor] | None,
        batch: int | str,
        what: str,
        positions: Positions | None,
    ) -> Iterator[tuple[Tensor, list[int], Tensor]]:
        """For each pass the numbers of its sets, its prompts, and its values [set * prompt, ...]."""
        device = input_device(self.model.hf)
        layers = torch.from_numpy(self.graph.target_layer)
        touched = (sets if positions is None else sets.any(dim=3)).any(dim=1)
        first = torch.where(touched, layers[None], self.graph.n_layers).amin(dim=1)
        order = torch.argsort(first, descending=True, stable=True)
        jobs = []
        for length, prompts in by_length(self.encoded).items():
            size = self._rows(length, batch)
            at_once = max(1, size // len(prompts))
            for start in range(0, len(prompts), size):
                some = prompts[start : start + size]
                jobs += [(order[i : i + at_once], some) for i in range(0, len(order), at_once)]
        for rows, some in track(jobs, what) if len(jobs) > 1 else jobs:
            base = self._base(some)
            start = int(first[rows].min())
            where = None if positions is None else positions.of(some, base.recording.length).to(device)
            with torch.no_grad():
                run = Pass(self.model, base, sets[rows].to(device), start, metric, where)
                yield rows, some, run.run()

    def _rows(self, length: int, batch: int | str) -> int:
        """Rows of one pass for prompts of so many tokens."""
        if isinstance(batch, int) and not isinstance(batch, bool):
            if batch < 1:
                raise PlanError(f"A batch of {batch} rows.", "A batch has one row or more,", 'or batch="auto".')
            return batch
        if batch != "auto":
            raise PlanError(f"batch is {batch!r}.", 'It is a number of rows or "auto".')
        width = next(self.model.hf.parameters()).element_size()
        differences_bytes = self.graph.shape[0] * length * self.model.anatomy.d_model * width
        largest = max(np.bincount(np.maximum(self.graph.target_layer, 0)))
        working = (4 * int(largest) + 16) * length * self.model.anatomy.d_model * width
        rows = memory.rows_at_once(differences_bytes + working, length, input_device(self.model.hf))
        on_cpu = input_device(self.model.hf).type != "cuda"
        return max(1, min(rows, PASS_BYTES // (differences_bytes + working))) if on_cpu else rows

    def _base(self, prompts: list[int]) -> Base:
        key = tuple(prompts)
        known = self._bases.get(key)
        if known is not None:
            return known
        parts = parts_of(self.model)
        ids = [self.encoded.ids[i] for i in prompts]
        recording = record(self.model, ids, (*parts.source_sites, *parts.mlp_outputs), cache=False)
        base = Base(recording, parts, self.other, tuple(prompts), self.model._unembedding)
        size = len(parts.graph.sources) * len(prompts) * recording.length * self.model.anatomy.d_model
        size *= recording.streams[0].element_size()
        kept = sum(one.bytes for one in self._bases.values())
        base.keeps = kept + size <= KEPT_BYTES
        if base.keeps or len(self._bases) < 4:
            self._bases[key] = base
        base.bytes = size if base.keeps else 0
        return base
