"""Causal tracing against runs with plain edits, and its laws."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.edit import add, replace
from cutaway.core.errors import MethodError, ParameterError
from cutaway.core.task import Task
from cutaway.methods.intervene.causal_trace import causal_trace
from cutaway.methods.subjects import embedding_deviation, noise_for, subjects_of
from cutaway.methods.tracing import Tracing
from cutaway.models.model import Model
from cutaway.testing import tiny, tiny_task

ONE = {"samples": 2, "controls": 0}


@functools.cache
def double(family: Any) -> Model:
    model = tiny(family)
    model.hf.double()
    return model


def test_the_map_is_what_single_edited_runs_give() -> None:
    model, task = double("llama"), tiny_task().subset([0])
    result = causal_trace(model, task, severed=True, seed=3, **ONE)
    encoded = task.encode(model.tokenizer)
    (ids,), (answer,) = encoded.ids, encoded.answer_ids[0]
    subjects = subjects_of(model, encoded)
    size = 3.0 * embedding_deviation(model, encoded, subjects)
    span = subjects.spans[0]
    noise = noise_for(model, len(ids), span, size, samples=2, distribution="normal", seed=(3, 0, 0))

    def probability(*edits: Any) -> np.ndarray:
        run = model.run([list(ids)] * 2, edit=[add("embed", noise), *edits], logits="last")
        return run.last_logits.softmax(dim=-1)[:, answer].numpy()

    clean = model.run(encoded, read="resid_post[*], mlp_out[*], attn_out[*]")
    damaged = model.run([list(ids)] * 2, read="mlp_out[*]", edit=add("embed", noise))
    base = probability()
    for number, kind in enumerate(("resid_post", "mlp_out", "attn_out")):
        for layer in range(3):
            for position in (span[0], len(ids) - 1):
                site = f"{kind}[{layer}]"
                won = probability(replace(f"{site}@{position}", clean[site][:, position])) - base
                found = result.data["effect"].values[0, number, layer, position]
                assert found == pytest.approx(won.mean(), abs=1e-12)
    last = span[1] - 1
    cut = [replace(f"mlp_out[{m}]@{last}", damaged[f"mlp_out[{m}]"][:, last]) for m in (1, 2)]
    won = probability(replace(f"resid_post[0]@{last}", clean["resid_post[0]"][:, last]), *cut) - base
    curve = result.data["curve"].sel(series="stream, MLPs severed", layer=0)
    assert float(curve) == pytest.approx(won.mean(), abs=1e-12)
    assert result.metrics["damaged_probability"] == pytest.approx(base.mean(), abs=1e-12)
    assert result.metrics["noise"] == pytest.approx(size)


@given(family=st.sampled_from(["llama", "gpt2"]), seed=st.integers(0, 50))
@settings(max_examples=6, deadline=None)
def test_without_noise_nothing_happens(family: str, seed: int) -> None:
    result = causal_trace(double(family), tiny_task().subset([1]), noise=0.0, seed=seed, **ONE)
    assert result.metrics["total_effect"] == pytest.approx(0.0, abs=1e-14)
    np.testing.assert_allclose(np.nan_to_num(result.data["effect"].values), 0.0, atol=1e-14)


@given(family=st.sampled_from(["llama", "gpt2"]), size=st.floats(0.5, 6.0))
@settings(max_examples=6, deadline=None)
def test_the_whole_effect_is_won_back_at_the_last_token_of_the_last_layer(family: str, size: float) -> None:
    data = causal_trace(double(family), tiny_task().subset([2]), noise=size, **ONE).data
    total = float(data["clean_probability"][0] - data["damaged_probability"][0].mean())
    end = int((data["token"].values[0] != "").sum()) - 1
    assert float(data["effect"].sel(kind="stream", layer=2)[0, end]) == pytest.approx(total, abs=1e-12)
    model = double(family)
    start = subjects_of(model, tiny_task().subset([2]).encode(model.tokenizer)).spans[0][0]
    assert start > 0 and not data["effect"].values[0, :, :, :start].any()


def test_the_same_seed_gives_the_same_map_and_another_one_another() -> None:
    first, again, other = (causal_trace(double("gpt2"), tiny_task(), seed=seed, **ONE) for seed in (1, 1, 2))
    assert first.id == again.id and first.id != other.id


def test_prompts_do_not_change_each_others_noise() -> None:
    model = double("llama")
    both = causal_trace(model, tiny_task().subset([0, 1]), noise_unit="plain", noise=1.0, **ONE)
    alone = causal_trace(model, tiny_task().subset([0]), noise_unit="plain", noise=1.0, **ONE)
    np.testing.assert_allclose(both.data["effect"].values[0], alone.data["effect"].values[0], atol=1e-14)


def test_prompts_of_several_lengths_are_averaged_by_place() -> None:
    result = causal_trace(double("llama"), tiny_task(), **ONE)
    data = result.data
    subjects = subjects_of(double("llama"), tiny_task().encode(double("llama").tokenizer))
    lasts = [data["effect"].values[prompt, :, :, stop - 1] for prompt, (_, stop) in enumerate(subjects.spans)]
    np.testing.assert_allclose(
        data["effect_by_place"].sel(place="last subject token"), np.mean(lasts, axis=0), atol=1e-14
    )
    np.testing.assert_allclose(data["curve"].values, np.mean(lasts, axis=0), atol=1e-14)
    half = 1.96 * np.std(lasts, axis=0, ddof=1) / 2
    np.testing.assert_allclose(data["curve_high"] - data["curve"], half, atol=1e-14)
    assert "first subject token" not in data["place"].values  # every subject is one token


def test_the_window_is_around_the_layer_clipped_and_at_most_a_third() -> None:
    model = double("llama")
    encoded = tiny_task().encode(model.tokenizer)
    tracing = Tracing(model, encoded, subjects_of(model, encoded), 1.0, "normal", 1, 2, ("MLP",), 0)
    assert [tracing.window("MLP", layer) for layer in range(3)] == [(0,), (0, 1), (1, 2)]
    result = causal_trace(model, tiny_task(), **ONE)
    assert result.metrics["window"] == 1
    assert any("1 of 3 layers, and not 10" in note for note in result.notes)
    assert not any("layers, and not" in note for note in causal_trace(model, tiny_task(), window=1, **ONE).notes)


def test_the_check_restores_the_largest_cell_under_fresh_noise() -> None:
    model, task = double("gpt2"), tiny_task().subset([0, 1])
    result = causal_trace(model, task, samples=3, controls=6)
    stream = result.checks[0]
    assert len(result.checks) == 3 and stream.n == 6
    assert f"layer {result.metrics['stream_layer']}" in stream.claim
    assert str(result.metrics["stream_place"]) in stream.claim
    assert stream.measured != pytest.approx(float(result.metrics["stream_largest_effect"]), abs=1e-15)
    assert "last token" not in stream.claim.replace("last subject token", "")
    split = causal_trace(model, tiny_task(), samples=2, controls=6).checks[0]
    assert "half of the prompts that did not choose it" in split.how


def test_uniform_and_plain_noise_have_the_size_that_is_asked_for() -> None:
    plain = causal_trace(double("llama"), tiny_task().subset([0]), noise=0.25, noise_unit="plain", **ONE)
    assert plain.metrics["noise"] == 0.25
    uniform = causal_trace(
        double("llama"), tiny_task().subset([0]), noise=0.25, noise_unit="plain", distribution="uniform", **ONE
    )
    assert plain.id != uniform.id


def test_without_answers_the_own_prediction_is_traced() -> None:
    result = causal_trace(double("llama"), Task.from_prompts(tiny_task().prompts[:2]), **ONE)
    assert any("most likely next token" in note for note in result.notes)
    assert any("every token but special ones" in note for note in result.notes)


def test_what_cannot_be_traced_is_refused() -> None:
    with pytest.raises(ParameterError, match="samples"):
        causal_trace(double("llama"), tiny_task(), samples=0)
    with pytest.raises(MethodError, match="causal"):
        causal_trace(tiny("bert"), tiny_task())


@pytest.mark.real
def test_smollm2_wins_a_fact_back_at_the_subject_before_the_end() -> None:
    import cutaway

    try:
        model = cutaway.open("smollm2")
    except cutaway.core.errors.ModelError as error:
        pytest.skip(f"SmolLM2 cannot be opened here: {error}")
    task = Task.from_prompts("The official language of France is", answers=" French", positions={"subject": "France"})
    result = causal_trace(model, task, samples=4, controls=6)
    assert result.metrics["total_effect"] > 0.1  # type: ignore[operator]
    assert result.metrics["stream_place"] == "last subject token"
    assert result.checks[0].passed
