"""One layer's attention call alone, against whole runs with the stream put in."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cutaway.core.edit import replace
from cutaway.models.one_layer import attention_call
from cutaway.testing import tiny


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_it_is_the_run_with_the_stream_put_in(family: Any, layer: int) -> None:
    model = tiny(family)
    streams = torch.randn(5, model.anatomy.d_model, generator=torch.Generator().manual_seed(0))
    found = attention_call(model, layer, streams)
    run = model.run(
        [[0]] * 5,
        read=[f"{kind}[{layer}]" for kind in "qkv"],
        edit=replace(f"resid_pre[{layer}]", streams[:, None]),
        logits="none",
    )
    for kind in "qkv":
        torch.testing.assert_close(found[kind], run[f"{kind}[{layer}]"][:, 0])


def test_layers_below_do_not_run() -> None:
    model = tiny("llama")
    streams = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    attention_call(model, 2, streams)
    ran = []
    handles = [
        layer.register_forward_hook(lambda *_, n=n: ran.append(n)) for n, layer in enumerate(model.hf.model.layers)
    ]
    inner = model.hf.model.layers[0].mlp.register_forward_hook(lambda *_: ran.append("mlp"))
    attention_call(model, 2, streams)
    for handle in (*handles, inner):
        handle.remove()
    assert "mlp" not in ran
