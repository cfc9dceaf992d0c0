"""nnsight 0.8: the model's own modules, edited inside traces.

Two ways to sweep: `loop` opens one trace a cell, as its patching tutorial does; `invokes` puts the cells of a
chunk into one trace as invokes, which nnsight runs as one batch, its documented way to make sweeps faster.
Gradients are off. Token ids are passed, so that every side sees the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.side import worker


def imports() -> None:
    """Bring in the library before the clock starts."""
    import nnsight  # noqa: F401
    from transformers import AutoModelForCausalLM  # noqa: F401


def prepare(setup: worker.Setup) -> Any:
    """Open the local folder with its weights loaded at once, without gradients."""
    import torch
    from nnsight import TransformersModel

    torch.set_grad_enabled(False)
    return TransformersModel(setup.model, task="text-generation", dtype=torch.float32, dispatch=True)


def tensor(ids: Sequence[int]) -> Any:
    """Token ids as a batch of one."""
    import torch

    return torch.tensor([list(ids)])


def plain(model: Any, *, ids: list[int]) -> worker.Thunk:
    """One trace that keeps only the last logits."""
    tokens = tensor(ids)

    def work() -> worker.Values:
        with model.trace(tokens):
            logits = model.lm_head.output[0, -1].save()
        return {"logits": logits}

    return work


def read_source(model: Any, tokens: Any) -> list[Any]:
    """The residual stream before every layer, in one trace."""
    with model.trace(tokens):
        kept = list().save()  # noqa: C408 - as documented; a list that outlives the trace
        for layer in model.model.layers:
            kept.append(layer.input)
    return kept


def in_loop(model: Any, tokens: Any, kept: list[Any], cells: Sequence[Sequence[int]], pair: Sequence[int]) -> list[Any]:
    """One trace a cell."""
    answer, wrong = pair
    values = []
    for layer, position in cells:
        with model.trace(tokens):
            model.model.layers[layer].input[:, position] = kept[layer][:, position]
            logits = model.lm_head.output[0, -1]
            value = (logits[answer] - logits[wrong]).save()
        values.append(value)
    return values


def chunks(cells: Sequence[Sequence[int]], size: int) -> Iterator[Sequence[Sequence[int]]]:
    """The cells, so many at a time."""
    for start in range(0, len(cells), size):
        yield cells[start : start + size]


def in_invokes(
    model: Any, tokens: Any, kept: list[Any], cells: Sequence[Sequence[int]], pair: Sequence[int]
) -> list[Any]:
    """One trace for all the given cells, an invoke a cell."""
    answer, wrong = pair
    with model.trace() as tracer:
        values = list().save()  # noqa: C408 - as documented; a list that outlives the trace
        for layer, position in cells:
            with tracer.invoke(tokens):
                model.model.layers[layer].input[:, position] = kept[layer][:, position]
                logits = model.lm_head.output[0, -1]
                values.append(logits[answer] - logits[wrong])
    return values


def grid(
    model: Any,
    *,
    base: list[int],
    source: list[int],
    answer: int,
    wrong: int,
    cells: list[list[int]] | None = None,
    way: str = "loop",
    chunk: int = 14,
    source_ready: bool = False,
) -> worker.Thunk:
    """Residual stream before every layer, at every position, from the source run into the base run.

    With `source_ready` the source run is not timed: a sample of cells must not carry all of it.
    """
    import torch

    base_tokens, source_tokens = tensor(base), tensor(source)
    layers = len(model.model.layers)
    every = [[layer, position] for layer in range(layers) for position in range(len(base))] if cells is None else cells
    ready = read_source(model, source_tokens) if source_ready else None

    def work() -> worker.Values:
        kept = read_source(model, source_tokens) if ready is None else ready
        if way == "loop":
            return {"values": torch.stack(in_loop(model, base_tokens, kept, every, (answer, wrong)))}
        values = []
        for some in chunks(every, chunk):
            values.extend(in_invokes(model, base_tokens, kept, some, (answer, wrong)))
        return {"values": torch.stack(values)}

    return work


WORKS: dict[str, worker.Work] = {"plain": plain, "grid": grid}

if __name__ == "__main__":
    worker.serve(imports, prepare, WORKS, ("nnsight", "nnterp"))
