"""Where the plan is fixed, edits are part of one compiled graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

import cutaway.core.edit as ca
from cutaway.models.model import Model

Open = Callable[..., Model]
IDS = torch.tensor([[5, 9, 17, 33, 2, 8]])


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "edits",
    [
        lambda v: [ca.add("resid_post[1]", v)],
        lambda v: [ca.ablate("z[1].head[2]"), ca.add("resid_pre[2]@-1", v), ca.scale("mlp_act[0].unit[3]", 2.0)],
        lambda v: [ca.project_out("attn_out[1]", v), ca.apply("mlp_out[2]@1:3", torch.relu), ca.add("resid_mid[1]", v)],
    ],
    ids=["steering", "a head and a neuron", "directions"],
)
@pytest.mark.parametrize("family", ["llama", pytest.param("gpt2", marks=pytest.mark.all)])
def test_one_graph_that_equals_the_plain_run(opened: Open, family: str, edits: Any) -> None:
    model = opened(family, "sdpa", torch.float32)
    vector = torch.linspace(-1, 1, 32)
    chosen = edits(vector)
    with model.editing(chosen, lengths=[6]), torch.no_grad():
        expected = model.hf(IDS, use_cache=False).logits
        counter: Any = CompileCounter()
        compiled = torch.compile(model.hf, fullgraph=True, backend=counter)
        assert torch.equal(compiled(IDS, use_cache=False).logits, expected)
        assert counter.frame_count == 1
        # A vector that is changed in place needs no new graph.
        vector.mul_(-3)
        moved = model.hf(IDS, use_cache=False).logits
        assert torch.equal(compiled(IDS, use_cache=False).logits, moved)
        assert counter.frame_count == 1
        assert not torch.equal(moved, expected)
    assert torch.equal(model.run(IDS, edit=edits(vector)).logits, moved)
