"""AutoCircuit 1.0.1: scores of all edges as the gradient of a mask over them, one backward pass.

Everything is what its own documentation shows: a TransformerLens `HookedTransformer` with heads' results, split query,
key and value inputs and MLP inputs, no gradient of a weight, `patchable_model(factorized=True, separate_qkv=True)`, and
`mask_gradient_prune_scores` with logits and a mask of 0: edge attribution patching, as it says, and faster than its
`edge_attribution_patching_prune_scores`. `use_attn_in` stays off: with split inputs it only costs a copy.

Limits: it is built on `HookedTransformer` and its key/value cache. TransformerLens 4 has neither, 3.9 has no module of
that cache: the environment holds 2.18.0, the last of version 2, and nothing of AutoCircuit is changed.
"""

from __future__ import annotations

from typing import Any

from bench.side import worker


def imports() -> None:
    """Bring in the library before the clock starts."""
    import auto_circuit.prune_algos.mask_gradient
    import auto_circuit.utils.graph_utils  # noqa: F401
    from transformer_lens import HookedTransformer  # noqa: F401
    from transformers import AutoModelForCausalLM  # noqa: F401


def prepare(setup: worker.Setup) -> Any:
    """Open the local folder with its weights as they are, and make all edges patchable."""
    import torch
    from auto_circuit.utils.graph_utils import patchable_model
    from transformer_lens import HookedTransformer, loading
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(setup.model, torch_dtype=torch.float32)
    config = loading.get_pretrained_model_config(setup.model, device="cpu")
    config.tokenizer_name = None  # prompts are token ids
    hooked = HookedTransformer(config)  # `from_pretrained` knows names of the hub only
    plain = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")
    hooked.load_and_process_state_dict(convert_gpt2_weights(network, config), **dict.fromkeys(plain, False))
    hooked.set_use_attn_result(True)
    hooked.set_use_split_qkv_input(True)
    hooked.set_use_hook_mlp_in(True)
    hooked.eval().requires_grad_(False)
    return patchable_model(
        hooked, factorized=True, slice_output="last_seq", separate_qkv=True, device=torch.device("cpu")
    )


def loader(ids: list[list[int]], other: list[list[int]], answers: list[int], wrong: list[int]) -> Any:
    """All pairs as one batch of its data loader."""
    import torch
    from auto_circuit.data import PromptDataLoader, PromptDataset

    pairs = PromptDataset(
        torch.tensor(ids),
        torch.tensor(other),
        [torch.tensor([token]) for token in answers],
        [torch.tensor([token]) for token in wrong],
    )
    return PromptDataLoader(pairs, seq_len=None, diverge_idx=0, batch_size=len(ids), shuffle=False)


def scored(model: Any, batches: Any) -> dict[str, Any]:
    """The gradient of minus the mean logit difference for every edge's mask, by what the edges enter."""
    from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores

    found = mask_gradient_prune_scores(
        model, batches, None, grad_function="logit", answer_function="avg_diff", mask_val=0.0
    )
    return dict(found)


def edge_scores(model: Any, **pairs: Any) -> worker.Thunk:
    """Scores of all edges, its own forward pass over the contrasts in it."""
    batches = loader(**pairs)

    def work() -> None:
        scored(model, batches)

    return work


def named_scores(model: Any, **pairs: Any) -> worker.Thunk:
    """The same scores with the names of the edges, which takes a while: not to be timed."""
    import numpy as np

    batches = loader(**pairs)

    def work() -> worker.Values:
        found = scored(model, batches)
        edges = sorted(model.edges, key=lambda edge: edge.name)
        return {
            "sources": np.array([edge.src.name for edge in edges]),
            "targets": np.array([edge.dest.name for edge in edges]),
            "scores": np.array([edge.prune_score(found).item() for edge in edges]),
        }

    return work


WORKS: dict[str, worker.Work] = {"edge_scores": edge_scores, "named_scores": named_scores}

if __name__ == "__main__":
    worker.serve(imports, prepare, WORKS, ("auto-circuit", "transformer-lens"))
