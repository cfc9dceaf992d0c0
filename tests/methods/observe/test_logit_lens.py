"""The lens against a slow reference in double precision, and the laws that it keeps."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from cutaway.core.errors import MethodError, ModelError, SiteError
from cutaway.core.task import Task
from cutaway.methods.observe import lens_check
from cutaway.methods.observe import logit_lens as module
from cutaway.methods.observe.logit_lens import logit_lens
from cutaway.models.model import Model
from cutaway.testing import tiny, tiny_task
from cutaway.testing.architectures import tiny_model
from cutaway.testing.strategies import prompts

FEW = {"controls": 5, "tested": 1}


@functools.cache
def double(family: Any) -> Model:
    model = tiny(family)
    model.hf.double()
    return model


def reference(model: Model, ids: tuple[int, ...], answers: tuple[int, ...] | None) -> dict[str, Any]:
    """Every layer, position and token at once, with the model's own modules."""
    with torch.no_grad():
        out = model.hf(torch.tensor([ids]), output_hidden_states=True)
        base = model.hf.model if hasattr(model.hf, "model") else model.hf.transformer
        norm = base.norm if hasattr(base, "norm") else base.ln_f
        states = [norm(state[0]) for state in out.hidden_states[1:-1]] + [out.hidden_states[-1][0]]
        logp = torch.stack([model.hf.lm_head(state) for state in states]).log_softmax(-1)
    final = logp[-1]
    wanted = final.argmax(-1)[:, None] if answers is None else torch.tensor(answers).expand(len(ids), -1)
    index = wanted.expand(len(logp), *wanted.shape)
    best = logp.gather(-1, index).max(-1, keepdim=True).values
    return {
        "answer_log_probability": logp.gather(-1, index).logsumexp(-1),
        "answer_rank": (logp > best).sum(-1),
        "entropy": -(logp.exp() * logp).sum(-1),
        "kl_from_final": (final.exp() * (final - logp)).sum(-1),
        "top_probability": logp.exp().topk(5).values,
        "top_id": logp.topk(5).indices,
    }


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("answers", [True, False])
def test_it_is_the_slow_lens(family: str, answers: bool) -> None:
    model = double(family)
    task = tiny_task() if answers else Task.from_prompts(tiny_task().prompts)
    encoded = task.encode(model.tokenizer)
    data = logit_lens(model, task, **FEW).data
    for prompt, ids in enumerate(encoded.ids):
        slow = reference(model, ids, encoded.answer_ids[prompt] if answers else None)
        for name, expected in slow.items():
            found = data[name].values[prompt, :, : len(ids)]
            np.testing.assert_allclose(found, expected.numpy(), rtol=2e-5, atol=2e-5, err_msg=name)
            assert np.all(np.isnan(data["entropy"].values[prompt, :, len(ids) :]))
        texts = model.token_strings(slow["top_id"][:, :, 0].flatten().tolist())
        assert data["top_token"].values[prompt, :, : len(ids), 0].ravel().tolist() == texts


@given(prompt=prompts(), family=st.sampled_from(["llama", "gpt2"]))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_lens_of_the_last_layer_is_the_model(prompt: str, family: str) -> None:
    model = double(family)
    data = logit_lens(model, prompt, top=3, **FEW).data.isel(prompt=0, layer=-1)
    expected = model.run(prompt).logits[0].softmax(-1).topk(3)
    np.testing.assert_allclose(data["top_probability"].values, expected.values.numpy(), rtol=1e-5)
    assert np.all(data["answer_rank"].values == 0)
    # A difference of two sums as large as log(V) in single precision. Each product and each of the log2(V) levels at
    # which V terms are added in pairs rounds by half a unit of the last place: over both sums, log2(V) + 1 units.
    size = model.anatomy.vocab_size
    assert np.all(data["kl_from_final"].values <= (np.log2(size) + 1) * np.spacing(np.float32(np.log(size))))


@pytest.mark.parametrize("size", [1, 700, 5000])
def test_pieces_do_not_change_it(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = logit_lens(double("llama"), tiny_task(), **FEW)
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", size)
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", size // 100)
    pieces = logit_lens(double("llama"), tiny_task(), **FEW)
    for name in module.PER_CELL:
        np.testing.assert_allclose(pieces.data[name].values, whole.data[name].values, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("sites", "taken"), [("resid_post[*]@-1", [-1]), ("resid_post[1:]@2:5", [2, 3, 4])])
def test_positions_and_layers_can_be_chosen(sites: str, taken: list[int]) -> None:
    task = tiny_task().subset([0])
    whole = logit_lens(double("gpt2"), task, **FEW).data
    some = logit_lens(double("gpt2"), task, sites=sites, **FEW).data
    length = whole.sizes["position"]
    expected = whole.sel(layer=some.layer.values).isel(position=[place % length for place in taken])
    np.testing.assert_allclose(some["entropy"].values, expected["entropy"].values, rtol=1e-6)
    assert some["token"].values.tolist() == expected["token"].values.tolist()


def test_a_named_position_is_each_prompts_own() -> None:
    model, task = double("llama"), tiny_task()
    data = logit_lens(model, task, sites="resid_post[*]@subject", **FEW).data
    assert data.sizes["position"] == 1
    assert [text.strip() for text in data["token"].values[:, 0]] == ["John", "Paul", "Mark", "Carl"]


class _Largest(TorchDispatchMode):
    """The largest tensor that comes into being."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple) else (out,):
            if isinstance(one, torch.Tensor):
                self.numel = max(self.numel, one.untyped_storage().nbytes() // one.element_size())
        return out


def test_no_table_of_layers_positions_and_vocabulary_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    rows = 4
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", rows * model.anatomy.vocab_size)
    prompt = " ".join(["When Mary and John went to the store"] * 10)
    length = len(model.encode(prompt))
    logit_lens(model, prompt, sites="resid_post[*]@:-1", **FEW)  # what is looked up once is looked up
    with _Largest() as seen:
        logit_lens(model, prompt, sites="resid_post[*]@:-1", **FEW)
    assert length * model.anatomy.vocab_size > 4 * rows * model.anatomy.vocab_size
    assert rows * model.anatomy.vocab_size <= seen.numel < length * model.anatomy.vocab_size


def test_the_deciding_layer_is_the_first_from_which_the_lens_keeps_its_mind() -> None:
    model = double("gpt2")
    data = logit_lens(model, tiny_task(), **FEW).data
    encoded = tiny_task().encode(model.tokenizer)
    for prompt, ids in enumerate(encoded.ids):
        says = data["top_id"].values[prompt, :, len(ids) - 1, 0]
        layer = int(data["decision_layer"].values[prompt])
        assert np.all(says[layer:] == says[-1])
        assert layer == 0 or says[layer - 1] != says[-1]


def slow_probability(model: Model, ids: Any, layer: int, token: int, controls: int) -> float:
    """The mean probability of a token in shuffled texts whose last token's stream a plain torch hook replaces."""
    generator = torch.Generator().manual_seed(0)
    own, found = [], []
    block = (model.hf.transformer.h if hasattr(model.hf, "transformer") else model.hf.model.layers)[layer]

    def hook(module: Any, args: Any, out: Any) -> Any:
        stream = out[0] if isinstance(out, tuple) else out
        if not own:
            own.append(stream[:, -1].clone())
            return out
        stream = stream.clone()
        stream[:, -1] = own[0]
        return (stream, *out[1:]) if isinstance(out, tuple) else stream

    handle = block.register_forward_hook(hook)
    with torch.no_grad():
        model.hf(torch.tensor([ids]))
        for _ in range(controls):
            text = lens_check._shuffled(ids, generator)
            assert sorted(text) == sorted(ids)
            found.append(model.hf(torch.tensor([text])).logits[0, -1].softmax(-1)[token])
    handle.remove()
    return float(torch.stack(found).mean())


@pytest.mark.parametrize("prompt", range(4))
def test_the_check_moves_the_stream_into_other_texts(prompt: int) -> None:
    model, text = double("llama"), tiny_task().prompts[prompt]
    result = logit_lens(model, text, controls=6)
    layer, last = int(result.data["decision_layer"].values[0]), model.anatomy.n_layers - 1
    middle = int(result.data["rise_layer"].values[0])
    (check,) = result.checks
    # What the last layer gave makes the prediction by construction: it is never what is tested.
    rises = layer == last and 0 <= middle < last
    tested = layer if layer < last else middle if rises else last - 1
    assert ("past the middle of its rise" in check.claim) == rises
    assert (f"From layer {tested} on" if rises or layer < last else f"After layer {tested}, one before") in check.claim
    ids = model.encode(text)
    token = int(model.run(text, logits="last").last_logits.argmax())
    assert check.n == 6
    assert check.measured == pytest.approx(slow_probability(model, ids, tested, token, 6), rel=1e-5)


def test_the_answer_of_a_task_is_what_the_rise_is_about() -> None:
    model, task = double("gpt2"), tiny_task().subset([3])
    result = logit_lens(model, task, controls=6)
    data = result.data.isel(prompt=0)
    assert int(data["decision_layer"]) == model.anatomy.n_layers - 1
    (check,) = result.checks
    encoded = task.encode(model.tokenizer)
    slow = sum(
        slow_probability(model, encoded.ids[0], int(data["rise_layer"]), token, 6) for token in encoded.answer_ids[0]
    )
    assert "rise to the answer" in check.claim and check.unit == "probability of the answer"
    assert check.measured == pytest.approx(slow, rel=1e-5)


@pytest.mark.parametrize(
    ("values", "first"),
    [
        ([-30, -40, -25, -10, 0], 3),
        ([-2, -9, -1], 2),
        ([-9, -1, -9, -1], 3),
        ([-1, -2, -3], -1),
        ([-1, -0.5], -1),
        ([-9], -1),
    ],
)
def test_the_middle_of_the_rise(values: list[float], first: int) -> None:
    assert lens_check.past_the_middle(np.array(values, dtype=float)) == first


@pytest.mark.parametrize(("prompt", "sites"), [("Mary", "resid_post[*]"), (tiny_task().prompts[0], "resid_post[*]@:3")])
def test_where_nothing_can_be_tested_nothing_is_claimed(prompt: str, sites: str) -> None:
    result = logit_lens(double("gpt2"), prompt, sites=sites, **FEW)
    assert not result.checks
    assert "Nothing is claimed" in result.notes[-1]


@pytest.mark.parametrize(
    "sites", ["z[*]", "resid_pre[*], resid_post[*]", "resid_post[1].unit[3]", "mlp_act[*]", "embed"]
)
def test_what_the_unembedding_cannot_read_is_refused(sites: str) -> None:
    with pytest.raises(SiteError, match="resid_post"):
        logit_lens(double("llama"), tiny_task(), sites=sites)


@pytest.mark.parametrize("kind", ["bert", "minicpm3"])
def test_a_model_with_more_between_stream_and_logits_is_refused_or_read_rightly(kind: str) -> None:
    hf = tiny_model(kind, dtype=torch.float32)
    model = Model(hf, None, name=kind)
    ids = [7, 8, 9, 10]
    task = _IdsTask(ids)
    try:
        data = logit_lens.function(model, task, top=3, **FEW, sites="resid_post[*]", seed=0).data
    except MethodError as error:
        assert "is not what the model says" in str(error)
    except ModelError as error:
        assert re.search("cannot be read as logits|more than a matrix", str(error))
    else:
        expected = model.run([ids]).logits[0].float().softmax(-1).topk(3).values
        np.testing.assert_allclose(data["top_probability"].values[0, -1], expected.numpy(), rtol=1e-3)


class _IdsTask:
    """A task of token ids, for a network without a tokenizer."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def encode(self, tokenizer: Any) -> Any:
        from cutaway.core.task import EncodedTask

        task, row = Task.from_prompts("ids"), (tuple(self.ids),)
        return EncodedTask(task, (0,), (), row, (), (), (), {"end": (len(self.ids) - 1,)})


@pytest.mark.real
def test_smollm2_ends_with_its_prediction() -> None:
    import cutaway

    model = _smollm2(cutaway)
    prompt = "When Mary and John went to the store, John gave a drink to"
    result = logit_lens(model, prompt, controls=5)
    assert result.data["top_token"].values[0, -1, -1, 0] == " Mary"
    assert result.metrics["last_kl_from_final"] < 1e-4
    assert result.checks[0].passed


def _smollm2(cutaway: Any) -> Model:
    from cutaway.core.errors import ModelError

    try:
        return cutaway.open("smollm2")
    except ModelError as error:
        pytest.skip(f"SmolLM2 cannot be opened here: {error}")
