"""What else changed? Unrelated text and other facts, before and after the weights of a model were changed.

Measured are how far predictions on plain text move (Kullback-Leibler divergence, nats a token), the loss there, how many
facts about other subjects get another first answer, and how large the change is beside the weights. The same is asked of
random changes of rank one and of the same size, which says what any change of that size would do.
Many edits in a row can ruin a model all at once (a collapse): the loss on plain text says so first [@gupta2024].
Limits: a few hundred tokens of technical English and a few dozen facts; what is not asked is not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.core.progress import stop_if_cancelled
from cutaway.core.tokens import first_tokens
from cutaway.data import corpora
from cutaway.data.tasks.facts import facts
from cutaway.methods.key_statistics import opening
from cutaway.models.model import Model
from cutaway.models.trial import in_batches, logits_at

NUMBERS_KEPT = 2**24  # log-probabilities of the unchanged model that are held
COLLAPSED = 0.4  # nats a token that the loss rises by: the perplexity is half as large again


@dataclass(frozen=True, eq=False)
class Ground:
    """What a model said before.

    Attributes:
        rows: token ids of texts, then of neighbours, then of other facts.
        places: where predictions are compared: some of each text, the last token of each question.
        texts: how many of the rows are texts.
        neighbours: how many of the rows are neighbours.
        said: log-probabilities there [place, vocab].
        answers: for each other fact the first token of its answer.
    """

    rows: tuple[tuple[int, ...], ...]
    places: tuple[tuple[int, ...], ...]
    texts: int
    neighbours: int
    said: Tensor
    answers: tuple[int, ...]

    @property
    def in_texts(self) -> int:
        """How many places are in texts."""
        return sum(map(len, self.places[: self.texts]))


@dataclass(frozen=True)
class Effects:
    """What changed.

    Attributes:
        divergence: from the model before, on plain text (nats a token).
        loss: on plain text (nats a token).
        other_facts: share of facts about other subjects whose first choice is another token than before.
        known: share of those facts that are answered rightly.
        neighbours: share of neighbours (the same asked of other subjects) whose first choice is another; 0 without any.
    """

    divergence: float
    loss: float
    other_facts: float
    known: float
    neighbours: float = 0.0


def ground(
    model: Model,
    *,
    texts: int,
    tokens: int,
    other_facts: int,
    without: Sequence[str],
    seed: int,
    neighbours: Sequence[str] = (),
) -> Ground:
    """Ask the unchanged model.

    Args:
        model: the network.
        texts: paragraphs of plain text.
        tokens: of each, at most.
        other_facts: facts about other subjects.
        without: words that must not stand in those facts: the subjects that are edited.
        seed: draws texts and facts.
        neighbours: prompts that ask the same of subjects that are not edited.
    """
    read = [tuple(opening(model, text, tokens)) for text in corpora.plain_text(texts, seed + 1)]
    most = max(2, NUMBERS_KEPT // model.anatomy.vocab_size // max(1, len(read)))
    places = [_spread(range(len(row) - 1), most) for row in read]
    asked = facts(n=4 * other_facts, seed=seed)
    free = [
        (prompt, answers[0])
        for prompt, answers in zip(asked.prompts, asked.answers)
        if prompt not in neighbours and not any(word and word in prompt for word in without)
    ][:other_facts]
    beside = [tuple(model.encode(prompt)) for prompt in neighbours]
    asked_rows = [*beside, *(tuple(model.encode(prompt)) for prompt, _ in free)]
    first = [first_tokens(model.tokenizer, prompt, [answer])[0].id for prompt, answer in free]
    every = (*read, *asked_rows)
    where = (*places, *((len(row) - 1,) for row in asked_rows))
    answers = tuple(-1 if token is None else token for token in first)
    return Ground(every, where, len(read), len(beside), _said(model, every, where), answers)


def effects(model: Model, before: Ground) -> Effects:
    """What the model says now, beside what it said before."""
    return _compared(before, _said(model, before.rows, before.places))


def unchanged(before: Ground) -> Effects:
    """The same for the model as it was."""
    return _compared(before, before.said)


def collapsed(before: Effects, after: Effects) -> tuple[str, ...]:
    """A warning where the loss on plain text has risen so far that the model as a whole is damaged."""
    rise = after.loss - before.loss
    if rise < COLLAPSED:
        return ()
    return (
        f"Warning: the loss on unrelated text rose from {before.loss:.2f} to {after.loss:.2f} nats a token. The edit damages "
        "the model as a whole (a collapse); make fewer edits, or a smaller change.",
    )


def random_changes(
    old: Mapping[str, Tensor], new: Mapping[str, Tensor], count: int, seed: int
) -> list[dict[str, Tensor]]:
    """Weights after random changes of rank one, each as large (Frobenius norm) as the change from `old` to `new`.

    Args:
        old: matrices by name.
        new: the same after a change.
        count: how many.
        seed: draws them.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        made = {}
        for name, before in old.items():
            size = (new[name].float() - before.float()).norm()
            left, right = (torch.randn(n, generator=generator).to(before.device) for n in before.shape)
            made[name] = before + (torch.outer(left, right) * (size / (left.norm() * right.norm()))).to(before.dtype)
        found.append(made)
    return found


@torch.no_grad()
def _said(model: Model, rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]]) -> Tensor:
    kept: dict[int, Tensor] = {}
    for batch in in_batches(rows):
        stop_if_cancelled("measuring side effects")
        logits = logits_at(model, [rows[i] for i in batch], [places[i] for i in batch])
        kept |= {i: values.float().log_softmax(-1) for i, values in zip(batch, logits)}
    return torch.cat([kept[i] for i in range(len(rows))])


def _compared(before: Ground, now: Tensor) -> Effects:
    n = before.in_texts
    device = now.device
    following = [row[place + 1] for row, places in zip(before.rows[: before.texts], before.places) for place in places]
    loss = -now[:n].gather(-1, torch.tensor(following, device=device)[:, None]).double().mean()
    old = before.said[:n]
    moved = (old.exp() * (old - now[:n])).sum(-1).double().mean()
    choice, first = now[n:].argmax(-1), before.said[n:].argmax(-1)
    k = before.neighbours
    differs = (choice != first).double()
    right = choice[k:] == torch.tensor(before.answers, device=device)
    beside = float(differs[:k].mean()) if k else 0.0
    return Effects(float(moved), float(loss), float(differs[k:].mean()), float(right.double().mean()), beside)


def _spread(places: Sequence[int], most: int) -> tuple[int, ...]:
    """At most so many of the places, evenly spread."""
    step = max(1, -(-len(places) // most))
    return tuple(places[::step])
