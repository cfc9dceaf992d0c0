"""TransformerLens 4.3: a bridge over the Hugging Face model, patched in a loop, one forward a cell.

Everything is what its own documentation shows: `TransformerBridge.boot_transformers`, `run_with_cache`,
`patching.get_act_patch_resid_pre`, `patching.generic_activation_patch` over a table of cells, and
`ActivationCache.accumulated_resid` for the lens. Gradients are off, as in its demonstrations. Token ids are
passed as tensors, because the bridge's tokenizer prepends a beginning-of-sequence token to texts that
transformers does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bench.side import worker
from bench.side.plain import figures

READ = ("hook_resid_post", "attn.hook_z", "mlp.hook_post")


def imports() -> None:
    """Bring in the library before the clock starts."""
    import transformer_lens.patching  # noqa: F401
    from transformer_lens.model_bridge import TransformerBridge  # noqa: F401
    from transformers import AutoModelForCausalLM  # noqa: F401


def prepare(setup: worker.Setup) -> Any:
    """Boot the bridge on the local folder, without gradients."""
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    torch.set_grad_enabled(False)
    bridge = TransformerBridge.boot_transformers(setup.model, device="cpu", dtype=torch.float32)
    bridge.eval()
    return bridge


def difference(logits: Any, answer: int, wrong: int) -> Any:
    """The logit difference at the last position."""
    return logits[0, -1, answer] - logits[0, -1, wrong]


def tensor(ids: Sequence[int]) -> Any:
    """Token ids as the batch of one that the bridge takes."""
    import torch

    return torch.tensor([list(ids)])


def plain(bridge: Any, *, ids: list[int]) -> worker.Thunk:
    """One forward through the bridge, nothing read."""
    tokens = tensor(ids)
    return lambda: {"logits": bridge(tokens)[0, -1]}


def cache(bridge: Any, *, ids: list[int], only: bool = False) -> worker.Thunk:
    """`run_with_cache`: every hook point, or only residual stream, heads' z and MLP activations."""
    tokens = tensor(ids)
    names: Callable[[str], bool] | None = (lambda name: name.endswith(READ)) if only else None

    def work() -> worker.Values:
        logits, kept = bridge.run_with_cache(tokens, names_filter=names)
        return {
            "logits": logits[0, -1],
            "resid": kept["blocks.3.hook_resid_post"][0],
            "z": kept["blocks.3.attn.hook_z"][0],
        }

    return work


def source_cache(bridge: Any, source: Any, hook: str) -> Any:
    """The source run's cache, of the one kind of hook that will be patched in."""
    return bridge.run_with_cache(source, names_filter=lambda name: name.endswith(hook))[1]


def grid(
    bridge: Any,
    *,
    base: list[int],
    source: list[int],
    answer: int,
    wrong: int,
    cells: list[list[int]] | None = None,
    source_ready: bool = False,
) -> worker.Thunk:
    """Residual stream before every layer, at every position, from the source run into the base run.

    With `source_ready` the source run is not timed: a sample of cells must not carry all of it.
    """
    import pandas
    from transformer_lens import patching

    base_tokens, source_tokens = tensor(base), tensor(source)
    metric = partial(difference, answer=answer, wrong=wrong)
    table = None if cells is None else pandas.DataFrame(cells, columns=["layer", "pos"])
    ready = source_cache(bridge, source_tokens, "hook_resid_pre") if source_ready else None

    def work() -> worker.Values:
        kept = source_cache(bridge, source_tokens, "hook_resid_pre") if ready is None else ready
        if table is None:
            return {"values": patching.get_act_patch_resid_pre(bridge, base_tokens, kept, metric).flatten()}
        return {
            "values": patching.generic_activation_patch(
                bridge,
                base_tokens,
                kept,
                metric,
                patching.layer_pos_patch_setter,
                "resid_pre",
                index_df=table,
            )
        }

    return work


def heads(bridge: Any, *, base: list[int], source: list[int], answer: int, wrong: int) -> worker.Thunk:
    """Every head's z at the last position, from the source run into the base run."""
    import pandas
    from transformer_lens import patching

    base_tokens, source_tokens = tensor(base), tensor(source)
    metric = partial(difference, answer=answer, wrong=wrong)
    layers, count = range(bridge.cfg.n_layers), range(bridge.cfg.n_heads)
    cells = [[layer, len(base) - 1, head] for layer in layers for head in count]
    table = pandas.DataFrame(cells, columns=["layer", "pos", "head"])

    def work() -> worker.Values:
        kept = source_cache(bridge, source_tokens, "attn.hook_z")
        return {
            "values": patching.generic_activation_patch(
                bridge,
                base_tokens,
                kept,
                metric,
                patching.layer_pos_head_vector_patch_setter,
                "z",
                index_df=table,
            )
        }

    return work


def lens(bridge: Any, *, ids: list[int], top: int = 5, every: bool = False) -> worker.Thunk:
    """Accumulated residual after each layer, normed and unembedded at once; the figures of the naive way."""
    tokens = tensor(ids)

    def keep(name: str) -> bool:
        return name.endswith(("hook_resid_pre", "hook_resid_post")) or name.startswith("ln_final")

    def work() -> worker.Values:
        _, kept = bridge.run_with_cache(tokens, names_filter=keep)
        stack = kept.accumulated_resid(layer=-1, apply_ln=True)[1:, 0]
        return figures((stack @ bridge.W_U).log_softmax(-1), top, every=every)

    return work


WORKS: dict[str, worker.Work] = {"plain": plain, "cache": cache, "grid": grid, "heads": heads, "lens": lens}

if __name__ == "__main__":
    worker.serve(imports, prepare, WORKS, ("transformer-lens",))
