"""Tiny networks in double precision, and one that is linear in its embeddings."""

from __future__ import annotations

import pytest
import torch

from cutaway.core.task import Task
from cutaway.models.model import Model
from cutaway.testing.tiny import tiny, tiny_task


def straightened() -> Model:
    """A GPT-2 whose layers write nothing and that has no final norm: logits = W_U (embedding + position)."""
    hf = tiny("gpt2").hf
    with torch.no_grad():
        for block in hf.transformer.h:
            for part in (block.attn.c_proj, block.mlp.c_proj):
                part.weight.zero_()
                part.bias.zero_()
    hf.transformer.ln_f = torch.nn.Identity()
    return Model(hf.double(), tiny("gpt2").tokenizer, name="straight gpt2")


def doubled(family: str, seed: int = 0) -> Model:
    model = tiny(family, seed=seed)  # type: ignore[arg-type]
    model.hf.double()
    return model


@pytest.fixture(params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> Model:
    return doubled(request.param)


@pytest.fixture
def straight() -> Model:
    return straightened()


@pytest.fixture
def task() -> Task:
    return tiny_task()


@pytest.fixture
def one(task: Task) -> Task:
    """A single prompt."""
    return task.subset([0])
