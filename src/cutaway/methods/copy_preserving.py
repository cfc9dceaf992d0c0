"""How much of what a head does is copy suppression? An ablation that keeps that, and nothing else.

At each destination a head's output is a sum over source tokens, each times its attention. The copy-suppression-preserving
ablation (CSPA) keeps a source only where its token is among those that the stream before the head predicts there, and of
what is kept only the part that lowers that token's own logit; the rest is put at its mean. The share of the head's
effect that is preserved is 1 - KL(CSPA) / KL(mean ablation), both from the unchanged prediction and both of the
direct effect alone: the final stream is edited with the final norm's scale frozen [@mcdougall2023].

A source's mean is its attention times the head's mean output, so that with nothing kept the head is mean-ablated exactly.
Limits: the direct effect leaves out what later layers make of the head; on short prompts few sources can be kept, and
the mean is of these prompts only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.core.run import Run
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask
from cutaway.methods.full_circuits import directions, unembedding
from cutaway.models.model import Model

ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Preserved:
    """What two ablations of a head do to the predictions, directly.

    Attributes:
        mean: KL of the mean-ablated head from the unchanged prediction, mean over destinations, in nats.
        kept: the same of the copy-suppression-preserving ablation.
        sources: sources kept at a destination, on average.
    """

    mean: float
    kept: float
    sources: float

    @property
    def share(self) -> float:
        """Share of the effect that is preserved; 0 for a head that has none."""
        return 1 - self.kept / self.mean if self.mean > 1e-9 else 0.0


@dataclass(frozen=True, eq=False)
class Text:
    """The runs of some prompts, ready for the ablation of any head of some layers.

    Attributes:
        run: with `pattern`, `v`, `resid_pre` of the layers, and the last stream.
        places: (prompt, destination) pairs that are scored.
        last: the stream after the last layer at those places [place, d_model].
        scale: the final norm's factor there [place, 1].
        logits: the unchanged prediction there [place, vocab].
    """

    run: Run
    places: tuple[tuple[int, int], ...]
    last: Float[Tensor, "place d_model"]
    scale: Float[Tensor, "place 1"]
    logits: Float[Tensor, "place vocab"]


def read_text(model: Model, encoded: EncodedTask, layers: Sequence[int], *, destinations: int, seed: int) -> Text:
    """Run the prompts once; destinations are drawn from all positions but the first."""
    last = model.anatomy.n_layers - 1
    reads = [f"{kind}[{layer}]" for layer in sorted(set(layers)) for kind in ("pattern", "v", "resid_pre")]
    run = model.run(encoded, read=[*reads, f"resid_post[{last}]"], logits="none")
    everywhere = [(row, place) for row, length in enumerate(run.lengths) for place in range(1, length)]
    order = np.random.default_rng(seed).permutation(len(everywhere))[: destinations or None]
    places = tuple(everywhere[i] for i in sorted(order))
    rows, columns = (list(side) for side in zip(*places, strict=True))
    stream = run[f"resid_post[{last}]"][rows, columns]
    with torch.no_grad():
        return Text(run, places, stream, model.final_norm.scale(stream), model.unembed(stream))


def preserved(model: Model, text: Text, head: Site, *, share: float) -> Preserved:
    """What copy suppression alone preserves of one head's direct effect.

    Args:
        model: the network.
        text: the prompts' runs.
        head: a site `z[layer].head[h]`.
        share: of the sources of a destination, how many count as predicted; rounded up.
    """
    assert isinstance(head.layer, int) and isinstance(head.head, int)
    parts, mean = _from_sources(model, text, head.layer, head.head)
    kept_changes, mean_changes, sources = [], [], []
    for row, place in text.places:
        pattern, vectors = parts[row]
        attention = pattern[place, : place + 1]
        each = attention[:, None] * vectors[: place + 1]
        whole = each.sum(dim=0)
        ids = torch.tensor(text.run.ids[row][: place + 1])
        ours = _predicted(model, text.run[f"resid_pre[{head.layer}]"][row, place], ids, share)
        kept = _lowering(each[ours] - attention[ours, None] * mean, _units(model, ids[ours]))
        kept_changes.append(mean + kept - whole)
        mean_changes.append(mean - whole)
        sources.append(len(ours))
    with torch.no_grad():
        base = _divergence(model, text, torch.stack(mean_changes))
        ours_too = _divergence(model, text, torch.stack(kept_changes))
    return Preserved(base, ours_too, float(np.mean(sources)))


def _from_sources(
    model: Model, text: Text, layer: int, head: int
) -> tuple[list[tuple[Tensor, Tensor]], Float[Tensor, " d_model"]]:
    """For each prompt the head's pattern and what each source would write; and the mean of its output."""
    values, patterns = text.run[f"v[{layer}]"], text.run[f"pattern[{layer}]"]
    matrix = model.W_O(layer).detach().to(values)
    group = matrix.shape[0] // values.shape[2]
    parts, outputs = [], []
    for row, length in enumerate(text.run.lengths):
        vectors = values[row, :length, head // group] @ matrix[head]
        pattern = patterns[row, head, :length, :length].to(vectors)
        parts.append((pattern, vectors))
        outputs.append(pattern[1:] @ vectors)
    return parts, torch.cat(outputs).mean(dim=0)


def _predicted(model: Model, stream: Tensor, ids: Tensor, share: float) -> list[int]:
    """Sources whose token is among those that the stream before the head predicts most, one for each token."""
    with torch.no_grad():
        logits = model.unembed(stream[None], ids)[0]
    first = {int(token): place for place, token in reversed(list(enumerate(ids)))}
    ordered = sorted(first.values(), key=lambda place: -float(logits[place]))
    tokens = {int(ids[place]) for place in ordered[: math.ceil(share * len(ids))]}
    return [place for place, token in enumerate(ids) if int(token) in tokens]


def _units(model: Model, ids: Tensor) -> Float[Tensor, "source d_model"]:
    found = directions(model, ids.tolist())
    return found / found.norm(dim=-1, keepdim=True).clamp_min(1e-30)


def _lowering(parts: Tensor, units: Tensor) -> Float[Tensor, " d_model"]:
    """Of each source's part what lowers its own token's logit, summed."""
    along = (parts * units.to(parts)).sum(dim=-1, keepdim=True).clamp_max(0.0)
    return (along * units.to(parts)).sum(dim=0)


def _divergence(model: Model, text: Text, changes: Float[Tensor, "place d_model"]) -> float:
    """Mean KL, from the unchanged prediction, of the prediction with the final stream changed under a frozen norm."""
    norm, total = model.final_norm, 0.0
    for start in range(0, len(changes), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        moved = norm.linear(changes[part].to(text.last), text.scale[part])
        before = text.logits[part]
        after = before + moved @ unembedding(model).to(moved)
        reference = before.float().log_softmax(-1)
        total += float((reference.exp() * (reference - after.float().log_softmax(-1))).sum())
    return total / len(changes)
