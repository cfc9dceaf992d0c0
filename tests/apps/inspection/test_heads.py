"""Entropies, habits and thumbnails are those of the patterns."""

from __future__ import annotations

import base64
import math

import numpy as np
import pytest
import torch

from cutaway.apps.inspection.heads import entropy_of, shrink
from cutaway.apps.inspection.requests import REQUESTS
from cutaway.core.errors import ModelError
from cutaway.models.model import Model
from cutaway.testing import texts_of, tiny_task, tiny_tokenizer
from cutaway.testing.architectures import tiny_model

TEXT = "When Mary and John went to the store, John gave a drink to"


def test_entropy_is_between_looking_at_one_and_at_all():
    one = torch.eye(5)[None]
    every = torch.full((1, 5, 5), 0.2)
    assert float(entropy_of(one)) == 0 and float(entropy_of(every)) == pytest.approx(math.log(5))


@pytest.mark.parametrize("size", [1, 3, 24, 25, 30, 49, 512])
def test_a_thumbnail_keeps_the_largest_of_each_block(size):
    pattern = torch.zeros(1, size, size)
    pattern[0, size - 1, size // 2] = 1
    small = shrink(pattern, 24)
    assert small.shape[1] == small.shape[2] <= 24
    assert int(small.max()) == 255 and int((small > 0).sum()) == 1


def test_scores_and_entropy_are_those_of_model_run(llama):
    found = REQUESTS["attention"](llama, {"text": TEXT})
    run = llama.run(TEXT, read="pattern[*]")
    size = len(llama.encode(TEXT))
    for layer in range(3):
        pattern = run[f"pattern[{layer}]"][0].double()
        entropy = -(pattern * pattern.clamp_min(1e-300).log()).sum(-1).mean(-1)
        np.testing.assert_allclose(found["entropy"][layer], entropy.numpy(), rtol=1e-4, atol=1e-5)
        before = torch.stack([pattern[:, q, q - 1] for q in range(1, size)]).mean(0)
        np.testing.assert_allclose(found["scores"]["previous_token"][layer], before.numpy(), rtol=1e-4, atol=1e-5)
        first = pattern[:, 1:, 0].mean(-1)
        np.testing.assert_allclose(found["scores"]["first_token"][layer], first.numpy(), rtol=1e-4, atol=1e-5)
    side = found["thumbnails"]["side"]
    raw = np.frombuffer(base64.b64decode(found["thumbnails"]["values"][1][2]), np.uint8).reshape(side, side)
    np.testing.assert_allclose(raw / 255, run["pattern[1].head[2]"][0].numpy(), atol=0.5 / 255 + 1e-6)
    assert found["token_b_start"] is None and found["causal"]


def test_layers_in_several_runs_give_the_same(llama, monkeypatch):
    whole = REQUESTS["attention"](llama, {"text": TEXT})
    monkeypatch.setattr("cutaway.apps.inspection.heads.free_bytes", lambda device: 0)
    assert REQUESTS["attention"](llama, {"text": TEXT}) == whole


def test_a_pair_of_texts_says_where_the_second_starts(encoder):
    found = REQUESTS["attention"](encoder, {"text": TEXT, "text_b": " John gave"})
    assert found["token_b_start"] == len(encoder.encode(TEXT)) and len(found["tokens"]) == found["token_b_start"] + 2
    assert not found["causal"]


def test_a_model_without_attention_says_so():
    hf = tiny_model("mamba")
    tokenizer = tiny_tokenizer(texts_of(tiny_task()), start=False)
    with pytest.raises(ModelError, match="no attention heads"):
        REQUESTS["attention"](Model(hf, tokenizer, name="tiny-mamba"), {"text": "When"})
