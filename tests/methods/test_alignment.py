"""Subspaces by interchange: against plain runs in double precision, and the laws of rotations."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.edit import apply
from cutaway.core.errors import ParameterError, TaskError
from cutaway.core.site import Site
from cutaway.methods.alignment import (
    Pairs,
    Subspace,
    Training,
    aligned,
    boundary_mask,
    held_out,
    orthonormal,
    pairs_of,
    random_subspace,
    right,
    temperature,
    train,
)
from cutaway.methods.alignment_grid import one_site_each
from cutaway.methods.random_twin import random_twin
from cutaway.models.interchange import halfway
from cutaway.models.model import Model
from cutaway.testing import tiny, tiny_task

SITES = (
    "resid_pre[1]@4",
    "resid_post[0]@-1",
    "resid_post[2]@-1",
    "resid_mid[1]@subject",
    "z[1].head[2]@-2",
    "mlp_out[0]@5",
)


@functools.cache
def double(family: Any) -> Model:
    model = tiny(family)
    model.hf.double()
    return model


def pairs(model: Model) -> Pairs:
    return pairs_of(model, tiny_task().encode(model.tokenizer))


def gap_of_a_plain_run(model: Model, said: Pairs, number: int, site: Site, subspace: Subspace) -> torch.Tensor:
    """The slow way: run base and source whole, put the mixture in, run again."""
    named = {
        name: [where[p] for p in (said.base[number], said.source[number])] for name, where in said.positions.items()
    }
    ids = [list(said.ids[said.base[number]]), list(said.ids[said.source[number]])]
    run = model.run(ids, read=[site], positions=named)
    base, source = run[site]
    new = subspace.exchanged(base[None], source[None])
    logits = model.run(
        [ids[0]], edit=apply(site, lambda old: new), positions={n: [w[0]] for n, w in named.items()}, strict=True
    ).last_logits[0]
    label, other = (logits[list(side)].logsumexp(-1) for side in (said.label[number], said.other[number]))
    return label - other


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("text", SITES)
@pytest.mark.parametrize("size", [0, 3, None])
def test_an_interchange_is_a_plain_run_with_the_mixture_put_in(family: str, text: str, size: int | None) -> None:
    model, site = double(family), Site.parse(text)
    said = pairs(model)
    found = aligned(model, said, site)
    subspace = random_subspace(found.width, found.width if size is None else max(size, 1), 3, torch.float64)
    if size == 0:
        subspace = Subspace(subspace.rotation, torch.zeros(1, dtype=torch.float64))
    numbers = list(range(len(said)))
    gaps = found.gap(numbers, subspace)
    for number in numbers[::3]:
        plain = gap_of_a_plain_run(model, said, number, site, subspace)
        assert float(gaps[number]) == pytest.approx(float(plain), abs=1e-5)  # norms compute in single precision


def test_the_whole_space_is_patching_and_no_dimension_is_the_base() -> None:
    model, site = double("llama"), Site.parse("resid_post[0]@-1")
    said = pairs(model)
    found = aligned(model, said, site)
    everything = random_subspace(found.width, found.width, 0, torch.float64)
    nothing = Subspace(everything.rotation, torch.zeros(found.width, dtype=torch.float64))
    run = model.run([list(ids) for ids in said.ids], read=[site])
    for number in range(0, len(said), 4):
        patched = model.run(
            [list(said.ids[said.base[number]])],
            edit=apply(site, lambda old, n=number: run[site][said.source[n]][None]),  # type: ignore[misc]
            strict=True,
        ).last_logits[0]
        label, other = (patched[list(side)].logsumexp(-1) for side in (said.label[number], said.other[number]))
        assert float(found.gap([number], everything)[0]) == pytest.approx(float(label - other), abs=1e-5)
        plain = run.last_logits[said.base[number]]
        label, other = (plain[list(side)].logsumexp(-1) for side in (said.label[number], said.other[number]))
        assert float(found.gap([number], nothing)[0]) == pytest.approx(float(label - other), abs=1e-5)


@pytest.mark.parametrize("text", ["resid_pre[1]@4", "resid_post[1]@-1"])
def test_gradients_go_through_the_resumed_run(text: str) -> None:
    """Against differences of the resumed run itself and of a whole run."""
    model, site = double("gpt2"), Site.parse(text)
    half = halfway(model, [model.encode("When Mary and John went to the store, John gave a drink to")], site)
    tokens = [model.token_id(" Mary"), model.token_id(" John")]
    value = half.values.clone().requires_grad_(True)
    with torch.enable_grad():
        logits = half.logits([0], value, tokens)[0]
        (slope,) = torch.autograd.grad(logits[0] - logits[1], value)
    direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = 1e-4

    def whole(new: torch.Tensor) -> float:
        logits = model.run([list(half.base.ids[0])], edit=apply(site, lambda old: new)).last_logits[0]
        return float(logits[tokens[0]] - logits[tokens[1]])

    moved = (whole(half.values + step * direction) - whole(half.values - step * direction)) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(moved, rel=1e-4)
    assert all(weight.requires_grad for weight in model.hf.parameters())
    assert all(weight.grad is None for weight in model.hf.parameters())


@given(width=st.integers(1, 40), seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=30, deadline=None)
def test_columns_are_orthonormal(width: int, seed: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, width))
    rotation = random_subspace(width, size, seed).rotation
    np.testing.assert_allclose((rotation.T @ rotation).numpy(), np.eye(size), atol=1e-6)


def test_orthonormal_leaves_what_is_orthonormal() -> None:
    rotation = random_subspace(12, 5, 0, torch.float64).rotation
    np.testing.assert_allclose(orthonormal(rotation).numpy(), rotation.numpy(), atol=1e-12)


@pytest.mark.parametrize("size", [4, None])
def test_a_trained_rotation_is_orthogonal_and_fits_better_than_a_random_one(size: int | None) -> None:
    model = tiny("llama")
    said = pairs(model)
    found = aligned(model, said, Site.parse("resid_post[1]@-1"))
    everything = list(range(len(said)))
    space = train(found, everything, Training(size, 60, rate=0.02, seed=1))
    product = space.rotation.T @ space.rotation
    assert float((product - torch.eye(len(product))).abs().max()) < 1e-6
    random = random_subspace(found.width, max(1, space.size), 5)
    assert (
        float(found.gap(everything, space).detach().mean()) > float(found.gap(everything, random).detach().mean()) + 0.5
    )
    assert right(found, everything, space).mean() >= right(found, everything, random).mean()


def test_training_repeats_with_its_seed_and_not_with_another() -> None:
    model = tiny("llama")
    said = pairs(model)
    found = aligned(model, said, Site.parse("resid_post[0]@-1"))
    first, again, other = (train(found, [0, 1, 2, 3], Training(2, 5, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first.rotation, again.rotation)
    assert not torch.equal(first.rotation, other.rotation)


def test_the_boundary_hardens() -> None:
    soft, hard = (boundary_mask(torch.tensor(0.5), 20, warmth) for warmth in (temperature(0, 9, 20), 0.1))
    assert float(hard[:9].min()) > 0.99
    assert float(hard[11:].max()) < 0.01
    assert 0.01 < float(soft[11]) < 0.5
    assert temperature(8, 9, 20) == pytest.approx(0.1)


def test_pairs_say_what_the_answers_say() -> None:
    model = tiny("llama")
    encoded = tiny_task().encode(model.tokenizer)
    said = pairs_of(model, encoded)
    n = len(encoded)
    answers = [*encoded.answer_ids, *encoded.wrong_ids]
    for number in range(len(said)):
        base, source = said.base[number], said.source[number]
        assert answers[source] == said.label[number]
        assert {answers[base], answers[(base + n) % (2 * n)]} == {said.label[number], said.other[number]}
        assert len(said.ids[base]) == len(said.ids[source])


def test_held_out_prompts_are_never_trained_on() -> None:
    said = pairs(tiny("llama"))
    numbers, tested = held_out(said, 0)
    seen = {p for i in numbers for p in (said.base[i], said.source[i])}
    assert numbers and tested
    assert not seen & {p for i in tested for p in (said.base[i], said.source[i])}


def test_pairs_of_different_lengths_are_refused() -> None:
    model = tiny("llama")
    said = Pairs(((0, 5, 6), (0, 5, 6, 7)), (0,), (1,), ((5,),), ((6,),), (0,))
    with pytest.raises(TaskError, match="a base of 3 tokens has a source of 4; values are exchanged"):
        aligned(model, said, Site.parse("resid_post[0]@-1"))


def test_a_site_without_a_position_is_refused() -> None:
    model = tiny("llama")
    with pytest.raises(
        ParameterError, match=r"'resid_post\[0\]' has no position; a subspace is exchanged at one token"
    ):
        one_site_each(model, tiny_task().encode(model.tokenizer), "resid_post[0]")


def test_a_twin_has_the_numbers_and_not_the_order() -> None:
    model = tiny("gpt2")
    before = {name: weight.clone() for name, weight in model.hf.named_parameters()}
    twin = random_twin(model, 0)
    for (name, weight), mine in zip(before.items(), twin.hf.parameters(), strict=True):
        assert torch.equal(weight, dict(model.hf.named_parameters())[name])
        assert torch.equal(weight.flatten().sort().values, mine.flatten().sort().values)
        assert weight.dim() < 2 or not torch.equal(weight, mine)
