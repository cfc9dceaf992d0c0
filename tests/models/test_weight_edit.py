"""Weights changed and changed back, bit for bit; and values tried without touching a weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.artifact import Artifact
from cutaway.core.errors import ModelError
from cutaway.core.site import Site
from cutaway.models import edited, weight_edit
from cutaway.models.kept import kept
from cutaway.models.model import Model
from cutaway.models.trial import down_projection, logits_at, matrix_added, vector_added
from cutaway.models.weight_edit import applied, changed
from cutaway.testing import tiny, tiny_folder

ROWS = ([5, 9, 12, 7, 30], [8, 9, 40])


def bits(model: Model) -> dict[str, bytes]:
    return {
        name: weight.detach().reshape(-1).view(torch.uint8).numpy().tobytes()
        for name, weight in model.hf.named_parameters()
    }


def edit_of(model: Model, layer: int, seed: int = 0) -> Artifact:
    matrix = down_projection(model, layer)
    noise = torch.randn(matrix.weight.shape, generator=torch.Generator().manual_seed(seed))
    return weight_edit.weights(model, {matrix.name: matrix.stored(matrix.weight + noise)}, {"method": "noise"})


@given(seed=st.integers(0, 1000), dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]))
@settings(max_examples=8, deadline=None)
def test_undo_gives_the_bits_back_in_every_type(seed: int, dtype: torch.dtype) -> None:
    model = tiny("gpt2")
    model.hf.to(dtype)
    before = bits(model)
    edit = edit_of(model, 1, seed)
    weight_edit.apply(model, edit)
    assert bits(model) != before
    weight_edit.undo(model, edit)
    assert bits(model) == before


def test_a_block_ends_with_the_old_bits_also_after_an_error() -> None:
    model = tiny("llama")
    before = bits(model)
    edit = edit_of(model, 0)
    for context in (applied(model, edit), changed(model, weight_edit.changes_of(edit))):
        with pytest.raises(RuntimeError, match="halfway"), context:
            assert bits(model) != before
            raise RuntimeError("halfway")
        assert bits(model) == before
    assert weight_edit.ledger(model) == ()


def test_edits_are_undone_in_the_reverse_of_their_order() -> None:
    model = tiny("llama")
    before = bits(model)
    first = edit_of(model, 0)
    weight_edit.apply(model, first)
    second = edit_of(model, 1)
    weight_edit.apply(model, second)
    assert weight_edit.ledger(model) == (first.id, second.id)
    with pytest.raises(ModelError, match=rf"is not the last one .* Undo first: {second.id[:8]}"):
        weight_edit.undo(model, first)
    with pytest.raises(ModelError, match="is in tiny-llama already"):
        weight_edit.apply(model, second)
    weight_edit.undo(model, second)
    weight_edit.undo(model, first)
    assert bits(model) == before


def test_other_weights_are_refused() -> None:
    edit = edit_of(tiny("llama"), 0)
    other = tiny("llama", seed=1)
    with pytest.raises(ModelError, match=r"down_proj.weight of tiny-llama is not what it was before this edit"):
        weight_edit.apply(other, edit)
    with pytest.raises(ModelError, match="is not what it was after this edit"):
        weight_edit.undo(other, edit)
    with pytest.raises(ModelError, match="has no weights called 'model.layers.0.mlp.down_proj.weight'"):
        weight_edit.apply(tiny("gpt2"), edit)
    half = tiny("llama")
    half.hf.to(torch.bfloat16)
    with pytest.raises(ModelError, match=r"is bfloat16 .* and float32 .* in the edit.*dtype='float32'"):
        weight_edit.apply(half, edit)
    with pytest.raises(ModelError, match="of kind 'direction'"):
        weight_edit.apply(other, Artifact("direction", {"v": torch.ones(2)}))


def test_values_that_are_no_numbers_are_refused() -> None:
    model = tiny("llama")
    name = down_projection(model, 0).name
    with (
        pytest.raises(ModelError, match="values that are not numbers"),
        changed(model, {name: torch.full((32, 64), torch.nan)}),
    ):
        pass
    with pytest.raises(ModelError, match=r"has the shape \(2, 2\)"), changed(model, {name: torch.ones(2, 2)}):
        pass


def test_a_folder_remembers_its_edits(tmp_path: Path) -> None:
    source = tiny_folder(tmp_path / "plain")
    model = edited.open_edited(str(source), dtype="float32")
    edit = edit_of(model, 1)
    edit.save(tmp_path / "edit.safetensors")
    opened = edited.open_edited(str(source), [tmp_path / "edit.safetensors"], dtype="float32")
    assert weight_edit.ledger(opened) == (edit.id,)
    edited.save(opened, tmp_path / "edited")
    again = edited.open_edited(str(tmp_path / "edited"), dtype="float32")
    assert bits(again) == bits(opened)
    weight_edit.undo(again, edit)
    assert bits(again) == bits(model)
    with pytest.raises(ModelError, match="exists.*new folder"):
        edited.save(again, tmp_path / "edited")
    with pytest.raises(ModelError, match="does not exist"):
        edited.save(again, tmp_path / "no" / "where")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edit.safetensors", "edited", "plain"]


# --- trying without touching a weight ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_projection_is_what_gives_the_mlps_output(family: Any) -> None:
    model = tiny(family)
    model.hf.double()
    matrix = down_projection(model, 1)
    run = model.run([list(ROWS[0])], read="mlp_act[1], mlp_out[1]", logits="none")
    given = run["mlp_act[1]"] @ matrix.weight.T + (0 if matrix.bias is None else matrix.bias)
    torch.testing.assert_close(given, run["mlp_out[1]"])
    assert torch.equal(matrix.stored(matrix.weight), dict(model.hf.named_parameters())[matrix.name])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_matrix_that_is_added_acts_as_the_weights_with_it(family: Any) -> None:
    model = tiny(family)
    model.hf.double()
    matrix = down_projection(model, 1)
    change = torch.randn(matrix.weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    at = [[1, 4], [2]]
    tried = logits_at(model, ROWS, at, matrix_added(matrix, change))
    with changed(model, {matrix.name: matrix.stored(matrix.weight + change)}):
        plain = [model.hf(torch.tensor([row])).logits[0, places] for row, places in zip(ROWS, at)]
    for left, right in zip(tried, plain):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_vector_is_added_at_one_token_of_each_row(family: Any) -> None:
    from cutaway.core.edit import add

    model = tiny(family)
    model.hf.double()
    vector = torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tried = logits_at(model, ROWS, [[4], [2]], vector_added(model, Site("mlp_out", 1), [3, 0], vector))
    for row, place, found in zip(ROWS, (3, 0), tried):
        plain = model.run([list(row)], edit=add(f"mlp_out[1]@{place}", vector), logits="last").last_logits
        torch.testing.assert_close(found, plain)


def test_gradients_are_those_of_small_steps_and_weights_get_none() -> None:
    model = tiny("gpt2")
    model.hf.double()
    vector = torch.zeros(32, dtype=torch.float64, requires_grad=True)

    def score(value: torch.Tensor) -> torch.Tensor:
        return logits_at(model, ROWS, [[4], [2]], vector_added(model, Site("mlp_out", 0), [1, 0], value))[0][0, 7]

    (slope,) = torch.autograd.grad(score(vector), vector)
    step = torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = (score(1e-5 * step) - score(-1e-5 * step)) / 2e-5
    assert float(slope @ step) == pytest.approx(float(difference), rel=1e-5)
    assert all(weight.grad is None and weight.requires_grad for weight in model.hf.parameters())


def test_what_took_long_is_kept_and_what_is_damaged_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cutaway.models import kept as module

    monkeypatch.setenv("CUTAWAY_CACHE", str(tmp_path))
    made: list[int] = []

    def make() -> Artifact:
        made.append(1)
        return Artifact("statistics", {"v": torch.ones(3)})

    assert kept("statistics", {"a": 1}, make) == kept("statistics", {"a": 1}, make)
    assert len(made) == 2, "quick work is not kept"
    monkeypatch.setattr(module, "WORTH_KEEPING", 0.0)
    first = kept("statistics", {"a": 1}, make)
    assert kept("statistics", {"a": 1}, make) == first
    assert len(made) == 3
    kept("statistics", {"a": 2}, make)
    assert len(made) == 4
    (file, *_) = sorted((tmp_path / "artifacts").iterdir())
    for path in (tmp_path / "artifacts").iterdir():
        path.write_bytes(file.read_bytes()[:-4])
    assert kept("statistics", {"a": 1}, make) == first
    assert len(made) == 5


def test_without_a_ledger_the_bits_say_whether_the_edit_is_there() -> None:
    model = tiny("llama")
    before = bits(model)
    edit = edit_of(model, 1)
    weight_edit.apply(model, edit)
    weight_edit.remember(model, [])
    weight_edit.undo(model, edit)
    assert bits(model) == before
