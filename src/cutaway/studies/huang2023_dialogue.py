"""How is a chat model asked about a film review? Its decision, the word that it names, and what it writes.

The decision is read off the network, not off what it writes: f is the probability of "positive" against "negative" as
its first token of an answer [@huang2023]. The word that it names is read in the same way: the probability of each word
of the review as the whole answer to which one mattered most. Tokens that all texts begin with are computed once. What
it writes comes after one worked example, so that the form of an answer is shown and not only told.
Limits: a network whose tokenizer has no chat template gets the roles as plain lines.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cutaway.core.tokens import first_tokens, plain_ids
from cutaway.models.model import Model
from cutaway.studies.huang2023_measures import Floats, bare, top_size

Turns = Sequence[tuple[str, str]]
CLASSES = ("positive", "negative")
ROLE = "You judge film reviews. Answer with one word, positive or negative."
EXPLAINER = "You judge film reviews and explain your answers."
NAME = "Which word of the review mattered most for this answer? Write only this word."
EACH = (
    "How much did each word of the review matter for this answer? Write one line for each word: the word, a colon, and a "
    "number from 0.0 (not at all) to 1.0 (very much)."
)
LIST = "Which {k} words of the review mattered most for this answer? Write only these words, with commas between them."
FIRST = (
    "{review}\n\nWhich {k} words of this review say most about whether it is positive or negative? Write only these words, "
    "with commas between them."
)
EXAMPLE = "A dull, slow film with one good song."  # a worked example stands before questions whose answer has a form
EXAMPLE_EACH = "A: 0.0\ndull: 0.9\nslow: 0.7\nfilm: 0.1\nwith: 0.0\none: 0.1\ngood: 0.4\nsong: 0.2"
EXAMPLE_LIST = "dull, slow"
SO = "So is the review positive or negative? Answer with one word."
ROWS, SPREAD = 32, 4  # texts of about one length that are run together


def dialogue(model: Model, turns: Turns) -> str:
    """A conversation as the network reads it, up to where its next answer begins.

    Args:
        model: says how, by its tokenizer's chat template.
        turns: (role, text) in order; roles are system, user and assistant.
    """
    if getattr(model.tokenizer, "chat_template", None):
        messages = [{"role": role, "content": text} for role, text in turns]
        said: str = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return said
    return "".join(f"{role}:\n{text}\n" for role, text in turns) + "assistant:\n"


def judged(review: str) -> list[tuple[str, str]]:
    """The turns that ask for a decision."""
    return [("system", ROLE), ("user", review)]


def asked_after(review: str, decision: float, question: str) -> list[tuple[str, str]]:
    """The turns that ask about a decision, the model's own."""
    return [*judged(review), ("assistant", CLASSES[0] if decision > 0 else CLASSES[1]), ("user", question)]


def asked_each(review: str, decision: float) -> list[tuple[str, str]]:
    """The turns that ask for the importance of each word, after an example."""
    return [*_shown(EACH, EXAMPLE_EACH), *asked_after(review, decision, EACH)[1:]]


def asked_list(review: str, decision: float) -> list[tuple[str, str]]:
    """The turns that ask for the most important words, after an example."""
    shown, asked = (LIST.format(k=k) for k in (len(EXAMPLE_LIST.split()), top_size(len(review.split()))))
    return [*_shown(shown, EXAMPLE_LIST), *asked_after(review, decision, asked)[1:]]


def _shown(question: str, answer: str) -> list[tuple[str, str]]:
    return [*judged(EXAMPLE), ("assistant", CLASSES[1]), ("user", question), ("assistant", answer)]


def asked_first(review: str) -> list[tuple[str, str]]:
    """The turns that ask for the most important words before any decision."""
    return [("system", EXPLAINER), ("user", FIRST.format(review=review, k=top_size(len(review.split()))))]


def decisions(model: Model, conversations: Sequence[Turns]) -> Floats:
    """Logit of "positive" minus logit of "negative" as the next answer [conversation]."""
    texts = [dialogue(model, turns) for turns in conversations]
    both = [one.id for one in first_tokens(model.tokenizer, texts[0], CLASSES)]
    rows = plain_ids(model.tokenizer, texts)
    shared = shared_start(rows)
    found = following(model, rows[0][:shared], [row[shared:] for row in rows], last=True)
    return np.array([float(logits[-1, both[0]] - logits[-1, both[1]]) for logits in found])


def written(model: Model, conversations: Sequence[Turns], most: int) -> list[str]:
    """What the network answers, taking the likeliest token at each step, at most so many."""
    rows = plain_ids(model.tokenizer, [dialogue(model, turns) for turns in conversations])
    new = model.generate(rows, max_new_tokens=most).new_ids
    return [str(model.tokenizer.decode(list(ids), skip_special_tokens=True)).strip() for ids in new]


def named(model: Model, review: str, decision: float) -> list[float]:
    """Log-probability of each word of a review as the whole answer to which one mattered most."""
    words = [bare(word) for word in review.split()]
    start = plain_ids(model.tokenizer, [dialogue(model, asked_after(review, decision, NAME))])[0]
    distinct = list(dict.fromkeys(words))
    end = [model.tokenizer.eos_token_id] if model.tokenizer.eos_token_id is not None else []
    answers = [[*ids, *end] for ids in plain_ids(model.tokenizer, distinct)]
    found = following(model, start[:-1], [[start[-1], *answer[:-1]] for answer in answers])
    said = [
        float(logits.log_softmax(-1)[torch.arange(len(answer)), answer].sum())
        for logits, answer in zip(found, answers, strict=True)
    ]
    return [said[distinct.index(word)] for word in words]


def shared_start(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with; the last one of each stays out of it."""
    columns = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*rows))
    return min(len(list(columns)), min(map(len, rows)) - 1)


@torch.no_grad()
def following(model: Model, start: Sequence[int], ends: Sequence[Sequence[int]], *, last: bool = False) -> list[Tensor]:
    """Logits [position, vocab] at the tokens of each end, after a start that all have; at its last one alone with `last`.

    The start is run once, and its keys and values are what each end is run behind.

    Args:
        model: a causal network.
        start: tokens; none is allowed.
        ends: tokens, one or more each.
        last: only those of the last token.
    """
    device = model.device
    before = model.hf(torch.tensor([list(start)], device=device), use_cache=True).past_key_values if start else None
    found: dict[int, Tensor] = {}
    for group in _groups(ends):
        longest = max(len(ends[row]) for row in group)
        keep = longest - min(len(ends[row]) for row in group) + 1 if last else longest
        ids = torch.tensor([[*ends[row], *[0] * (longest - len(ends[row]))] for row in group], device=device)
        cache = copy.deepcopy(before)
        if cache is not None:
            cache.batch_repeat_interleave(len(group))
        logits = model.hf(ids, past_key_values=cache, use_cache=cache is not None, logits_to_keep=keep).logits
        for row, each in zip(group, logits):
            place = len(ends[row]) - (longest - keep)
            found[row] = each[place - 1 : place] if last else each[:place]
    return [found[row].double().cpu() for row in range(len(ends))]


def _groups(ends: Sequence[Sequence[int]]) -> list[list[int]]:
    """Rows of about one length, the short ones first."""
    groups: list[list[int]] = []
    for row in sorted(range(len(ends)), key=lambda row: len(ends[row])):
        full = not groups or len(groups[-1]) == ROWS
        if full or len(ends[row]) - len(ends[groups[-1][0]]) > SPREAD:
            groups.append([])
        groups[-1].append(row)
    return groups
