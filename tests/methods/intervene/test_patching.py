"""Patching against forward hooks of plain torch in double precision, and its laws."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutaway.core.errors import MethodError, PlanError, TaskError
from cutaway.core.task import Task
from cutaway.methods.cells import cells_of, in_words, that_can_differ
from cutaway.methods.intervene.patching import patching
from cutaway.models.metric import metric_of
from cutaway.models.model import Model
from cutaway.testing import tiny, tiny_task
from cutaway.testing.strategies import tasks

FEW = {"controls": 5, "top": 2}


@functools.cache
def double(family: Any) -> Model:
    model = tiny(family)
    model.hf.double()
    return model


def test_every_cell_is_a_plain_forward_pass_with_a_hook() -> None:
    model, task = double("llama"), tiny_task().subset([0, 1])
    encoded = task.encode(model.tokenizer)
    metric = metric_of(encoded)
    data = patching(model, task, **FEW).data
    layers = model.hf.model.layers

    def run(ids: Any, layer: int = -1, position: int = 0, value: Any = None) -> tuple[torch.Tensor, list[torch.Tensor]]:
        streams: list[torch.Tensor] = []

        def hook(module: Any, args: Any, kwargs: Any) -> Any:
            stream = args[0].clone()
            if module is layers[layer] and value is not None:
                stream[:, position] = value[:, position]
            streams.append(stream)
            return (stream, *args[1:]), kwargs

        handles = [one.register_forward_pre_hook(hook, with_kwargs=True) for one in layers]
        with torch.no_grad():
            logits = model.hf(torch.tensor(ids)).logits[:, -1]
        for handle in handles:
            handle.remove()
        return metric(logits), streams

    source, streams = run(encoded.ids)
    base, _ = run(encoded.contrast_ids)
    for layer in range(3):
        for position in range(len(encoded.ids[0])):
            moved, _ = run(encoded.contrast_ids, layer, position, streams[layer])
            effect = float((moved - base).mean() / (source - base).mean())
            assert float(data["effect_resid_pre"][layer, position]) == pytest.approx(effect, abs=2e-5)
    np.testing.assert_allclose(data["base_metric"].values, base.numpy(), atol=1e-5)
    np.testing.assert_allclose(data["source_metric"].values, source.numpy(), atol=1e-5)


@given(
    task=tasks(contrasts=True),
    family=st.sampled_from(["llama", "gpt2"]),
    kind=st.sampled_from(["resid_pre", "resid_post"]),
    layer=st.integers(0, 2),
    direction=st.sampled_from(["denoise", "noise"]),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_whole_stream_of_a_layer_carries_the_whole_difference(
    task: Task, family: str, kind: str, layer: int, direction: str
) -> None:
    try:
        result = patching(double(family), task, sites=f"{kind}[{layer}]", direction=direction, **FEW)
    except TaskError as error:  # drawn prompts may not align, or score alike
        assert "score alike" in str(error) or "can be used" in str(error)
        return
    assert result.metrics["largest_effect"] == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(
        result.data["patched_metric"].values[:, 0], result.data["source_metric"].values, atol=1e-5
    )


def test_all_positions_patched_together_are_the_clean_run() -> None:
    """Each position is a small share; the check's set of all of one layer's cells is everything."""
    model, task = double("gpt2"), tiny_task().subset([2, 3])
    from cutaway.methods.sets import Write, scores

    encoded = task.encode(model.tokenizer)
    metric = metric_of(encoded)
    run = model.run(encoded, read="resid_pre[1]")
    from cutaway.core.site import Site

    cells = [Write(Site("resid_pre", 1, position=p), source=run["resid_pre[1]"]) for p in range(len(encoded.ids[0]))]
    found = scores(model, encoded.contrast_ids, [cells, []], metric)
    torch.testing.assert_close(found[0], metric(model.run(encoded).last_logits).float(), rtol=1e-5, atol=1e-6)
    clean = metric(model.run([list(ids) for ids in encoded.contrast_ids]).last_logits)
    torch.testing.assert_close(found[1], clean.float(), rtol=1e-5, atol=1e-6)


def test_positions_before_the_first_difference_move_nothing() -> None:
    model, task = double("llama"), tiny_task().subset([0])
    encoded = task.encode(model.tokenizer)
    first = next(i for i, (a, b) in enumerate(zip(encoded.ids[0], encoded.contrast_ids[0], strict=True)) if a != b)
    result = patching(model, task, **FEW)
    assert np.all(result.data["effect_resid_pre"].values[:, :first] == 0)
    assert result.metrics["cells_computed"] < result.metrics["cells"]


def firsts(encoded: Any) -> list[int]:
    return [
        next(i for i, (a, b) in enumerate(zip(ids, other)) if a != b)
        for ids, other in zip(encoded.ids, encoded.contrast_ids, strict=True)
    ]


def test_cells_before_the_first_difference_are_no_controls() -> None:
    """A control that cannot have an effect would make any claim hold."""
    model, task = double("llama"), tiny_task().subset([0, 1])
    encoded = task.encode(model.tokenizer)
    cells = cells_of(model, "resid_pre[*]@*, z[1].head[0], mlp_out[0]@-1, attn_out[2]@subject", 20)
    able = that_can_differ(model, encoded, cells)
    first = min(firsts(encoded))
    longest = max(map(len, encoded.ids))
    assert {site.position for site in able if site.kind == "resid_pre"} == set(range(first, longest))
    assert [site for site in able if site.kind in ("z", "mlp_out")] == [
        site for site in cells if site.kind in ("z", "mlp_out")
    ]
    subject = any(encoded.positions["subject"][pair] >= one for pair, one in enumerate(firsts(encoded)))
    assert any(site.kind == "attn_out" for site in able) == subject
    (check,) = patching(model, task, **FEW).checks
    assert "none before the first token that differs" in check.how
    (whole,) = patching(model, task, sites="z[*].head[*]", **FEW).checks
    assert "first token that differs" not in whole.how


def test_random_sets_come_from_the_cells_that_can_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    from cutaway.methods.intervene import patching as module

    model, task = double("llama"), tiny_task().subset([0])
    seen: list[Any] = []
    draw = module.sets_like
    monkeypatch.setattr(module, "sets_like", lambda *args: seen.extend(draw(*args)) or draw(*args))
    patching(model, task, **FEW)
    first = min(firsts(task.encode(model.tokenizer)))
    assert seen and all(site.position >= first for one in seen for site in one)


def test_all_cells_of_a_network_that_looks_both_ways_can_differ() -> None:
    model = double("llama")
    encoded = tiny_task().subset([0]).encode(model.tokenizer)
    cells = cells_of(model, "resid_pre[*]@*", 5)
    both = SimpleNamespace(anatomy=SimpleNamespace(is_causal=False, is_encoder_decoder=False))
    assert that_can_differ(both, encoded, cells) == cells  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        ("resid_pre[0]@3, resid_pre[2]@3, resid_pre[1]@3", "the stream before layers 0 to 2 at token 3"),
        ("resid_post[0]@-1, resid_post[2]@-1", "the stream after layers 0 and 2 at the last token"),
        ("z[1].head[2], z[2].head[0]", "heads 1.2 and 2.0"),
        ("z[1]", "all heads of layer 1"),
        ("mlp_act[1].unit[3]@-2", "neuron 1.3 at token 2 from the end"),
        ("mlp_out[1]@subject, attn_out[0]", "the MLP of layer 1 at @subject and the attention of layer 0"),
        ("q[1].head[0]", "q of head 1.0"),
    ],
)
def test_cells_are_named_in_words(sites: str, said: str) -> None:
    model = double("llama")
    found = in_words(model, [model.encode(tiny_task().prompts[0])], cells_of(model, sites, 6))
    token = model.token_strings(model.encode(tiny_task().prompts[0]))[3]
    assert found == (f"{said} “{token}”" if said.endswith("token 3") else said)


def test_noising_with_the_two_swapped_is_denoising() -> None:
    model, task = double("llama"), tiny_task().subset([0, 1])
    swapped = Task.from_prompts(
        task.contrasts, contrasts=task.prompts, answers=[*task.answers], wrong=[*task.wrong], metric="logit_difference"
    )
    denoised = patching(model, task, sites="z[*].head[*]", direction="denoise", **FEW).data
    noised = patching(model, swapped, sites="z[*].head[*]", direction="noise", **FEW).data
    np.testing.assert_allclose(noised["effect"].values, denoised["effect"].values, atol=1e-6)


def test_heads_have_a_map_of_layers_and_heads_and_names_are_kept() -> None:
    result = patching(double("gpt2"), tiny_task(), sites="z[*].head[*]@end, resid_pre[*]@subject", **FEW)
    assert result.data["effect_z"].dims[:2] == ("layer", "head")
    assert "resid_pre[1]@subject" in result.data["cell"].values.tolist()
    heads = result.data["effect"].sel(cell="z[1].head[2]@end")
    assert float(result.data["effect_z"].sel(layer=1, head=2)) == pytest.approx(float(heads))


def test_a_prompt_without_the_position_counts_as_not_moved() -> None:
    model, task = double("llama"), tiny_task()
    result = patching(model, task, **FEW)
    data = result.data
    moved = np.nan_to_num(data["patched_metric"].values - data["base_metric"].values[:, None])
    gap = (data["source_metric"] - data["base_metric"]).mean().item()
    np.testing.assert_allclose(data["effect"].values, moved.mean(axis=0) / gap, rtol=1e-4, atol=1e-5)
    assert any("differ in length" in note for note in result.notes)


def test_the_check_patches_the_largest_together() -> None:
    model, task = double("gpt2"), tiny_task().subset([0, 1])
    result = patching(model, task, sites="z[*].head[*]", **FEW)
    (check,) = result.checks
    best = result.data["cell"].values[np.argsort(-result.data["effect"].values)[:2]].tolist()
    assert all(cell in check.claim for cell in best)
    from cutaway.core.edit import patch

    encoded = task.encode(model.tokenizer)
    metric = metric_of(encoded)
    source = model.run(encoded, read="z[*]")
    contrasts = [list(ids) for ids in encoded.contrast_ids]
    moved = metric(model.run(contrasts, edit=[patch(cell, source) for cell in best], logits="last").last_logits)
    base, clean = metric(model.run(contrasts).last_logits), metric(source.last_logits)
    assert check.measured == pytest.approx(float((moved - base).mean() / (clean - base).mean()), abs=1e-4)


def test_without_answers_the_divergence_from_the_prompt_is_brought_down() -> None:
    task = Task.from_prompts(tiny_task().prompts[:2], contrasts=tiny_task().contrasts[:2])
    result = patching(double("llama"), task, sites="resid_pre[0]", **FEW)
    assert result.metrics["source"] == pytest.approx(0.0, abs=1e-6)
    assert result.metrics["base"] > 0
    assert result.metrics["largest_effect"] == pytest.approx(1.0, abs=1e-4)


def test_pairs_that_score_alike_and_tasks_without_contrasts_are_refused() -> None:
    prompt = tiny_task().prompts[0]
    same = Task.from_prompts(prompt, contrasts=prompt, answers=" Mary", wrong=" John")
    with pytest.raises(TaskError, match="prompts and contrasts score alike"):
        patching(double("llama"), same)
    with pytest.raises(MethodError, match="no contrasts"):
        patching(double("llama"), prompt)
    with pytest.raises(PlanError, match="cannot be changed as a part"):
        patching(double("llama"), tiny_task(), sites="embed@*")


@pytest.mark.real
def test_smollm2_carries_the_second_name_to_the_end_by_its_heads() -> None:
    import cutaway

    try:
        model = cutaway.open("smollm2")
    except cutaway.core.errors.ModelError as error:
        pytest.skip(f"SmolLM2 cannot be opened here: {error}")
    frame = "When Mary and John went to the store, {} gave a drink to"
    task = Task.from_prompts(frame.format("John"), contrasts=frame.format("Mary"), answers=" Mary", wrong=" John")
    result = patching(model, task, sites="z[*].head[*]", controls=6)
    assert result.metrics["cell_with_largest_effect"] == "z[23].head[3]"
    assert result.checks[0].passed
