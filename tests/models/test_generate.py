"""Generation with edits equals a loop of full forward passes with the same edits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import cutaway.core.edit as ca
from cutaway.core.errors import ModelError, PlanError, TaskError
from cutaway.core.task import Task
from cutaway.models import generate as generation
from cutaway.models.model import Model

Open = Callable[..., Model]
PROMPT = [5, 9, 17, 33, 2, 8]
RAGGED = [PROMPT, [7, 3, 11], [12, 13, 14, 15, 16, 17, 18, 19]]
VECTOR = 6 * torch.linspace(-1, 1, 32).roll(5)


def looped(model: Model, ids: list[int], edits: Any, steps: int) -> tuple[int, ...]:
    """The whole text again for each token."""
    ends, text = model.hf.generation_config.eos_token_id, list(ids)
    for _ in range(steps):
        there = [e for e in ca.edits_of(edits) if not isinstance(e.site.position, int) or e.site.position < len(text)]
        text.append(int(model.run([text], edit=there, logits="last").last_logits.argmax()))
        if text[-1] == ends:
            break
    return tuple(text[len(ids) :])


EDITS: dict[str, Callable[[int], Any]] = {
    "none": lambda n: None,
    "steer": lambda n: ca.add("resid_post[1]", VECTOR),
    "a prompt's position": lambda n: ca.add("resid_post[1]@2", VECTOR),
    "a position to come": lambda n: ca.add("resid_post[1]@9", VECTOR),
    "the rest of the text": lambda n: ca.add("resid_post[1]@2:", VECTOR),
    "head": lambda n: [ca.ablate("z[1].head[2]"), ca.scale("mlp_out[2]", 0.0)],
    "keys": lambda n: ca.scale("k[1]", -1.0),
    "one key": lambda n: ca.scale("k[1].head[0]@1", 3.0),
    "values": lambda n: ca.ablate("v[2].head[0]@:2"),
    "before rotation": lambda n: ca.scale("k_pre_rope[1]@0", 2.0),
    "between": lambda n: ca.add("resid_mid[1]@1", VECTOR),
    "pattern": lambda n: ca.apply("pattern[1].head[1]", lambda p: torch.ones_like(p) / p.shape[-1]),
    "the end": lambda n: ca.add("final", VECTOR),
    "a function": lambda n: ca.apply("mlp_act[1]", torch.relu),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text"])
def test_edits_at_every_step(opened: Open, family: str, name: str) -> None:
    model = opened(family)
    edits = EDITS[name](len(PROMPT))
    if name == "before rotation" and family == "gpt2":
        pytest.skip("gpt2 rotates nothing")
    if name == "pattern":
        edits = ca.apply("pattern[1].head[1]", lambda p: p * 0.5)
    expected = looped(model, PROMPT, edits, 6)
    found = model.generate([PROMPT], edit=edits, max_new_tokens=6)
    assert found.new_ids == (expected,)
    assert found.ids == ((*PROMPT, *expected),)
    assert model.generate([PROMPT], edit=edits, max_new_tokens=6, use_cache=False).new_ids == (expected,)


def test_edits_change_what_is_written(opened: Open) -> None:
    """The edits above are strong enough to be seen."""
    model = opened("llama")
    plain = looped(model, PROMPT, None, 6)
    changed = [name for name, edit in EDITS.items() if name != "pattern" and looped(model, PROMPT, edit(6), 6) != plain]
    assert len(changed) >= 8, changed


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3_moe", "mamba"])
def test_without_edits_it_is_transformers_own(opened: Open, family: str) -> None:
    model = opened(family, dtype=torch.float32)
    with torch.no_grad():
        ids = torch.tensor([PROMPT])
        out = model.hf.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False, pad_token_id=0
        )
    assert model.generate([PROMPT], max_new_tokens=5).ids[0] == tuple(out[0].tolist())


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text", "opt", "bloom", "bart", "mamba"])
def test_prompts_of_several_lengths(opened: Open, family: str) -> None:
    model = opened(family, family="causal")
    edits = [
        ca.add("resid_post[1]@-1", VECTOR),
        ca.scale("mlp_contrib[2]" if family != "mamba" else "resid_post[2]", 0.5),
    ]
    sliced = ca.add("resid_post[1]@1:4", VECTOR)
    assert model.generate(RAGGED, edit=sliced, max_new_tokens=3).new_ids == tuple(
        looped(model, ids, sliced, 3) for ids in RAGGED
    )
    found = model.generate(RAGGED, edit=edits, max_new_tokens=5)
    for row, ids in enumerate(RAGGED):
        # The prompt's last token stays where it is while the text grows.
        fixed = [ca.add(f"resid_post[1]@{len(ids) - 1}", VECTOR), edits[1]]
        assert found.new_ids[row] == looped(model, ids, fixed, 5), (family, row)
    assert found.rows == (0, 1, 2)
    assert found.prompts == tuple(map(tuple, RAGGED))


def test_which_networks_can_be_padded(opened: Open) -> None:
    """Some count positions from the padding on: their prompts go one length at a time."""
    assert generation._pads_left(opened("llama", dtype=torch.float32))
    assert generation._pads_left(opened("gpt2", dtype=torch.float32))
    assert not generation._pads_left(opened("bart", dtype=torch.float32, family="causal"))


def test_one_value_for_each_prompt(opened: Open) -> None:
    model = opened("llama")
    values = torch.stack([VECTOR, -VECTOR, 2 * VECTOR])
    found = model.generate(RAGGED, edit=ca.add("resid_post[1]", values[:, None]), max_new_tokens=4)
    for row, ids in enumerate(RAGGED):
        assert found.new_ids[row] == looped(model, ids, ca.add("resid_post[1]", values[row]), 4)


@pytest.mark.parametrize("prompts", [[PROMPT], RAGGED], ids=["one", "ragged"])
@pytest.mark.parametrize("family", ["llama", "bart"])
def test_a_grid_of_scales_is_one_decode(opened: Open, family: str, prompts: list[list[int]]) -> None:
    model = opened(family, family="causal")
    found = model.generate(prompts, edit=ca.add("resid_post[1]", VECTOR, scale=[-2, 0, 2]), max_new_tokens=4)
    assert found.scales == (-2.0, 0.0, 2.0) * len(prompts)
    assert found.rows == tuple(row for row in range(len(prompts)) for _ in range(3))
    for row, (prompt, scale) in enumerate(zip(found.rows, found.scales, strict=True)):
        assert found.new_ids[row] == looped(model, prompts[prompt], ca.add("resid_post[1]", VECTOR, scale=scale), 4)
    assert len(set(found.new_ids[:3])) > 1


def test_values_from_another_run_into_the_prompt(opened: Open) -> None:
    model = opened("llama")
    source = model.run([[i + 20 for i in PROMPT]], read="resid_pre[1]")
    expected = looped(model, PROMPT, ca.patch("resid_pre[1]@0:6", source), 4)
    assert model.generate([PROMPT], edit=ca.patch("resid_pre[1]@0:6", source), max_new_tokens=4).new_ids == (expected,)
    assert expected != looped(model, PROMPT, None, 4)
    mean = ca.ablate("z[1]", "mean")
    reference = model.run([PROMPT], read="z[1]")
    found = model.generate([PROMPT], edit=mean, max_new_tokens=4).new_ids
    assert found == (looped(model, PROMPT, ca.ablate("z[1]", "mean", reference=reference), 4),)


def test_reading_while_writing(opened: Open) -> None:
    model = opened("llama")
    edit = ca.add("resid_post[1]", VECTOR)
    for options in ({}, {"use_cache": False}):
        found = model.generate(
            [PROMPT], edit=edit, read="resid_post[*], z[2].head[1], mlp_act[0]", max_new_tokens=4, **options
        )
        assert found.run is not None
        text = list(found.ids[0])[:-1]
        whole = model.run([text], edit=edit, read="resid_post[*], z[2], mlp_act[0]")
        assert found.run.ids == (tuple(text),)
        for site in found.run:
            assert torch.allclose(found.run[site], whole[site], atol=1e-9), str(site)
        assert torch.allclose(found.run["resid_post[3]@-1"], whole["resid_post[3]@-1"], atol=1e-9)


def test_drawing_leaves_the_global_state_alone(opened: Open) -> None:
    model = opened("llama", dtype=torch.float32)
    before = torch.random.get_rng_state()
    draws = [
        model.generate([PROMPT], sample=True, seed=seed, max_new_tokens=8, temperature=3.0).new_ids
        for seed in (1, 1, 2, 3)
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert draws[0] == draws[1]
    assert len(set(draws)) > 1


def test_a_checkpoints_habits_do_not_slip_in(opened: Open) -> None:
    model = opened("llama")
    expected = looped(model, PROMPT, None, 6)
    habits = model.hf.generation_config
    before = habits.to_dict()
    try:
        habits.update(
            do_sample=True, temperature=5.0, top_k=3, repetition_penalty=9.0, num_beams=3, no_repeat_ngram_size=1
        )
        assert model.generate([PROMPT], max_new_tokens=6).new_ids == (expected,)
    finally:
        habits.update(**{key: before[key] for key in before if key in vars(habits)})


def test_the_end_token_ends(opened: Open) -> None:
    model = opened("llama")
    written = model.generate([PROMPT], max_new_tokens=6).new_ids[0]
    stop = written[2]
    found = model.generate([PROMPT, RAGGED[2]], max_new_tokens=6, eos_token_id=stop)
    assert found.new_ids[0] == written[: written.index(stop) + 1]
    assert found.texts[0] == str(found.new_ids[0])


def test_texts(spoken: Callable[[Task], Model]) -> None:
    task = Task.from_prompts(["Mary met John and", "Anna saw"], answers=[" Mary", " John"])
    model = spoken(task)
    found = model.generate(task, max_new_tokens=3)
    assert found.texts == tuple(model.tokenizer.decode(new, skip_special_tokens=True) for new in found.new_ids)
    assert found.prompts == task.encode(model.tokenizer).ids


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_encoder_decoders(opened: Open, family: str) -> None:
    model = opened(family, family="encoder_decoder")
    start = model._decoder_prompts(None, 1).ids[0]
    for edit in (
        None,
        ca.ablate("encoder.resid_post[1]@-1"),
        ca.scale("cross.k[1]@1", -2.0),
        ca.add("resid_post[1]", VECTOR),
    ):
        found = model.generate(RAGGED, edit=edit, max_new_tokens=10)
        for row, ids in enumerate(RAGGED):
            text, ends = list(start), model.hf.generation_config.eos_token_id
            for _ in range(10):
                text.append(int(model.run([ids], edit=edit, decoder=[text]).last_logits.argmax()))
                if text[-1] == ends:
                    break
            assert found.new_ids[row] == tuple(text[1:]), (family, row)


ERRORS: list[tuple[type[Exception], Callable[[Model], Any], str]] = [
    (PlanError, lambda m: m.generate([PROMPT], max_new_tokens=0), "max_new_tokens is 0. It is 1 or more."),
    (
        PlanError,
        lambda m: m.generate([PROMPT], num_beams=4),
        "num_beams is 4. Each prompt is continued in one row, greedily or with sample=True. For several samples, give",
    ),
    (PlanError, lambda m: m.generate([PROMPT], num_return_sequences=2, sample=True), "num_return_sequences is 2."),
    (
        PlanError,
        lambda m: m.generate([PROMPT], edit=ca.ablate("logits")),
        "'zero logits' changes the logits, which generation reads as they leave the network. Edit 'final', or give",
    ),
    (
        PlanError,
        lambda m: m.generate([PROMPT], edit=ca.patch("z[1]", m.run([PROMPT], read="z[1]"))),
        "'replace z[1]' holds a value for each position of the prompt, and none for the text that is written. It can be "
        "put into a range of the prompt. Write 'z[1]@0:6'.",
    ),
    (
        PlanError,
        lambda m: m.generate([PROMPT], read="pattern[1]"),
        "'pattern[1]' cannot be read while text is generated. Sites with one value for each position can, at all positions.",
    ),
    (
        PlanError,
        lambda m: m.generate([PROMPT], read="k_per_query_head[1]"),
        "'k_per_query_head[1]' cannot be read while",
    ),
    (PlanError, lambda m: m.generate([PROMPT], read="final"), "'final' cannot be read while text is generated."),
    (PlanError, lambda m: m.generate(RAGGED, read="z[1]"), "Reading while generating needs prompts of one length."),
    (TaskError, lambda m: m.generate([[]]), "The prompt [] has no tokens."),
    (TaskError, lambda m: m.generate([[500]]), "Token id 500 does not exist."),
]


@pytest.mark.parametrize(("error", "act", "says"), ERRORS, ids=[says[:40] for _, _, says in ERRORS])
def test_what_is_wrong_is_said(opened: Open, untouched: Any, error: type[Exception], act: Any, says: str) -> None:
    model = opened("llama")
    with pytest.raises(error) as caught:
        act(model)
    assert str(caught.value).startswith(says)
    untouched(model)


def test_an_encoder_does_not_write(opened: Open) -> None:
    with pytest.raises(
        ModelError, match=r"BertForMaskedLM cannot write text\. Causal and encoder-decoder models can\."
    ):
        opened("bert", family="encoder").generate([PROMPT])
