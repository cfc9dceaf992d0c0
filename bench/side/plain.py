"""Plain transformers: what anyone would write without a library: the floor, and the naive lens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.side import worker


@dataclass(frozen=True)
class Opened:
    """The module and its tokenizer."""

    network: Any
    tokenizer: Any


def imports() -> None:
    """Bring in the library before the clock starts."""
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401


def prepare(setup: worker.Setup) -> Opened:
    """Open the local folder, without gradients."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_grad_enabled(False)
    network = AutoModelForCausalLM.from_pretrained(setup.model, dtype=torch.float32).eval()
    return Opened(network, AutoTokenizer.from_pretrained(setup.model))


def forward(opened: Opened, *, ids: list[int]) -> worker.Thunk:
    """One forward."""
    import torch

    tokens = torch.tensor([ids])
    return lambda: {"logits": opened.network(tokens).logits[0, -1]}


def figures(scores: Any, top: int, *, every: bool) -> worker.Values:
    """What is kept of log-probabilities [layer, position, vocabulary]: the likeliest tokens, how likely each.

    With `every` also what cutaway's lens keeps besides: log-probability and rank of the model's own
    prediction, entropy, and divergence from the last layer.
    """
    import torch

    best = scores.topk(top, dim=-1)
    kept = {"top": best.indices.to(torch.int32), "probability": best.values.exp()}
    if not every:
        return kept
    wanted = scores[-1].argmax(-1).expand(len(scores), -1).unsqueeze(-1)
    chosen = scores.gather(-1, wanted)
    entropy = -(scores.exp() * scores).sum(-1)
    return {
        **kept,
        "answer": chosen.squeeze(-1),
        "rank": (scores > chosen).sum(-1),
        "entropy": entropy,
        "divergence": (scores[-1].exp() * (scores[-1] - scores)).sum(-1),
    }


def lens(opened: Opened, *, ids: list[int], top: int = 5, every: bool = False) -> worker.Thunk:
    """Norm and unembed all hidden states at once: layer × position × vocabulary in memory."""
    import torch

    tokens = torch.tensor([ids])
    network = opened.network

    def work() -> worker.Values:
        states = network(tokens, output_hidden_states=True).hidden_states
        # The last hidden state is normed already.
        stack = torch.cat([network.model.norm(torch.cat(states[1:-1])), states[-1]])
        return figures(network.lm_head(stack).log_softmax(-1), top, every=every)

    return work


def generate(opened: Opened, *, ids: list[int], tokens: int) -> worker.Thunk:
    """Greedy generation of so many tokens."""
    import torch

    given = torch.tensor([ids])
    mask = torch.ones_like(given)

    def work() -> worker.Values:
        found = opened.network.generate(given, attention_mask=mask, max_new_tokens=tokens, do_sample=False)
        return {"ids": found[0, len(ids) :]}

    return work


def trace(
    opened: Opened, *, ids: list[int], span: list[int], answer: int, cells: list[list[int]], samples: int, window: int
) -> worker.Thunk:
    """A causal trace as the original does it: for each cell one forward of the clean run and the damaged ones."""
    import numpy as np
    import torch

    network, (start, stop) = opened.network, span
    embedding, layers = network.get_input_embeddings(), network.model.layers
    random = np.random.default_rng([0, 0, 0])
    size = 3.0 * float(embedding.weight[ids[start:stop]].double().std())
    noise = torch.zeros(samples + 1, len(ids), embedding.weight.shape[1])
    drawn = random.standard_normal((samples, stop - start, embedding.weight.shape[1])) * size
    noise[1:, start:stop] = torch.from_numpy(drawn)
    rows = torch.tensor([ids] * (samples + 1))

    def probability(modules: list[Any], position: int) -> Any:
        def carry(module: Any, args: Any, output: Any) -> None:
            hidden = output if isinstance(output, torch.Tensor) else output[0]
            hidden[1:, position] = hidden[0, position]

        handles = [embedding.register_forward_hook(lambda module, args, output: output + noise)]
        handles += [module.register_forward_hook(carry) for module in modules]
        found = network(rows, use_cache=False).logits[1:, -1].softmax(-1)[:, answer].mean()
        for handle in handles:
            handle.remove()
        return found

    def modules_of(kind: int, layer: int) -> list[Any]:
        if kind == 0:
            return [layers[layer]]
        first = layer - window // 2
        near = layers[max(0, first) : first + window]
        return [one.mlp if kind == 1 else one.self_attn for one in near]

    def work() -> worker.Values:
        damaged = probability([], 0)
        found = [probability(modules_of(kind, layer), position) - damaged for kind, layer, position in cells]
        return {"effect": torch.stack(found)}

    return work


WORKS: dict[str, worker.Work] = {"trace": trace, "forward": forward, "lens": lens, "generate": generate}

if __name__ == "__main__":
    worker.serve(imports, prepare, WORKS)
