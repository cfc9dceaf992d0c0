from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import ParameterError, TaskError
from cutaway.core.task import Task
from cutaway.data.countries import COUNTRIES
from cutaway.data.tasks import ioi as ioi_file
from cutaway.data.tasks.agreement import ATTRACTORS, SUBJECTS, agreement
from cutaway.data.tasks.arithmetic import EXAMPLE, arithmetic, pairs
from cutaway.data.tasks.capitals import capitals
from cutaway.data.tasks.docstring import ARGUMENTS, METHODS, docstring
from cutaway.data.tasks.facts import RELATIONS, facts
from cutaway.data.tasks.gender_pronoun import FEMALE, MALE, gender_pronoun
from cutaway.data.tasks.greater_than import NOUNS as EVENTS
from cutaway.data.tasks.greater_than import greater_than
from cutaway.data.tasks.induction import induction
from cutaway.data.tasks.ioi import NAMES, OBJECTS, PLACES, ioi
from cutaway.data.words import NOUNS

TASKS: dict[str, Callable[..., Task]] = {
    "ioi": ioi,
    "greater_than": greater_than,
    "capitals": capitals,
    "facts": facts,
    "induction": induction,
    "docstring": docstring,
    "agreement": agreement,
    "gender_pronoun": gender_pronoun,
    "arithmetic": arithmetic,
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in TASKS),
    ("ioi", {"contrast": "swap"}),
    ("ioi", {"order": "abba"}),
    ("greater_than", {"answer": "tens_digit"}),
    *(("facts", {"relation": relation}) for relation in RELATIONS),
    ("induction", {"contrast": "fresh", "length": 6}),
    *(("docstring", {"contrast": contrast}) for contrast in ("random_def", "random_doc", "random_answer")),
    ("agreement", {"attractor": "any", "verb": "has"}),
    ("gender_pronoun", {"contrast": "profession"}),
    ("arithmetic", {"operation": "subtract", "form": 3}),
]
# How many of 100 pairs (seed 0) each tokenizer can use.
KEPT_SMOLLM2 = {
    "ioi": 100,
    "greater_than": 87,
    "capitals": 100,
    "facts": 96,
    "induction": 100,
    "docstring": 100,
    "agreement": 100,
    "gender_pronoun": 100,
    "arithmetic": 100,
}

every_task = pytest.mark.parametrize("name", TASKS)
every_variant = pytest.mark.parametrize(
    ("name", "parameters"), VARIANTS, ids=["-".join([n, *map(str, p.values())]) for n, p in VARIANTS]
)


def named(task: Task, name: str, index: int) -> str:
    start, end = task.positions[name][index]
    return task.prompts[index][start:end]


def named_in_contrast(task: Task, name: str, index: int) -> str:
    start, end = task.contrast_positions[name][index]
    return task.contrasts[index][start:end]


def message(call: Callable[[], object]) -> str:
    with pytest.raises(TaskError) as caught:
        call()
    return str(caught.value)


# --- laws of all tasks ------------------------------------------------------------------------------------


@every_task
@given(seed=st.integers(0, 2**32), n=st.integers(1, 12))
@settings(max_examples=8, deadline=None)
def test_the_same_seed_gives_the_same_prompts_and_each_of_them_once(name: str, seed: int, n: int) -> None:
    task = TASKS[name](n=n, seed=seed)
    assert task == TASKS[name](n=n, seed=seed)
    assert task.seed == seed
    assert len(set(task.prompts)) == len(task) == n


@every_task
def test_another_seed_gives_other_prompts(name: str) -> None:
    assert TASKS[name](n=10, seed=0).prompts != TASKS[name](n=10, seed=1).prompts


@every_variant
def test_every_prompt_has_a_contrast_answers_and_named_words(name: str, parameters: dict[str, Any]) -> None:
    task = TASKS[name](n=20, **parameters)
    assert task.name == name
    assert task.source
    assert len(task.template) == len(task.contrasts) == len(task)
    assert task.positions.keys() == task.contrast_positions.keys()
    assert task.positions
    for prompt, contrast, answers, wrong in zip(task.prompts, task.contrasts, task.answers, task.wrong):
        assert prompt != contrast
        assert not set(answers) & set(wrong)
        assert prompt.endswith(" ") == (
            name == "arithmetic" and "ends" not in parameters
        )  # digits are tokens of their own
    for index in range(len(task)):
        for word in task.positions:
            assert re.fullmatch(r"\w+( \w+)*", named(task, word, index))
            assert re.fullmatch(r"\w+( \w+)*", named_in_contrast(task, word, index))


@every_variant
def test_with_every_word_a_token_all_pairs_align(
    name: str, parameters: dict[str, Any], words_of: Callable[[Task], Any]
) -> None:
    task = TASKS[name](n=30, **parameters)
    tokenizer = words_of(task)
    encoded = task.encode(tokenizer)
    if name == "greater_than" and not parameters:
        assert all("begin with the same token" in drop.reason for drop in encoded.dropped)
    else:
        assert encoded.dropped == ()
    for row, index in enumerate(encoded.kept):
        tokens = encoded.tokens(tokenizer)[row]
        for word, places in encoded.positions.items():
            if word != "end":
                assert named(task, word, index).endswith(tokens[places[row]].strip())


@pytest.mark.parametrize(
    ("name", "available"),
    [
        ("capitals", 4 * sum(bool(country.capital) for country in COUNTRIES)),
        ("facts", sum(2 * len(relation.answers) for relation in RELATIONS.values())),
        ("gender_pronoun", 17 * len((*FEMALE, *MALE))),
    ],
)
def test_more_prompts_than_there_are_is_refused_with_their_number(name: str, available: int) -> None:
    task = TASKS[name](n=available)
    assert len(set(task.prompts)) == available
    said = message(lambda: TASKS[name](n=available + 1))
    assert f"has {available} different prompts" in said
    assert said.endswith(f"Write n={available}, or less.")


def test_lists_that_are_used_up_while_drawing_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ioi_file, "NAMES", NAMES[:5])
    monkeypatch.setattr(ioi_file, "TEMPLATES", ioi_file.TEMPLATES[4:5])
    said = message(lambda: ioi(n=1000, order="baba"))
    assert "task 'ioi' has 20 different prompts with these parameters, and 1000 were asked for;" in said


@every_task
def test_parameters_are_checked(name: str) -> None:
    for wrong in ({"n": 0}, {"seed": -1}, {"contrst": "abc"}):
        with pytest.raises(ParameterError):
            TASKS[name](**wrong)


# --- each task --------------------------------------------------------------------------------------------


def test_ioi_names_its_people() -> None:
    task = ioi(n=200)
    for index in range(len(task)):
        assert task.answers[index] == (f" {named(task, 'io', index)}",)
        assert task.wrong[index] == (f" {named(task, 's1', index)}",)
        assert named(task, "s1", index) == named(task, "s2", index)
        assert task.positions["s1"][index][0] < task.positions["s2"][index][0]
        after = task.prompts[index][task.positions["s1"][index][1] :].split()[0]
        assert named(task, "s1_plus_1", index) == after
        giver_first = task.positions["s1"][index] < task.positions["io"][index]
        assert task.template[index].startswith("baba" if giver_first else "abba")
    assert len(set(task.template)) == 30


def test_ioi_contrasts() -> None:
    abc, swap = ioi(n=50), ioi(n=50, contrast="swap")
    assert abc.prompts == swap.prompts
    for index in range(50):
        people = {named(abc, "io", index), named(abc, "s1", index)}
        others = [named_in_contrast(abc, name, index) for name in ("io", "s1", "s2")]
        assert len({*others, *people}) == 5
        changed = [(a, b) for a, b in zip(abc.prompts[index].split(), swap.contrasts[index].split()) if a != b]
        assert changed == [(named(swap, "s2", index), named(swap, "io", index))]
    assert {template.split("-")[0] for template in ioi(n=20, order="abba").template} == {"abba"}


def test_greater_than_answers_are_the_later_years() -> None:
    for task in (greater_than(n=60), greater_than(n=60, answer="tens_digit")):
        assert task.metric == "probability_difference"
        for index, prompt in enumerate(task.prompts):
            found = re.fullmatch(r"The (\w+) lasted from the year (\d\d)(\d\d) to the year (\d\d)", prompt)
            assert found is not None
            noun, century, year, again = found.groups()
            assert century == again
            assert (named(task, "noun", index), named(task, "yy", index)) == (noun, year)
            assert named(task, "yy_tens", index) == year[0]
            assert named_in_contrast(task, "yy", index) == "01"
            size = len(task.answers[index][0])
            assert all(answer > year[:size] for answer in task.answers[index])
            both = sorted([*task.answers[index], *task.wrong[index], *([year[0]] if size == 1 else [])])
            assert both == [f"{number:0{size}}" for number in range(10**size)]


def test_capitals_and_facts_ask_the_contrast_for_the_wrong_answer() -> None:
    known = {country.name: tuple(f" {capital}" for capital in country.capital) for country in COUNTRIES}
    task = capitals(n=100)
    for index in range(len(task)):
        assert task.answers[index] == known[named(task, "country", index)]
        assert task.wrong[index] == known[named_in_contrast(task, "country", index)]
    mixed = facts(n=80)
    assert Counter(label.split("-")[0] for label in mixed.template) == dict.fromkeys(RELATIONS, 10)
    for index, label in enumerate(mixed.template):
        answers = RELATIONS[label.split("-")[0]].answers
        assert mixed.answers[index] == tuple(f" {a}" for a in answers[named(mixed, "subject", index)])
        assert mixed.wrong[index] == tuple(f" {a}" for a in answers[named_in_contrast(mixed, "subject", index)])


def test_the_tables_are_whole() -> None:
    assert len({country.name for country in COUNTRIES}) == len(COUNTRIES) > 80
    assert [country.name for country in COUNTRIES] == sorted(country.name for country in COUNTRIES)
    for relation in RELATIONS.values():
        assert len(relation.answers) >= 15
        assert len(set(relation.answers.values())) >= 4
        assert all(subject and all(answers) for subject, answers in relation.answers.items())
    lists = [NAMES, PLACES, OBJECTS, NOUNS, EVENTS, ARGUMENTS, METHODS, SUBJECTS, ATTRACTORS, FEMALE, MALE]
    assert all(len(set(words)) == len(words) for words in lists)
    assert not set(FEMALE) & set(MALE)
    assert not set(SUBJECTS) & set(ATTRACTORS)


def test_induction_repeats_and_its_contrasts_change_what_they_say() -> None:
    last, fresh = induction(n=40, length=8), induction(n=40, length=8, contrast="fresh")
    for index, prompt in enumerate(last.prompts):
        said = prompt.removeprefix("Words: ").split()
        once, again = said[:8], said[8:]
        assert len(set(once)) == 8
        assert again == once[: len(again)]
        assert len(again) >= 2
        assert last.answers[index] == (f" {once[len(again)]}",)
        assert named(last, "copied", index) == once[len(again)]
        assert named(last, "first", index) == again[-1]
        assert last.positions["repeat"][index][0] > last.positions["copied"][index][0]
        assert named(last, "repeat", index) == once[0]
        changed = last.contrasts[index].removeprefix("Words: ").split()
        assert changed[:-1] == said[:-1]
        follower = once[once.index(changed[-1]) + 1]
        assert last.wrong[index] == (f" {follower}",)
        assert follower != again[-1]
        others = fresh.contrasts[index].removeprefix("Words: ").split()
        assert fresh.prompts[index] == prompt
        assert others[8:] == again
        assert not set(others[:8]) & set(once)


@pytest.mark.parametrize(
    ("contrast", "changed"),
    [
        ("random_random", {"a_def", "b_def", "c_def", "a_doc", "b_doc"}),
        ("random_def", {"a_def", "b_def"}),
        ("random_doc", {"a_doc", "b_doc"}),
        ("random_answer", {"c_def"}),
    ],
)
def test_docstring_describes_its_arguments_in_turn(contrast: str, changed: set[str]) -> None:
    task = docstring(n=30, contrast=contrast)
    for index, prompt in enumerate(task.prompts):
        arguments = re.findall(r"\w+", prompt.split("\n")[0].partition("self, ")[2])
        described = re.findall(r":param (\w+): \w+ \w+\n", prompt)
        assert len(set(arguments)) == 6
        assert described == arguments[2:4]
        assert prompt.endswith("\n    :param")
        assert task.answers[index] == (f" {arguments[4]}",)
        assert sorted(task.wrong[index]) == sorted(f" {a}" for a in arguments if a != arguments[4])
        assert named(task, "c_def", index) == arguments[4]
        assert named(task, "b_doc", index) == arguments[3]
        assert task.positions["b_doc"][index] > task.positions["b_def"][index]
        pairs = {name: (named(task, name, index), named_in_contrast(task, name, index)) for name in task.positions}
        assert {name for name, (before, after) in pairs.items() if before != after} == changed
        compile(prompt + ' x: y z\n    """\n', "docstring", "exec")


def test_agreement_turns_round_with_its_subject() -> None:
    for attractor in ("opposite", "same"):
        task = agreement(n=60, attractor=attractor)
        assert set(task.answers) == {(" is",), (" are",)}
        for index in range(len(task)):
            subject, between = named(task, "subject", index), named(task, "attractor", index)
            plural = subject.endswith("s")
            assert task.answers[index] == ((" are",) if plural else (" is",))
            assert between.endswith("s") == (plural if attractor == "same" else not plural)
            other = named_in_contrast(task, "subject", index)
            assert {subject, other} == {subject.removesuffix("s"), f"{subject.removesuffix('s')}s"}
            assert named_in_contrast(task, "attractor", index) == between
    assert set(agreement(n=20, verb="was").answers) == {(" was",), (" were",)}


def test_gender_pronoun_follows_the_stereotype() -> None:
    task, other = gender_pronoun(n=80), gender_pronoun(n=80, contrast="profession")
    for index in range(len(task)):
        female = named(task, "profession", index) in FEMALE
        assert (task.answers[index], task.wrong[index]) == (((" she",), (" he",)) if female else ((" he",), (" she",)))
        assert named_in_contrast(task, "profession", index) == ("man" if female else "woman")
        assert named_in_contrast(other, "profession", index) in (MALE if female else FEMALE)


# --- real tokenizers --------------------------------------------------------------------------------------


@pytest.mark.real
@every_variant
def test_pairs_align_for_real_tokenizers(name: str, parameters: dict[str, Any], smollm2: Any, minilm: Any) -> None:
    task = TASKS[name](n=30, **parameters)
    for tokenizer in (smollm2, minilm):
        encoded = task.encode(tokenizer)
        for row, index in enumerate(encoded.kept):
            ids, contrast_ids = encoded.ids[row], encoded.contrast_ids[row]
            assert list(ids) == tokenizer(task.prompts[index])["input_ids"]
            assert len(ids) == len(contrast_ids)
            offsets = tokenizer(task.prompts[index], return_offsets_mapping=True)["offset_mapping"]
            for word, spans in task.positions.items():
                first, last = offsets[encoded.positions[word][row]]
                assert first < spans[index][1] <= last


@pytest.mark.real
@every_task
def test_how_many_pairs_smollm2_can_use(name: str, smollm2: Any) -> None:
    task = TASKS[name](n=100)
    encoded = task.encode(smollm2)
    assert (len(encoded), len(encoded.dropped)) == (KEPT_SMOLLM2[name], 100 - KEPT_SMOLLM2[name])
    assert len(greater_than(n=100, answer="tens_digit").encode(smollm2)) == 100


@pytest.mark.real
def test_greater_than_on_single_digits_compares_the_tens(smollm2: Any) -> None:
    by_year, by_digit = greater_than(n=100), greater_than(n=60, answer="tens_digit")
    for task in (by_year, by_digit):
        encoded = task.encode(smollm2)
        for row, index in enumerate(encoded.kept):
            tens, ones = int(named(task, "yy_tens", index)), named(task, "yy", index)[1]
            first_wrong = tens + 1 if task is by_year and ones == "9" else tens
            assert digits_of(smollm2, encoded.answer_ids[row]) == list(range(tens + 1, 10))
            assert digits_of(smollm2, encoded.wrong_ids[row]) == list(range(first_wrong))
    dropped = {named(by_year, "yy_tens", drop.index) for drop in by_year.encode(smollm2).dropped}
    assert dropped == {"0", "9"}


def digits_of(tokenizer: Any, ids: tuple[int, ...]) -> list[int]:
    return [int(tokenizer.decode([index])) for index in ids]


@pytest.mark.real
def test_the_lists_are_single_tokens_of_smollm2(smollm2: Any) -> None:
    words = itertools.chain(
        NAMES, PLACES, OBJECTS, NOUNS, EVENTS, ARGUMENTS, METHODS, FEMALE, MALE, (c.name for c in COUNTRIES)
    )
    plural = [f"{noun}s" for noun in (*SUBJECTS, *ATTRACTORS)]
    listed = [*words, *SUBJECTS, *ATTRACTORS, *plural]
    ids = smollm2([f" {word}" for word in listed], add_special_tokens=False)["input_ids"]
    assert [word for word, tokens in zip(listed, ids) if len(tokens) > 1] == []


@pytest.mark.parametrize("operation", ["add", "subtract"])
def test_arithmetic_is_right_and_its_contrast_is_another_question(operation: str) -> None:
    found = arithmetic(n=60, seed=3, operation=operation)  # type: ignore[arg-type]
    sign = 1 if operation == "add" else -1
    for prompt, contrast, right, wrong, (start, _), (second, _) in zip(
        found.prompts,
        found.contrasts,
        found.answers,
        found.wrong,
        found.positions["a"],
        found.positions["b"],
        strict=True,
    ):
        assert int(prompt[start]) + sign * int(prompt[second]) == int(right[0])
        assert int(contrast[start]) + sign * int(contrast[second]) == int(wrong[0]) != int(right[0])
        assert (prompt[start], prompt[second]) != tuple(map(str, EXAMPLE[operation]))  # type: ignore[index]
    words = arithmetic(n=60, seed=3, operation=operation, ends="word")  # type: ignore[arg-type]
    assert [prompt + " " for prompt in words.prompts] == list(found.prompts)
    assert [answer[0] for answer in words.answers] == [f" {answer[0]}" for answer in found.answers]
    assert len(pairs(operation)) == 35  # type: ignore[arg-type]
