"""Which directions do an MLP's neurons use, and how much? The second moment of its keys over plain text.

A key is the vector of a layer's neurons at one token (`mlp_act`). C = E[k kᵀ] over ordinary text says which keys the
layer's last matrix already answers: a rank-one change weighted by C⁻¹ leaves those answers as they are as far as it can
[@meng2022]. The text is the project's plain English, or a file of one's own.
Limits: with fewer tokens than neurons C has no inverse, so a small multiple of the identity is added and said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cutaway.core.artifact import Artifact
from cutaway.core.errors import ParameterError
from cutaway.core.progress import track
from cutaway.core.site import Site
from cutaway.data import corpora
from cutaway.models import weight_edit
from cutaway.models.kept import kept
from cutaway.models.model import Model

KIND = "key_statistics"
TOKENS = 96  # of each text
TOKENS_A_NEURON = 10
ROWS = 16
RIDGE = 1e-4  # of the mean square of a neuron, added to the diagonal


def key_statistics(
    model: Model, layers: Sequence[int], texts: Sequence[str], source: str, tokens: int | None = None
) -> Artifact:
    """The second moments of the keys of some layers, read from the cache where they are there.

    Args:
        model: the network, not edited.
        layers: which.
        texts: plain text, read until there are enough tokens.
        source: where it comes from, for the record.
        tokens: how many are enough; None for ten for each neuron.

    Returns:
        An artifact of kind `key_statistics`: `layer.5` is C [neuron, neuron] of layer 5.
    """
    enough = tokens or TOKENS_A_NEURON * max(model.anatomy.layer(Site("mlp_act", layer)).d_mlp for layer in layers)
    rows = _until(model, texts, enough)
    read = hashlib.sha256(repr(rows).encode()).hexdigest()
    made_from = {
        "weights": weight_edit.fingerprint(model),
        "layers": list(layers),
        "read": read,
        "tokens_a_text": TOKENS,
    }

    def make() -> Artifact:
        moments, count = _moments(model, layers, rows)
        about = {"source": source, "texts": len(rows), "tokens": count, "layers": list(layers)}
        return Artifact(KIND, {f"layer.{layer}": C for layer, C in moments.items()}, {**about, **made_from})

    return kept(KIND, made_from, make)


def moment_of(statistics: Artifact, layer: int) -> Tensor:
    """C of a layer [neuron, neuron], made invertible, in double precision.

    Raises:
        ParameterError: the statistics are of other layers, or no statistics.
    """
    if statistics.kind != KIND or f"layer.{layer}" not in statistics.tensors:
        here = ", ".join(sorted(name.removeprefix("layer.") for name in statistics.tensors))
        raise ParameterError(
            f"layer {layer} has no key statistics in this artifact (kind {statistics.kind!r});",
            f"it has: {here}.",
            "Leave statistics out: they are computed.",
        )
    moment = statistics.tensors[f"layer.{layer}"].double()
    ridge = RIDGE * moment.diagonal().mean().clamp_min(1e-12)
    return moment + ridge * torch.eye(len(moment), dtype=torch.float64)


def said_of(statistics: Artifact) -> tuple[str, ...]:
    """What a reader must know of the statistics."""
    tokens, neurons = int(statistics.about["tokens"]), len(next(iter(statistics.tensors.values())))
    few = f" That is fewer than the {neurons} neurons: C has no inverse of its own." if tokens < neurons else ""
    return (f"Key statistics: {tokens} tokens of {statistics.about['source']}.{few}",)


def texts_for(corpus: str, seed: int) -> tuple[tuple[str, ...], str]:
    """The plain text that statistics are made from, and where it comes from.

    Args:
        corpus: a file of text, paragraphs apart by an empty line; empty for the project's plain English.
        seed: the order of the project's.

    Raises:
        ParameterError: there is no such file, or no text in it.
    """
    if not corpus:
        return corpora.plain_text(len(corpora.paragraphs()), seed), corpora.SOURCE
    path = Path(corpus)
    if not path.is_file():
        raise ParameterError(
            f"there is no file {corpus!r};", "corpus is a file of plain text.", "Leave it out for ours."
        )
    found = (" ".join(block.split()) for block in path.read_text(encoding="utf-8").split("\n\n"))
    blocks = tuple(block for block in found if block)
    if not blocks:
        raise ParameterError(f"{path.name} has no text;", "paragraphs are apart by an empty line.")
    return blocks, path.name


def opening(model: Model, text: str, tokens: int) -> list[int]:
    """The first tokens of a text."""
    return list(model.tokenizer(text, truncation=True, max_length=tokens)["input_ids"])


def _until(model: Model, texts: Sequence[str], enough: int) -> list[list[int]]:
    """The openings of texts until they have enough tokens together, the short ones first."""
    rows: list[list[int]] = []
    for text in texts:
        if sum(map(len, rows)) >= enough:
            break
        rows.append(opening(model, text, TOKENS))
    return sorted(rows, key=len)


def _moments(model: Model, layers: Sequence[int], rows: Sequence[list[int]]) -> tuple[dict[int, Tensor], int]:
    sites = [Site("mlp_act", layer) for layer in layers]
    sums: dict[int, Tensor] = {}
    count = 0
    for start in track(range(0, len(rows), ROWS), "key statistics"):
        run = model.run(rows[start : start + ROWS], read=sites, logits="none")
        count += sum(run.lengths)
        for layer, site in zip(layers, sites):
            keys = torch.cat([run[site][row, :length] for row, length in enumerate(run.lengths)]).float()
            sums[layer] = sums.get(layer, torch.zeros(())) + (keys.T @ keys).double().cpu()
    return {layer: (total / count).float() for layer, total in sums.items()}, count
