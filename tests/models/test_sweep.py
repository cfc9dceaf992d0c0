"""A sweep equals a loop of plain runs, whatever work it shares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cutaway.core.edit import ablate, replace
from cutaway.core.errors import PlanError, SiteError, TaskError
from cutaway.core.run import token_positions
from cutaway.core.site import KINDS, Site, Span
from cutaway.models import memory
from cutaway.models.metric import METRICS, Metric, metric_of
from cutaway.models.model import Model
from cutaway.models.sweep import Sweep, tier_of

Open = Callable[..., Model]
FAMILIES = ("llama", "gpt2", *(pytest.param(name, marks=pytest.mark.all) for name in ("gemma2", "gpt_neox")))
pytestmark = pytest.mark.usefixtures("double_throughout")
EXACT: dict[str, float] = {"rtol": 0.0, "atol": 1e-10}
KINDS_OF_LAYERS = [kind for kind, (part, _) in KINDS.items() if part not in ("ends", "experts")]


def value_of(edit: Any, site: Site, old: Tensor, other: Tensor, mean: Tensor) -> Tensor:
    if callable(edit):
        return edit(site, old)
    return {"patch": other, "zero": torch.zeros_like(old), "mean": mean.expand_as(old)}[edit]


def concrete(model: Model, over: str, ids: Any) -> list[Site]:
    """The cells, written anew: every layer, head, unit and position that a pattern names."""
    longest, found = max(len(row) for row in ids), []
    for site in model.expand(over) if not isinstance(over, Site) else [over]:
        found.append(site)
    if "@*" in over:
        found = [site.at(p) for site in found for p in range(longest)]
    return found


def slowly(
    model: Model, task: Any, over: str, edit: Any, metric: Callable[..., Tensor], direction: str, strict: bool = False
) -> Tensor:
    """One whole run for each cell of each prompt, alone."""
    base, source = task.ids, task.contrast_ids
    if edit == "patch" and direction == "denoise":
        base, source = source, base
    cells = concrete(model, over, base)
    wholes = list(dict.fromkeys(site.whole for site in cells))
    clean = [model.run([ids], read=wholes, strict=strict) for ids in base]
    other = [model.run([ids], read=wholes, strict=strict) for ids in source]
    values = torch.full((len(base), len(cells)), torch.nan, dtype=torch.float64)
    for column, site in enumerate(cells):
        like_scores = "query" in KINDS[site.kind][1]
        if not like_scores:
            mean = torch.cat([run[site.whole][0] for run in clean]).mean(0)
        for row, ids in enumerate(base):
            length = len(ids)
            at = site
            if isinstance(site.position, int) and not -length <= site.position < length:
                continue
            if isinstance(site.position, int | str):
                named = {name: [where[row]] for name, where in task.positions.items()}
                at = site.at(token_positions(site.position, [length], named)[0])
            old, new = clean[row][at][0], other[row][at][0]
            if like_scores:
                wholes_of = [run[site.whole][0] for run in clean]
                total, count = torch.zeros_like(wholes_of[row]), torch.zeros_like(wholes_of[row])
                for one in wholes_of:
                    n = min(length, one.shape[-1])
                    total[:, :n, :n] += one[:, :n, :n]
                    count[:, :n, :n] += 1
                part = total / count
                part = part if at.position is None else part[:, at.position]
                part = part if at.head is None else part[at.head]
            else:
                part = mean if at.head is None else mean[at.head]
                part = part if at.unit is None else part[..., at.unit]
            value = value_of(edit, site, old, new, part)
            run = model.run([ids], edit=replace(at, value[None]), strict=strict)
            scored = metric.for_rows([row]) if isinstance(metric, Metric) else metric
            values[row, column] = scored(run.last_logits)[0]
    return values


def agrees(found: Sweep, expected: Tensor, atol: float = 1e-10) -> None:
    expected = expected.type(found.values.dtype)
    assert torch.equal(found.values.isnan(), expected.isnan())
    assert torch.allclose(found.values, expected, rtol=0, atol=atol, equal_nan=True), (
        (found.values - expected).abs().nan_to_num().max()
    )


def replace_values(found: Sweep, columns: list[bool]) -> Sweep:
    """Some of the cells."""
    return dataclasses.replace(found, values=found.values[:, torch.tensor(columns)])


def halved(site: Site, value: Tensor) -> Tensor:
    return value * 0.5 + 0.01


OVER = {
    "all positions at once": "",
    "each position": "@*",
    "the last": "@-1",
    "a named one": "@subject",
    "one that short prompts lack": "@6",
}


@pytest.mark.parametrize("where", OVER.values(), ids=OVER)
@pytest.mark.parametrize("family", FAMILIES)
def test_patching_every_kind_of_site(opened: Open, pairs: Any, family: str, where: str) -> None:
    model, task = opened(family), pairs()
    served = {k for k in KINDS_OF_LAYERS if k in model.anatomy.layer(Site("z", 2)).places}
    assert {"resid_pre", "resid_post", "q", "k", "v", "z", "pattern", "attn_out", "mlp_act", "mlp_out"} <= served
    layers = "[*]" if where == "@-1" else "[2]"
    over = ", ".join(f"{kind}{layers}{where}" for kind in sorted(served))
    direction = "noise" if where == "@subject" else "denoise"
    metric = metric_of(task)
    found = model.sweep(task, over, direction=direction)
    agrees(found, slowly(model, task, over, "patch", metric, direction))


@pytest.mark.parametrize("edit", ["patch", "zero", "mean", halved], ids=["patch", "zero", "mean", "function"])
@pytest.mark.parametrize(
    ("family", "attention"),
    [
        ("llama", "sdpa"),
        ("gpt2", "eager"),
        *(
            pytest.param(family, attention, marks=pytest.mark.all)
            for family in ("llama", "gpt2", "gemma3_text", "gpt_neox")
            for attention in ("eager", "sdpa")
            if (family, attention) not in (("llama", "sdpa"), ("gpt2", "eager"))
        ),
    ],
)
def test_every_edit_on_every_implementation(opened: Open, pairs: Any, family: str, attention: str, edit: Any) -> None:
    model, task = opened(family, attention), pairs()
    over = (
        "resid_pre[1]@*, z[2].head[1:]@*, z[1].head[*], mlp_act[0].unit[3]@-1, v[1].head[0]@subject, k[2]@1, resid_mid[1]@2, "
        "resid_post[*]@-1, pattern[1].head[*]@-1, pattern[2].head[1], attn_out[1], mlp_out[3]@*, z[0].unit[5]@2"
    )
    if model.anatomy.stacks[""].layers[1].parallel:
        over = over.replace(", resid_mid[1]@2", "")
    sites = [s for s in over.split(", ") if "@*" not in s]
    every = [s for s in over.split(", ") if "@*" in s]
    for part in (", ".join(sites), ", ".join(every)):
        found = model.sweep(task, part, edit=edit)
        expected = slowly(model, task, part, edit, metric_of(task), "denoise")
        agrees(found, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_both_directions(opened: Open, pairs: Any, family: str) -> None:
    model, task = opened(family), pairs()
    metric = metric_of(task)
    for direction in ("denoise", "noise"):
        found = model.sweep(task, "resid_pre[*]@*", direction=direction)
        expected = slowly(model, task, "resid_pre[2]@*", "patch", metric, direction)
        agrees(replace_values(found, [s.layer == 2 for s in found.cells]), expected)
        clean, other = (
            torch.stack([metric.for_rows([i])(model.run([r]).last_logits)[0] for i, r in enumerate(side)])
            for side in (task.ids, task.contrast_ids)
        )
        base, source = (other, clean) if direction == "denoise" else (clean, other)
        assert torch.allclose(found.base, base, **EXACT)
        assert torch.allclose(found.source, source, **EXACT)
        normal = found.normalised()
        assert torch.allclose(
            normal, (found.values - base[:, None]) / (source - base)[:, None], equal_nan=True, **EXACT
        )


def test_the_whole_stream_carries_everything(opened: Open, pairs: Any) -> None:
    """Putting the source's stream in place of the base's gives the source's own number."""
    for family in ("llama", "gpt2", "gemma2", "gpt_neox"):
        found = opened(family).sweep(pairs(), "resid_pre[*], resid_post[*]")
        assert torch.allclose(found.normalised(), torch.ones(()).double(), rtol=0, atol=1e-6), family


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_prompts_of_one_length_share_their_passes(opened: Open, pairs: Any, family: str) -> None:
    model, task = opened(family, "sdpa"), pairs((6, 6, 6), ((1,), (3, 4), (2,)))
    for over in ("resid_pre[1:3]@*", "z[2].head[*]@3, k[1]@2, v[2].head[0], mlp_act[1]@4, pattern[2].head[1]@5"):
        agrees(model.sweep(task, over), slowly(model, task, over, "patch", metric_of(task), "denoise"))
        for batch in (2, 5):
            again = model.sweep(task, over, batch=batch)
            assert torch.allclose(again.values, model.sweep(task, over).values, **EXACT)


def user_metric(logits: Tensor) -> Tensor:
    return logits[:, 3] * 2 - logits[:, 4].exp()


@pytest.mark.parametrize("name", [*METRICS, "a function"])
def test_every_metric(opened: Open, pairs: Any, name: str) -> None:
    model, task = opened("llama", "sdpa"), pairs()
    metric: Any
    if name == "kl":
        metric = metric_of(task, "accuracy").against(torch.cat([model.run([ids]).last_logits for ids in task.ids]))
    else:
        metric = user_metric if name == "a function" else metric_of(task, name)
    found = model.sweep(task, "resid_pre[1]@*", metric=metric if name in ("kl", "a function") else name)
    agrees(found, slowly(model, task, "resid_pre[1]@*", "patch", metric, "denoise"))
    assert len(found.values[~found.values.isnan()].unique()) > 1


@pytest.mark.parametrize("batch", [1, 2, 7, "auto"])
def test_the_size_of_a_batch_changes_nothing(opened: Open, pairs: Any, batch: Any) -> None:
    model, task = opened("gpt2", "sdpa"), pairs()
    expected = model.sweep(task, "resid_pre[*]@*, z[*].head[*]@-1").values
    found = model.sweep(task, "resid_pre[*]@*, z[*].head[*]@-1", batch=batch).values
    assert torch.allclose(found, expected, equal_nan=True, **EXACT)


def test_a_sweep_finishes_with_hardly_any_memory(opened: Open, pairs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, task, rows = opened("llama", "sdpa"), pairs(), []
    expected = model.sweep(task, "resid_pre[*]@*")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1)
    with (
        model.anatomy.stacks[""]
        .layers[-1]
        .module.register_forward_hook(
            lambda module, args, output: rows.append((output if isinstance(output, Tensor) else output[0]).shape[0])
        )
    ):
        found = model.sweep(task, "resid_pre[*]@*")
    assert max(rows) == 1
    assert torch.allclose(found.values, expected.values, equal_nan=True, **EXACT)
    assert found.computed == expected.computed


def test_prompts_longer_than_the_sliding_window(opened: Open, pairs: Any) -> None:
    for family, attention in (("gemma2", "eager"), ("mistral", "sdpa")):
        model = opened(family, attention)
        assert model.hf.config.sliding_window == 4
        task = pairs((9,), ((2,),))
        assert tier_of(model) == "suffix"
        over = "resid_pre[1:3]@*, k[1]@2, z[*].head[1]@-1"
        for part in over.split(", "):
            expected = slowly(model, task, part, "patch", metric_of(task), "denoise")
            agrees(model.sweep(task, part), expected)


LATER = ("mixtral", "gpt_oss", "olmo2", "granite", "opt", "gptj")


@pytest.mark.parametrize(
    "family", ["qwen3_moe", "bloom", "falcon", *(pytest.param(name, marks=pytest.mark.all) for name in LATER)]
)
def test_other_families(opened: Open, pairs: Any, family: str) -> None:
    model, task = opened(family, dtype=torch.float32), pairs()
    layer = model.anatomy.stacks[""].layers[1]
    kinds = [
        k for k in ("resid_pre", "resid_mid", "z", "attn_out", "mlp_out", "mlp_in", "resid_post") if k in layer.places
    ]
    over = ", ".join(f"{kind}[1]@*" for kind in kinds)
    expected = slowly(model, task, over, "patch", metric_of(task), "denoise")
    scale = float(expected[~expected.isnan()].abs().max())
    agrees(model.sweep(task, over), expected, 2e-4 * max(1.0, scale))


@pytest.mark.parametrize("family", ["llama", pytest.param("gemma2", marks=pytest.mark.all), "bloom"])
def test_strict_is_bit_identical_to_strict_runs(opened: Open, pairs: Any, family: str) -> None:
    model, task = opened(family, dtype=torch.float32), pairs()
    for over in (
        "resid_pre[1:3]@*",
        "z[1].head[*]@-1",
        "resid_mid[2]@1, mlp_act[1]@2, resid_post[*]@subject, pattern[1].head[2]",
    ):
        sites = [s for s in over.split(", ") if Site.parse(s).kind in model.anatomy.layer(Site("z", 1)).places]
        part = ", ".join(sites)
        found = model.sweep(task, part, strict=True)
        expected = slowly(model, task, part, "patch", metric_of(task), "denoise", strict=True).float()
        assert torch.equal(found.values.nan_to_num(7e7), expected.nan_to_num(7e7))
        assert found.tier == "strict"


def test_cells_that_equal_the_base_are_not_computed(opened: Open, pairs: Any) -> None:
    model, task = opened("llama"), pairs((9,), ((4,),))
    found = model.sweep(task, "resid_pre[*]@*")
    # Before token 4 nothing differs; at layer 0 nothing but token 4 does.
    assert found.computed == 1 + 3 * 5
    base = float(found.base[0])
    for site, value in zip(found.cells, found.values[0].tolist(), strict=True):
        same = site.position < 4 or (site.layer == 0 and site.position != 4)
        assert (value == base) == same, str(site)
    unchanged = model.sweep(pairs((9, 6), ((), ())), "resid_pre[*]@*, z[*]@*")
    assert unchanged.computed == 0
    kept = model.sweep(task, "z[*].head[*]@*", edit=lambda site, value: value)
    assert kept.computed == 0
    assert bool((kept.values == kept.base[:, None]).all())


def test_a_function_cannot_harm_the_base_run(opened: Open, pairs: Any) -> None:
    def destroy(site: Site, value: Tensor) -> Tensor:
        return value.zero_()

    model, task = opened("llama"), pairs()
    expected = model.sweep(task, "z[*].head[*]@-1, resid_pre[*]@-1", edit="zero")
    found = model.sweep(task, "z[*].head[*]@-1, resid_pre[*]@-1", edit=destroy)
    assert torch.equal(found.values, expected.values)


def test_a_new_value_may_be_broadcast(opened: Open, pairs: Any) -> None:
    model, task = opened("llama"), pairs()
    expected = model.sweep(task, "z[*], resid_pre[*]@-1", edit="zero")
    found = model.sweep(task, "z[*], resid_pre[*]@-1", edit=lambda site, value: torch.zeros(1))
    assert torch.equal(found.values, expected.values)


def test_prompts_alone(opened: Open) -> None:
    model = opened("llama")
    prompts = [[5, 9, 17, 33], [7, 3, 11, 4, 8]]
    found = model.sweep(prompts, "z[1].head[*]@-1", edit="zero", metric=user_metric)
    for row, ids in enumerate(prompts):
        for head in range(4):
            run = model.run([ids], edit=ablate(f"z[1].head[{head}]@-1"))
            assert torch.allclose(found.values[row, head], user_metric(run.last_logits)[0], **EXACT)
    assert bool(found.source.isnan().all())


def test_inside_a_block_of_edits(opened: Open, pairs: Any) -> None:
    """What is edited outside stays edited in every cell."""
    model, task = opened("llama"), pairs((6,), ((1,),))
    outer = [ablate("z[1].head[0]"), ablate("mlp_out[2]")]
    over = "z[1].head[*]@*, resid_pre[*]@2, z[2].head[1]"
    with model.editing(outer):
        found = model.sweep(task, over, edit="zero", metric=user_metric)
    for column, site in enumerate(found.cells):
        expected = model.run([task.ids[0]], edit=[*outer, ablate(site)]).last_logits
        assert torch.allclose(found.values[0, column], user_metric(expected)[0], rtol=0, atol=1e-7), str(site)


def test_grid(opened: Open, pairs: Any) -> None:
    model, task = opened("llama"), pairs()
    found = model.sweep(task, "resid_pre[*]@*")
    grid = found.grid()
    assert grid.dims == ("prompt", "layer", "position")
    assert grid.shape == (2, 4, 7)
    for column, site in enumerate(found.cells):
        cell = grid.sel(layer=site.layer, position=site.position).to_numpy()
        assert np.array_equal(cell, found.values[:, column].numpy(), equal_nan=True)
    assert bool(grid.sel(prompt=1, position=slice(5, None)).isnull().all())
    heads = model.sweep(task, "z[*].head[*]@-1").grid()
    assert heads.dims == ("prompt", "layer", "head", "position")
    mixed = model.sweep(task, "attn_out[*]@end, mlp_out[*]@end")
    assert mixed.grid(mixed.normalised()).dims == ("prompt", "kind", "layer", "position")
    assert mixed.grid().coords["kind"].to_numpy().tolist() == ["attn_out", "mlp_out"]


def test_bfloat16_differs_by_rounding_only(opened: Open, pairs: Any) -> None:
    task = pairs()
    single = opened("llama", "sdpa", torch.float32).sweep(task, "resid_pre[*]@*")
    half = opened("llama", "sdpa", torch.bfloat16).sweep(task, "resid_pre[*]@*")
    assert half.values.dtype == torch.float32
    spread = single.values.nan_to_num().abs().max()
    assert (half.values - single.values).nan_to_num().abs().max() < 0.05 * spread


def test_an_encoder_is_swept_at_all_positions(opened: Open, pairs: Any) -> None:
    model, task = opened("bert", family="encoder"), pairs((7,), ((2,),))
    for over in ("resid_pre[1]@*", "z[1].head[*]@3, mlp_act[2]@4, z[*]"):
        agrees(model.sweep(task, over), slowly(model, task, over, "patch", metric_of(task), "denoise"))


ERRORS: list[tuple[type[Exception], Callable[[Model, Any], Any], str]] = [
    (PlanError, lambda m, t: m.sweep(t, "z[*]", direction="denois"), "direction is 'denois': did you mean 'denoise'?"),
    (
        PlanError,
        lambda m, t: m.sweep(t, "z[*]", edit="zro"),
        "edit is 'zro': did you mean 'zero'? Or give a function of",
    ),
    (PlanError, lambda m, t: m.sweep(t, "logits"), "'logits' cannot be swept. A sweep goes over sites of the layers"),
    (PlanError, lambda m, t: m.sweep(t, "", edit="zero"), "Nothing is named by ''"),
    (PlanError, lambda m, t: m.sweep(t, "z[*]", batch=0), "batch is 0. It is a number of rows, one or more, or"),
    (PlanError, lambda m, t: m.sweep(t, "z[*]", batch="all"), "batch is 'all'."),
    (PlanError, lambda m, t: m.sweep(t, "z[*]@-2:"), "'z[*]@-2:' counts from the end of prompts of 5 to 7 tokens."),
    (SiteError, lambda m, t: m.sweep(t, "z[9]"), "layer 9 of 'z[9]' does not exist"),
    (PlanError, lambda m, t: m.sweep(t, "router[*]"), "'router[*]' cannot be swept."),
    (
        PlanError,
        lambda m, t: m.sweep(t, "z[1].head[1]@-1", edit=lambda site, value: value[:3]),
        "The new value of 'z[1].head[1]@-1' is (3,). It has the shape of the old one, (16,).",
    ),
    (
        TaskError,
        lambda m, t: m.sweep([[1, 2, 3]], "z[*]", metric=user_metric),
        "Patching needs a contrast prompt for each prompt. Give contrasts=[...] with the task, or use edit=",
    ),
    (
        TaskError,
        lambda m, t: m.sweep([[1, 2, 3]], "z[*]", edit="zero"),
        "Prompts alone have no metric. Give a task with",
    ),
    (TaskError, lambda m, t: m.sweep(t, "z[*]", metric="kl"), "kl compares with a reference run."),
    (
        TaskError,
        lambda m, t: m.sweep(t, "z[*]", metric="logit_diference"),
        "'logit_diference' is not a metric: did you mean",
    ),
]


@pytest.mark.parametrize(("error", "act", "says"), ERRORS, ids=[says[:40] for _, _, says in ERRORS])
def test_what_is_wrong_is_said(opened: Open, pairs: Any, error: type[Exception], act: Any, says: str) -> None:
    with pytest.raises(error) as caught:
        act(opened("llama"), pairs())
    assert str(caught.value).startswith(says)


def test_contrasts_of_another_length_are_refused(opened: Open, pairs: Any) -> None:
    task = pairs()
    task.contrast_ids = (task.contrast_ids[0], task.contrast_ids[1][:-1])
    with pytest.raises(TaskError, match=r"Prompt 1 has 4 tokens, its contrast 5\. Patching puts a value where"):
        opened("llama").sweep(task, "z[*]")


def test_encoder_decoders_are_refused(opened: Open, pairs: Any) -> None:
    with pytest.raises(
        PlanError, match=r"T5ForConditionalGeneration is an encoder-decoder\. Sweeps go over models with one"
    ):
        opened("t5").sweep(pairs(), "z[*]", metric=user_metric)


@pytest.mark.all
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "family", ["qwen2", "qwen3", "phi3", "olmo2", "cohere", "starcoder2", "stablelm", "nemotron", "gemma"]
)
def test_more_families(opened: Open, pairs: Any, family: str, attention: str) -> None:
    model, task = opened(family, attention), pairs()
    served = sorted(k for k in KINDS_OF_LAYERS if k in model.anatomy.layer(Site("z", 2)).places)
    for where in ("@*", "", "@-1"):
        over = ", ".join(f"{kind}[2]{where}" for kind in served)
        agrees(model.sweep(task, over), slowly(model, task, over, "patch", metric_of(task), "denoise"))


def test_spans_of_positions(opened: Open, pairs: Any) -> None:
    task = pairs()
    found = opened("llama").sweep(task, "resid_pre[1]@2:5")
    assert found.cells == tuple(Site("resid_pre", 1, position=p) for p in (2, 3, 4))
    assert Span(2, 5).indices(9) == [2, 3, 4]


def test_of_the_last_mlp_only_the_end_is_computed(opened: Open, pairs: Any) -> None:
    model, task, seen = opened("llama", "sdpa"), pairs(), []
    model.sweep(task, "resid_pre[0]@0")  # finds out once what this network allows
    mlp = model.anatomy.stacks[""].layers[-1].places["mlp_in"].module
    with mlp.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape))):
        found = model.sweep(task, "resid_pre[*]@*, mlp_in[*]@*")
        model.sweep(task, "resid_pre[1]@*")
    assert {shape[1] for shape in seen} > {1}  # what is recorded, and what is written inside it, is whole
    assert seen[-1][1] == 1
    expected = model.sweep(task, "resid_pre[*]@*, mlp_in[*]@*", strict=True)
    assert torch.allclose(found.values, expected.values, equal_nan=True, **EXACT)
