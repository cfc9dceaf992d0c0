"""Alignment search on a network whose variables were written into it: hierarchical equality."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import torch

from cutaway.core.artifact import Artifact
from cutaway.core.errors import MethodError
from cutaway.core.site import Site
from cutaway.core.task import Task
from cutaway.methods.alignment import Pairs, Training, aligned, random_subspace, right, train
from cutaway.methods.causal_model import CausalModel, Variable
from cutaway.methods.intervene.boundless_das import boundless_das
from cutaway.methods.intervene.das import das
from cutaway.models.model import Model
from cutaway.models.toy import toy, word_tokenizer
from cutaway.testing import tiny, tiny_task

QUADRUPLES = list(itertools.product(range(3), repeat=4))
WORDS = ["yes", "no", *(f"q{''.join(map(str, q))}" for q in QUADRUPLES)]
WIDTH = 16
EQUALITY = CausalModel(
    (
        Variable("q"),
        Variable("first", ("q",), lambda q: q[0] == q[1]),
        Variable("second", ("q",), lambda q: q[2] == q[3]),
        Variable("same", ("first", "second"), lambda first, second: first == second),
    )
)


@functools.cache
def network() -> tuple[Model, torch.Tensor]:
    """A token for each quadruple; its two equalities lie along two random directions, and an MLP compares them."""
    model = toy(
        word_tokenizer(WORDS),
        seed=0,
        n_layers=1,
        n_heads=1,
        d_model=WIDTH,
        d_head=4,
        d_mlp=2,
        norm="none",
        positions="none",
    )
    directions = random_subspace(WIDTH, WIDTH, 7).rotation
    first, second, out = directions[:, 0], directions[:, 1], directions[:, 2]
    with torch.no_grad():
        nuisance = torch.randn(len(WORDS), WIDTH - 3, generator=torch.Generator().manual_seed(1)) @ directions[:, 3:].T
        embedding = model.hf.model.embed_tokens.weight
        embedding[: len(WORDS)] = nuisance
        for place, q in enumerate(QUADRUPLES):
            signs = [1.0 if q[a] == q[a + 1] else -1.0 for a in (0, 2)]
            embedding[2 + place] += signs[0] * first + signs[1] * second
        layer = model.hf.model.layers[0]
        layer.self_attn.o_proj.weight.mul_(1e-3)
        layer.mlp.up_proj.weight.copy_(torch.stack([first + second, -first - second]))
        layer.mlp.up_proj.bias.zero_()
        layer.mlp.down_proj.weight.copy_(torch.stack([out, out], dim=1))
        layer.mlp.down_proj.bias.copy_(-out)  # |first + second| is 2 where they agree and 0 where not
        model.hf.lm_head.weight.zero_()
        model.hf.lm_head.weight[0], model.hf.lm_head.weight[1] = 4 * out, -4 * out
    return model, directions


def pairs(variable: str, n: int, seed: int) -> Pairs:
    found = EQUALITY.counterfactuals(
        lambda random: {"q": QUADRUPLES[int(random.integers(len(QUADRUPLES)))]}, [variable], n, seed=seed
    )
    ids = [(2, 2 + QUADRUPLES.index(side["q"])) for one in found for side in (one.base, one.source)]
    answer = [((0,), (1,)) if one.answer else ((1,), (0,)) for one in found]
    return Pairs(
        tuple(ids),
        tuple(range(0, 2 * n, 2)),
        tuple(range(1, 2 * n, 2)),
        tuple(label for label, _ in answer),
        tuple(other for _, other in answer),
        tuple(range(n)),
    )


def test_the_network_computes_its_program() -> None:
    model, _ = network()
    logits = model.run([[2, 2 + place] for place in range(len(QUADRUPLES))], logits="last").last_logits
    truth = [EQUALITY.values({"q": q})["same"] for q in QUADRUPLES]
    assert (logits[:, 0] > logits[:, 1]).tolist() == truth


@pytest.mark.parametrize(
    ("variable", "size"),
    [
        ("first", 1),
        ("second", None),
        pytest.param("second", 1, marks=pytest.mark.all),
        pytest.param("first", None, marks=pytest.mark.all),
    ],
)
def test_the_planted_variable_is_found(variable: str, size: int | None) -> None:
    model, directions = network()
    said = pairs(variable, 240, 0)
    found = aligned(model, said, Site.parse("resid_pre[0]@-1"))
    numbers = list(range(160))
    space = train(found, numbers, Training(size, 150 if size else 300, rows=32, rate=0.05, seed=0))
    held = list(range(160, 240))
    assert right(found, held, space).mean() >= 0.98
    mine = directions[:, 0 if variable == "first" else 1]
    kept = space.rotation[:, space.mask > 0.5]
    assert float((kept.T @ mine).norm()) > 0.95
    other = directions[:, 1 if variable == "first" else 0]
    assert float((kept.T @ other).norm()) < 0.3
    random = [right(found, held, random_subspace(WIDTH, max(1, space.size), seed)).mean() for seed in range(10)]
    assert np.mean(random) < 0.8


def test_answers_by_lot_cannot_be_learned() -> None:
    model, _ = network()
    said = pairs("first", 240, 0)
    found = aligned(model, said, Site.parse("resid_pre[0]@-1"))
    lots = said.with_random_labels(3)
    space = train(found, list(range(160)), Training(1, 100, rows=32, rate=0.05), lots)
    assert right(found, list(range(160, 240)), space, lots).mean() < 0.65


@pytest.mark.parametrize("method", [das, boundless_das])
def test_what_was_learned_is_kept(method: object, tmp_path: object) -> None:
    result = method(tiny("llama"), tiny_task(), steps=3, controls=0)  # type: ignore[operator]
    space = result.artifacts["subspace"]
    assert space.kind == "subspace" and space.about["site"] == result.metrics["site"]
    again = Artifact.load(space.save(tmp_path / "space.safetensors"))  # type: ignore[operator]
    assert again == space and set(again.tensors) == {"rotation", "mask"}


def test_a_grid_of_sites_is_a_map_of_layers_and_positions() -> None:
    result = das(
        tiny("gpt2"), tiny_task().subset([0, 1]), sites="resid_pre[1:]@4, resid_pre[1:]@-1", steps=2, controls=5
    )
    assert result.data["effect_resid_pre"].dims == ("layer", "position")
    assert len(result.checks) == 3 and all(check.n for check in result.checks)
    assert result.metrics["pairs_tested"] == len(result.data["pair"])


def test_one_prompt_is_trained_on_and_tested_on_and_says_so() -> None:
    result = das(tiny("llama"), tiny_task().subset([0]), steps=2, controls=0)
    assert any("trained on and tested on" in note for note in result.notes)


def test_a_task_without_contrasts_is_refused() -> None:
    with pytest.raises(MethodError, match="'das' cannot run: task 'prompts' has no contrasts"):
        das(tiny("llama"), Task.from_prompts(["Mary and"], answers=[" John"]))
