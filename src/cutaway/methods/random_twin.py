"""What would the same network do that has learned nothing? The same weights, each matrix's numbers in random order.

The twin has the shape, the sizes and the spread of the weights, and none of what they say: the control of every method
that trains something on a network's values.
Limits: it is a whole copy of the network in memory.
"""

from __future__ import annotations

import copy

import torch

from cutaway.models.model import Model


def random_twin(model: Model, seed: int) -> Model:
    """A copy of the network in which the numbers of each weight matrix stand in random order.

    Args:
        model: stays as it is.
        seed: draws the orders.
    """
    hf = copy.deepcopy(model.hf)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in hf.parameters():
            if weight.dim() > 1 and weight.is_floating_point():
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.copy_(weight.reshape(-1)[order].reshape(weight.shape))
    return Model(hf, model.tokenizer, name=f"{model.name} with shuffled weights", source=f"shuffled, seed {seed}")
