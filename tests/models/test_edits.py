"""Every edit equals a hook that somebody wrote by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import cutaway.core.edit as ca
from cutaway.core.errors import PlanError, SiteError
from cutaway.core.site import KINDS, Site
from cutaway.models.model import Model

Open = Callable[..., Model]
ALONE = [5, 9, 17, 33, 2, 8, 40, 3, 21]
RAGGED = [ALONE, [7, 3, 11, 4], [12, 13, 14, 15, 16, 17]]
VECTOR = torch.linspace(-2, 3, 32, dtype=torch.float64)
pytestmark = pytest.mark.usefixtures("double_throughout")


@contextlib.contextmanager
def hooked(module: torch.nn.Module, change: Callable[[Tensor], Tensor], *, entering: bool = False) -> Iterator[None]:
    """A torch hook: what a user of plain transformers would write."""

    def before(module: Any, args: Any) -> Any:
        return (change(args[0].clone()), *args[1:])

    def after(module: Any, args: Any, output: Any) -> Any:
        first = output if isinstance(output, Tensor) else output[0]
        new = change(first.clone())
        return new if isinstance(output, Tensor) else (new, *output[1:])

    hook = module.register_forward_pre_hook(before) if entering else module.register_forward_hook(after)
    try:
        yield
    finally:
        hook.remove()


def logits_of(model: Model, ids: list[int]) -> Tensor:
    with torch.no_grad():
        return model.hf(torch.tensor([ids])).logits


def put(value: Tensor, index: Any, new: Any) -> Tensor:
    value[index] = new
    return value


def turned(value: Tensor) -> Tensor:
    direction = VECTOR / VECTOR.norm()
    return value - (value @ direction)[..., None] * direction


CHANGES: dict[str, tuple[Callable[[], ca.Edit | list[ca.Edit]], Callable[[Tensor], Tensor]]] = {
    "zero": (lambda: ca.ablate("resid_post[1]"), torch.zeros_like),
    "zero at the last": (lambda: ca.ablate("resid_post[1]@-1"), lambda v: put(v, (0, -1), 0)),
    "zero at a slice": (lambda: ca.ablate("resid_post[1]@2:6:2"), lambda v: put(v, (0, slice(2, 6, 2)), 0)),
    "zero from the end": (lambda: ca.ablate("resid_post[1]@-3:"), lambda v: put(v, (0, slice(-3, None)), 0)),
    "zero from beyond the start": (lambda: ca.ablate("resid_post[1]@-30:2"), lambda v: put(v, (0, slice(0, 2)), 0)),
    "zero one unit": (lambda: ca.ablate("resid_post[1].unit[7]@3"), lambda v: put(v, (0, 3, 7), 0)),
    "zero two units": (
        lambda: ca.ablate("resid_post[1].unit[7:9]"),
        lambda v: put(v, (0, slice(None), slice(7, 9)), 0),
    ),
    "add": (lambda: ca.add("resid_post[1]", VECTOR, scale=-1.5), lambda v: v - 1.5 * VECTOR),
    "add at a name": (lambda: ca.add("resid_post[1]@subject", VECTOR), lambda v: put(v, (0, 4), v[0, 4] + VECTOR)),
    "scale": (lambda: ca.scale("resid_post[1]", 0.3), lambda v: v * 0.3),
    "replace": (lambda: ca.replace("resid_post[1]@5", VECTOR), lambda v: put(v, (0, 5), VECTOR)),
    "replace all": (lambda: ca.replace("resid_post[1]", VECTOR), lambda v: VECTOR.expand_as(v)),
    "project out": (lambda: ca.project_out("resid_post[1]", VECTOR), turned),
    "apply": (lambda: ca.apply("resid_post[1]", torch.relu), torch.relu),
    "apply at one": (lambda: ca.apply("resid_post[1]@2", torch.relu), lambda v: put(v, (0, 2), v[0, 2].relu())),
    "in order": (
        lambda: [ca.add("resid_post[1]", VECTOR), ca.scale("resid_post[1]", 2.0), ca.ablate("resid_post[1].unit[0]")],
        lambda v: put((v + VECTOR) * 2, (0, slice(None), 0), 0),
    ),
    "in the other order": (
        lambda: [ca.scale("resid_post[1]", 2.0), ca.add("resid_post[1]", VECTOR)],
        lambda v: v * 2 + VECTOR,
    ),
    "nothing": (list, lambda v: v),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_each_operation_equals_a_hook(opened: Open, family: str, name: str) -> None:
    model = opened(family)
    edit, change = CHANGES[name]
    with hooked(model.anatomy.stacks[""].layers[1].module, change):
        expected = logits_of(model, ALONE)
    run = model.run([ALONE], edit=edit(), positions={"subject": [4]})
    assert torch.allclose(run.logits, expected, rtol=0, atol=0 if name != "project out" else 1e-12)
    # The next layer's stream is the same place.
    entering = [ca.Edit(**{**vars(e), "site": Site("resid_pre", 2, e.site.head, e.site.unit, None, e.site.position)})
                for e in ca.edits_of(edit())]  # fmt: skip
    assert torch.equal(model.run([ALONE], edit=entering, positions={"subject": [4]}).logits, run.logits)


def test_heads_equal_columns_of_the_output_projection(opened: Open) -> None:
    model = opened("llama", "sdpa")
    attention = model.hf.model.layers[2].self_attn
    n = attention.head_dim

    def zeroed(value: Tensor) -> Tensor:
        return put(value, (0, slice(None), slice(n, 3 * n)), 0)

    with hooked(attention.o_proj, zeroed, entering=True):
        expected = logits_of(model, ALONE)
    assert torch.equal(model.run([ALONE], edit=ca.ablate("z[2].head[1:3]")).logits, expected)
    one_by_one = [ca.ablate("z[2].head[1]"), ca.ablate("z[2].head[2]")]
    assert torch.equal(model.run([ALONE], edit=one_by_one).logits, expected)
    weight = attention.o_proj.weight.data.clone()
    try:
        attention.o_proj.weight.data[:, n : 3 * n] = 0
        assert torch.allclose(logits_of(model, ALONE), expected, atol=1e-12)
    finally:
        attention.o_proj.weight.data.copy_(weight)


def test_keys_are_shared_among_query_heads(opened: Open) -> None:
    """Head 0 of k is what query heads 0 and 1 look at; each may be given keys of its own."""
    model = opened("llama")
    clean = model.run([ALONE], read="scores[1]")["scores[1]"]
    shared = model.run([ALONE], edit=ca.ablate("k[1].head[0]"), read="scores[1]")["scores[1]"]
    seen = torch.ones(9, 9, dtype=torch.bool).tril()
    assert bool((shared[:, :2][..., seen] == 0).all())
    assert torch.equal(shared[:, 2:], clean[:, 2:])
    own = model.run([ALONE], edit=ca.ablate("k_per_query_head[1].head[1]"), read="scores[1]")["scores[1]"]
    assert bool((own[:, 1][..., seen] == 0).all())
    others = [0, 2, 3]
    assert torch.allclose(own[:, others][..., seen], clean[:, others][..., seen], atol=1e-12)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_patterns_and_scores_are_written(opened: Open, attention: str) -> None:
    model = opened("llama", attention)
    clean = model.run([ALONE], read="pattern[1], v_per_query_head[1], z[1]")
    uniform = torch.ones(9, 9).double().tril() / torch.arange(1, 10)[:, None]
    run = model.run([ALONE], edit=ca.replace("pattern[1].head[2]", uniform), read="z[1], pattern[1]")
    values = clean["v_per_query_head[1].head[2]"][0]
    assert torch.allclose(run["z[1].head[2]"][0], uniform @ values, atol=1e-12)
    assert torch.equal(run["pattern[1].head[2]"][0], uniform)
    for head in (0, 1, 3):
        assert torch.allclose(run["z[1]"][:, :, head], clean["z[1]"][:, :, head], atol=1e-12)
    # A key that is hidden: minus infinity in the scores, zero in the pattern.
    hidden = model.run(
        [ALONE], edit=ca.apply("scores[1]", lambda s: s.index_fill(-1, torch.tensor(2), -1e9)), read="pattern[1]"
    )
    pattern = hidden["pattern[1]"][0]
    assert bool((pattern[:, 3:, 2] == 0).all())
    kept = clean["pattern[1]"][0].clone()
    kept[..., 2] = 0
    assert torch.allclose(pattern[:, 3:], (kept / kept.sum(-1, keepdim=True))[:, 3:], atol=1e-12)


WRITABLE = [kind for kind, (part, _) in KINDS.items() if part != "experts"]


@pytest.mark.parametrize("kind", WRITABLE)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "granite", "falcon"])
def test_what_is_written_is_read_back_and_acts(opened: Open, family: str, kind: str) -> None:
    model = opened(family)
    site = kind if KINDS[kind][0] == "ends" else f"{kind}[1]"
    if "[" in site and kind not in model.anatomy.layer(Site.parse(site)).places:
        pytest.skip("refused here")
    clean = model.run(RAGGED, read=site)
    same = model.run(RAGGED, edit=ca.patch(site, clean), read=site)
    assert torch.allclose(same.last_logits, clean.last_logits, atol=1e-10), "writing back what was read changes nothing"
    other = clean[site] * 0.5
    changed = model.run(RAGGED, edit=ca.scale(site, 0.5), read=site)
    real = [(row, len(ids)) for row, ids in enumerate(RAGGED)]
    axis = Site.parse(site).dims.index("query" if "query" in Site.parse(site).dims else "position") - 1
    for row, n in real:
        ours, theirs = (t[row].narrow(axis, 0, n) for t in (changed[site], other))
        assert torch.allclose(ours, theirs.to(ours), atol=1e-12), site
    assert not torch.allclose(changed.last_logits, clean.last_logits, atol=1e-6), "the change reaches the logits"


def test_parts_that_stand_between_norms(opened: Open) -> None:
    """With norms after each branch, `attn_out` and what is really added are two places."""
    model = opened("gemma2")
    read = "attn_out[1], attn_contrib[1], resid_mid[1], resid_pre[1]"
    out = model.run([ALONE], edit=ca.scale("attn_out[1]", 3.0), read=read)
    clean = model.run([ALONE], read=read)
    assert torch.allclose(out["attn_contrib[1]"], clean["attn_contrib[1]"], atol=1e-3)  # the norm undoes a factor
    contribution = model.run([ALONE], edit=ca.scale("attn_contrib[1]", 3.0), read=read)
    assert torch.allclose(
        contribution["resid_mid[1]"], clean["resid_pre[1]"] + 3 * clean["attn_contrib[1]"], atol=1e-12
    )


@pytest.mark.parametrize("family", ["llama", "gpt2", "granite"])
def test_edits_at_one_place_after_the_other(opened: Open, family: str) -> None:
    """What is read or changed further on sees what was changed before it."""
    model = opened(family)
    edits = [ca.ablate("attn_out[1]"), ca.add("attn_contrib[1]", VECTOR), ca.add("resid_mid[1]", VECTOR)]
    for order in (edits, edits[::-1]):
        run = model.run([ALONE], edit=order, read="attn_out[1], attn_contrib[1], resid_mid[1], resid_pre[1]")
        assert bool((run["attn_out[1]"] == 0).all()) or model.hf.config.model_type == "granite"
        assert torch.allclose(run["resid_mid[1]"], run["resid_pre[1]"] + 2 * VECTOR, atol=1e-12)


def test_the_stream_in_the_middle_keeps_bits_where_nothing_changes(opened: Open) -> None:
    model = opened("granite", dtype=torch.bfloat16)
    clean = model.run([ALONE]).logits
    edit = ca.apply("resid_mid[1]@3", lambda value: value)
    assert torch.equal(model.run([ALONE], edit=edit).logits, clean)


# --- values for each prompt, sources, means -----------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, "auto"])
def test_one_value_for_each_prompt(opened: Open, batch: Any) -> None:
    model = opened("llama")
    values = torch.arange(3.0)[:, None] * VECTOR
    for site, per_prompt in (
        ("resid_post[1]@-1", values),
        ("resid_post[1]", values[:, None]),
        ("z[1].head[2]@1", values[:, :16]),
    ):
        run = model.run(RAGGED, edit=ca.add(site, per_prompt), batch=batch)
        for row, ids in enumerate(RAGGED):
            alone = model.run([ids], edit=ca.add(site, per_prompt[row]))
            assert torch.allclose(run.last_logits[row], alone.last_logits[0], atol=1e-10), site


@pytest.mark.parametrize("batch", [1, 2, "auto"])
@pytest.mark.parametrize(
    "site", ["resid_pre[2]", "z[1].head[2]", "resid_pre[2]@-1", "pattern[1]", "resid_pre[*]@1", "k[1]@:3"]
)
def test_patching_from_another_run(opened: Open, site: str, batch: Any) -> None:
    model = opened("llama")
    others = [[i + 20 for i in ids] for ids in RAGGED]
    source = model.run(others, read=Site.parse(site).at(None))
    run = model.run(RAGGED, edit=ca.patch(site, source), batch=batch)
    for row, (ids, other) in enumerate(zip(RAGGED, others, strict=True)):
        one = model.run([other], read=Site.parse(site).at(None))
        alone = model.run([ids], edit=ca.patch(site, one))
        assert torch.allclose(run.last_logits[row], alone.last_logits[0], atol=1e-10)
    if site == "resid_pre[2]":
        assert torch.allclose(run.last_logits, source.last_logits, atol=1e-10)


def test_patching_from_elsewhere(opened: Open) -> None:
    model = opened("llama")
    source = model.run([ALONE], read="resid_post[*]")
    run = model.run([ALONE], edit=ca.patch("resid_pre[1]@2", source, at="resid_post[3]@5"), read="resid_pre[1]")
    assert torch.equal(run["resid_pre[1]@2"], source["resid_post[3]@5"])
    moved = model.run(
        [ALONE], edit=ca.patch("z[1].head[0]", model.run([ALONE], read="z[2]"), at="z[2].head[3]"), read="z[1]"
    )
    assert torch.equal(moved["z[1].head[0]"], model.run([ALONE], read="z[2]")["z[2].head[3]"])


def test_means_leave_padding_out(opened: Open) -> None:
    model = opened("llama")
    alone = [model.run([ids], read="z[1], pattern[1], resid_post[2]") for ids in RAGGED]
    mean = torch.cat([run["z[1]"][0] for run in alone]).mean(0)
    for options in ({}, {"reference": model.run(RAGGED, read="z[1]")}):
        run = model.run(RAGGED, edit=ca.ablate("z[1]", "mean", **options), read="z[1]")
        for row, ids in enumerate(RAGGED):
            assert torch.allclose(run["z[1]"][row, : len(ids)], mean.expand(len(ids), -1, -1), atol=1e-12)
    one = model.run(RAGGED, edit=ca.ablate("z[1].head[2]@-1", "mean"), read="z[1]")
    assert torch.allclose(one["z[1].head[2]@-1"], mean[2].expand(3, -1), atol=1e-12)
    pattern = model.run(RAGGED, edit=ca.ablate("pattern[1]", "mean"), read="pattern[1]")["pattern[1]"]
    for row, ids in enumerate(RAGGED):
        for query in range(len(ids)):
            able = [a["pattern[1]"][0, :, query, : query + 1] for a in alone if a["pattern[1]"].shape[-1] > query]
            assert torch.allclose(pattern[row, :, query, : query + 1], torch.stack(able).mean(0), atol=1e-12)
    reference = model.run([ALONE[::-1]], read="resid_post[2]")
    taken = model.run(RAGGED, edit=ca.ablate("resid_post[2]@1", "mean", reference=reference), read="resid_post[2]@1")
    assert torch.allclose(taken["resid_post[2]@1"], reference["resid_post[2]"][0].mean(0).expand(3, -1), atol=1e-12)


def test_the_mean_of_experts(opened: Open) -> None:
    model = opened("qwen3_moe", dtype=torch.float32)
    experts = model.anatomy.stacks[""].layers[1].n_experts
    prompts = [list(range(5, 5 + experts))]  # as many tokens as experts: dimensions that could be mixed up
    clean = model.run(prompts, read="expert_out[1]")["expert_out[1]"]
    run = model.run(prompts, edit=ca.ablate("expert_out[1]", "mean"), read="expert_out[1]")["expert_out[1]"]
    assert torch.allclose(run, clean.mean(2, keepdim=True).expand_as(clean), atol=1e-6)


def test_resampling_draws_from_another_prompt(opened: Open) -> None:
    model = opened("llama")
    even = [[i + 9 * k for i in range(5)] for k in range(5)]
    clean = model.run(even, read="z[1]")["z[1]"]
    seen = set()
    for seed in range(6):
        for batch in (1, "auto"):
            run = model.run(even, edit=ca.ablate("z[1]", "resample", seed=seed), read="z[1]", batch=batch)["z[1]"]
            drawn = [next(i for i, one in enumerate(clean) if torch.allclose(one, row, atol=1e-9)) for row in run]
            assert sorted(drawn) == list(range(5))
            assert all(i != row for row, i in enumerate(drawn))
            seen.add(tuple(drawn))
    assert len(seen) > 1
    reference = model.run([[50, 51, 52, 53, 54], [60, 61, 62, 63, 64]], read="z[1]")
    run = model.run(even, edit=ca.ablate("z[1]", "resample", reference=reference), read="z[1]")["z[1]"]
    assert all(any(torch.equal(row, one) for one in reference["z[1]"]) for row in run)


def test_resampling_never_draws_padding(opened: Open) -> None:
    model = opened("llama")
    prompts = [ALONE, [i + 30 for i in ALONE], [7, 3, 11, 4]]
    clean = model.run(prompts, read="z[1]")["z[1]"]
    for seed in range(5):
        run = model.run(prompts, edit=ca.ablate("z[1]", "resample", seed=seed), read="z[1]")["z[1]"]
        assert torch.equal(run[0], clean[1])
        assert torch.equal(run[1], clean[0])
        assert any(torch.equal(run[2, :4], clean[i, :4]) for i in (0, 1))
    with pytest.raises(PlanError) as caught:
        model.run(RAGGED, edit=ca.ablate("z[1]", "resample"))
    assert str(caught.value).startswith(
        "'resample z[1]' finds no other prompt with the 9 tokens of prompt 0 to draw from."
    )
    anywhere = model.run(RAGGED, edit=ca.ablate("z[1]@-1", "resample"), read="z[1]@-1")
    ends = model.run(RAGGED, read="z[1]@-1")["z[1]@-1"]
    assert all(any(torch.equal(row, one) for one in ends) for row in anywhere["z[1]@-1"])


@pytest.mark.parametrize("batch", [1, 2, 4, "auto"])
def test_a_grid_of_scales_is_rows(opened: Open, batch: Any) -> None:
    model = opened("llama")
    scales = [-2.0, 0.0, 0.5]
    edits = [
        ca.add("resid_post[1]@-1", VECTOR, scale=scales),
        ca.scale("z[2].head[0]", [1, 2, 3]),
        ca.ablate("mlp_out[0]@1"),
    ]
    run = model.run(RAGGED, edit=edits, read="resid_post[3]@-1", batch=batch)
    assert run.rows == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    for row, prompt in enumerate(run.rows):
        one = [
            ca.add("resid_post[1]@-1", VECTOR, scale=scales[row % 3]),
            ca.scale("z[2].head[0]", 1 + row % 3),
            ca.ablate("mlp_out[0]@1"),
        ]
        alone = model.run([RAGGED[prompt]], edit=one, read="resid_post[3]@-1")
        assert torch.allclose(run.last_logits[row], alone.last_logits[0], atol=1e-10)
        assert torch.allclose(run["resid_post[3]@-1"][row], alone["resid_post[3]@-1"][0], atol=1e-10)


def test_values_are_taken_to_the_networks_type(opened: Open) -> None:
    model = opened("llama", dtype=torch.float32)
    run = model.run([ALONE], edit=ca.add("resid_post[1]", VECTOR), read="resid_post[1]")
    assert run["resid_post[1]"].dtype == torch.float32


def test_experts_add_up(opened: Open) -> None:
    model = opened("qwen3_moe", dtype=torch.float32)
    clean = model.run([ALONE], read="expert_out[1], mlp_out[1], router[1]")
    assert torch.allclose(clean["expert_out[1]"].sum(1), clean["mlp_out[1]"], atol=1e-5)
    used = int(clean["expert_out[1]"][0, :, -1].norm(dim=-1).argmax())
    run = model.run([ALONE], edit=ca.ablate(f"expert_out[1].expert[{used}]@-1"), read="mlp_out[1]@-1")
    expected = clean["mlp_out[1]@-1"] - clean[f"expert_out[1].expert[{used}]@-1"]
    assert torch.allclose(run["mlp_out[1]@-1"], expected, atol=1e-5)
    routed = model.run(
        [ALONE], edit=ca.add("router[1].expert[0]", torch.tensor(100.0)), read="expert_out[1].expert[0], router[1]"
    )
    assert torch.allclose(routed["router[1]"][..., 0], clean["router[1]"][..., 0] + 100, atol=1e-4)
    assert bool((routed["expert_out[1].expert[0]"].norm(dim=-1) > 0).all())


# --- edits of a block ---------------------------------------------------------------------------------------------


def test_a_block_of_edits_is_a_run_with_edits(opened: Open, untouched: Any) -> None:
    model = opened("llama", "sdpa")
    edits = [ca.ablate("z[1].head[0]@-2"), ca.add("resid_post[2]", VECTOR), ca.scale("mlp_out[0]@2", 0.0)]
    expected = model.run([ALONE], edit=edits).logits
    for options in ({"lengths": [9]}, {"prompts": [ALONE]}):
        with model.editing(edits, **options) as inside:
            assert inside is model
            assert torch.equal(logits_of(model, ALONE), expected)
    assert not torch.equal(logits_of(model, ALONE), expected)
    untouched(model)
    expected = model.run([ALONE], edit=ca.ablate("z[1]", "mean")).logits
    with model.editing(ca.ablate("z[1]", "mean"), prompts=[ALONE]):
        assert torch.equal(logits_of(model, ALONE), expected)


def test_blocks_of_edits_add_up(opened: Open, untouched: Any) -> None:
    model = opened("llama", "sdpa")
    outer, inner = ca.ablate("z[1].head[0]"), ca.ablate("z[1].head[1]")
    expected = model.run([ALONE], edit=[outer, inner], read="z[1]")
    with model.editing(outer):
        run = model.run([ALONE], edit=inner, read="z[1]")
        assert torch.equal(run.logits, expected.logits)
        assert torch.equal(run["z[1]"], expected["z[1]"])
        assert bool((model.run([ALONE], read="z[1]")["z[1].head[0]"] == 0).all())
        with model.editing(inner):
            assert torch.equal(logits_of(model, ALONE), expected.logits)
        assert torch.equal(logits_of(model, ALONE), model.run([ALONE]).logits)
    untouched(model)
    with pytest.raises(ZeroDivisionError), model.editing(outer):
        raise ZeroDivisionError
    untouched(model)


def test_a_mixture_of_experts_without_lengths(opened: Open) -> None:
    model = opened("qwen3_moe", dtype=torch.float32)
    for edit in (
        ca.scale("mlp_out[1]", 2.0),
        ca.scale("router[1].expert[0]", 3.0),
        ca.ablate("expert_out[1].expert[1]"),
    ):
        expected = model.run([ALONE], edit=edit).logits
        with model.editing(edit):
            assert torch.equal(logits_of(model, ALONE), expected)
        assert not torch.equal(logits_of(model, ALONE), expected)


# --- what is refused ----------------------------------------------------------------------------------------------


def _run_of(model: Model, prompts: Any, site: str) -> Any:
    return model.run(prompts, read=site)


ERRORS: list[tuple[type[Exception], Callable[[Model], Any], str]] = [
    (
        PlanError,
        lambda m: m.run(RAGGED, edit=ca.add("resid_post[1]@-1", torch.ones(2, 32))),
        "'add resid_post[1]@-1' holds values for 2 prompts, the run has 3. Give one value for all, or one for each prompt.",
    ),
    (
        PlanError,
        lambda m: m.run([ALONE], edit=ca.patch("resid_pre[1]", _run_of(m, [ALONE] * 2, "resid_pre[1]"))),
        "'replace resid_pre[1]' holds values for 2 prompts, the run has 1.",
    ),
    (
        PlanError,
        lambda m: m.run([ALONE], edit=ca.add("resid_post[1]@-1", torch.ones(31))),
        "The values of 'add resid_post[1]@-1' have the shape (31,), which does not fit (1, 32) (prompt, d_model).",
    ),
    (
        PlanError,
        lambda m: m.run([ALONE], edit=ca.replace("resid_post[1]", torch.ones(4, 32))),
        "'replace resid_post[1]' holds values for 4 positions, where the run has 9. Give one value for all positions,",
    ),
    (
        PlanError,
        lambda m: m.run([ALONE[:3]], edit=ca.patch("resid_pre[1]", _run_of(m, [ALONE], "resid_pre[1]"))),
        "'replace resid_pre[1]' takes the values of 9 tokens for prompt 0, which has 3. At all positions, both runs need",
    ),
    (
        PlanError,
        lambda m: m.run([ALONE] * 3, edit=ca.patch("z[1]", _run_of(m, RAGGED, "z[1]"))),
        "'replace z[1]' takes the values of 4 tokens for prompt 1, which has 9.",
    ),
    (
        SiteError,
        lambda m: m.run([ALONE], edit=ca.patch("resid_pre[1]", _run_of(m, [ALONE], "resid_pre[2]"))),
        "'resid_pre[1]' was not read in this run. It has: resid_pre[2].",
    ),
    (
        PlanError,
        lambda m: m.run([ALONE], edit=[ca.scale("z[1]", [1, 2]), ca.scale("z[2]", [1, 2, 3])]),
        "The edits have 2 and 3 scales. Give all of them the same number of scales.",
    ),
    (
        PlanError,
        lambda m: m.run([ALONE], edit=ca.apply("z[1]", lambda value: value[0])),
        "The function of 'apply z[1]' returned (9, 4, 16). It got (1, 9, 4, 16) and must return that shape.",
    ),
    (
        PlanError,
        lambda m: m.run([ALONE], edit=ca.ablate("z[1]", "resample")),
        "'resample z[1]' draws from 1 prompt. Resampling needs two prompts or more to draw from. Give a reference run:",
    ),
    (
        PlanError,
        lambda m: m.run([ALONE], edit=ca.project_out("resid_pre[1]", torch.zeros(32))),
        "The direction of 'project_out resid_pre[1]' is zero. A direction has a length.",
    ),
    (
        PlanError,
        lambda m: m.run(RAGGED, edit=ca.ablate("pattern[1]@-1", "mean")),
        "'pattern[1]@-1' is another query in each prompt, and a mean of scores or patterns is taken query by query.",
    ),
    (PlanError, lambda m: m.run([ALONE], edit=["z[1]"]), "'z[1]' is not an edit."),
    (
        PlanError,
        lambda m: m.editing(ca.ablate("z[1]@-1")).__enter__(),
        "An edit at one position needs to know where the prompts end. Write model.editing(edits, prompts=[...]) or",
    ),
    (
        PlanError,
        lambda m: m.editing(ca.ablate("z[1]", "mean")).__enter__(),
        "A mean or resampled value needs prompts to take it from. Give prompts= or a reference= run.",
    ),
    (
        PlanError,
        lambda m: m.editing(ca.scale("z[1]", [1, 2]), lengths=[9]).__enter__(),
        "'scale z[1] × 1, 2' has 2 scales, which are rows of a batch. While a network is called directly, an edit has one",
    ),
    (
        PlanError,
        lambda m: m.editing(ca.ablate("logits")).__enter__(),
        "'zero logits' changes the logits, which the caller gets as they leave the network.",
    ),
]


@pytest.mark.parametrize(("error", "act", "says"), ERRORS, ids=[says[:50] for _, _, says in ERRORS])
def test_what_is_wrong_is_said(opened: Open, untouched: Any, error: type[Exception], act: Any, says: str) -> None:
    model = opened("llama")
    with pytest.raises(error) as caught:
        act(model)
    assert str(caught.value).startswith(says)
    untouched(model)


def test_the_stream_before_the_mlp_of_a_decoder(opened: Open) -> None:
    """There, what attention and what cross-attention add stand before it."""
    model, said = opened("t5"), [[1, 7, 9]]
    read = "resid_mid[1], mlp_contrib[1], resid_post[1]"
    clean = model.run([ALONE], read=read, decoder=said)
    run = model.run([ALONE], edit=ca.add("resid_mid[1]@1", VECTOR), read=read, decoder=said)
    moved = clean["resid_mid[1]"].clone()
    moved[:, 1] += VECTOR
    assert torch.allclose(run["resid_mid[1]"], moved, atol=1e-10)
    assert torch.allclose(run["resid_post[1]"], moved + run["mlp_contrib[1]"], atol=1e-10)
