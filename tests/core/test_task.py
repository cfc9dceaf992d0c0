from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from cutaway.core.errors import TaskError
from cutaway.core.task import METRICS, Task
from cutaway.core.tokens import first_difference, first_tokens, token_ends, token_texts

PEOPLE = ["Mary", "John", "Anna", "Jo", "Joanna"]
TEXTS = [
    "When Mary and John went to the store, John gave a drink to Anna",
    "The capital of France is Paris Rome",
]


def tokenizer_of(*texts: str, pattern: str = r" ?\w+| ?[^\w\s]+|\s+", start: bool = False) -> Any:
    """Whole words as tokens, with the space before them, as in GPT-2's vocabulary for common words."""
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    words = {piece for text in texts for piece, _ in cut.pre_tokenize_str(text)}
    vocabulary = {word: index for index, word in enumerate(["<unk>", "<s>", *sorted(words)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = cut
    if start:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>")


def letters_of(*texts: str, start: bool = False) -> Any:
    """Every character a token: no word is one token here."""
    return tokenizer_of(*texts, pattern=r"[\s\S]", start=start)


def metaspace_of(*words: str) -> Any:
    """Words that begin with "▁", and a decoder that takes the first space away, as Llama 2 has them."""
    vocabulary = {word: index for index, word in enumerate(["<unk>", "▁", *"0123456789", *(f"▁{w}" for w in words)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="always"), digits])
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


class SlowTokenizer(PreTrainedTokenizer):
    """A tokenizer in Python: words with the space before them, a start token, and no offsets."""

    def __init__(self, words: tuple[str, ...] = (), **options: Any) -> None:
        self._words = ["<unk>", "<s>", *words]
        self._ids = {word: index for index, word in enumerate(self._words)}
        super().__init__(unk_token="<unk>", bos_token="<s>", **options)

    @property
    def vocab_size(self) -> int:
        return len(self._words)

    def get_vocab(self) -> dict[str, int]:
        return dict(self._ids)

    def _tokenize(self, text: str, **options: Any) -> list[str]:
        cut = pre_tokenizers.Split(Regex(r" ?\w+| ?[^\w\s]+|\s+"), "isolated")
        return [piece for piece, _ in cut.pre_tokenize_str(text)]

    def _convert_token_to_id(self, token: str) -> int:
        return self._ids.get(token, 0)

    def _convert_id_to_token(self, index: int) -> str:
        return self._words[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)

    def build_inputs_with_special_tokens(self, ids: list[int], other: list[int] | None = None) -> list[int]:
        return [1, *ids, *(other or [])]


def message(call: Any) -> str:
    with pytest.raises(TaskError) as caught:
        call()
    return str(caught.value)


# --- from_prompts -----------------------------------------------------------------------------------------


def test_one_prompt_is_a_text_and_its_answers_a_text_or_a_list() -> None:
    task = Task.from_prompts("To", answers=[" Mary", " Anna"], wrong=" John", contrasts="Of")
    assert task.prompts == ("To",)
    assert task.answers == ((" Mary", " Anna"),)
    assert task.wrong == ((" John",),)
    assert task.contrasts == ("Of",)


def test_lists_pair_up_and_may_hold_lists() -> None:
    task = Task.from_prompts(["a", "b"], answers=[" x", [" y", " z"]], wrong=" w")
    assert task.answers == ((" x",), (" y", " z"))
    assert task.wrong == ((" w",), (" w",))


@pytest.mark.parametrize(
    ("answers", "wrong", "metric"),
    [(" x", " y", "logit_difference"), (" x", None, "log_probability"), (None, None, "kl")],
)
def test_the_metric_follows_from_what_is_there(answers: Any, wrong: Any, metric: str) -> None:
    assert Task.from_prompts("a", answers=answers, wrong=wrong).metric == metric
    assert Task.from_prompts("a", answers=answers, wrong=wrong, metric="rank").metric == "rank"


def test_positions_are_spans_or_words() -> None:
    task = Task.from_prompts(["in France", "in Italy"], positions={"country": ["France", (3, 8)]})
    assert task.positions == {"country": ((3, 9), (3, 8))}
    assert Task.from_prompts("in France", positions={"p": "in"}).positions == {"p": ((0, 2),)}


def test_lists_of_different_lengths_say_both_lengths() -> None:
    said = message(lambda: Task.from_prompts(["a", "b"], contrasts=["c", "d", "e"]))
    assert said == (
        "task 'prompts' has 2 prompts and 3 contrasts; there is one for each prompt, or none. "
        "Give 2 contrasts, or leave them out."
    )
    assert "1 prompts and 2 answers" in message(lambda: Task.from_prompts(["a"], answers=[" x", " y"]))
    assert "1 prompts and 2 spans 'p'" in message(lambda: Task.from_prompts(["ab"], positions={"p": [(0, 1), (0, 1)]}))


def test_what_cannot_be_a_task_is_refused_with_its_values() -> None:
    assert "has no prompts" in message(lambda: Task.from_prompts([]))
    assert "prompts[1] of task 'prompts' is ''" in message(lambda: Task.from_prompts(["a", ""]))
    assert "contrasts[0] of task 'prompts' is ''" in message(lambda: Task.from_prompts(["a", "b"], ["", "c"]))
    assert "answers[1] of task 'prompts' is []" in message(lambda: Task.from_prompts(["a", "b"], answers=[" x", []]))
    assert "wrong[0] of task 'prompts' is ['']" in message(lambda: Task.from_prompts(["a", "b"], wrong=["", " x"]))
    assert "did you mean 'logit_difference'?" in message(lambda: Task.from_prompts("a", metric="logit_diff"))
    assert "(0, 9); it is (start, end) characters with 0 <= start < end <= 3." in message(
        lambda: Task.from_prompts("abc", positions={"p": [(0, 9)]})
    )
    assert "Call it 'last_word'." in message(lambda: Task.from_prompts("abc", positions={"last word": [(0, 1)]}))
    assert "'b' occurs 2 times in 'bb'" in message(lambda: Task.from_prompts("bb", positions={"p": "b"}))


def test_every_metric_is_allowed() -> None:
    assert {Task.from_prompts("a", metric=metric).metric for metric in METRICS} == set(METRICS)


# --- the task as a value ----------------------------------------------------------------------------------


def test_equal_tasks_compare_hash_and_fingerprint_equal_however_they_were_written() -> None:
    left = Task("t", ["a", "b"], answers=[[" x"], " y"], positions={"p": [[0, 1], [0, 1]]})  # type: ignore[arg-type,list-item]
    right = Task("t", ("a", "b"), answers=((" x",), (" y",)), positions={"p": ((0, 1), (0, 1))})
    assert left == right
    assert hash(left) == hash(right)
    assert left.fingerprint == right.fingerprint


def test_the_fingerprint_covers_what_is_asked_and_nothing_else() -> None:
    task = Task.from_prompts(["ab", "bc"], ["cd", "de"], [" x", " y"], [" z", " w"])
    others = [dataclasses.replace(task, **change) for change in ({"name": "n"}, {"seed": 3}, {"source": "s"})]
    assert {other.fingerprint for other in others} == {task.fingerprint}
    changes: list[dict[str, Any]] = [
        {"prompts": ("ab", "bd")},
        {"contrasts": ()},
        {"answers": ((" x",), (" v",))},
        {"wrong": ((" z",), (" v",))},
        {"metric": "rank"},
        {"positions": {"p": ((0, 1), (0, 1))}},
        {"template": ("a", "b")},
    ]
    prints = {dataclasses.replace(task, **change).fingerprint for change in changes}
    assert len(prints | {task.fingerprint}) == len(changes) + 1


def test_a_subset_takes_every_column() -> None:
    task = Task(
        "t", ("ab", "cd", "ef"), ((" a",), (" b",), (" c",)), ((" x",), (" y",), (" z",)), ("1", "2", "3"),
        {"p": ((0, 1), (1, 2), (0, 2))}, {"p": ((0, 1),) * 3}, template=("u", "v", "w"), seed=4,
    )  # fmt: skip
    part = task.subset([2, 0])
    assert part.prompts == ("ef", "ab")
    assert part.answers == ((" c",), (" a",))
    assert part.wrong == ((" z",), (" x",))
    assert part.contrasts == ("3", "1")
    assert part.positions == {"p": ((0, 2), (0, 1))}
    assert part.template == ("w", "u")
    assert part.seed == 4
    assert len(part) == 2
    assert "task 't' has no prompt 3; it has 3 prompts, 0 to 2." in message(lambda: task.subset([0, 3]))
    assert "no prompt was chosen" in message(lambda: task.subset([]))


# --- encode -----------------------------------------------------------------------------------------------


def test_ids_are_those_of_the_tokenizer_and_end_is_the_last() -> None:
    tokenizer = tokenizer_of(*TEXTS, start=True)
    encoded = Task.from_prompts(["John gave a drink to", "The capital"]).encode(tokenizer)
    assert encoded.ids == tuple(tuple(tokenizer(text)["input_ids"]) for text in encoded.prompts)
    assert encoded.ids[0][0] == tokenizer.bos_token_id
    assert encoded.positions["end"] == (5, 2)
    assert encoded.contrast_ids == encoded.answer_ids == encoded.wrong_ids == ()
    assert encoded.tokens(tokenizer)[1] == ["<s>", "The", " capital"]
    assert encoded.summary == "All 2 prompts are used."
    assert encoded.notes == ()


def test_answers_are_their_token_after_the_prompt() -> None:
    tokenizer = tokenizer_of("John gave a drink to Mary Anna", start=True)
    task = Task.from_prompts("John gave a drink to", answers=[" Mary", " Anna", " Mary"], wrong=" John")
    tokenizer.add_tokens([" John"])
    encoded = task.encode(tokenizer)
    ids = tokenizer.convert_tokens_to_ids
    assert encoded.answer_ids == ((ids(" Mary"), ids(" Anna")),)
    assert encoded.wrong_ids == ((ids(" John"),),)


def test_a_long_answer_is_scored_by_its_first_token_and_says_so() -> None:
    tokenizer = letters_of("to Mary John")
    encoded = Task.from_prompts("to ", answers="Mary", wrong="John").encode(tokenizer)
    assert encoded.answer_ids == ((tokenizer.convert_tokens_to_ids("M"),),)
    assert encoded.notes == (
        "2 answers are more than one token; the first token of each is scored ('Mary' by 'M', 'John' by 'J').",
    )
    alone = Task.from_prompts("to ", answers="Mary").encode(tokenizer)
    assert alone.notes == ("Answer 'Mary' is 4 tokens; its first token 'M' is scored.",)


def test_an_answer_without_a_space_goes_on_in_the_text_and_says_so() -> None:
    digits = tokenizer_of("the year 1745", pattern=r" ?[a-z]+| |\d")
    encoded = Task.from_prompts("the year 17", answers="45").encode(digits)
    assert encoded.answer_ids == ((digits.convert_tokens_to_ids("4"),),)
    assert "Answer '45' is without a leading space: the text goes on as '…the year 1745'." in encoded.notes
    words = letters_of("a drink to Mary")
    assert "Write ' Mary' for a new word." in Task.from_prompts("a drink to", answers="Mary").encode(words).notes[-1]


def test_an_answer_that_the_tokenizer_merges_with_the_prompt_is_scored_alone_and_says_so() -> None:
    tokenizer = tokenizer_of("the year 17 1745 45", "45")
    encoded = Task.from_prompts("the year 17", answers="45").encode(tokenizer)
    assert encoded.answer_ids == ((tokenizer.convert_tokens_to_ids("45"),),)
    assert "merged with the end of the prompt by this tokenizer ('…the year 1745')" in encoded.notes[0]
    spaced = Task.from_prompts("a drink to ", answers="Mary").encode(
        tokenizer_of("a drink to ", "a drink to Mary", "Mary")
    )
    assert spaced.notes[0].endswith("End the prompt before its last space and begin the answer with it.")


def test_a_first_token_that_is_both_right_and_wrong_counts_for_neither() -> None:
    digits = tokenizer_of("year 1742 01356789", pattern=r" ?[a-z]+| |\d")
    years = [[f"{y:02}" for y in range(43, 100)], [f"{y:02}" for y in range(43)]]
    encoded = Task.from_prompts("year 17", answers=years[0], wrong=years[1]).encode(digits)
    assert encoded.answer_ids == (tuple(digits.convert_tokens_to_ids(list("56789"))),)
    assert encoded.wrong_ids == (tuple(digits.convert_tokens_to_ids(list("0123"))),)
    assert "In 1 of 1 prompts an answer and a wrong answer begin with the same token (such as '4')" in encoded.notes[-1]


def test_answers_that_cannot_be_told_apart_are_dropped_with_the_token() -> None:
    tokenizer = letters_of("to Jo Joan Anna")
    task = Task.from_prompts(["to", "to "], answers=[" Jo", "Anna"], wrong=[" Joan", "Jo"])
    encoded = task.encode(tokenizer)
    assert encoded.kept == (1,)
    assert encoded.dropped[0].index == 0
    assert encoded.dropped[0].reason == (
        "The answer ' Jo' and the wrong answer ' Joan' begin with the same token ' ', and without it nothing "
        "is left to compare."
    )
    assert encoded.summary.startswith("1 of 2 prompts are used. Prompt 0: The answer ' Jo'")


def test_an_answer_that_the_vocabulary_lacks_is_dropped() -> None:
    tokenizer = tokenizer_of("to Mary")
    encoded = Task.from_prompts(["to", "to"], answers=[" Mary", " Zoe"]).encode(tokenizer)
    assert encoded.kept == (0,)
    assert encoded.dropped[0].reason == "The answer ' Zoe' has no token in this tokenizer."


def test_a_pair_of_other_length_is_dropped_and_says_where() -> None:
    tokenizer = tokenizer_of("Mary Jane went Mary went", "Anna went", start=True)
    encoded = Task.from_prompts(["Mary went", "Mary went"], ["Anna went", "Anna Jane went"]).encode(tokenizer)
    assert encoded.kept == (0,)
    assert len(encoded.contrast_ids[0]) == len(encoded.ids[0])
    assert encoded.dropped[0].reason == (
        "The prompt has 3 tokens and its contrast 4; they differ first at token 1 ('Mary' against 'Anna')."
    )
    longer = message(lambda: Task.from_prompts("Mary", "Mary went").encode(tokenizer))
    assert "they differ first at token 2 (the end against ' went')." in longer


def test_a_pair_with_a_named_word_elsewhere_is_dropped() -> None:
    tokenizer = tokenizer_of("so Mary Jane saw Anna", "so Rosa saw Anna Jane")
    spans = {"subject": ((3, 12),)}
    task = Task(
        "t", ("so Mary Jane saw Anna", "so Rosa saw Anna Jane"), contrasts=("so Rosa saw Anna Jane",) * 2,
        positions={"subject": ((3, 12), (3, 7))}, contrast_positions={"subject": ((3, 7),) * 2},
    )  # fmt: skip
    encoded = task.encode(tokenizer)
    assert encoded.kept == (1,)
    assert encoded.dropped[0].reason == "'subject' is token 2 of the prompt and token 1 of its contrast."
    unsaid = dataclasses.replace(task.subset([0]), contrast_positions={}, positions=spans).encode(tokenizer)
    assert unsaid.kept == (0,)
    assert encoded.notes == ("1 of 1 contrasts have the same tokens as their prompts.",)


def test_a_named_word_is_its_last_token() -> None:
    tokenizer = letters_of("in France", start=True)
    encoded = Task.from_prompts("in France", positions={"country": "France", "in": "in"}).encode(tokenizer)
    assert encoded.positions == {"end": (9,), "country": (9,), "in": (2,)}


def test_a_task_may_say_itself_where_its_end_is() -> None:
    encoded = Task.from_prompts("in France", positions={"end": "in"}).encode(tokenizer_of("in France"))
    assert encoded.positions == {"end": (0,)}


def test_when_nothing_is_left_the_error_gives_the_reasons() -> None:
    tokenizer = tokenizer_of("a b", "c d e")
    said = message(lambda: Task.from_prompts(["a b"] * 4, ["c d e"] * 3 + ["c"]).encode(tokenizer))
    assert said.startswith("none of the 4 prompts of task 'prompts' can be used with this tokenizer. ")
    assert "Prompt 0 and 2 more: The prompt has 2 tokens and its contrast 3;" in said
    assert "Prompt 3: The prompt has 2 tokens and its contrast 1;" in said
    assert "leave out the contrasts." in said


def test_a_tokenizer_without_offsets_finds_the_same_positions() -> None:
    text = "When Mary and John went to the store, John gave"
    fast = tokenizer_of(text, start=True)
    words = tuple(fast.convert_ids_to_tokens(fast(text)["input_ids"])[1:])
    slow = SlowTokenizer(tuple(dict.fromkeys(words)))
    assert not slow.is_fast
    assert slow.convert_ids_to_tokens(slow(text)["input_ids"]) == ["<s>", *words]
    spans = [(start, end) for start in range(len(text)) for end in range(start + 1, len(text) + 1)]
    assert token_ends(slow, text, spans) == token_ends(fast, text, spans)
    named = Task.from_prompts(text, answers=" Mary", positions={"first": "Mary"}).encode(slow)
    assert named.positions == {"end": (11,), "first": (2,)}
    assert named.answer_ids == ((slow.convert_tokens_to_ids(" Mary"),),)


def test_tokens_keep_the_space_that_they_stand_for() -> None:
    tokenizer = tokenizer_of("The capital of")
    assert token_texts(tokenizer, tokenizer("The capital of")["input_ids"]) == ["The", " capital", " of"]
    ids = metaspace_of("The", "capital", "of")("The capital of")["input_ids"]
    assert token_texts(metaspace_of("The", "capital", "of"), ids) == [" The", " capital", " of"]


def test_a_tokenizer_in_the_manner_of_sentencepiece_is_read_alike() -> None:
    tokenizer = metaspace_of("a", "drink", "to", "Mary", "John")
    encoded = Task.from_prompts("a drink to", "a John to", " Mary", " John", positions={"what": "drink"}).encode(
        tokenizer
    )
    assert encoded.answer_ids == ((tokenizer.convert_tokens_to_ids("▁Mary"),),)
    assert encoded.wrong_ids == ((tokenizer.convert_tokens_to_ids("▁John"),),)
    assert encoded.positions == {"end": (2,), "what": (1,)}
    assert encoded.notes == ()


def test_an_answer_is_read_after_its_prompt_and_not_alone() -> None:
    tokenizer = metaspace_of("year")
    assert tokenizer.convert_ids_to_tokens(tokenizer("45")["input_ids"]) == ["▁", "4", "5"]
    (token,) = first_tokens(tokenizer, "year 17", ["45"])
    assert tokenizer.convert_ids_to_tokens(token.id) == "4"
    assert (token.length, token.continues) == (2, True)


def test_the_first_difference_counts_the_end_of_one() -> None:
    assert first_difference([1, 2], [1, 2]) is None
    assert first_difference([1, 2, 3], [1, 2]) == 2
    assert first_difference([1, 4], [1, 2]) == 1


# --- laws -------------------------------------------------------------------------------------------------

words = st.sampled_from(PEOPLE)
pairs = st.lists(st.tuples(words, words, words, words), min_size=1, max_size=6)


@given(pairs, st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_every_prompt_is_kept_aligned_or_dropped_with_a_reason(
    drawn: list[tuple[str, str, str, str]], start: bool, whole_words: bool
) -> None:
    prompts = [f"Then {a} met {b} and" for a, b, _, _ in drawn]
    contrasts = [f"Then {c} met {d} and" for _, _, c, d in drawn]
    task = Task(
        "t", tuple(prompts), tuple((f" {a}",) for a, *_ in drawn), tuple((f" {b}",) for _, b, *_ in drawn),
        tuple(contrasts),
        {"one": tuple((5, 5 + len(a)) for a, *_ in drawn)},
        {"one": tuple((5, 5 + len(c)) for _, _, c, _ in drawn)},
    )  # fmt: skip
    everything = " ".join(["Then met and", *PEOPLE])
    tokenizer = (tokenizer_of if whole_words else letters_of)(everything, start=start)
    try:
        encoded = task.encode(tokenizer)
    except TaskError as error:
        assert str(error).count("Prompt ") >= 1
        return
    assert sorted([*encoded.kept, *(drop.index for drop in encoded.dropped)]) == list(range(len(task)))
    assert all(drop.reason.endswith(".") for drop in encoded.dropped)
    for row, index in enumerate(encoded.kept):
        ids, contrast_ids = encoded.ids[row], encoded.contrast_ids[row]
        place = encoded.positions["one"][row]
        assert len(ids) == len(contrast_ids)
        assert not set(encoded.answer_ids[row]) & set(encoded.wrong_ids[row])
        assert encoded.answer_ids[row]
        assert encoded.wrong_ids[row]
        start_of_word, end_of_word = tokenizer(task.prompts[index], return_offsets_mapping=True)["offset_mapping"][
            place
        ]
        assert start_of_word < task.positions["one"][index][1] <= end_of_word
        whole = tokenizer(task.prompts[index] + task.answers[index][0])["input_ids"]
        if not encoded.notes or whole_words:
            assert whole[len(ids)] == encoded.answer_ids[row][0]


@given(st.text(min_size=1, max_size=30), st.integers(0, 29), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_the_token_of_a_span_holds_its_last_character(text: str, start: int, length: int) -> None:
    if start >= len(text):
        return
    end = min(start + length, len(text))
    (index,) = token_ends(letters_of(text), text, [(start, end)])
    assert index == end - 1


@given(st.text(alphabet="abc ", min_size=1, max_size=8), st.text(alphabet="abc ", min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_first_token_continues_the_prompt_or_says_that_it_does_not(prompt: str, answer: str) -> None:
    tokenizer = tokenizer_of(prompt, answer, prompt + answer)
    (token,) = first_tokens(tokenizer, prompt, [answer])
    before, whole = tokenizer(prompt)["input_ids"], tokenizer(prompt + answer)["input_ids"]
    if token.continues:
        assert whole == [*before, token.id, *whole[len(before) + 1 :]]
        assert token.length == len(whole) - len(before)
    else:
        assert whole[: len(before)] != before or len(whole) == len(before)
        assert token.id == tokenizer(answer)["input_ids"][0]


def test_tasks_do_not_need_torch() -> None:
    heavy = ("torch", "transformers", "xarray")
    code = f"import sys, cutaway.core.task; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
