"""Several targets in one forward pass give what each of them gives alone, and leave nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cutaway.core.errors import ModelError, PlanError
from cutaway.models import memory, pass_groups, taps
from cutaway.models.model import Model
from cutaway.models.multigrad import gradients_of_targets, rows_at_once, scores_of_targets
from cutaway.testing.tiny import tiny

IDS = [[0, 5, 9, 14, 20, 7, 11], [0, 8, 2, 33, 21, 40, 3]]
PLACES = [3, 4, 6]
TOKENS = [7, 11, 30]


@pytest.fixture(params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> Model:
    found = tiny(request.param)
    found.hf.double()
    return found


def log_probabilities(logits: Tensor) -> Tensor:
    """Of `TOKENS` [row, target]."""
    index = torch.tensor(TOKENS).expand(len(logits), -1)[..., None]
    return logits.log_softmax(-1).gather(-1, index)[..., 0]


def alone(model: Model, ids: list[int], place: int, token: int, embeddings: Tensor | None = None) -> tuple[Any, Any]:
    """One target by the slow path: the text up to it, alone, through plain torch."""
    tokens = torch.tensor([ids[: place + 1]])
    own = model.hf.get_input_embeddings()(tokens) if embeddings is None else embeddings[None, : place + 1]
    leaf = own.detach().requires_grad_(True)
    value = model.hf(inputs_embeds=leaf).logits[0, -1].log_softmax(-1)[token]
    return value.detach(), torch.autograd.grad(value, leaf)[0][0]


@pytest.mark.parametrize("extra", [32, -1000], ids=["one pass", "a pass for each target"])
@pytest.mark.parametrize("given", [False, True])
def test_shared_passes_equal_separate_ones(
    model: Model, given: bool, extra: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pass_groups.PASS_TOKENS, "cpu", extra)
    assert len(pass_groups.groups_of_targets(tuple(PLACES), len(IDS[0]), len(IDS), extra)) == (1 if extra > 0 else 4)
    shape = (len(IDS), len(IDS[0]), model.anatomy.d_model)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    embeddings = noise if given else None
    found = gradients_of_targets(model, IDS, PLACES, log_probabilities, embeddings=embeddings)
    assert found.grads.shape == (len(PLACES), *shape)
    for row, ids in enumerate(IDS):
        for target, (place, token) in enumerate(zip(PLACES, TOKENS, strict=True)):
            value, slope = alone(model, ids, place, token, noise[row] if given else None)
            assert torch.allclose(found.values[row, target], value, atol=1e-12)
            assert torch.allclose(found.grads[target, row, : place + 1], slope, atol=1e-11)
            assert not found.grads[target, row, place + 1 :].any()


def test_chosen_targets_are_those_targets(model: Model) -> None:
    every = gradients_of_targets(model, IDS, PLACES, log_probabilities)
    some = gradients_of_targets(model, IDS, PLACES, log_probabilities, targets=[2, 0])
    assert torch.equal(some.values, every.values)
    assert torch.allclose(some.grads, every.grads[[2, 0]], atol=1e-13)


@pytest.mark.parametrize("extra", [32, -1000])
def test_what_is_kept_of_gradients_is_made_of_them(model: Model, extra: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pass_groups.PASS_TOKENS, "cpu", extra)
    every = gradients_of_targets(model, IDS, PLACES, log_probabilities, targets=[1, 0])
    sizes = gradients_of_targets(
        model, IDS, PLACES, log_probabilities, targets=[1, 0], reduce=lambda grads: grads.norm(dim=-1)
    )
    assert torch.allclose(sizes.grads, every.grads.norm(dim=-1), atol=1e-13)


def test_scores_without_gradients_are_the_same(model: Model) -> None:
    found = scores_of_targets(model, IDS, PLACES, log_probabilities)
    assert not found.requires_grad
    assert torch.allclose(found, gradients_of_targets(model, IDS, PLACES, log_probabilities).values, atol=1e-12)


def test_it_works_without_gradients_being_enabled(model: Model) -> None:
    with torch.no_grad():
        found = gradients_of_targets(model, IDS, PLACES, log_probabilities)
    assert found.grads.any()


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_stays_behind(model: Model, fails: bool) -> None:
    frozen = next(iter(model.hf.parameters()))
    frozen.requires_grad_(False)
    before = [weight.requires_grad for weight in model.hf.parameters()]

    def score(logits: Tensor) -> Tensor:
        assert not any(weight.requires_grad for weight in model.hf.parameters())
        if fails:
            raise KeyError("the score fails")
        return log_probabilities(logits)

    if fails:
        with pytest.raises(KeyError, match="the score fails"):
            gradients_of_targets(model, IDS, PLACES, score)
    else:
        gradients_of_targets(model, IDS, PLACES, score)
    assert [weight.requires_grad for weight in model.hf.parameters()] == before
    assert all(weight.grad is None for weight in model.hf.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.hf.modules())
    assert taps.idle()


def test_refusals() -> None:
    model = tiny("llama")
    with pytest.raises(PlanError, match=r"The rows have 2 and 3 tokens. Rows of one call are equally long"):
        scores_of_targets(model, [[1, 2], [1, 2, 3]], [1], log_probabilities)
    with pytest.raises(PlanError, match=r"Nothing is predicted at position 2: there are 0 to 1"):
        scores_of_targets(model, [[1, 2]], [2], log_probabilities)
    with pytest.raises(ModelError, match="BertModel does not continue the text"):
        scores_of_targets(tiny("bert"), [[1, 2]], [1], log_probabilities)


def test_batches_are_bounded_by_tokens() -> None:
    model = tiny("llama")
    assert rows_at_once(model, 20, grad=True) * 20 <= 512
    assert rows_at_once(model, 10_000, grad=True) == 1
    assert rows_at_once(model, 20, grad=False) >= rows_at_once(model, 20, grad=True)


def test_batches_leave_room_for_the_logits_of_every_target(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**26)
    one, many = (rows_at_once(model, 20, grad=False, targets=targets) for targets in (1, 200))
    assert many < one and 12 * many * 200 * model.anatomy.vocab_size <= 2**26
