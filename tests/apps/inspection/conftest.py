"""Tiny opened models that read text: grouped keys, learned positions, an encoder, a mixture of experts."""

from __future__ import annotations

import functools

import pytest
import torch

from cutaway.models.model import Model
from cutaway.testing import texts_of, tiny, tiny_task, tiny_tokenizer
from cutaway.testing.architectures import tiny_model

TEXT = "When Mary and John went to the store, John gave a drink to"


@functools.cache
def opened(kind: str) -> Model:
    if kind in ("llama", "gpt2", "bert"):
        return tiny(kind)  # type: ignore[arg-type]
    tokenizer = tiny_tokenizer(texts_of(tiny_task()), start=True)
    hf = tiny_model(kind)
    with torch.random.fork_rng(devices=[]):
        hf.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return Model(hf, tokenizer, name=f"tiny-{kind}")


@pytest.fixture
def llama() -> Model:
    return opened("llama")


@pytest.fixture
def mixture() -> Model:
    return opened("qwen3_moe")


@pytest.fixture
def encoder() -> Model:
    return opened("bert")
