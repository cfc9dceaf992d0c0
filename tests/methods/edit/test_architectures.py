"""Any causal network with neurons can be edited: the last matrix of its MLPs is found, and trials agree with whole passes."""

from __future__ import annotations

import pytest
import torch

from cutaway.core.errors import SiteError
from cutaway.core.site import Site
from cutaway.models.model import Model
from cutaway.models.resumed_trial import trial
from cutaway.models.trial import down_projection, logits_at, vector_added
from cutaway.testing.architectures import tiny_model

FEW = ("gemma2", "gpt_neox", "bloom")
MORE = (
    "mistral",
    "qwen3",
    "gemma3_text",
    "gptj",
    "gpt_neo",
    "falcon",
    "phi",
    "olmo2",
    "starcoder2",
    "cohere",
    "mpt",
    "glm",
)
ROWS = ((5, 6, 7, 8, 9), (4, 5, 6))


@pytest.mark.parametrize("kind", [*FEW, *(pytest.param(kind, marks=pytest.mark.all) for kind in MORE)])
def test_the_last_matrix_of_an_mlp_is_found_and_can_be_tried(kind: str) -> None:
    model = Model(tiny_model(kind, dtype=torch.float64), None, name=kind)
    matrix = down_projection(model, 1)
    run = model.run([list(ROWS[0])], read="mlp_act[1], mlp_out[1]", logits="none")
    given = run["mlp_act[1]"] @ matrix.weight.T + (0 if matrix.bias is None else matrix.bias)
    torch.testing.assert_close(given, run["mlp_out[1]"])
    site, places = Site("mlp_out", 1), (2, 1)
    vector = torch.ones(model.anatomy.d_model, dtype=torch.float64)
    fast = trial(model, site, ROWS, places).logits(vector, [[4], [2]])
    slow = logits_at(model, ROWS, [[4], [2]], vector_added(model, site, places, vector))
    for left, right in zip(fast, slow):
        torch.testing.assert_close(left, right)


def test_a_network_without_such_a_matrix_says_why() -> None:
    model = Model(tiny_model("mamba"), None, name="mamba")
    with pytest.raises(SiteError, match="has no MLP"):
        down_projection(model, 0)
