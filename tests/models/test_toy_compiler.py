"""A compiled network says what its program's plain function says, and its true edges are the program's operands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import ModelError
from cutaway.models import toy_program
from cutaway.models.toy_compiler import Compiled
from cutaway.models.toy_program import Indices, Tokens, gathered, mapped, paired, stepped
from cutaway.models.toy_programs import PROGRAMS, Program, program

NAMES = tuple(PROGRAMS)
MOST = 40  # texts of one length that are run; the test over all of them is long


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[Program, Compiled]]:
    return {name: (one := program(name), one.compiled()) for name in NAMES}


def _expected(one: Program, compiled: Compiled, words: tuple[str, ...]) -> torch.Tensor:
    row = torch.zeros(compiled.model.hf.config.vocab_size, dtype=torch.float64)
    for word, logit in one.answer(words).items():
        row[compiled.model.tokenizer.convert_tokens_to_ids(word)] = logit
    return row


def _worst(one: Program, compiled: Compiled, most: int | None) -> float:
    by_length: dict[int, list[tuple[str, ...]]] = {}
    for words in one.inputs():
        by_length.setdefault(len(words), []).append(words)
    worst = 0.0
    for texts in by_length.values():
        step = max(1, len(texts) // most) if most else 1
        some = texts[::step]
        ids = torch.tensor(compiled.model.tokenizer([" ".join(words) for words in some])["input_ids"])
        with torch.no_grad():
            logits = compiled.model.hf(ids).logits[:, -1]
        expected = torch.stack([_expected(one, compiled, words) for words in some])
        worst = max(worst, float((logits - expected).abs().max()))
    return worst


@pytest.mark.parametrize("name", NAMES)
def test_the_network_computes_its_program(name: str, made: dict[str, tuple[Program, Compiled]]) -> None:
    assert _worst(*made[name], MOST) < 1e-6


@pytest.mark.all
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_network_computes_its_program_on_every_short_input(name: str, seed: int) -> None:
    one = program(name)
    assert _worst(one, one.compiled(seed=seed), None) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_steps_and_network_agree_also_where_the_program_means_nothing(
    name: str, made: dict[str, tuple[Program, Compiled]]
) -> None:
    one, compiled = made[name]
    random = np.random.default_rng(0)
    for _ in range(5):
        text = " ".join(random.choice(one.words[1:3], size=4))
        with torch.no_grad():
            logits = compiled.model.hf(torch.tensor([compiled.model.encode(text)])).logits[0, -1]
        for word, logit in compiled.says(compiled.words(text)).items():
            assert logit == pytest.approx(float(logits[compiled.model.encode(word)[-1]]), abs=1e-8) or logit == 0


# Written down from the programs by hand: how many operands cross from one part to another, and the depth.
EDGES = {"reverse": 8, "fraction": 3, "count": 6, "induction": 7, "gates": 11, "balanced": 8}


@pytest.mark.parametrize("name", NAMES)
def test_true_edges_are_the_operands(name: str, made: dict[str, tuple[Program, Compiled]]) -> None:
    one, compiled = made[name]
    edges = compiled.true_edges
    assert len(edges) == EDGES[name]
    task = one.task(16)
    shown, zeroed = compiled.shown(task), compiled.shown(task, "zero")
    assert set(shown) < set(edges) or name in ("fraction", "balanced")
    assert set(shown) <= set(zeroed) == set(edges)


def test_the_edges_of_induction_are_those_of_the_known_circuit(made: dict[str, tuple[Program, Compiled]]) -> None:
    one, compiled = made["induction"]
    sources = {str(edge.target)[0]: str(edge.source) for edge in compiled.true_edges if edge.target.layer == 1}
    assert sources["q"] == sources["v"] == "embed"
    assert sources["k"].startswith("z[0].head")
    hidden = set(compiled.true_edges) - set(compiled.shown(one.task(16)))
    assert {str(edge)[:9] for edge in hidden} == {"embed -> "}  # positions: the same in every contrast
    assert {edge.target.kind for edge in hidden} == {"q", "k"}


def test_idle_parts_are_there_and_write_something(made: dict[str, tuple[Program, Compiled]]) -> None:
    _, compiled = made["induction"]
    model = compiled.model
    run = model.run("a b c a", read="z[0], mlp_contrib[0]", logits="none")
    used = {edge.source.head for edge in compiled.true_edges if edge.source.kind == "z" and edge.source.layer == 0}
    idle = [head for head in range(model.anatomy.n_heads) if head not in used]
    assert len(idle) == 2
    assert float(run["z[0]"][..., idle, :].abs().mean()) > 0.1
    assert float(run["mlp_contrib[0]"].abs().mean()) > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_tasks_have_contrasts_of_the_same_length_with_another_answer(
    name: str, made: dict[str, tuple[Program, Compiled]]
) -> None:
    one, compiled = made[name]
    task = one.task(12, seed=3)
    assert len(task) == 12
    assert task == one.task(12, seed=3) != one.task(12, seed=4)
    encoded = task.encode(compiled.model.tokenizer)
    assert not encoded.dropped
    for prompt, contrast in zip(task.prompts, task.contrasts, strict=True):
        assert one.answer(prompt.split()) != one.answer(contrast.split())


def test_seeds_move_heads_and_directions_but_not_the_program() -> None:
    one = program("induction")
    first, second = one.compiled(seed=0), one.compiled(seed=1)
    ids = torch.tensor([first.model.encode("a b c a")])
    with torch.no_grad():
        assert torch.allclose(first.model.hf(ids).logits, second.model.hf(ids).logits, atol=1e-6)
    assert not torch.allclose(first.model.hf.lm_head.weight, second.model.hf.lm_head.weight)


# --- the language ----------------------------------------------------------------------------------------------------

_tokens, _indices = Tokens(tuple("abc")), Indices(tuple(range(6)))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_steps_mean_what_rasp_means(words: list[str]) -> None:
    first = gathered(_tokens, _indices, None, lambda key: key == 0)
    is_a = mapped(_tokens, lambda word: word == "a", (False, True))
    same = paired(_tokens, first, lambda here, there: here == there, (False, True))
    share = gathered(toy_program.number(_tokens, lambda word: float(word == "a")))
    many = stepped(share, (0.5 + 1e-1,), ("few", "many"), ("few", "many"))
    for position, word in enumerate(words):
        so_far = words[: position + 1]

        def said(variable: toy_program.Variable, at: int = position) -> object:
            values = toy_program.run(variable, words).output[at]
            return variable.labels[int(values.argmax())]

        assert said(first) == words[0]
        assert said(is_a) == (word == "a")
        assert said(same) == (word == words[0])
        part = so_far.count("a") / len(so_far)
        assert toy_program.run(share, words).output[position, 0] == pytest.approx(part)
        if abs(part - 0.6) > 0.02:
            assert said(many) == ("many" if part > 0.6 else "few")


def test_a_match_of_none_is_a_match_of_all() -> None:
    never = gathered(_tokens, _indices, None, lambda key: False)
    assert toy_program.run(never, ["a", "b"]).output[1].tolist() == [0.5, 0.5, 0.0]


def test_an_operand_is_replaced_in_one_step_only() -> None:
    first = gathered(_tokens, _indices, None, lambda key: key == 0)
    both = paired(first, _tokens, lambda a, b: a == b, (False, True))
    base = toy_program.run(both, ["a", "a"])
    other = toy_program.run(both, ["b", "b"]).values
    changed = toy_program.run(both, ["a", "a"], {(both, "x"): other[first]})
    assert base.output[1].tolist() == [0.0, 1.0]
    assert changed.output[1].tolist() == [1.0, 0.0]
    assert changed.values[_tokens].tolist() == base.values[_tokens].tolist()  # the other operand


def test_what_cannot_be_compiled_is_said() -> None:
    with pytest.raises(ModelError, match=r"There is no program 'revers'.*'reverse'"):
        program("revers")
    with pytest.raises(ModelError, match=r"A step gives 'z',"):
        mapped(_tokens, lambda word: "z", ("a", "b"))
    with pytest.raises(ModelError, match=r"one interval more"):
        stepped(_tokens, (0.1,), ("a",), ("a",))
