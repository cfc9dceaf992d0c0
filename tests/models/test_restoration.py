"""Restored runs against plain forward hooks, cell by cell, and their laws."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cutaway.core.errors import PlanError
from cutaway.models import sweep
from cutaway.models.model import Model
from cutaway.models.restoration import Cell, restored, restored_slowly
from cutaway.testing import tiny, tiny_task

LAYERS, WIDTH, SUBJECT = 3, 32, (4, 6)


@functools.cache
def opened(family: Any, dtype: torch.dtype = torch.float64) -> Model:
    model = tiny(family)
    model.hf.to(dtype)
    return model


def prompt(model: Model) -> tuple[int, ...]:
    return tiny_task().encode(model.tokenizer).ids[0]


def noise_on(model: Model, samples: int = 3, size: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.zeros(samples, len(prompt(model)), WIDTH, dtype=model.dtype)
    shape = (samples, SUBJECT[1] - SUBJECT[0], WIDTH)
    noise[:, SUBJECT[0] : SUBJECT[1]] = size * torch.randn(shape, generator=generator, dtype=torch.float64).to(noise)
    return noise


def score(logits: Tensor) -> Tensor:
    return logits.log_softmax(dim=-1)[:, 40]


def windows(positions: Sequence[int]) -> list[Cell]:
    every = [(layer,) for layer in range(LAYERS)]
    wide = [(0, 1), (1, 2), (0, 1, 2)]
    cells = [Cell("resid_post", one, (p,)) for p in positions for one in every]
    cells += [Cell(kind, one, (p,)) for p in positions for one in (*every, *wide) for kind in ("mlp_out", "attn_out")]
    return cells + [
        Cell("resid_post", one, (p,), cut) for p in positions for one in every for cut in ("mlp_out", "attn_out")
    ]


def blocks(model: Model, family: str) -> list[tuple[Any, Any, Any]]:
    """Each layer with its MLP and its attention, as transformers names them."""
    if family == "llama":
        return [(one, one.mlp, one.self_attn) for one in model.hf.model.layers]
    return [(one, one.mlp, one.attn) for one in model.hf.transformer.h]


def by_hooks(model: Model, family: str, noise: Tensor, cell: Cell) -> Tensor:
    """As the paper's code does it: the clean run is row 0, the damaged ones follow, and one forward is one cell."""
    rows = torch.tensor([prompt(model)] * (len(noise) + 1))
    added = torch.cat([torch.zeros_like(noise[:1]), noise])
    kept: dict[Any, Tensor] = {}

    def first(output: Any) -> Tensor:
        return output if isinstance(output, Tensor) else output[0]

    def run(hooks: list[tuple[Any, Any]]) -> Tensor:
        embedding = model.hf.get_input_embeddings()
        handles = [embedding.register_forward_hook(lambda module, args, output: output + added)]
        handles += [module.register_forward_hook(hook) for module, hook in hooks]
        try:
            with torch.no_grad():
                return score(model.hf(rows).logits[:, -1])
        finally:
            for handle in handles:
                handle.remove()

    column = {"resid_post": 0, "mlp_out": 1, "attn_out": 2}

    def keep(module: Any, args: Any, output: Any) -> None:
        kept[module] = first(output).clone()

    def restore(module: Any, args: Any, output: Any) -> None:
        for position in cell.positions:
            first(output)[1:, position] = first(output)[0, position]

    def sever(module: Any, args: Any, output: Any) -> None:
        for position in cell.positions:
            first(output)[1:, position] = kept[module][1:, position]

    layers = blocks(model, family)
    later = range(cell.layers[-1] + 1, LAYERS) if cell.severed else ()
    cut = [layers[layer][column[cell.severed]] for layer in later]
    run([(module, keep) for module in cut])
    chosen = [layers[layer][column[cell.kind]] for layer in cell.layers]
    return run([*((module, restore) for module in chosen), *((module, sever) for module in cut)])[1:]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_every_cell_is_one_plain_forward_with_hooks(family: str) -> None:
    model = opened(family)
    noise, cells = noise_on(model), windows([3, 5, 13, 14][: 3 if family == "gpt2" else 4])
    cells = [cell for cell in cells if max(cell.positions) < len(prompt(model))]
    found = restored(model, prompt(model), noise, cells, score)
    expected = torch.stack([by_hooks(model, family, noise, cell) for cell in cells], dim=1)
    torch.testing.assert_close(found.values, expected, rtol=0, atol=1e-12)
    assert found.computed < len(noise) * len(cells)


def test_single_precision_agrees_within_its_rounding() -> None:
    model = opened("llama", torch.float32)
    noise, cells = noise_on(model), windows([5, 12])
    fast, slow = (run(model, prompt(model), noise, cells, score) for run in (restored, restored_slowly))
    torch.testing.assert_close(fast.values, slow.values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tier", ["suffix", "grow", "resume", "full"])
def test_every_way_to_share_work_gives_the_same(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("llama")
    noise, cells = noise_on(model), [*windows([4, 7]), Cell("mlp_out", (0, 1), (4, 7))]
    slow = restored_slowly(model, prompt(model), noise, cells, score)
    assert sweep.tier_of(model) == "suffix"
    monkeypatch.setitem(model.__dict__, "_tier", tier)
    found = restored(model, prompt(model), noise, cells, score)
    torch.testing.assert_close(found.values, slow.values, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.clean, slow.clean, rtol=0, atol=1e-12)


@given(
    family=st.sampled_from(["llama", "gpt2"]),
    layer=st.integers(0, LAYERS - 1),
    seed=st.integers(0, 99),
    size=st.floats(0.1, 5.0),
)
@settings(max_examples=12, deadline=None)
def test_all_positions_restored_are_the_clean_run(family: str, layer: int, seed: int, size: float) -> None:
    model = opened(family)
    everywhere = Cell("resid_post", (layer,), tuple(range(len(prompt(model)))))
    found = restored(model, prompt(model), noise_on(model, size=size, seed=seed), [everywhere], score)
    torch.testing.assert_close(found.values[:, 0], found.clean.expand(3), rtol=0, atol=1e-10)


@given(family=st.sampled_from(["llama", "gpt2"]), position=st.integers(0, 3), layer=st.integers(0, LAYERS - 1))
@settings(max_examples=8, deadline=None)
def test_positions_before_the_noise_restore_nothing(family: str, position: int, layer: int) -> None:
    model = opened(family)
    found = restored(model, prompt(model), noise_on(model), [Cell("resid_post", (layer,), (position,))], score)
    torch.testing.assert_close(found.values[:, 0], found.damaged, rtol=0, atol=0)
    assert found.computed == 0


def test_without_noise_nothing_is_damaged_and_nothing_won_back() -> None:
    model = opened("llama")
    found = restored(model, prompt(model), noise_on(model, size=0.0), windows([4, 14]), score)
    torch.testing.assert_close(found.damaged, found.clean.expand(3), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.values, found.damaged[:, None].expand_as(found.values), rtol=0, atol=1e-12)


def test_the_size_of_batches_changes_nothing() -> None:
    model = opened("gpt2")
    cells = windows([4, 9])
    one, many = (restored(model, prompt(model), noise_on(model), cells, score, batch=size) for size in (5, None))
    torch.testing.assert_close(one.values, many.values, rtol=0, atol=1e-12)


def test_no_cells_are_no_values() -> None:
    found = restored(opened("llama"), prompt(opened("llama")), noise_on(opened("llama")), [], score)
    assert found.values.shape == (3, 0)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (Cell("mlp_out", (0, 2), (4,)), "neighbours in rising order"),
        (Cell("mlp_out", (), (4,)), r"the layers \(\)"),
        (Cell("attn_out", (2, 3), (4,)), "of 0 to 2"),
        (Cell("resid_post", (0, 1), (4,)), r"Give layers=\(0,\)"),
        (Cell("resid_post", (0,), (40,)), "The prompt has 0 to"),
        (Cell("resid_post", (0,), ()), r"the positions \(\)"),
    ],
)
def test_cells_that_mean_nothing_are_refused(cell: Cell, said: str) -> None:
    model = opened("llama")
    with pytest.raises(PlanError, match=said):
        restored(model, prompt(model), noise_on(model), [cell], score)


def test_noise_of_another_shape_is_refused() -> None:
    model = opened("llama")
    with pytest.raises(PlanError, match=r"It is \[sample, position, d_model\]"):
        restored(model, prompt(model), noise_on(model)[:, :3], [], score)
