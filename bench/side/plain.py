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


WORKS: dict[str, worker.Work] = {"forward": forward, "lens": lens, "generate": generate}

if __name__ == "__main__":
    worker.serve(imports, prepare, WORKS)
