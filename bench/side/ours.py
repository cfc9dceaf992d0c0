"""Cutaway, through its public API, as its user writes it.

`plain` is the same Hugging Face module called without cutaway, in the same process: the closest floor for
overheads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.side import edge_works, pruning, worker

READ = "resid_post[*], z[*], mlp_act[*]"


def imports() -> None:
    """Bring in the library before the clock starts."""
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    import cutaway

    assert cutaway.open is not None and cutaway.Model is not None  # imported when they are first used


def prepare(setup: worker.Setup) -> Any:
    """Open the model."""
    import cutaway

    return cutaway.open(setup.model)


def plain(model: Any, *, ids: list[int]) -> worker.Thunk:
    """One forward of the module itself, without gradients."""
    import torch

    tokens = torch.tensor([ids])

    def work() -> worker.Values:
        with torch.no_grad():
            return {"logits": model.hf(tokens).logits[0, -1]}

    return work


def idle(model: Any, *, ids: list[int]) -> worker.Thunk:
    """A run that reads nothing, with all logits."""
    return lambda: {"logits": model.run([ids]).logits[0, -1]}


def read(model: Any, *, ids: list[int]) -> worker.Thunk:
    """A run that keeps residual stream, heads' z and MLP activations of every layer, with all logits."""

    def work() -> worker.Values:
        run = model.run([ids], read=READ)
        return {"logits": run.logits[0, -1], "resid": run["resid_post[3]"][0], "z": run["z[3]"][0]}

    return work


def task_of(source: str, base: str, source_ids: Sequence[int], base_ids: Sequence[int], model: Any) -> Any:
    """The pair as a task: the source is the prompt, the base its contrast; the token ids are checked."""
    import cutaway
    from bench.prompts import ANSWER, WRONG

    task = cutaway.Task.from_prompts(source, contrasts=base, answers=ANSWER, wrong=WRONG)
    encoded = task.encode(model.tokenizer)
    if list(encoded.ids[0]) != list(source_ids) or list(encoded.contrast_ids[0]) != list(base_ids):
        raise ValueError("cutaway reads other tokens in the pair than the harness.")
    return encoded


def sweep(model: Any, *, over: str, pair: dict[str, Any], strict: bool = False) -> worker.Thunk:
    """Every cell of `over`, from the source run into the base run; the values in the order of the cells."""
    import numpy as np

    task = task_of(model=model, **pair)

    def work() -> worker.Values:
        done = model.sweep(task, over=over, direction="denoise", strict=strict)
        layers = [cell.layer for cell in done.cells]
        positions = [cell.position for cell in done.cells]
        heads = [-1 if cell.head is None else cell.head for cell in done.cells]
        return {"values": done.values[0], "cells": np.array([layers, positions, heads]).T}

    return work


def lens(model: Any, *, ids: list[int], text: str, top: int = 5, check: bool = False) -> worker.Thunk:
    """The lens after every layer; without `check` no intervention tests it. The peers make none."""
    import cutaway

    if model.encode(text) != ids:
        raise ValueError("cutaway reads other tokens in the text than the harness.")

    def work() -> worker.Values:
        data = cutaway.logit_lens(model, text, top=top, controls=20 if check else 0).data
        return {
            "top": data["top_id"][0],
            "probability": data["top_probability"][0],
            "answer": data["answer_log_probability"][0],
            "rank": data["answer_rank"][0],
            "entropy": data["entropy"][0],
            "divergence": data["kl_from_final"][0],
        }

    return work


def gradients(
    model: Any,
    *,
    prompt: str,
    continuation: str,
    prompt_ids: list[int],
    ids: list[int],
    steps: int = 50,
    gap: float | None = None,
    target: str = "probability",
    check: bool = False,
) -> worker.Thunk:
    """Integrated gradients of every token of the continuation, from the baseline that Inseq takes.

    Args:
        model: the network.
        prompt: the text.
        continuation: what follows it.
        prompt_ids: the tokens of the prompt.
        ids: the tokens of both.
        steps: nodes of the fixed rule.
        gap: instead, as many nodes as reach this completeness gap.
        target: what is explained of each token.
        check: test the map by taking tokens out, too. The peers make no such test.
    """
    import numpy as np

    import cutaway

    how = {"steps": steps} if gap is None else {"tolerance": gap}
    if model.encode(prompt) != prompt_ids or model.encode(prompt + continuation) != ids:
        raise ValueError("cutaway reads other tokens in the texts than the harness.")

    def work() -> worker.Values:
        result = cutaway.integrated_gradients(
            model, prompt, continuation=continuation, baseline="unk", score=target, controls=20 if check else 0, **how
        )
        data = result.data
        # The last token of the text is a target and no input: a column without values, as the peers give it.
        values = np.pad(data["attribution"][0], ((0, 0), (0, 1)), constant_values=np.nan)
        return {"values": values, "gaps": data["completeness_gap"][0], "steps": result.metrics["steps"]}

    return work


def explained(
    model: Any, *, prompt: str, continuation: str, prompt_ids: list[int], ids: list[int], method: str
) -> worker.Thunk:
    """Saliency, occlusion with the unknown token, …: every token of the continuation, its probability."""
    import numpy as np

    import cutaway

    if model.encode(prompt) != prompt_ids or model.encode(prompt + continuation) != ids:
        raise ValueError("cutaway reads other tokens in the texts than the harness.")
    more = {"instead": "unk"} if method == "occlusion" else {}

    def work() -> worker.Values:
        result = getattr(cutaway, method)(
            model, prompt, continuation=continuation, score="probability", controls=0, **more
        )
        values = result.data["attribution"][0]
        return {"values": np.pad(values, ((0, 0), (0, 1)), constant_values=np.nan)}

    return work


def one_backward(model: Any, *, ids: list[int]) -> worker.Thunk:
    """One forward and one backward to the embeddings by plain PyTorch: the floor of memory."""
    import torch

    tokens = torch.tensor([ids])

    def work() -> worker.Values:
        for weight in model.hf.parameters():
            weight.requires_grad_(False)
        try:
            embedded = model.hf.get_input_embeddings()(tokens).requires_grad_(True)
            value = model.hf(inputs_embeds=embedded, use_cache=False).logits[0, -1].log_softmax(-1).amax()
            (slope,) = torch.autograd.grad(value, embedded)
        finally:
            for weight in model.hf.parameters():
                weight.requires_grad_(True)
        return {"values": slope[0].norm(dim=-1)}

    return work


def generate(model: Any, *, text: str, tokens: int, layer: int, strength: float, seed: int) -> worker.Thunk:
    """Greedy generation with a steering vector added after one layer."""
    import torch

    import cutaway

    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(model.anatomy.d_model, generator=generator)

    def work() -> worker.Values:
        edit = cutaway.add(f"resid_post[{layer}]", vector, scale=strength)
        return {"ids": model.generate([text], edit=edit, max_new_tokens=tokens, min_new_tokens=tokens).new_ids[0]}

    return work


def plain_generate(model: Any, *, ids: list[int], tokens: int) -> worker.Thunk:
    """Greedy generation by the module itself."""
    import torch

    given = torch.tensor([ids])
    mask = torch.ones_like(given)

    def work() -> worker.Values:
        exactly = {"max_new_tokens": tokens, "min_new_tokens": tokens}
        found = model.hf.generate(given, attention_mask=mask, **exactly, do_sample=False)
        return {"ids": found[0, len(ids) :]}

    return work


def sweep_ready(model: Any, *, ids: list[int]) -> worker.Thunk:
    """What a sweep learns once for an opened model: how far its runs can share work."""
    from cutaway.models.sweep import tier_of

    def work() -> None:
        tier_of(model)

    return work


def trace(model: Any, *, prompt: str, subject: str, answer: str, samples: int, window: int) -> worker.Thunk:
    """A causal trace: the probability that each kind, layer and position wins back [kind, layer, position]."""
    import cutaway

    task = cutaway.Task.from_prompts(prompt, answers=answer, positions={"subject": subject})

    def work() -> worker.Values:
        found = cutaway.causal_trace(model, task, samples=samples, window=window, controls=0)
        return {"effect": found.data["effect"].values[0]}

    return work


WORKS: dict[str, worker.Work] = {
    **edge_works.WORKS,
    "prune": pruning.prune,
    "one_by_one": pruning.one_by_one,
    "sweep_ready": sweep_ready,
    "trace": trace,
    "plain": plain,
    "idle": idle,
    "read": read,
    "sweep": sweep,
    "lens": lens,
    "gradients": gradients,
    "generate": generate,
    "plain_generate": plain_generate,
    "explained": explained,
    "one_backward": one_backward,
}

if __name__ == "__main__":
    worker.serve(imports, prepare, WORKS)
