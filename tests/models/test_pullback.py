"""Gradients by formulas are those of autograd, on every network that has them; where a run is otherwise, autograd is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cutaway.models import layer_pullback, pullback, taps
from cutaway.models.model import Model
from cutaway.models.multigrad import gradients_of_targets

# Separate, fused and interleaved maps; rotations by halves, by pairs, of a part of a head, none; norms of queries;
# parallel layers; neurons with a gate, without one, and two in one map; multipliers; a sliding window; norms that centre.
NETWORKS = [
    "llama",
    "gpt2",
    "gpt_neox",
    "qwen3",
    "phi3",
    "granite",
    "phi",
    "starcoder2",
    "cohere",
    "mistral",
    "nemotron",
]
EXACT = 1e-6  # of the largest: norms and softmax compute in single precision, whatever the weights are
IDS = torch.randint(5, 60, (2, 24), generator=torch.Generator().manual_seed(1)).tolist()
PLACES = [9, 3, 14, 22, 14, 20]
TOKENS = [7, 11, 30, 5, 8, 9]


def score(logits: Tensor) -> Tensor:
    """Log-probabilities of `TOKENS` [row, target]."""
    index = torch.tensor(TOKENS).expand(len(logits), -1)[..., None]
    return logits.log_softmax(-1).gather(-1, index)[..., 0]


@pytest.fixture(autouse=True)
def setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two threads, and double precision too, so that a difference is no rounding."""
    monkeypatch.setattr(pullback, "DTYPES", {torch.float32, torch.float64})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def unexplained(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each run by formulas, whether it was otherwise than they say."""
    seen: list[bool] = []
    original = pullback.watched

    def watched(*arguments: object) -> pullback.Watched:
        seen.append(True)
        found = original(*arguments)  # type: ignore[arg-type]
        seen[-1] = False
        return found

    monkeypatch.setattr(pullback, "watched", watched)
    return seen


def both(model: Model, **more: object) -> tuple[Tensor, Tensor]:
    """Gradients by formulas and by autograd."""
    slow = gradients_of_targets(model, IDS, PLACES, score, formulas=None, **more)  # type: ignore[arg-type]
    fast = gradients_of_targets(model, IDS, PLACES, score, **more)  # type: ignore[arg-type]
    assert torch.allclose(fast.values, slow.values, atol=1e-10)
    return fast.grads, slow.grads


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("group", [1, 60, 640])
def test_they_are_those_of_autograd(opened, unexplained, monkeypatch, kind, group):
    model = opened(kind, "sdpa")
    monkeypatch.setattr(pullback, "GROUP_TOKENS", group)
    fast, slow = both(model)
    assert unexplained and not unexplained[-1]
    assert torch.allclose(fast, slow, atol=EXACT * float(slow.abs().max()))
    for target, place in enumerate(PLACES):
        assert not fast[target, :, place + 1 :].any() and fast[target, :, place].any()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_other_embeddings_and_some_of_the_targets(opened, unexplained, kind):
    model = opened(kind, "sdpa")
    shape = (len(IDS), len(IDS[0]), model.anatomy.d_model)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fast, slow = both(model, embeddings=noise, targets=[5, 0, 3, 1], reduce=lambda grads: grads.norm(dim=-1))
    assert not unexplained[-1] and fast.shape == (4, *shape[:2])
    assert torch.allclose(fast, slow, atol=EXACT * float(slow.abs().max()))


def test_single_precision_by_another_library_is_as_exact_as_autograd(opened, unexplained):
    exact, single = opened("llama", "sdpa"), opened("llama", "sdpa", torch.float32)
    fast, slow = both(single)
    truth = gradients_of_targets(exact, IDS, PLACES, score, formulas=None).grads
    assert not unexplained[-1]
    assert (fast - truth).norm() <= 2 * (slow - truth).norm() + 1e-6 * truth.norm()


# --- where a run is otherwise --------------------------------------------------------------------------------------


def _hooked(model: Model) -> dict[str, nn.Module]:
    layer = model.hf.model.layers[1]
    return {
        "attention": layer.self_attn,
        "values": layer.self_attn.v_proj,
        "output": layer.self_attn.o_proj,
        "norm": layer.post_attention_layernorm,
        "neurons": layer.mlp.act_fn,
        "mlp": layer.mlp,
        "layer": layer,
    }


@pytest.mark.parametrize("where", ["attention", "values", "output", "norm", "neurons", "mlp", "layer"])
def test_a_hook_of_somebody_else_has_its_say(opened, where):
    model = opened("llama", "sdpa")
    assert pullback.formulas_for(model, IDS, len(PLACES)) is not None

    def double(module: nn.Module, args: object, out: object) -> object:
        return (out[0] * 2, *out[1:]) if isinstance(out, tuple) else out * 2  # type: ignore[operator]

    handle = _hooked(model)[where].register_forward_hook(double)
    try:
        fast, slow = both(model)
    finally:
        handle.remove()
    assert torch.allclose(fast, slow, atol=EXACT * float(slow.abs().max()))
    assert not torch.allclose(slow, both(model)[1], rtol=1e-3)


@pytest.mark.parametrize("kind", ["q", "z", "pattern"])
def test_an_edit_around_it_has_its_say(opened, kind):
    model = opened("llama", "sdpa")
    module = model.anatomy.stacks[""].layers[1].attention

    def half(value: Tensor) -> Tensor:
        return value * 0.5

    with taps.attention_taps({module: taps.AttentionTap({kind: half}, writes_weights=kind == "pattern")}):
        fast, slow = both(model)
    assert torch.allclose(fast, slow, atol=EXACT * float(slow.abs().max()))
    assert not torch.allclose(slow, both(model)[1], rtol=1e-3)


def test_weights_that_change_are_seen(opened):
    model = opened("llama", "sdpa")
    before = both(model)[1]
    norm = model.hf.model.layers[2].input_layernorm.weight
    saved = norm.detach().clone()
    try:
        norm.data.mul_(torch.linspace(0.5, 2, len(saved), dtype=saved.dtype))
        fast, slow = both(model)
    finally:
        norm.data.copy_(saved)
    assert torch.allclose(fast, slow, atol=EXACT * float(slow.abs().max()))
    assert not torch.allclose(slow, before, rtol=1e-3)


def test_networks_of_another_form_have_none(opened):
    for kind in ("mixtral", "gemma2", "olmo2"):  # experts, norms behind the branches
        assert pullback.formulas_for(opened(kind, "eager", torch.float32), IDS, len(PLACES)) is None


def test_when_they_are_asked(opened, monkeypatch):
    model = opened("llama", "sdpa")
    assert pullback.formulas_for(model, IDS, pullback.FEWEST) is not None
    assert pullback.formulas_for(model, IDS, pullback.FEWEST - 1) is None
    assert pullback.formulas_for(model, [[5] * 2000], 50) is None
    assert pullback.formulas_for(opened("llama", "sdpa", torch.bfloat16), IDS, 50) is None
    monkeypatch.setattr(model.hf, "dropout", dropout := nn.Dropout(0.1), raising=False)
    assert dropout.training and pullback.formulas_for(model, IDS, 50) is None


# --- threads and groups ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_take_targets_and_leave_their_number_alone(opened, monkeypatch, threads):
    model = opened("gpt2", "sdpa")
    monkeypatch.setattr(pullback, "GROUP_TOKENS", 30)
    torch.set_num_threads(threads)
    alive = threading.active_count()
    fast, slow = both(model)
    assert torch.allclose(fast, slow, atol=EXACT * float(slow.abs().max()))
    assert torch.get_num_threads() == threads and threading.active_count() == alive
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [threads]


def test_an_error_in_one_thread_ends_all(opened, monkeypatch):
    model = opened("gpt2", "sdpa")
    monkeypatch.setattr(pullback, "GROUP_TOKENS", 30)
    assert pullback.formulas_for(model, IDS, len(PLACES)) is not None

    def fails(*arguments: object) -> Tensor:
        raise KeyError("the layer fails")

    monkeypatch.setattr(layer_pullback.LayerPullback, "_of_mlp", fails)
    alive = threading.active_count()
    with pytest.raises(KeyError, match="the layer fails"):
        gradients_of_targets(model, IDS, PLACES, score)
    assert threading.active_count() == alive and taps.idle()
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.hf.modules())


@settings(max_examples=60, deadline=None)
@given(
    positions=st.lists(st.integers(0, 700), min_size=1, max_size=60),
    rows=st.integers(1, 5),
    threads=st.integers(1, 8),
)
def test_every_target_is_in_one_group_and_every_group_in_one_batch(positions, rows, threads):
    groups = pullback.grouped(positions, rows, threads)
    assert sorted(target for group in groups for target in group) == list(range(len(positions)))
    lengths = [positions[target] for group in groups for target in group]
    assert lengths == sorted(lengths, reverse=True)
    batches = pullback.spread(groups, positions, rows, threads)
    assert sorted(target for batch in batches for group in batch for target in group) == list(range(len(positions)))
    assert all(batches)
