"""Taps: the one place where torch is hooked. They run in order, and nothing of them stays."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers.integrations.moe import ExpertsInterface
from transformers.modeling_utils import AttentionInterface

from cutaway.models import taps
from cutaway.models.model import Model
from cutaway.models.taps import AttentionTap, ModuleTap
from cutaway.testing.architectures import tiny_model

IDS = torch.tensor([[5, 9, 33, 7, 21]])


@pytest.fixture(scope="module")
def hf() -> nn.Module:
    return tiny_model("llama", attn_implementation="sdpa")


def logits(hf: nn.Module) -> Tensor:
    with torch.no_grad():
        return hf(IDS).logits  # type: ignore[no-any-return]


def hooks(hf: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in hf.modules())


@pytest.mark.parametrize("side", ["in", "out"])
def test_taps_on_one_value_run_in_the_order_given(hf: nn.Module, side: str) -> None:
    order: list[str] = []
    layer = hf.model.layers[0]
    with taps.module_taps([ModuleTap(layer, side, lambda t, n=n: order.append(n)) for n in "abc"]):
        logits(hf)
    assert order == ["a", "b", "c"]


def test_a_later_tap_sees_what_an_earlier_one_wrote(hf: nn.Module) -> None:
    seen: list[Tensor] = []
    layer = hf.model.layers[0]
    with taps.module_taps([ModuleTap(layer, "out", torch.zeros_like), ModuleTap(layer, "out", seen.append)]):
        logits(hf)
    assert not seen[0].any()


def test_taps_come_before_the_hooks_of_others(hf: nn.Module) -> None:
    seen: list[Tensor] = []
    layer = hf.model.layers[0]
    handle = layer.register_forward_hook(lambda m, a, out: seen.append(out))
    with taps.module_taps([ModuleTap(layer, "out", torch.zeros_like)]):
        logits(hf)
    handle.remove()
    assert not seen[0].any()


def test_nothing_stays_after_an_error(hf: nn.Module) -> None:
    before, plain = hooks(hf), logits(hf)

    def fail(value: Tensor) -> None:
        raise ZeroDivisionError

    layer = hf.model.layers[2]
    attention = {layer.self_attn: AttentionTap({"pattern": fail})}
    with (
        pytest.raises(ZeroDivisionError),
        taps.module_taps([ModuleTap(layer, "in", lambda t: None), ModuleTap(layer.mlp, "skip", lambda t: t)]),
        taps.attention_taps(attention),
    ):
        logits(hf)
    assert taps.idle()
    assert hooks(hf) == before
    assert "forward" not in layer.mlp.__dict__
    assert torch.equal(logits(hf), plain)


def test_nothing_is_wrapped_when_nothing_is_asked_for() -> None:
    original = AttentionInterface.get_interface
    with taps.attention_taps({}):
        assert AttentionInterface.get_interface is original
        assert taps.idle()


def test_the_wrapper_is_counted_and_taken_away_with_the_last_tap(hf: nn.Module) -> None:
    attention, experts = AttentionInterface.get_interface, ExpertsInterface.get_interface
    first, second = ({hf.model.layers[i].self_attn: AttentionTap({})} for i in (0, 1))
    with taps.attention_taps(first):
        with taps.attention_taps(second):
            assert not taps.idle()
        assert AttentionInterface.get_interface is not attention
    assert AttentionInterface.get_interface is attention
    assert ExpertsInterface.get_interface is experts


def test_an_inner_tap_gives_the_outer_one_back(hf: nn.Module) -> None:
    seen: list[str] = []
    module = hf.model.layers[0].self_attn
    outer = {module: AttentionTap({"z": lambda t: seen.append("outer")})}
    inner = {module: AttentionTap({"z": lambda t: seen.append("inner")})}
    with taps.attention_taps(outer):
        with taps.attention_taps(inner):
            logits(hf)
        logits(hf)
    assert seen == ["inner", "outer"]


def test_another_model_is_not_touched(hf: nn.Module) -> None:
    other = tiny_model("gpt2")
    plain = logits(other)
    tap = {hf.model.layers[0].self_attn: AttentionTap({"z": torch.zeros_like})}
    with taps.attention_taps(tap):
        assert torch.equal(logits(other), plain)


def test_heads_come_in_the_canonical_layout(hf: nn.Module) -> None:
    shapes: dict[str, torch.Size] = {}
    kinds = ("q", "k", "v", "z", "k_per_query_head", "scores", "pattern")
    see = {kind: lambda t, kind=kind: shapes.__setitem__(kind, t.shape) for kind in kinds}
    with taps.attention_taps({hf.model.layers[0].self_attn: AttentionTap(see)}):
        logits(hf)
    heads, groups = hf.config.num_attention_heads, hf.config.num_key_value_heads
    assert shapes["q"][:3] == shapes["z"][:3] == shapes["k_per_query_head"][:3] == (1, 5, heads)
    assert shapes["k"][:3] == shapes["v"][:3] == (1, 5, groups)
    assert shapes["pattern"] == shapes["scores"] == (1, heads, 5, 5)


def test_reading_a_pattern_leaves_sdpa_its_bits(hf: nn.Module) -> None:
    plain, seen = logits(hf), []
    with taps.attention_taps({m.self_attn: AttentionTap({"pattern": seen.append}) for m in hf.model.layers}):
        assert torch.equal(logits(hf), plain)
    torch.testing.assert_close(seen[0].sum(-1), torch.ones_like(seen[0][..., 0]))


def test_a_sink_takes_its_part_of_the_pattern() -> None:
    hf, seen = tiny_model("gpt_oss"), {}
    see = {kind: lambda t, kind=kind: seen.__setitem__(kind, t.clone()) for kind in ("pattern", "sink")}
    with taps.attention_taps({hf.model.layers[0].self_attn: AttentionTap(see)}):
        logits(hf)
    assert seen["sink"].shape[-1] == 1
    assert (seen["sink"] > 0).all()
    total = seen["pattern"].sum(-1) + seen["sink"].sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("kind", ["k", "v"])
def test_writing_one_query_head_s_keys_leaves_the_other_heads_alone(kind: str) -> None:
    model = Model(tiny_model("llama"))
    base = model.run(IDS, read="z[0]")["z[0]"]

    def change(value: Tensor) -> Tensor:
        value = value.clone()
        value[:, :, 1] += torch.randn(value.shape[1], value.shape[3], generator=torch.Generator().manual_seed(0))
        return value

    from cutaway.core.edit import apply

    run = model.run(IDS, read="z[0]", edit=apply(f"{kind}_per_query_head[0]", change))
    differs = (run["z[0]"] - base).abs().amax(dim=(0, 1, 3)) > 1e-6
    assert differs.tolist() == [head == 1 for head in range(base.shape[2])]


def test_a_copy_keeps_its_strides() -> None:
    # Kernels may round differently for other strides: glm's gate is a slice of a wider tensor.
    from cutaway.core.edit import apply

    model = Model(tiny_model("glm"))
    plain = model.run(IDS, strict=True).logits
    written = model.run(IDS, edit=apply("mlp_pre[*]", torch.clone), strict=True).logits
    assert torch.equal(written, plain)


def test_the_gradient_of_a_view_reaches_every_layer() -> None:
    model = Model(tiny_model("llama"))
    run = model.grad(IDS, lambda logits: logits.square().mean(-1), at="q[*], k[*], v[*], pattern[*], resid_mid[*]")
    for kind in ("q", "k", "v", "pattern", "resid_mid"):
        assert all(run.grad(f"{kind}[{layer}]").any() for layer in range(4)), kind


def test_the_gradient_between_attention_and_mlp_counts_both_ways_on() -> None:
    model = Model(tiny_model("llama"))
    for site in ("resid_mid[0]", "resid_mid[2]"):
        run = model.grad(
            IDS, lambda logits: logits.square().mean(-1), at=[site, site.replace("resid_mid", "attn_contrib")]
        )
        alone = model.grad(IDS, lambda logits: logits.square().mean(-1), at=site)
        torch.testing.assert_close(run.grad(site), run.grad(site.replace("resid_mid", "attn_contrib")))
        torch.testing.assert_close(alone.grad(site), run.grad(site))


def test_a_stop_ends_the_pass(hf: nn.Module) -> None:
    ran: list[int] = []

    def stop(value: Tensor) -> None:
        raise taps.Stop

    later = [ModuleTap(layer, "in", lambda t, i=i: ran.append(i)) for i, layer in enumerate(hf.model.layers)]
    with pytest.raises(taps.Stop), taps.module_taps([*later, ModuleTap(hf.model.layers[1], "out", stop)]):
        logits(hf)
    assert ran == [0, 1]
