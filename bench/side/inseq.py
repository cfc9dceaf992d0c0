"""Inseq 0.7 and Captum 0.9: integrated gradients of every generated token.

`attribute` is Inseq as its user runs it: one call over prompt and continuation, its default target (the
probability of the token that was generated), its baseline (the unknown token's embedding everywhere) and
fifty steps. Inseq makes one Captum call for each generated token, on a path that scales the whole prefix.
`captum` is Captum itself, by hand, on the same prefix, for values: the yardstick that ours must equal.

Pitfalls: Inseq tokenises texts itself, so the ids are compared with the harness's; on a decoder it scales the
tokens generated so far together with the prompt, so a row has a value for every token before its target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.side import worker

METHOD = "integrated_gradients"


@dataclass(frozen=True)
class Opened:
    """The Inseq model, and the folder that it came from."""

    model: Any
    folder: str

    @property
    def network(self) -> Any:
        """The Hugging Face module."""
        return self.model.model


def imports() -> None:
    """Bring in the libraries before the clock starts."""
    import captum.attr  # noqa: F401
    import inseq  # noqa: F401
    from transformers import AutoModelForCausalLM  # noqa: F401


def prepare(setup: worker.Setup) -> Opened:
    """Open the local folder with Inseq."""
    import inseq

    return Opened(inseq.load_model(setup.model, METHOD, device="cpu"), setup.model)


def plain(opened: Opened, *, ids: list[int]) -> worker.Thunk:
    """One forward."""
    import torch

    tokens = torch.tensor([ids])

    def work() -> worker.Values:
        with torch.no_grad():
            return {"logits": opened.network(tokens).logits[0, -1]}

    return work


def same_ids(opened: Opened, text: str, ids: Sequence[int]) -> None:
    """Stop unless Inseq's tokens of a text are the harness's."""
    found = opened.model.encode(text).input_ids[0].tolist()
    if found != list(ids):
        raise ValueError(f"Inseq reads other tokens in {text!r}: {found}, not {list(ids)}.")


def attribute(
    opened: Opened,
    *,
    prompt: str,
    continuation: str,
    prompt_ids: list[int],
    ids: list[int],
    steps: int = 50,
    target: str = "probability",
) -> worker.Thunk:
    """Inseq's own call, with the convergence gap of each row."""
    import torch

    same_ids(opened, prompt, prompt_ids)
    same_ids(opened, prompt + continuation, ids)

    def work() -> worker.Values:
        output = opened.model.attribute(
            prompt,
            prompt + continuation,
            attributed_fn=target,
            n_steps=steps,
            return_convergence_delta=True,
            show_progress=False,
        )
        sequence = output.sequence_attributions[0]
        granular = sequence.target_attributions.to(torch.float64).sum(-1)
        return {"values": granular.T, "gaps": sequence.step_scores["deltas"]}

    return work


def explained(
    opened: Opened, *, prompt: str, continuation: str, prompt_ids: list[int], ids: list[int], method: str
) -> worker.Thunk:
    """Another of Inseq's methods over the same call; sizes are L2 norms, as it shows them."""
    import inseq

    same_ids(opened, prompt + continuation, ids)
    model = inseq.load_model(opened.network, method, tokenizer=opened.model.tokenizer, device="cpu")

    def work() -> worker.Values:
        output = model.attribute(prompt, prompt + continuation, attributed_fn="probability", show_progress=False)
        values = output.sequence_attributions[0].target_attributions
        return {"values": (values if values.dim() == 2 else values.norm(dim=-1)).T}

    return work


def score(logits: Any, token: int, target: str) -> Any:
    """The score of one token under each row of logits."""
    return logits.softmax(-1)[:, token] if target == "probability" else logits[:, token]


def captum(
    opened: Opened,
    *,
    ids: list[int],
    prompt_length: int,
    baseline: int,
    steps: int = 50,
    target: str = "probability",
    rule: str = "gausslegendre",
) -> worker.Thunk:
    """Captum by hand: one call for each token after the prompt, on the embeddings of the tokens before it."""
    import torch
    from captum.attr import IntegratedGradients

    network = opened.network
    embed = network.get_input_embeddings()
    tokens = torch.tensor([ids])

    def row(end: int) -> tuple[Any, Any]:
        inputs = embed(tokens[:, :end]).detach()
        start = embed(torch.full_like(tokens[:, :end], baseline)).detach()

        def forward(embeddings: Any) -> Any:
            return score(network(inputs_embeds=embeddings).logits[:, -1], ids[end], target)

        return IntegratedGradients(forward).attribute(
            inputs, start, n_steps=steps, method=rule, return_convergence_delta=True
        )

    def work() -> worker.Values:
        values = torch.full((len(ids) - prompt_length, len(ids)), float("nan"), dtype=torch.float64)
        gaps = []
        for index, end in enumerate(range(prompt_length, len(ids))):
            found, gap = row(end)
            values[index, :end] = found[0].sum(-1)
            gaps.append(float(gap))
        return {"values": values, "gaps": torch.tensor(gaps)}

    return work


def captum_of_layers(
    opened: Opened, *, name: str, weights: list[list[list[float]]], x: list[float], base: list[float]
) -> worker.Thunk:
    """One of Captum's methods on a network of linear maps with ReLUs between them."""
    import captum.attr
    import torch

    layers: list[torch.nn.Module] = []
    for matrix in weights:
        rows = torch.tensor(matrix, dtype=torch.float64)
        linear = torch.nn.Linear(rows.shape[1], rows.shape[0], bias=False, dtype=torch.float64)
        linear.weight = torch.nn.Parameter(rows)
        layers += [linear, torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    inputs, start = (torch.tensor([row], dtype=torch.float64) for row in (x, base))

    def work() -> worker.Values:
        found = getattr(captum.attr, name)(network).attribute(inputs, baselines=start, target=0)
        return {"values": found[0].detach()}

    return work


WORKS: dict[str, worker.Work] = {
    "plain": plain,
    "attribute": attribute,
    "explained": explained,
    "captum": captum,
    "captum_of_layers": captum_of_layers,
}

if __name__ == "__main__":
    worker.serve(imports, prepare, WORKS, ("inseq", "captum"))
