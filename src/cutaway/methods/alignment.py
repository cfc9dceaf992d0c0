"""Which subspace plays a variable's role? Training and testing of subspaces by interchange.

A base prompt runs with a part of its value at a site taken from a source prompt: h + R m Rᵀ (h_source - h), where R is
a rotation and m says which of the rotated dimensions are exchanged. A subspace plays the role of a variable where the
network then gives the answer that the hypothesis predicts: the share of pairs in which it does is the *interchange
intervention accuracy* (IIA). R is trained to make it so; the network's weights stay as they are [@wu2023].

`Pairs` are the hypothesis as data: base, source, and the two answers between which the network decides. They follow
from a causal model (`causal_model.py`), or from any task with contrasts: the answer turns into the source's own.
Limits: a rotation can be trained to a behaviour that the network does not have by itself; hence the controls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor

from cutaway.core.errors import TaskError
from cutaway.core.progress import track
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask
from cutaway.methods.control import enough
from cutaway.models.interchange import Halfway, halfway
from cutaway.models.model import Model

# What the methods that train subspaces ask for in the same words.
Steps: TypeAlias = Annotated[int, Field(ge=1, description="training steps at each site")]
Rows: TypeAlias = Annotated[int, Field(ge=1, description="pairs of prompts in each step")]
Rate: TypeAlias = Annotated[float, Field(gt=0, description="learning rate of the rotation")]
Subspaces: TypeAlias = Annotated[
    int,
    Field(ge=0, description="random subspaces that the check compares with, 5 or more; 0: no checks"),
    AfterValidator(enough),
]
Seed: TypeAlias = Annotated[int, Field(ge=0, description="draws pairs, the first rotation, the steps and the controls")]

WARM_UP = 0.1  # share of the steps in which the learning rate rises
# Temperatures of the boundary in dimensions: 50 at the width of 4096 in the paper, and in proportion elsewhere.
HOTTEST, COLDEST = 50.0 / 4096, 0.1
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Pairs:
    """Pairs of prompts with what the hypothesis says of the interchange.

    Attributes:
        ids: token ids of every prompt.
        base, source: for each pair, which prompt.
        label, other: for each pair the tokens of the predicted answer, and of the other one.
        group: for each pair, what it belongs to: groups are held out whole.
        positions: token index of each named position in each prompt.
    """

    ids: tuple[tuple[int, ...], ...]
    base: tuple[int, ...]
    source: tuple[int, ...]
    label: tuple[tuple[int, ...], ...]
    other: tuple[tuple[int, ...], ...]
    group: tuple[int, ...]
    positions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.base)

    def with_random_labels(self, seed: int) -> Pairs:
        """The same pairs, with the predicted answer drawn by lot."""
        turned = np.random.default_rng(seed).random(len(self)) < 0.5
        sides = [(b, a) if turn else (a, b) for a, b, turn in zip(self.label, self.other, turned, strict=True)]
        label, other = (tuple(side[i] for side in sides) for i in range(2))
        return Pairs(self.ids, self.base, self.source, label, other, self.group, self.positions)


@dataclass(frozen=True, eq=False)
class Subspace:
    """Directions at a site, and how much of each is exchanged.

    Attributes:
        rotation: orthonormal columns [width, direction].
        mask: between 0 and 1 for each direction.
    """

    rotation: Float[Tensor, "width direction"]
    mask: Float[Tensor, " direction"]

    @property
    def size(self) -> int:
        """How many directions are exchanged."""
        return int((self.mask > 0.5).sum())

    def exchanged(self, base: Float[Tensor, "row width"], source: Float[Tensor, "row width"]) -> Tensor:
        """The base's values with this subspace as in the source's [row, width]."""
        rotation, mask = self.rotation.to(base), self.mask.to(base)
        return base + (((source - base) @ rotation) * mask) @ rotation.T


@dataclass(frozen=True)
class Training:
    """How a subspace is trained.

    Attributes:
        size: dimensions of the subspace; None for a boundary that is learned.
        steps: of Adam.
        rows: pairs of a step.
        rate: learning rate of the rotation.
        boundary_rate: learning rate of the boundary, as a share of the width.
        seed: draws the first rotation and the pairs of each step.
    """

    size: int | None
    steps: int
    rows: int = 8
    rate: float = 1e-2
    boundary_rate: float = 1e-2
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Aligned:
    """A hypothesis at a site, ready to be trained or tested: the prompts have been run up to the site."""

    pairs: Pairs
    groups: tuple[Halfway, ...]
    place: tuple[tuple[int, int], ...]  # of each prompt: which group, and which row of it

    @property
    def width(self) -> int:
        """Dimensions of the site."""
        return int(self.groups[0].values.shape[1])

    def gap(self, numbers: Sequence[int], subspace: Subspace, pairs: Pairs | None = None) -> Float[Tensor, " pair"]:
        """By how much the predicted answer leads after the interchange, in logits; one number a pair."""
        said = pairs or self.pairs
        found: dict[int, Tensor] = {}
        for group, mine in self._by_group(numbers).items():
            half = self.groups[group]
            base, source = ([self.place[at[i]][1] for i in mine] for at in (said.base, said.source))
            value = subspace.exchanged(half.values[base], half.values[source])
            sets = [(said.label[i], said.other[i]) for i in mine]
            tokens = sorted({token for pair in sets for side in pair for token in side})
            logits = half.logits(base, value, tokens).float()
            column = {token: place for place, token in enumerate(tokens)}
            for row, (i, (label, other)) in enumerate(zip(mine, sets, strict=True)):
                right, wrong = (logits[row, [column[t] for t in side]].logsumexp(-1) for side in (label, other))
                found[i] = right - wrong
        return torch.stack([found[i] for i in numbers])

    def _by_group(self, numbers: Sequence[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for i in numbers:
            found.setdefault(self.place[self.pairs.base[i]][0], []).append(i)
        return found


def pairs_of(model: Model, encoded: EncodedTask, *, each: int = 2, seed: int = 0) -> Pairs:
    """The hypothesis "the answer turns into the source's": pairs from any task with contrasts and answers.

    Every prompt and every contrast is a base. Its sources are its own counterpart, after which the answer should turn,
    and other texts of the same length, drawn by lot, whose answer is one of the base's two: the base's own (it should
    stay) or the other one (it should turn).

    Args:
        model: the network; where the task names no wrong answers, what it says on the contrast is the other answer.
        encoded: a task with contrasts and answers.
        each: sources of each base beside its counterpart, at most.
        seed: draws them.
    """
    wrong = encoded.wrong_ids if any(encoded.wrong_ids) else _said_on_contrasts(model, encoded)
    n = len(encoded)
    texts = (*encoded.ids, *encoded.contrast_ids)
    right = (*encoded.answer_ids, *wrong)
    false = (*wrong, *encoded.answer_ids)
    random = np.random.default_rng(seed)
    rows: list[tuple[int, int, bool]] = []
    for base in range(2 * n):
        counterpart = (base + n) % (2 * n)
        rows.append((base, counterpart, True))
        for turns, answers in ((False, right[base]), (True, false[base])):
            fits = [
                s
                for s in range(2 * n)
                if s not in (base, counterpart) and len(texts[s]) == len(texts[base]) and right[s] == answers
            ]
            rows += [(base, int(s), turns) for s in random.permutation(fits)[: max(1, each // 2)]]
    return Pairs(
        ids=texts,
        base=tuple(base for base, _, _ in rows),
        source=tuple(source for _, source, _ in rows),
        label=tuple(false[base] if turns else right[base] for base, _, turns in rows),
        other=tuple(right[base] if turns else false[base] for base, _, turns in rows),
        group=tuple(base % n for base, _, _ in rows),
        positions={name: (*where, *where) for name, where in encoded.positions.items()},
    )


def _said_on_contrasts(model: Model, encoded: EncodedTask) -> tuple[tuple[int, ...], ...]:
    run = model.run([list(ids) for ids in encoded.contrast_ids], logits="last")
    said: list[tuple[int, ...]] = []
    for row, answers in zip(run.last_logits.clone(), encoded.answer_ids, strict=True):
        row[list(answers)] = -torch.inf
        said.append((int(row.argmax()),))
    return tuple(said)


def held_out(pairs: Pairs, seed: int, share: float = 0.5) -> tuple[list[int], list[int]]:
    """Numbers of the pairs to train on and of those to test on; a group is on one side whole.

    Only pairs whose source is of the base's side too are used, so that no prompt is seen on both sides.
    """
    groups = sorted(set(pairs.group))
    if len(groups) < 2:
        everything = list(range(len(pairs)))
        return everything, everything
    order = np.random.default_rng(seed).permutation(groups)
    tested = {int(g) for g in order[: max(1, round(share * len(groups)))]}
    of_prompt = dict(zip(pairs.base, pairs.group, strict=True))
    sides = [
        (pairs.group[i] in tested, of_prompt.get(pairs.source[i], pairs.group[i]) in tested) for i in range(len(pairs))
    ]
    train = [i for i, side in enumerate(sides) if side == (False, False)]
    test = [i for i, side in enumerate(sides) if side == (True, True)]
    return train, test


def aligned(model: Model, pairs: Pairs, site: Site) -> Aligned:
    """Run the prompts of a hypothesis up to a site.

    Raises:
        TaskError: a base and a source of different lengths.
    """
    by_length: dict[int, list[int]] = {}
    for prompt in sorted({*pairs.base, *pairs.source}):
        by_length.setdefault(len(pairs.ids[prompt]), []).append(prompt)
    groups, place = [], [(0, 0)] * len(pairs.ids)
    for number, prompts in enumerate(by_length.values()):
        named = {name: [where[p] for p in prompts] for name, where in pairs.positions.items()}
        groups.append(halfway(model, [pairs.ids[p] for p in prompts], site, named=named))
        for row, prompt in enumerate(prompts):
            place[prompt] = (number, row)
    for base, source in zip(pairs.base, pairs.source, strict=True):
        if place[base][0] != place[source][0]:
            raise TaskError(
                f"a base of {len(pairs.ids[base])} tokens has a source of {len(pairs.ids[source])};",
                "values are exchanged between prompts of one length.",
                "Pair prompts that have as many tokens.",
            )
    return Aligned(pairs, tuple(groups), tuple(place))


# --- rotations ---------------------------------------------------------------------------------------------------


def orthonormal(raw: Float[Tensor, "width direction"]) -> Float[Tensor, "width direction"]:
    """The orthonormal columns that a matrix spans, in order: a differentiable map onto rotations."""
    columns, upper = torch.linalg.qr(raw)
    return columns * torch.where(upper.diagonal() < 0, -1.0, 1.0).to(columns)


def random_subspace(width: int, size: int, seed: int, dtype: torch.dtype = torch.float32) -> Subspace:
    """A random subspace, all of it exchanged."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(width, size, generator=generator, dtype=torch.float64)
    return Subspace(orthonormal(raw).to(dtype), torch.ones(size, dtype=dtype))


def boundary_mask(boundary: Tensor, width: int, temperature: float) -> Float[Tensor, " direction"]:
    """How much of each of `width` rotated dimensions is exchanged: those before `boundary * width`, softly."""
    place = torch.arange(width, dtype=boundary.dtype, device=boundary.device) + 0.5
    return torch.sigmoid(place / temperature) * torch.sigmoid((boundary * width - place) / temperature)


def temperature(step: int, steps: int, width: int) -> float:
    """How soft the boundary is at a step: it falls in a straight line."""
    hottest = max(1.0, HOTTEST * width)
    return hottest + (COLDEST - hottest) * step / max(1, steps - 1)


def train(found: Aligned, numbers: Sequence[int], how: Training, pairs: Pairs | None = None) -> Subspace:
    """Learn the subspace whose interchange gives the predicted answers.

    Args:
        found: the hypothesis at a site.
        numbers: of the pairs to train on.
        how: sizes, steps, rates.
        pairs: other labels for the same prompts (for controls).
    """
    width, random = found.width, np.random.default_rng(how.seed)
    values = found.groups[0].values
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    generator = torch.Generator().manual_seed(how.seed)
    size = width if how.size is None else min(how.size, width)
    raw = torch.randn(width, size, generator=generator, dtype=dtype).to(values.device)
    raw = orthonormal(raw).requires_grad_(True)
    boundary = torch.tensor(0.5, dtype=dtype, device=values.device, requires_grad=how.size is None)
    rates = [{"params": [raw], "lr": how.rate}]
    if how.size is None:
        rates.append({"params": [boundary], "lr": how.boundary_rate})
    adam = torch.optim.Adam(rates)
    risen = max(1, round(WARM_UP * how.steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: min(1.0, (step + 1) / risen))
    what = f"training a subspace at {found.groups[0].site}"
    for step in track(range(how.steps), what):
        some = random.choice(numbers, size=min(how.rows, len(numbers)), replace=False)
        with torch.enable_grad():
            warmth = temperature(step, how.steps, width)
            mask = boundary_mask(boundary, width, warmth) if how.size is None else torch.ones_like(raw[0])
            gap = found.gap([int(i) for i in some], Subspace(orthonormal(raw), mask), pairs)
            loss = torch.nn.functional.softplus(-gap).mean()
            if how.size is None:
                loss = loss + boundary
            adam.zero_grad()
            loss.backward()
        adam.step()
        schedule.step()
        with torch.no_grad():
            boundary.clamp_(0.0, 1.0)
    with torch.no_grad():
        # In double precision, so that the columns are orthonormal to the last digit that is kept.
        rotation = orthonormal(raw.double()).to(dtype)
        kept = round(float(boundary) * width) if how.size is None else size
        return Subspace(rotation, (torch.arange(size, device=raw.device) < kept).to(dtype))


def right(found: Aligned, numbers: Sequence[int], subspace: Subspace, pairs: Pairs | None = None) -> NDArray[np.bool_]:
    """For each pair whether the interchange gives the predicted answer."""
    starts = range(0, len(numbers), ROWS_AT_ONCE)
    with torch.no_grad():
        parts = [found.gap(numbers[start : start + ROWS_AT_ONCE], subspace, pairs) > 0 for start in starts]
    answers: NDArray[np.bool_] = torch.cat(parts).cpu().numpy()
    return answers
