"""Path patching, against its definition carried out step by step with plain runs."""

from __future__ import annotations

import pytest
import torch

from cutaway.core.edit import replace
from cutaway.core.errors import PlanError, SiteError
from cutaway.core.site import Site
from cutaway.methods.circuits.path_patching import path_patching
from cutaway.models.encode import Encoded
from cutaway.models.metric import metric_of
from cutaway.models.model import Model
from cutaway.models.paths import Paths
from cutaway.testing.tiny import tiny, tiny_task


@pytest.fixture(scope="module")
def small() -> dict[str, Model]:
    """A tiny Llama (two key/value heads for four) and GPT-2 in double precision."""
    made = {family: tiny(family) for family in ("llama", "gpt2")}  # type: ignore[arg-type]
    for model in made.values():
        model.hf.double()
    return made


def slowly(model, encoded, prompt, sender, receivers, *, freeze_mlps=False):
    """The four steps of the definition for one prompt and one sender, each a plain run."""
    ids, other = [encoded.ids[prompt]], [encoded.contrast_ids[prompt]]
    everything = [f"{kind}[{layer}]" for layer in range(model.anatomy.n_layers) for kind in ("z", "mlp_contrib")]
    here, there = (model.run(one, read=everything, logits="last") for one in (ids, other))
    edits = [replace(site, here[site]) for site in everything if freeze_mlps or site.startswith("z")]
    edits.append(replace(sender, there[sender]))
    reads = [site for site in receivers if site != "logits"]
    second = model.run(ids, read=reads, edit=edits, logits="last")
    if "logits" in receivers:
        return second.last_logits[0]
    return model.run(ids, edit=[replace(site, second[site]) for site in reads], logits="last").last_logits[0]


@pytest.mark.parametrize(("family", "freeze_mlps"), [("llama", False), ("llama", True), ("gpt2", False)])
@pytest.mark.parametrize(
    "receivers", [("logits",), ("q[2].head[1]", "q[2].head[3]"), ("v[1].head[0]",), ("mlp_in[2]",)]
)
def test_every_path_equals_the_steps_of_the_definition(small, family, freeze_mlps, receivers):
    model = small[family]
    encoded = tiny_task().encode(model.tokenizer)
    metric = metric_of(encoded)
    senders = [Site.parse(text) for text in ("z[0].head[1]", "mlp_contrib[0]", "z[0].head[3]", "z[1].head[2]")]
    paths = Paths(model, Encoded(encoded.ids, dict(encoded.positions)), encoded.contrast_ids, freeze_mlps=freeze_mlps)
    found = paths.scores([[site] for site in senders], [[Site.parse(text) for text in receivers]], metric)
    for number, sender in enumerate(senders):
        for prompt in (number,):
            logits = slowly(model, encoded, prompt, str(sender), receivers, freeze_mlps=freeze_mlps)
            expected = metric.for_rows([prompt])(logits[None])
            assert float(found[number, 0, prompt]) == pytest.approx(float(expected), rel=1e-6, abs=1e-8)


def test_positions_of_senders_and_receivers(small):
    model = small["llama"]
    encoded = tiny_task().encode(model.tokenizer)
    metric = metric_of(encoded)
    paths = Paths(model, Encoded(encoded.ids, dict(encoded.positions)), encoded.contrast_ids)
    sender, receiver = Site.parse("z[0].head[1]@subject"), Site.parse("q[2].head[1]@-1")
    found = paths.scores([[sender]], [[receiver]], metric)
    place = encoded.positions["subject"][1]
    logits = slowly(model, encoded, 1, f"z[0].head[1]@{place}", ["q[2].head[1]@-1"])
    assert float(found[0, 0, 1]) == pytest.approx(float(metric.for_rows([1])(logits[None])), rel=1e-6)


def test_sets_of_senders_are_rows_and_batches_do_not_matter(small, monkeypatch):
    model = small["gpt2"]
    encoded = tiny_task().encode(model.tokenizer)
    metric = metric_of(encoded)
    sets = [[Site("z", 0, 1), Site("z", 1, 2)], [Site("mlp_contrib", 1)], [Site("z", 2, 0)]]
    ends = [[Site("logits")], [Site("k", 2, 0)]]
    whole = Paths(model, Encoded(encoded.ids), encoded.contrast_ids).scores(sets, ends, metric)
    monkeypatch.setattr(Paths, "_rows", lambda self, length: 1)
    assert torch.allclose(Paths(model, Encoded(encoded.ids), encoded.contrast_ids).scores(sets, ends, metric), whole)


def test_all_heads_and_mlps_kept_is_one_edge_to_the_logits(small):
    """With MLPs kept, the path to the logits is the edge: the two engines agree."""
    from cutaway.models import edges

    model = small["llama"]
    encoded = tiny_task().encode(model.tokenizer)
    metric = metric_of(encoded)
    paths = Paths(model, Encoded(encoded.ids), encoded.contrast_ids, freeze_mlps=True)
    found = paths.scores([[Site("z", 1, 2)], [Site("mlp_contrib", 0)]], [[Site("logits")]], metric)[:, 0]
    graph = edges.graph_of(model)
    import numpy as np

    sets = np.stack([graph.mask([f"{source} -> logits"]) for source in ("z[1].head[2]", "mlp_contrib[0]")])
    other = edges.of_prompts(model, Encoded(encoded.contrast_ids))
    assert torch.allclose(edges.evaluate(model, Encoded(encoded.ids), sets, other, metric), found, rtol=1e-6)


def test_the_result_has_a_map_and_a_check():
    result = path_patching(tiny("llama"), tiny_task(), controls=5)
    assert result.data["effect"].dims == ("sender", "receiver", "prompt")
    assert result.data["effect_z"].dims == ("layer", "head")
    assert result.checks[0].n == 5
    apart = path_patching(
        tiny("llama"),
        tiny_task(),
        senders="z[*].head[*]",
        receivers="q[2].head[0], q[2].head[1]",
        apart=True,
        controls=0,
    )
    assert apart.data.sizes["receiver"] == 2
    assert apart.data.sizes["sender"] == 8  # heads of layer 2 do not come before its queries


def test_errors_say_what_to_write():
    model, task = tiny("llama"), tiny_task()
    with pytest.raises(PlanError, match=r"'resid_post\[1\]' cannot send; senders are heads and MLPs"):
        path_patching(model, task, senders="resid_post[1]")
    with pytest.raises(PlanError, match="comes before the receivers"):
        path_patching(model, task, senders="z[2].head[0]", receivers="q[1].head[0]")
    with pytest.raises(PlanError, match=r"'z\[1\]' is no receiver"):
        path_patching(model, task, senders="z[0].head[0]", receivers="z[1]")
    with pytest.raises(SiteError, match="head 9"):
        path_patching(model, task, receivers="q[1].head[9]")
    with pytest.raises(PlanError, match="differ in length"):
        Paths(model, Encoded(((5, 6, 7),)), [(5, 6)])
