"""Many sets in one batch give what each set gives in a run of its own."""

from __future__ import annotations

import functools

import pytest
import torch

from cutaway.core.edit import Edit, ablate, replace
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask
from cutaway.methods import sets
from cutaway.methods.sets import Write, mean_writes, scores
from cutaway.models.metric import metric_of
from cutaway.models.model import Model
from cutaway.testing import tiny, tiny_task

SITES = [
    "z[1].head[2]",
    "z[0].head[1]@-1",
    "mlp_out[2]",
    "mlp_act[1].unit[3]",
    "resid_post[0]@subject",
    "pattern[1].head[0]",
]


@functools.cache
def double() -> tuple[Model, EncodedTask]:
    model = tiny("llama")
    model.hf.double()
    return model, tiny_task().encode(model.tokenizer)


def measured(model: Model, encoded: EncodedTask, edits: list[Edit]) -> torch.Tensor:
    return metric_of(encoded)(model.run(encoded, edit=edits, logits="last").last_logits).float()


@pytest.mark.parametrize("tokens", [16, 100, 10_000])
def test_sets_of_zeros_and_means_equal_single_runs(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "TOKENS_AT_ONCE", tokens)
    model, encoded = double()
    sites = [Site.parse(text) for text in SITES]
    groups = [sites[:1], sites[1:2], sites[:3], [], sites[2:], sites[3:4]]
    run = model.run(encoded, read=[site.whole for site in sites], logits="none")
    for how in ("zero", "mean"):
        some = [[site for site in group if how == "zero" or site.kind != "pattern"] for group in groups]
        writes = [[Write(s) for s in group] if how == "zero" else mean_writes(run, group) for group in some]
        found = scores(model, encoded.ids, writes, metric_of(encoded), named=encoded.positions)
        for row, group in zip(found, some, strict=True):
            one = measured(model, encoded, [ablate(site, how) for site in group])
            torch.testing.assert_close(row, one, rtol=1e-5, atol=1e-6)


def test_each_prompt_gets_its_own_values() -> None:
    model, encoded = double()
    other = model.run(
        [list(ids) for ids in encoded.contrast_ids], read="resid_pre[1], z[2]", positions=encoded.positions
    )
    for text in ("resid_pre[1]@subject", "resid_pre[1]@-2", "resid_pre[1]", "z[2].head[3]", "resid_pre[1]@3"):
        site = Site.parse(text)
        found = scores(
            model,
            encoded.ids,
            [[], [Write(site, source=other[site.whole])]],
            metric_of(encoded),
            named=encoded.positions,
        )
        torch.testing.assert_close(
            found[1], measured(model, encoded, [replace(site, other[site])]), rtol=1e-5, atol=1e-6
        )
        torch.testing.assert_close(found[0], measured(model, encoded, []), rtol=1e-5, atol=1e-6)


def test_a_position_that_a_prompt_does_not_have_is_left_alone() -> None:
    model, encoded = double()
    longest = max(map(len, encoded.ids))
    found = scores(model, encoded.ids, [[], [Write(Site("resid_post", 0, position=longest - 1))]], metric_of(encoded))
    has = torch.tensor([len(ids) == longest for ids in encoded.ids])
    assert 0 < has.sum() < len(has)
    moved = (found[1] - found[0]).abs()
    assert (moved[has] > 1e-6).all()
    assert torch.equal(found[1][~has], found[0][~has])
