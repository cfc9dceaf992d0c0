"""Gradients at sites are those of autograd, and no weight gets one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cutaway.core.edit import ablate, add, apply
from cutaway.core.errors import PlanError, SiteError
from cutaway.core.site import KINDS, Site
from cutaway.models.metric import Metric
from cutaway.models.model import Model

Open = Callable[..., Model]
ALONE = [5, 9, 17, 33, 2, 8, 40, 3, 21]
RAGGED = [ALONE, [7, 3, 11, 4], [12, 13, 14, 15, 16, 17]]
pytestmark = pytest.mark.usefixtures("double_throughout")


def difference(logits: Tensor) -> Tensor:
    return logits[:, 3] - 2 * logits[:, 4] + logits[:, 5].tanh()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_neox", "mamba"])
def test_gradients_of_embeddings_are_autograds(opened: Open, family: str) -> None:
    model = opened(family)
    run = model.grad(RAGGED, difference, at="embed")
    for row, ids in enumerate(RAGGED):
        leaf = model.hf.get_input_embeddings()(torch.tensor([ids])).detach()
        assert torch.allclose(run["embed"][row, : len(ids)], leaf[0])
        leaf.requires_grad_(True)
        logits = model.hf(inputs_embeds=leaf).logits
        (expected,) = torch.autograd.grad(difference(logits[:, -1]).sum(), leaf)
        assert torch.allclose(run.grad("embed")[row, : len(ids)], expected[0], atol=1e-9)
        assert bool((run.grad("embed")[row, len(ids) :] == 0).all())
        assert torch.allclose(run.metric[row], difference(logits[:, -1])[0].detach(), atol=1e-10)


LATER = [pytest.param(name, marks=pytest.mark.all) for name in ("gpt2", "gemma3_text", "gpt_neox")]
KINDS_WITH_GRADIENTS = [kind for kind, (part, _) in KINDS.items() if part != "experts"]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["llama", "granite", *LATER])
def test_every_gradient_is_the_slope_of_an_edit(opened: Open, family: str, attention: str) -> None:
    """A small step at a site changes the metric by gradient times step: by central differences, in double precision."""
    model, generator = opened(family, attention), torch.Generator().manual_seed(1)
    for kind in KINDS_WITH_GRADIENTS:
        site = kind if KINDS[kind][0] == "ends" else f"{kind}[2]"
        if "[" in site and kind not in model.anatomy.layer(Site.parse(site)).places:
            continue
        run = model.grad([ALONE], difference, at=site)
        gradient = run.grad(site)
        step = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        if kind == "scores":
            step = step.tril()
        eps = 1e-4
        up, down = (
            model.run([ALONE], edit=add(site, step, scale=sign * eps), metric=difference, logits="last").metric
            for sign in (1, -1)
        )
        slope = float((up - down) / (2 * eps))
        assert slope == pytest.approx(float((gradient.double() * step).sum()), rel=2e-4, abs=1e-7), (family, kind)
        assert abs(slope) > 1e-8, (family, kind)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", ["llama", pytest.param("gemma3_text", marks=pytest.mark.all), "granite", "bloom"])
def test_sites_together_and_alone_agree(opened: Open, family: str, attention: str) -> None:
    """The gradient at a site does not depend on which other sites are asked for."""
    if family == "bloom" and attention == "sdpa":
        pytest.skip("bloom has its own attention")
    model = opened(family, attention)
    served = model.anatomy.layer(Site("resid_pre", 1)).places
    sites = [f"{kind}[{layer}]" for layer in (0, 1) for kind in KINDS_WITH_GRADIENTS if kind in served]
    sites += ["embed", "final", "logits"]
    together = model.grad(RAGGED, difference, at=sites)
    for site in sites:
        alone = model.grad(RAGGED, difference, at=site)
        assert torch.allclose(together.grad(site), alone.grad(site), atol=1e-9), site
        assert alone.grad(site).abs().max() > 0, site
        assert torch.allclose(together[site], alone[site], atol=1e-10), site


def test_the_stream_by_hand(opened: Open) -> None:
    """The last layer's stream: only the final norm and the unembedding follow."""
    model = opened("llama")
    run = model.grad([ALONE], difference, at="resid_post[3], final, logits@-1")
    leaf = run["resid_post[3]"].clone().requires_grad_(True)
    logits = model.hf.lm_head(model.hf.model.norm(leaf))[:, -1]
    (expected,) = torch.autograd.grad(difference(logits).sum(), leaf)
    assert torch.allclose(run.grad("resid_post[3]"), expected, atol=1e-12)
    direct = run.grad("logits@-1")[0]
    slope = 1 - run["logits@-1"][0, 5].tanh() ** 2
    assert torch.allclose(direct[[3, 4, 5]], torch.stack([torch.ones(()), -2 * torch.ones(()), slope]).double())
    assert int((direct != 0).sum()) == 3
    assert torch.allclose(run.grad("final")[0, -1], model.W_U @ direct, atol=1e-12)


def test_parts_batches_and_positions(opened: Open) -> None:
    model = opened("gpt2", "sdpa")
    whole = model.grad(RAGGED, difference, at="z[*], resid_pre[1]")
    for batch in (1, 2, "auto"):
        parts = model.grad(RAGGED, difference, at="z[1].head[2]@-1, z[*].head[0], resid_pre[1]@subject", batch=batch,
                           positions={"subject": [8, 0, 3]})  # fmt: skip
        assert torch.allclose(parts.grad("z[1].head[2]@-1"), whole.grad("z[1].head[2]@-1"), atol=1e-10)
        assert torch.allclose(
            parts.grad("resid_pre[1]@subject"), whole.grad("resid_pre[1]")[[0, 1, 2], [8, 0, 3]], atol=1e-10
        )
        for row, ids in enumerate(RAGGED):
            ours, theirs = (run.grad("z[3].head[0]")[row, : len(ids)] for run in (parts, whole))
            assert torch.allclose(ours, theirs, atol=1e-10)


def test_gradients_with_edits(opened: Open) -> None:
    model = opened("llama")
    edits = [ablate("z[2].head[1]"), add("resid_post[1]@-1", torch.ones(32))]
    run = model.grad([ALONE], difference, at="resid_pre[1]", edit=edits, read="z[2]")
    assert bool((run["z[2].head[1]"] == 0).all())
    leaf = model.run([ALONE], read="resid_pre[1]")["resid_pre[1]"]

    def at(stream: Tensor) -> Tensor:
        return model.run([ALONE], edit=[apply("resid_pre[1]", lambda _: stream), *edits], metric=difference).metric

    step = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slope = (at(leaf + 1e-4 * step) - at(leaf - 1e-4 * step)) / 2e-4
    assert float(slope) == pytest.approx(float((run.grad("resid_pre[1]") * step).sum()), rel=1e-5)
    cut = model.grad([ALONE], difference, at="resid_pre[0], z[1]", edit=ablate("resid_post[2]"))
    assert bool((cut.grad("resid_pre[0]") == 0).all()), "nothing goes through a stream that is zero"
    assert bool((cut.grad("z[1]") == 0).all())


def test_gradients_of_a_grid_of_scales(opened: Open) -> None:
    model = opened("llama")
    edit = add("resid_post[1]", torch.ones(32), scale=[0, 2])
    run = model.grad(RAGGED, difference, at="resid_pre[0]", edit=edit)
    alone = model.grad([RAGGED[1]], difference, at="resid_pre[0]", edit=add("resid_post[1]", torch.ones(32), scale=2))
    assert torch.allclose(run.grad("resid_pre[0]")[3, :4], alone.grad("resid_pre[0]")[0], atol=1e-10)


def test_metrics_of_tasks(opened: Open) -> None:
    model = opened("llama")
    answers, wrong = ((3,), (4, 5), (6,)), ((7,), (8,), (9, 10))
    for name in ("logit_difference", "probability_difference", "log_probability"):
        metric = Metric(name, answers, wrong)
        run = model.grad(RAGGED, metric, at="resid_pre[1]", batch=2)
        for row, ids in enumerate(RAGGED):
            alone = model.grad([ids], metric.for_rows([row]).__call__, at="resid_pre[1]")
            assert torch.allclose(run.grad("resid_pre[1]")[row, : len(ids)], alone.grad("resid_pre[1]")[0], atol=1e-10)


def test_no_weight_gets_a_gradient(opened: Open) -> None:
    model = opened("llama")
    frozen = model.hf.model.layers[0].mlp.up_proj.weight
    frozen.requires_grad_(False)
    flags = {name: p.requires_grad for name, p in model.hf.named_parameters()}
    try:
        run = model.grad(RAGGED, difference, at="resid_pre[*], z[*]", read="mlp_act[1]")
        assert all(p.grad is None for p in model.hf.parameters())
        assert {name: p.requires_grad for name, p in model.hf.named_parameters()} == flags
        tensors = [*run.values(), *run.grads.values(), run.logits, run.metric]
        assert not any(t.requires_grad or t.grad_fn is not None for t in tensors)

        def explode(value: Tensor) -> Tensor:
            assert not any(p.requires_grad for p in model.hf.parameters())
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            model.grad(RAGGED, difference, at="resid_pre[*]", edit=apply("z[1]", explode))
        assert {name: p.requires_grad for name, p in model.hf.named_parameters()} == flags
    finally:
        frozen.requires_grad_(True)


def test_under_other_modes_of_torch(opened: Open) -> None:
    model = opened("llama")
    expected = model.grad(RAGGED, difference, at="resid_pre[0]").grad("resid_pre[0]")
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(model.grad(RAGGED, difference, at="resid_pre[0]").grad("resid_pre[0]"), expected)


def test_encoder_decoders(opened: Open) -> None:
    model = opened("t5")
    run = model.grad(
        [ALONE], difference, at="encoder.resid_pre[1], resid_pre[1], cross.z[1], resid_mid[1]", decoder=[[1, 7, 9]]
    )
    for site in ("encoder.resid_pre[1]", "resid_pre[1]", "cross.z[1]"):
        step = torch.randn(run[site].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        up, down = (
            model.run([ALONE], edit=add(site, step, scale=s), metric=difference, decoder=[[1, 7, 9]]).metric
            for s in (1e-4, -1e-4)
        )
        assert float((up - down) / 2e-4) == pytest.approx(float((run.grad(site) * step).sum()), rel=1e-3, abs=1e-7), (
            site
        )


def test_what_has_no_gradient_is_said(opened: Open) -> None:
    model = opened("llama")
    for name in ("rank", "accuracy"):
        with pytest.raises(PlanError) as caught:
            model.grad([ALONE], Metric(name, ((3,),)), at="resid_pre[0]")
        assert str(caught.value).startswith(
            "The metric does not change smoothly with the logits, so it has no gradient."
        )
    with pytest.raises(SiteError, match="'z\\[1\\]' was not differentiated in this run. It has: q\\[1\\]."):
        model.grad([ALONE], difference, at="q[1]").grad("z[1]")
