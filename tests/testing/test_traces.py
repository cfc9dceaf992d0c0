"""What a piece of work leaves behind is seen, in networks of one stack and of two."""

from __future__ import annotations

import pytest
import torch
from tests.methods.attribute.two_stacks import two_stacks

from cutaway.models.model import Model
from cutaway.testing.tiny import tiny
from cutaway.testing.traces import differences, trace


@pytest.mark.parametrize("model", [tiny("llama"), tiny("bert"), two_stacks("t5"), two_stacks("bart")])
def test_a_changed_weight_and_a_hook_are_seen(model: Model) -> None:
    before = trace(model)
    assert list(differences(before, trace(model))) == []
    with torch.no_grad():
        next(model.hf.parameters()).add_(1.0)
    handle = next(model.hf.children()).register_forward_hook(lambda *args: None)
    said = " ".join(differences(before, trace(model)))
    handle.remove()
    assert "the idle model gives other logits" in said and "weight" in said and "hooks of" in said
