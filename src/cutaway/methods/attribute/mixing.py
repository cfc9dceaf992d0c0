"""How does information travel through all layers together? Products of one matrix for each layer, [query, key].

A row of a layer's matrix says from which positions a position takes what it is after the layer, and sums to one. Their
product from the first layer to the last says from which tokens it takes what it is at the end [@abnar2020].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cutaway.core.errors import MethodError
from cutaway.core.progress import track
from cutaway.methods.attribute.targets import Targets
from cutaway.models.model import Model

Floats = NDArray[np.float64]


def refuse_two_stacks(model: Model, name: str, why: str) -> None:
    """A method whose definition does not carry over to two stacks.

    Raises:
        MethodError: the network is an encoder-decoder.
    """
    if model.anatomy.is_encoder_decoder:
        raise MethodError(
            f"{name!r} cannot run: {model.name!r} has two stacks;",
            f"{why}.",
            "Use attention_map or value_zeroing, or a gradient: integrated_gradients.",
        )


def normalised(matrix: Floats) -> Floats:
    """Each row divided by its sum; a row of nothing stays with its own position."""
    sums = matrix.sum(axis=-1, keepdims=True)
    rows: Floats = np.where(sums > 1e-12, matrix / np.maximum(sums, 1e-12), np.eye(matrix.shape[-1]))
    return rows


def product(layers: Sequence[Floats]) -> Floats:
    """From the last layer's positions to the first layer's [query, key]."""
    found = np.eye(layers[0].shape[-1])
    for layer in layers:
        found = layer @ found
    return found


def stepwise(own: Sequence[Floats], said: Sequence[tuple[Floats, Floats]]) -> Floats:
    """The product for an encoder-decoder, over all places: those that the encoder reads, then those of the decoder.

    Args:
        own: a matrix for each step within the encoder [source, source].
        said: for each step of the decoder what it takes from the encoder [said, source] and from itself [said, said].
    """
    source, later = said[0][0].shape[1], len(said[0][0])
    steps = []
    for matrix in own:
        step = np.eye(source + later)
        step[:source, :source] = matrix
        steps.append(step)
    for across, within in said:
        step = np.eye(source + later)
        step[source:, :source], step[source:, source:] = across, within
        steps.append(step)
    return product(steps)


def rows_of_targets(targets: Targets, prompt: int, matrix: Floats, into: Floats) -> None:
    """The rows of a matrix [query, key] at the places of the targets."""
    for target, position in enumerate(targets.positions[prompt]):
        into[prompt, target, : position + 1] = matrix[position, : position + 1]


def each_text(targets: Targets, what: str) -> Iterator[tuple[int, list[int]]]:
    """Prompts with their tokens, one after the other."""
    for prompt in track(range(len(targets)), what):
        yield prompt, list(targets.ids[prompt])
