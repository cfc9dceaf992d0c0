"""A run is transformers' own forward pass: what it reads is what passed by, and nothing else changes."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from cutaway.core.edit import ablate, add, apply
from cutaway.core.errors import ModelError, PlanError, SiteError, TaskError
from cutaway.core.site import KINDS, Site
from cutaway.core.task import Task
from cutaway.models import memory, taps
from cutaway.models.model import Model
from cutaway.testing.architectures import attention_implementations, tiny_model

FAMILIES = ("llama", "gpt2", "gemma2", "qwen3_moe", "gpt_neox", "falcon")
DENSE = tuple(family for family in FAMILIES if family != "qwen3_moe")  # its experts do not run in float64
ALONE = [5, 9, 17, 33, 2, 8, 40, 3, 21]
RAGGED = [ALONE, [7, 3, 11, 4], [12, 13, 14, 15, 16, 17]]
Open = Callable[..., Model]


def every_site(model: Model) -> list[Site]:
    """Every whole site that is served, of every stack."""
    layers = [(name, layer) for name, stack in model.anatomy.stacks.items() for layer in stack.layers]
    layers += [("cross", layer) for stack in model.anatomy.stacks.values() for layer in stack.cross.values()]
    inner = [Site(kind, layer.index, stack=name) for name, layer in layers for kind in layer.places]
    return [Site("embed"), *inner, Site("final"), Site("logits")]


# --- what is read is what transformers has ------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "attention"), [(f, a) for f in FAMILIES for a in attention_implementations(f)])
def test_reading_everything_changes_no_bit(opened: Open, plain: Any, family: str, attention: str) -> None:
    model = opened(family, attention, torch.float32)
    expected = plain(model, ALONE).logits
    assert torch.equal(model.run([ALONE]).logits, expected)
    run = model.run([ALONE], read=every_site(model))
    assert torch.equal(run.logits, expected)
    assert torch.equal(run["logits"], expected)
    assert torch.equal(plain(model, ALONE).logits, expected)
    padded = model.run(RAGGED)
    assert torch.equal(padded.logits, model.run(RAGGED, read=every_site(model)).logits)


@pytest.mark.parametrize("family", DENSE)
def test_reads_are_transformers_own_values(opened: Open, plain: Any, family: str) -> None:
    model = opened(family)
    out = plain(model, ALONE, output_hidden_states=True, output_attentions=True)
    run = model.run([ALONE], read="resid_pre[*], resid_post[*], pattern[*], embed, final")
    for layer in range(model.anatomy.n_layers):
        assert torch.equal(run[f"resid_pre[{layer}]"], out.hidden_states[layer])
        assert torch.equal(run[f"pattern[{layer}]"], out.attentions[layer])
        if layer + 1 < model.anatomy.n_layers:
            assert torch.equal(run[f"resid_post[{layer}]"], out.hidden_states[layer + 1])
    assert torch.equal(run["final"], out.hidden_states[-1])
    stacked = run["resid_pre[*]"]
    assert torch.equal(stacked, torch.stack(out.hidden_states[:-1]))


def test_heads_are_those_of_the_projections(opened: Open) -> None:
    model = opened("llama")
    attention = model.hf.model.layers[1].self_attn
    run = model.run([ALONE], read="attn_in[1], q_pre_rope[1], k_pre_rope[1], q[1], k[1], v[1], z[1], attn_out[1]")
    x, n = run["attn_in[1]"], len(ALONE)
    heads, keys = model.anatomy.n_heads, model.anatomy.n_kv_heads
    assert torch.equal(run["q_pre_rope[1]"], attention.q_proj(x).view(1, n, heads, -1))
    assert torch.equal(run["k_pre_rope[1]"], attention.k_proj(x).view(1, n, keys, -1))
    assert torch.equal(run["v[1]"], attention.v_proj(x).view(1, n, keys, -1))
    assert torch.equal(run["attn_out[1]"], attention.o_proj(run["z[1]"].reshape(1, n, -1)))
    assert torch.equal(run["q[1]@0"], run["q_pre_rope[1]@0"])  # the first position is not rotated
    assert not torch.equal(run["q[1]@1"], run["q_pre_rope[1]@1"])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_scores_pattern_and_z_by_hand(opened: Open, family: str) -> None:
    model = opened(family)
    run = model.run(
        [ALONE], read="q[2], k[2], v[2], k_per_query_head[2], v_per_query_head[2], scores[2], pattern[2], z[2]"
    )
    q, k, v = (run[f"{kind}[2]"][0].movedim(1, 0) for kind in ("q", "k_per_query_head", "v_per_query_head"))
    groups = q.shape[0] // run["k[2]"].shape[2]
    assert torch.equal(run["k_per_query_head[2]"], run["k[2]"].repeat_interleave(groups, dim=2))
    assert torch.equal(run["v_per_query_head[2]"], run.per_query_head("v[2]"))
    causal = torch.ones(len(ALONE), len(ALONE), dtype=torch.bool).tril()
    scores = q @ k.mT / q.shape[-1] ** 0.5
    pattern = scores.masked_fill(~causal, -torch.inf).softmax(-1)
    assert torch.allclose(run["scores[2]"][0][:, causal], scores[:, causal], atol=1e-12)
    # transformers' softmax runs in single precision, whatever the network's type.
    assert torch.allclose(run["pattern[2]"][0].double(), pattern, atol=1e-6)
    assert torch.allclose(run["z[2]"][0], (run["pattern[2]"][0].double() @ v).movedim(0, 1), atol=1e-12)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text", "mistral"])
def test_patterns_are_the_same_on_every_implementation(opened: Open, family: str) -> None:
    eager, sdpa = (
        opened(family, attention).run(RAGGED, read="pattern[*], z[*], v_per_query_head[*]")
        for attention in ("eager", "sdpa")
    )
    for row, ids in enumerate(RAGGED):
        n = len(ids)
        for layer in range(4):
            ours, theirs = (run[f"pattern[{layer}]"][row, :, :n, :n].double() for run in (sdpa, eager))
            assert torch.allclose(ours, theirs, atol=1e-6), (family, layer, row)
            assert torch.allclose(ours.sum(-1), torch.ones(()).double())
            z, wide = sdpa[f"z[{layer}]"][row, :n], sdpa[f"v_per_query_head[{layer}]"][row, :n].movedim(1, 0)
            assert torch.allclose(z, (ours @ wide).movedim(0, 1), atol=1e-5), (family, layer, row)


def test_a_sliding_window_is_seen_in_the_pattern(opened: Open) -> None:
    model = opened("mistral")
    window = model.hf.config.sliding_window
    assert window < len(ALONE)
    pattern = model.run([ALONE], read="pattern[0]")["pattern[0]"][0]
    query, key = torch.meshgrid(*[torch.arange(len(ALONE))] * 2, indexing="ij")
    seen = (key <= query) & (key > query - window)
    assert bool((pattern[:, ~seen] == 0).all())
    assert bool((pattern[:, seen] > 0).all())


def test_the_stream_is_the_sum_of_what_is_added(opened: Open) -> None:
    for family in ("llama", "gemma2", "granite", "gpt2"):
        run = opened(family).run(
            [ALONE], read="resid_pre[*], resid_mid[*], resid_post[*], attn_contrib[*], mlp_contrib[*]"
        )
        mid = run["resid_pre[*]"] + run["attn_contrib[*]"]
        assert torch.allclose(run["resid_mid[*]"], mid, atol=1e-12)
        assert torch.allclose(run["resid_post[*]"], mid + run["mlp_contrib[*]"], atol=1e-12)


# --- batches, lengths, what is left out ---------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*DENSE, "bloom", "opt", "mamba"])
def test_prompts_of_several_lengths_equal_prompts_alone(opened: Open, family: str) -> None:
    model = opened(family)
    sites = [s for s in every_site(model) if s.kind not in ("scores", "pattern")]
    together = model.run(RAGGED, read=sites)
    for row, ids in enumerate(RAGGED):
        alone = model.run([ids], read=sites)
        assert torch.allclose(together.logits[row, : len(ids)], alone.logits[0], atol=1e-10)
        assert torch.allclose(together.last_logits[row], alone.last_logits[0], atol=1e-10)
        for site in sites:
            axis = site.dims.index("position") - 1
            ours = together[site][row].narrow(axis, 0, len(ids))
            assert torch.allclose(ours, alone[site][0], atol=1e-10), (family, str(site))
            end = str(site.at(-1))
            assert torch.allclose(together[end][row], alone[end][0], atol=1e-10), (family, end)


@pytest.mark.parametrize("batch", [1, 2, 3, "auto"])
def test_the_size_of_a_batch_changes_nothing(opened: Open, batch: int | str) -> None:
    model = opened("gemma2")
    sites = "resid_post[*]@-1, z[1], pattern[2], mlp_act[0].unit[3], k[1].head[0]@1:3, resid_pre[2]@subject, logits@-1"
    options: dict[str, Any] = {"read": sites, "positions": {"subject": [8, 0, 3]}}
    run, whole = model.run(RAGGED, batch=batch, **options), model.run(RAGGED, batch=3, **options)
    assert torch.allclose(run.logits[0], whole.logits[0], atol=1e-10)
    for row, ids in enumerate(RAGGED):
        assert torch.allclose(run.logits[row, : len(ids)], whole.logits[row, : len(ids)], atol=1e-10)
    assert list(run) == list(whole)
    for site in whole:
        for row, ids in enumerate(RAGGED):
            ours, theirs = run[site][row], whole[site][row]
            assert ours.shape == theirs.shape
            for axis, dim in enumerate(site.dims[1:]):
                if dim in ("position", "query", "key") and site.position is None:
                    ours, theirs = (t.narrow(axis, 0, len(ids)) for t in (ours, theirs))
            assert torch.allclose(ours, theirs, atol=1e-10), str(site)


def test_parts_that_are_read_are_parts_of_the_whole(opened: Open) -> None:
    model = opened("llama")
    parts = (
        "z[1].head[2]@-1, z[1].head[1:3], z[1].unit[3]@1:3, z[1].head[-1].unit[0]@0, resid_post[2]@end, resid_post[0]@::2, "
        "pattern[1].head[0]@-1, scores[1]@2, pattern[1]@1:3, k[2].head[1]@-2, mlp_act[3].unit[7]@-1, "
        "logits.unit[5]@-1, embed@0, final@-1"
    )
    whole = model.run(RAGGED, read="z[1], resid_post[*], pattern[1], scores[1], k[2], mlp_act[3], logits, embed, final")
    alone = model.run(RAGGED, read=parts)
    assert len(alone) == 15
    for site in alone:
        assert torch.equal(alone[site], whole[site]), str(site)
        sizes = dict(zip(site.whole.dims, whole[site.whole].shape, strict=True))
        free = [d for d in site.dims if not (d in ("position", "query") and site.position is not None)]
        assert [alone[site].shape[site.dims.index(d)] for d in free] == [sizes[d] for d in free], str(site)


def test_a_layer_counts_from_the_end(opened: Open) -> None:
    run = opened("llama").run([ALONE], read="resid_post[-1], resid_pre[-2:]@-1")
    assert torch.equal(run["resid_post[-1]"], run["resid_post[3]"])
    assert run["resid_pre[-2:]@-1"].shape == (2, 1, 32)


class Counter:
    """How often each layer, and the unembedding on how many positions, ran."""

    def __init__(self, model: Model) -> None:
        self.model, self.layers, self.unembedded = model, 0, 0

    def __enter__(self) -> Counter:
        def layer(*_: Any) -> None:
            self.layers += 1

        def unembed(module: Any, args: Any, output: Any) -> None:
            self.unembedded += output.shape[:-1].numel()

        stack = self.model.anatomy.stacks[""].layers
        self.hooks = [part.module.register_forward_pre_hook(layer) for part in stack]
        assert self.model.anatomy.unembed is not None
        self.hooks.append(self.model.anatomy.unembed.register_forward_hook(unembed))
        return self

    def __exit__(self, *_: Any) -> None:
        for hook in self.hooks:
            hook.remove()


@pytest.mark.parametrize(
    ("read", "layers"),
    [
        ("embed", 1),
        ("resid_pre[0]", 1),
        ("z[1], resid_post[0]", 2),
        ("resid_post[2]@-1", 3),
        ("resid_post[*]", 4),
        ("final", 4),
    ],
)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_run_stops_after_the_last_layer_that_is_asked_for(opened: Open, family: str, read: str, layers: int) -> None:
    model = opened(family)
    with Counter(model) as count:
        early = model.run(RAGGED, read=read, logits="none")
    assert count.layers == layers
    assert count.unembedded == 0
    assert early.logits is None
    late = model.run(RAGGED, read=read)
    for site in late:
        assert torch.equal(early[site], late[site])


def test_only_the_last_logits_are_computed(opened: Open) -> None:
    for family in ("llama", "gpt2", "gemma2"):
        model = opened(family)
        for prompts in (RAGGED, [ALONE, ALONE[::-1]]):
            with Counter(model) as count:
                last = model.run(prompts, logits="last")
            assert count.unembedded == len(prompts)
            assert last.logits is not None
            assert last.logits.shape == (len(prompts), 1, model.anatomy.vocab_size)
            assert torch.allclose(last.last_logits, model.run(prompts).last_logits, atol=1e-12)
            assert torch.equal(last.last_logits, last.logits[:, 0])


def test_the_last_logits_beside_sites_at_the_end(opened: Open) -> None:
    model = opened("llama")
    run = model.run(RAGGED, read="final, logits", logits="last")
    whole = model.run(RAGGED)
    assert torch.allclose(run["logits"][1, :4], whole.logits[1, :4])
    assert torch.allclose(run.last_logits, whole.last_logits)
    assert run["final"].shape == (3, 9, 32)


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3_moe"])
def test_strict_is_the_plain_network_bit_for_bit(opened: Open, plain: Any, family: str) -> None:
    model = opened(family, "sdpa", torch.float32)
    run = model.run(RAGGED, read="resid_post[1]", strict=True)
    for row, ids in enumerate(RAGGED):
        assert torch.equal(run.logits[row, : len(ids)], plain(model, ids).logits[0])
    with Counter(model) as count:
        model.run([ALONE], read="resid_post[0]", logits="none", strict=True)
    assert count.layers == model.anatomy.n_layers


def test_strict_runs_a_grid_of_scales_row_by_row(opened: Open) -> None:
    model = opened("llama", dtype=torch.float32)
    vector = torch.linspace(-1, 1, 32)
    grid = model.run(RAGGED, edit=add("resid_post[1]", vector, scale=[-2, 0, 3]), strict=True)
    for row, (ids, scale) in enumerate(itertools.product(RAGGED, (-2, 0, 3))):
        alone = model.run([ids], edit=add("resid_post[1]", vector, scale=scale), strict=True)
        assert torch.equal(grid.logits[row, : len(ids)], alone.logits[0])


def test_a_metric_is_measured_for_each_prompt(opened: Open) -> None:
    model = opened("llama")
    for logits in ("all", "last", "none"):
        run = model.run(RAGGED, metric=lambda at_end: at_end[:, 3] - at_end[:, 4], logits=logits, batch=2)
        expected = model.run(RAGGED).last_logits
        assert run.metric is not None
        assert torch.allclose(run.metric, expected[:, 3] - expected[:, 4])


def test_batches_are_cut_to_the_free_memory(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = opened("llama"), []
    expected = model.run(RAGGED * 3, read="z[1]")
    with model.hf.register_forward_pre_hook(lambda m, a, k: sizes.append(len(k["input_ids"])), with_kwargs=True):
        monkeypatch.setattr(memory, "free_bytes", lambda device: 1)
        run = model.run(RAGGED * 3, read="z[1]")
    assert sizes == [1] * 9
    assert torch.allclose(run.last_logits, expected.last_logits)


# --- forms of prompts ---------------------------------------------------------------------------------------------


def test_prompts_in_every_form(opened: Open) -> None:
    model = opened("llama")
    expected = model.run([ALONE]).logits
    for form in (ALONE, (tuple(ALONE),), torch.tensor(ALONE), torch.tensor([ALONE]), [torch.tensor(ALONE)]):
        assert torch.equal(model.run(form).logits, expected)


def test_texts_and_tasks(spoken: Callable[[Task], Model]) -> None:
    task = Task.from_prompts(
        ["Mary met John and", "Anna saw the dog and"], answers=[" Mary", " Anna"], positions={"verb": ["met", "saw"]}
    )
    model = spoken(task)
    encoded = task.encode(model.tokenizer)
    by_task, by_text = model.run(task, read="resid_post[1]"), model.run(list(task.prompts), read="resid_post[1]")
    assert torch.equal(by_task.logits, by_text.logits)
    assert torch.equal(model.run(encoded).logits, by_text.logits)
    assert by_task.tokens[0][:3] == ("<s>", "Mary", " met")
    assert torch.equal(by_task["resid_post[1]@verb"], by_task["resid_post[1]@2"])
    assert torch.equal(model.run(task, read="resid_post[1]@verb")["resid_post[1]@verb"], by_task["resid_post[1]@2"])
    assert model.encode("Mary") == list(model.run("Mary").ids[0])
    assert model.token_strings([model.token_id(" Mary")]) == [" Mary"]


def test_under_other_modes_of_torch(opened: Open) -> None:
    model = opened("llama")
    expected = model.run(RAGGED, read="z[1]")
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            run = model.run(RAGGED, read="z[1]")
        assert torch.equal(run.logits, expected.logits)
        assert not run.logits.requires_grad
        assert not run["z[1]"].requires_grad


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text"])
def test_half_precision_reads_and_edits(opened: Open, plain: Any, family: str) -> None:
    model = opened(family, "sdpa", torch.bfloat16)
    run = model.run([ALONE], read=every_site(model))
    assert torch.equal(run.logits, plain(model, ALONE).logits)
    assert run["z[1]"].dtype == torch.bfloat16
    again = model.run([ALONE], edit=ablate("z[1].head[0]"), read="z[1]")
    assert bool((again["z[1].head[0]"] == 0).all())
    moved = model.run([ALONE], edit=add("resid_post[1]", torch.ones(32, dtype=torch.float64)), read="resid_post[1]")
    assert torch.equal(moved["resid_post[1]"], run["resid_post[1]"] + 1)


def test_layers_on_several_devices_give_the_same(opened: Open, untouched: Any) -> None:
    from accelerate import cpu_offload, dispatch_model
    from accelerate.hooks import remove_hook_from_submodules

    expected = opened("llama", "sdpa", torch.float32).run(RAGGED, read="pattern[1], z[2], resid_mid[1]")
    steered = opened("llama", "sdpa", torch.float32).run(RAGGED, edit=ablate("pattern[1].head[0]")).logits
    for spread in (lambda hf: dispatch_model(hf, {"": "cpu"}, force_hooks=True), lambda hf: cpu_offload(hf, "cpu")):
        hf = tiny_model("llama", attn_implementation="sdpa")
        spread(hf)
        forwards = {name: m.forward for name, m in hf.named_modules()}
        model = Model(hf)
        run = model.run(RAGGED, read="pattern[1], z[2], resid_mid[1]")
        # Weights that lie elsewhere in memory may round differently.
        assert torch.allclose(run.logits, expected.logits, atol=1e-6)
        assert all(torch.allclose(run[site], expected[site], atol=1e-6) for site in expected)
        assert torch.allclose(model.run(RAGGED, edit=ablate("pattern[1].head[0]")).logits, steered, atol=1e-6)
        sweep = model.sweep(RAGGED, "z[*]@-1", edit="zero", metric=lambda at_end: at_end[:, 3])
        assert not sweep.values.isnan().any()
        assert {name: m.forward for name, m in hf.named_modules()} == forwards
        remove_hook_from_submodules(hf)


# --- nothing is left behind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["resid_pre[1]", "z[1]", "pattern[2]", "logits", "embed", "resid_mid[1]"])
@pytest.mark.parametrize("family", ["llama", "bloom", "falcon"])
def test_an_error_in_a_users_function_leaves_nothing(
    opened: Open, plain: Any, untouched: Any, family: str, site: str
) -> None:
    model = opened(family, dtype=torch.float32)
    if Site.parse(site) not in every_site(model):
        pytest.skip("refused here")
    before = plain(model, ALONE).logits

    def explode(value: torch.Tensor) -> torch.Tensor:
        raise ZeroDivisionError(value.shape)

    with pytest.raises(ZeroDivisionError):
        model.run([ALONE], read=every_site(model), edit=apply(site, explode))
    untouched(model)
    assert taps.idle()
    assert torch.equal(plain(model, ALONE).logits, before)
    assert all(p.requires_grad for p in model.hf.parameters())


def test_an_early_exit_leaves_nothing(opened: Open, plain: Any, untouched: Any) -> None:
    model = opened("llama")
    before = plain(model, ALONE, output_hidden_states=True, output_attentions=True)
    model.run([ALONE], read="resid_post[1]", logits="none")
    untouched(model)
    after = plain(model, ALONE, output_hidden_states=True, output_attentions=True)
    assert len(after.hidden_states) == len(before.hidden_states) == 5
    assert all(torch.equal(a, b) for a, b in zip(after.hidden_states, before.hidden_states, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(after.attentions, before.attentions, strict=True))


def tensors_alive() -> int:
    gc.collect()
    return sum(1 for thing in gc.get_objects() if type(thing) is torch.Tensor)


def test_memory_does_not_grow(opened: Open) -> None:
    model = opened("llama")

    def work() -> None:
        run = model.run(RAGGED, read="resid_post[*], pattern[1]", edit=ablate("z[1]", "mean"))
        model.run(RAGGED, read="z[0]", logits="none")
        model.grad(RAGGED, lambda at_end: at_end[:, 3], at="resid_pre[*]")
        model.sweep(RAGGED, "z[*]@-1", edit="zero", metric=lambda at_end: at_end[:, 3])
        model.generate(RAGGED, max_new_tokens=2, edit=ablate("z[1]"))
        assert len(run)

    work()
    before = tensors_alive()
    for _ in range(5):
        work()
    assert tensors_alive() <= before


def test_a_run_owns_small_parts(opened: Open) -> None:
    run = opened("llama").run(RAGGED, read="resid_post[1]@-1, mlp_act[1].unit[3]")
    for value in run.values():
        assert value.untyped_storage().nbytes() == value.numel() * value.element_size()


# --- encoders and encoder-decoders --------------------------------------------------------------------------------


def test_an_encoder_is_read(opened: Open, plain: Any) -> None:
    model = opened("bert", family="encoder")
    out = plain(model, ALONE, output_hidden_states=True, output_attentions=True)
    run = model.run([ALONE], read=every_site(model))
    assert torch.equal(run.logits, out.logits)
    for layer in range(4):
        assert torch.equal(run[f"resid_pre[{layer}]"], out.hidden_states[layer])
        assert torch.equal(run[f"pattern[{layer}]"], out.attentions[layer])
    together = model.run(RAGGED, read="resid_post[*]")
    for row, ids in enumerate(RAGGED):
        alone = model.run([ids], read="resid_post[*]")
        assert torch.allclose(together["resid_post[*]"][:, row, : len(ids)], alone["resid_post[*]"][:, 0], atol=1e-10)


def test_a_network_without_unembedding_has_no_logits() -> None:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    with torch.random.fork_rng(devices=[]):
        model = Model(BertModel(BertConfig(vocab_size=64, **sizes)).eval())
    run = model.run(RAGGED, read="resid_post[*]@-1", logits="none")
    assert run["resid_post[*]@-1"].shape == (2, 3, 32)
    assert run.logits is None
    with pytest.raises(ModelError) as caught:
        model.run(RAGGED, read="resid_post[1]")
    assert str(caught.value) == (
        "BertModel has no unembedding, so it gives no logits. Its residual stream, attention and neurons can be read. "
        'Write model.run(prompts, read=..., logits="none").'
    )
    with pytest.raises(ModelError, match="BertModel has no unembedding, so a sweep has no logits to measure"):
        model.sweep(RAGGED, "z[*]", edit="zero", metric=lambda at_end: at_end[:, 0])
    with pytest.raises(ModelError, match="BertModel cannot write text"):
        model.generate(RAGGED)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_decoder_is_read_and_changed(opened: Open, family: str) -> None:
    model = opened(family, family="encoder_decoder")
    said = [[1, 7, 9], [1, 4], [1]]
    run = model.run(
        RAGGED, read="encoder.resid_post[*], resid_post[*], cross.z[1], cross.pattern[1], cross.k[1]", decoder=said
    )
    for row, (ids, decoder) in enumerate(zip(RAGGED, said, strict=True)):
        with torch.no_grad():
            out = model.hf(
                torch.tensor([ids]),
                decoder_input_ids=torch.tensor([decoder]),
                output_hidden_states=True,
                output_attentions=True,
            )
        n, m = len(ids), len(decoder)
        assert torch.allclose(run.last_logits[row], out.logits[0, -1], atol=1e-10)
        assert torch.allclose(run["encoder.resid_post[1]"][row, :n], out.encoder_hidden_states[2][0], atol=1e-10)
        assert torch.allclose(run["encoder.resid_post[1]@-1"][row], out.encoder_hidden_states[2][0, -1], atol=1e-10)
        assert torch.allclose(run["resid_post[1]"][row, :m], out.decoder_hidden_states[2][0], atol=1e-10)
        assert torch.allclose(run["resid_post[1]@-1"][row], out.decoder_hidden_states[2][0, -1], atol=1e-10)
        cross = run["cross.pattern[1]"][row, :, :m, :n]
        assert torch.allclose(cross, out.cross_attentions[1][0], atol=1e-10)
    assert run.lengths == (3, 2, 1)
    assert run.lengths_at(Site.parse("encoder.z[1]")) == (9, 4, 6)
    assert run.lengths_at(Site.parse("cross.k[1]")) == (9, 4, 6)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_positions_of_an_encoder_are_the_encoders(opened: Open, family: str) -> None:
    model = opened(family, family="encoder_decoder")
    named = {"subject": [8, 2, 3]}
    ends = [len(ids) - 1 for ids in RAGGED]
    for position, places in (("@-1", ends), ("@subject", named["subject"]), ("@2", [2, 2, 2])):
        site = f"encoder.resid_post[1]{position}"
        run = model.run(RAGGED, edit=ablate(site), read="encoder.resid_post[1]", positions=named)
        zero = (run["encoder.resid_post[1]"] == 0).all(-1)
        assert [row.nonzero().flatten().tolist() for row in zero] == [[place] for place in places]
        read = model.run(RAGGED, read=site, positions=named)[site]
        assert torch.equal(
            read, model.run(RAGGED, read="encoder.resid_post[1]")["encoder.resid_post[1]"][[0, 1, 2], places]
        )
    keys = model.run(RAGGED, edit=ablate("cross.k[1]@-1"), read="cross.k[1]")["cross.k[1]"]
    assert [(row == 0).all(-1).all(-1).nonzero().flatten().tolist() for row in keys] == [[end] for end in ends]
    with pytest.raises(SiteError, match="No position is called 'subject' here"):
        model.run(RAGGED, read="resid_post[1]@subject", positions=named)


def test_a_mean_over_an_encoder_counts_the_encoders_tokens(opened: Open) -> None:
    model = opened("t5")
    value = model.run(RAGGED, read="encoder.resid_post[1]")["encoder.resid_post[1]"]
    real = torch.cat([value[row, : len(ids)] for row, ids in enumerate(RAGGED)])
    run = model.run(RAGGED, edit=ablate("encoder.resid_post[1]", "mean"), read="encoder.resid_post[1]@-1")
    assert torch.allclose(run["encoder.resid_post[1]@-1"], real.mean(0).expand(3, -1), atol=1e-12)


# --- what is refused ----------------------------------------------------------------------------------------------

ERRORS: list[tuple[type[Exception], Callable[[Model], Any], str]] = [
    (
        SiteError,
        lambda m: m.run([ALONE], read="resid_post[4]"),
        "layer 4 of 'resid_post[4]' does not exist: there are 4 layers, numbered 0 to 3",
    ),
    (
        SiteError,
        lambda m: m.run([ALONE], read="z[1].head[4]"),
        "head 4 of 'z[1].head[4]' does not exist: there are 4 heads",
    ),
    (
        SiteError,
        lambda m: m.run([ALONE], read="k[1].head[2]"),
        "head 2 of 'k[1].head[2]' does not exist: there are 2 heads",
    ),
    (
        SiteError,
        lambda m: m.run([ALONE], read="router[1]"),
        "'router[1]' is refused on LlamaForCausalLM: the layer has no",
    ),
    (SiteError, lambda m: m.run([ALONE], edit=ablate("router[*]")), "'router[0]' is refused on LlamaForCausalLM"),
    (
        SiteError,
        lambda m: m.run([ALONE], read="encoder.z[1]"),
        "layer 1 of 'encoder.z[1]' does not exist: there are no",
    ),
    (SiteError, lambda m: m.run(RAGGED, read="z[1]@5"), "Position 5 does not exist in a prompt of 4 tokens"),
    (SiteError, lambda m: m.run(RAGGED, read="z[1]@verb"), "No position is called 'verb' here. Known: end."),
    (
        PlanError,
        lambda m: m.run(RAGGED, read="z[1]@-2:"),
        "'z[1]@-2:' slices the positions of prompts of 4 to 9 tokens.",
    ),
    (
        TaskError,
        lambda m: m.run([]),
        "There are no prompts. Give a text, a list of texts, lists of token ids, or a task.",
    ),
    (
        TaskError,
        lambda m: m.run([[]]),
        "The prompt [] has no tokens. A prompt has at least one token. Write a word or more.",
    ),
    (
        TaskError,
        lambda m: m.run("Mary"),
        "This model has no tokenizer. It takes lists of token ids, as in model.run([[1,",
    ),
    (TaskError, lambda m: m.run([3.5]), "A prompt is float. A prompt is a text or a list of token ids."),
    (TaskError, lambda m: m.run([[1, 128]]), "Token id 128 does not exist. tiny llama has 128 tokens, 0 to 127."),
    (TaskError, lambda m: m.run([[1, -1, 3]]), "Token id -1 does not exist."),
    (
        TaskError,
        lambda m: m.run([[1] * (m.hf.config.max_position_embeddings + 1)]),
        "A prompt has {over} tokens. tiny llama takes {limit} at most. Shorten the prompt.",
    ),
    (
        TaskError,
        lambda m: m.run(RAGGED, positions={"subject": [1]}),
        "The position 'subject' is given for 1 prompts, there are 3.",
    ),
    (
        TaskError,
        lambda m: m.run(RAGGED, positions={"subject": [1, 4, 0]}),
        "The position 'subject' is token 4 of prompt 1, which has 4 tokens. It is one of 0 to 3.",
    ),
    (PlanError, lambda m: m.run([ALONE], logits="lst"), "logits is 'lst': did you mean 'last'?"),
    (PlanError, lambda m: m.run(RAGGED, batch=0), "A batch of 0 rows. A batch has one row or more, or batch="),
    (PlanError, lambda m: m.run(RAGGED, batch="big"), "batch is 'big'. It is a number of rows or"),
    (
        PlanError,
        lambda m: m.run([ALONE], grad="z[1]"),
        "Gradients need a metric. Write model.grad(prompts, metric, at=...).",
    ),
    (
        PlanError,
        lambda m: m.run([ALONE], decoder=[[1]]),
        "tiny llama has no decoder beside its main stack. Leave decoder= out.",
    ),
]


@pytest.mark.parametrize(("error", "act", "says"), ERRORS, ids=[says[:40] for _, _, says in ERRORS])
def test_what_is_wrong_is_said(opened: Open, untouched: Any, error: type[Exception], act: Any, says: str) -> None:
    model = opened("llama")
    limit = model.hf.config.max_position_embeddings
    with pytest.raises(error) as caught:
        act(model)
    assert str(caught.value).startswith(says.format(limit=limit, over=limit + 1))
    untouched(model)


def test_decoders_are_as_many_as_prompts(opened: Open) -> None:
    model = opened("t5")
    one = model.run(RAGGED, decoder=[[1, 2]])
    assert torch.equal(one.logits, model.run(RAGGED, decoder=[[1, 2]] * 3).logits)
    with pytest.raises(
        PlanError, match="The decoder has 2 prompts, the encoder 3. It has one for each, or one for all."
    ):
        model.run(RAGGED, decoder=[[1, 2], [1, 3]])


def test_every_kind_is_tried_here(opened: Open) -> None:
    """The networks of this file serve every kind of site between them."""
    served = {site.kind for family in FAMILIES for site in every_site(opened(family, dtype=torch.float32))}
    assert served == set(KINDS)
