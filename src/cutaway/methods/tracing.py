"""How is a fact traced? The cells of a map, their noise, and the log-probabilities of the answer with each restored.

A cell of the map is a kind (the stream, MLPs, attentions), a layer and a position; for MLPs and attentions it is a window of
layers around that layer, clipped at the ends. Every prompt has noise of its own, drawn from the seed, the prompt's place in
the task and nothing else.
Limits: one prompt after another; causal networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cutaway.core.errors import MethodError
from cutaway.core.task import EncodedTask
from cutaway.methods.subjects import Distribution, Subjects, noise_for
from cutaway.models.model import Model
from cutaway.models.restoration import Cell, Kind, restored

Floats = NDArray[np.float64]
STREAM, MLP, ATTENTION = "stream", "MLP", "attention"
SITES: Mapping[str, Kind] = {STREAM: "resid_post", MLP: "mlp_out", ATTENTION: "attn_out"}
NO_MLP, NO_ATTENTION = "stream, MLPs severed", "stream, attention severed"


def traced_kinds(model: Model) -> tuple[str, ...]:
    """The kinds that every layer of a network has.

    Raises:
        MethodError: the stream cannot be written.
    """
    layers = model.anatomy.stacks[""].layers
    found = tuple(kind for kind, site in SITES.items() if all(site in layer.places for layer in layers))
    if STREAM not in found:
        raise MethodError(
            f"the layers of {model.name!r} do not end in a stream that can be written;",
            "tracing restores it layer by layer.",
            "`cutaway check` says which sites of a model can be trusted.",
        )
    return found


@dataclass(frozen=True, eq=False)
class Trace:
    """One prompt: log-probabilities of the answer.

    Attributes:
        restored: [kind, layer, position, sample]; at positions before the subject that of the damaged run.
        curves: the stream at the last subject token with branches severed [which, layer, sample].
        damaged: [sample].
        clean: without noise.
    """

    restored: Floats
    curves: Floats
    damaged: Floats
    clean: float


@dataclass(frozen=True, eq=False)
class Tracing:
    """What is traced and how.

    Attributes:
        model, encoded, subjects: the network, the prompts, and which tokens get noise.
        size: of the noise, in the embeddings' own unit.
        distribution: of the noise.
        samples: draws of the noise.
        width: layers of a window.
        kinds: what is restored.
        seed: draws the noise.
    """

    model: Model
    encoded: EncodedTask
    subjects: Subjects
    size: float
    distribution: Distribution
    samples: int
    width: int
    kinds: tuple[str, ...]
    seed: int

    def window(self, kind: str, layer: int) -> tuple[int, ...]:
        """The layers that are restored for a cell of the map: a window around a layer, clipped at the ends."""
        if kind == STREAM:
            return (layer,)
        first = layer - self.width // 2
        return tuple(range(max(0, first), min(self.model.anatomy.n_layers, first + self.width)))

    def cells(self, prompt: int) -> list[Cell]:
        """Every kind, layer, and position from the subject on."""
        start, length = self.subjects.spans[prompt][0], len(self.encoded.ids[prompt])
        return [
            Cell(SITES[kind], self.window(kind, layer), (position,))
            for kind in self.kinds
            for layer in range(self.model.anatomy.n_layers)
            for position in range(start, length)
        ]

    def severed_cells(self, prompt: int) -> list[Cell]:
        """The stream at the last subject token, first without later MLPs, then without later attentions."""
        last = self.subjects.spans[prompt][1] - 1
        branches = [SITES[kind] for kind in (MLP, ATTENTION) if kind in self.kinds]
        return [
            Cell("resid_post", (layer,), (last,), branch)  # type: ignore[arg-type]
            for branch in branches
            for layer in range(self.model.anatomy.n_layers)
        ]

    def scores(self, prompt: int, cells: Sequence[Cell], *, fresh: int = 0) -> tuple[Floats, Floats, float]:
        """Log-probabilities with cells restored [cell, sample], damaged [sample], clean."""
        ids = self.encoded.ids[prompt]
        noise = noise_for(
            self.model,
            len(ids),
            self.subjects.spans[prompt],
            self.size,
            samples=self.samples,
            distribution=self.distribution,
            seed=(self.seed, self.encoded.kept[prompt], fresh),
        )
        found = restored(self.model, ids, noise, cells, answers_log_probability(self.encoded.answer_ids[prompt]))
        parts = (found.values.T, found.damaged)
        values, damaged = (part.double().cpu().numpy() for part in parts)
        return values, damaged, float(found.clean)

    def prompt(self, prompt: int, severed: bool) -> Trace:
        """The whole map of a prompt."""
        cells = self.cells(prompt)
        more = self.severed_cells(prompt) if severed else []
        values, damaged, clean = self.scores(prompt, [*cells, *more])
        layers, length = self.model.anatomy.n_layers, len(self.encoded.ids[prompt])
        start = self.subjects.spans[prompt][0]
        table = np.broadcast_to(damaged, (len(self.kinds), layers, length, self.samples)).copy()
        shape = (len(self.kinds), layers, length - start, self.samples)
        table[:, :, start:] = values[: len(cells)].reshape(shape)
        curves = values[len(cells) :].reshape(-1, layers, self.samples)
        return Trace(table, curves, damaged, clean)


def answers_log_probability(answers: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """A function of logits [row, vocab] that gives the log-probability of the answers together [row]."""

    def score(logits: Tensor) -> Tensor:
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return wide[:, list(answers)].logsumexp(dim=-1) - wide.logsumexp(dim=-1)

    return score
