"""What did a piece of work leave behind in a model and in the process? Two snapshots, and how they differ.

A method borrows a model: afterwards its weights, hooks, modes and gradients are as before, and so are the
random states and the defaults of the process. Limits: what is hung on a module under a name of one's own is
found, what is kept in a global is not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface

from cutaway.models.model import Model

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
)


@dataclass(frozen=True)
class Trace:
    """The state of a model and of the process, in words and numbers that can be compared."""

    logits: Tensor
    weights: dict[str, float]
    trained: dict[str, bool]
    hooks: dict[str, int]
    attributes: dict[str, frozenset[str]]
    process: dict[str, Any]


def trace(model: Model) -> Trace:
    """The state now. Running the model for it changes nothing."""
    inputs = {"input_ids": torch.arange(7, device=model.device)[None]}
    if model.anatomy.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"][:, :3]
    with torch.no_grad():
        output = model.hf(**inputs)
    logits = output.logits if "logits" in output else output.last_hidden_state
    named = dict(model.hf.named_parameters())
    return Trace(
        logits=logits.clone(),
        weights={name: float(weight.detach().double().sum()) for name, weight in named.items()},
        trained={name: weight.requires_grad or weight.grad is not None for name, weight in named.items()},
        hooks={
            f"{name}.{kind}": len(getattr(module, kind)) for name, module in model.hf.named_modules() for kind in _HOOKS
        },
        attributes={name: frozenset(vars(module)) for name, module in model.hf.named_modules()},
        process=_process(model),
    )


def differences(before: Trace, after: Trace) -> Iterator[str]:
    """What was left behind, a sentence each."""
    if not torch.equal(before.logits, after.logits):
        moved = float((before.logits - after.logits).abs().max())
        yield f"the idle model gives other logits than before (they moved by up to {moved:.2g})"
    groups: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
        ("weight", before.weights, after.weights),
        ("requires_grad or grad of", before.trained, after.trained),
        ("hooks of", before.hooks, after.hooks),
        ("attributes of", before.attributes, after.attributes),
        ("", before.process, after.process),
    )
    for what, old, new in groups:
        changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            yield f"{what} {changed[0] or 'the network'}{more} changed".strip()


def _process(model: Model) -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch's global random state": torch.get_rng_state().numpy().tobytes(),
        "numpy's global random state": (kind, np.asarray(keys).tobytes(), *rest),
        "Python's global random state": random.getstate(),
        "torch's default dtype": torch.get_default_dtype(),
        "the gradient mode": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "the number of threads": torch.get_num_threads(),
        "training mode": model.hf.training,
        "the attention implementation": model.attention_implementation,
        "the attention interface of transformers": AttentionInterface.get_interface,
    }
