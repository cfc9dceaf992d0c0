"""Which words can be exchanged for others that fit as well, without losing the prediction?

Random tokens of the text are replaced by others that the network itself would have written there, and the fall of the
target's probability is credited to what was replaced and debited to what was not, again and again [@zhao2024]:

    s_i ← s_i + logit((Δ + 1) / 2)   for i replaced,      s_i ← s_i - logit((Δ + 1) / 2)   for the others

until the tokens that rank first are enough: with all others replaced, the target is among the most likely tokens. The
scores go through a softmax. The replacements are words, so that no text has holes. Texts are rows of a batch, and all
targets of a prompt share them.

The check takes the tokens with the largest values out together, against random other tokens [@deyoung2020].
Limits: random texts: another seed gives other small scores. The probability of the token is explained, whatever the
score is. The original asks RoBERTa for replacements; here the network's own predictions from the left are drawn from.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Result
from cutaway.core.task import Task
from cutaway.methods.attribute.checked import Floats, Test, checked_map, scores_of_texts
from cutaway.methods.attribute.gradients import scores_of
from cutaway.methods.attribute.mixing import refuse_two_stacks
from cutaway.methods.attribute.neutral import Neutral
from cutaway.methods.attribute.occlusion import seen_places
from cutaway.methods.attribute.targets import (
    Continuation,
    Controls,
    Foil,
    Generate,
    ScoreName,
    Seed,
    Share,
    Targets,
    targets_of,
)
from cutaway.models.model import Model
from cutaway.models.multigrad import rows_at_once, scores_of_targets

PROBABLE = ("probability", "log_probability", "logit", "cross_entropy", "perplexity")


@method(
    asks="Which words can be exchanged without losing the prediction?",
    cites="zhao2024, deyoung2020",
    needs=("unembedding", "causal"),
)
def reagent(
    model: Model,
    task: Task,
    *,
    probes: Annotated[int, Field(ge=1, le=1024, description="texts of each round")] = 16,
    rounds: Annotated[int, Field(ge=1, le=1000, description="rounds at most")] = 8,
    replaced: Annotated[float, Field(gt=0, lt=1, description="share of the tokens that a text replaces")] = 0.3,
    keep: Annotated[int, Field(ge=1, description="tokens that shall be enough")] = 5,
    among: Annotated[int, Field(ge=1, description="rank that the target then shall have")] = 3,
    neutral: Annotated[Neutral, Field(description="what the check puts in the place of a token")] = "mean",
    score: ScoreName = "probability",
    generate: Generate = 0,
    continuation: Continuation = "",
    foil: Foil = "",
    share: Share = 0.2,
    controls: Controls = 20,
    seed: Seed = 0,
) -> Result:
    """Importance of tokens by replacing random ones with others that fit."""
    refuse_two_stacks(
        model, "reagent", "a word is exchanged for one that the network expects there, and an encoder expects none"
    )
    targets = targets_of(model, task, score, generate, continuation, foil)
    attribution = targets.empty()
    likely = targets.with_score("probability")
    used, enough = [], []
    for prompt in track(range(len(targets)), "exchanging words"):
        search = _Search(model, likely, prompt, replaced, np.random.default_rng(seed + prompt))
        used.append(search.run(rounds, probes, keep, among))
        enough.append(float(np.mean(search.settled)))
        for target in range(len(search.places)):
            attribution[prompt, target, search.seen(target)] = search.importance(target)
    notes = () if score in PROBABLE else (f"The probability of the token is explained, not the {targets.score_name}.",)
    return checked_map(
        model,
        targets,
        attribution,
        scores_of_texts(model, targets),
        title="ReAGent importance",
        neutral=neutral,
        test=Test(share, controls, seed, signed=False),
        metrics={"rounds": max(used), "targets_settled": float(np.mean(enough))},
        notes=notes,
    )


class _Search:
    """The importance of one prompt's tokens while it is looked for."""

    def __init__(self, model: Model, targets: Targets, prompt: int, share: float, random: np.random.Generator) -> None:
        self.model, self.targets, self.prompt, self.share, self.random = model, targets, prompt, share, random
        self.ids, self.places = list(targets.ids[prompt]), targets.positions[prompt]
        self.inside = np.array(seen_places(model, targets, prompt))
        self.scores = np.zeros((len(self.places), len(self.inside)))
        self.settled = np.zeros(len(self.places), dtype=bool)
        found = model.run([self.ids]).logits
        assert found is not None
        logits = found[0].double()
        # What could stand at a place is what the network expects there; at the first place, anything.
        ahead = torch.cat([torch.zeros_like(logits[:1]), logits[:-1]]).softmax(dim=-1)
        ahead[range(len(self.ids)), self.ids] = 0
        self.fitting = ahead
        self.whole = self._probabilities([self.ids])[0]

    def run(self, rounds: int, probes: int, keep: int, among: int) -> int:
        """Round after round until the first tokens are enough for every target; how many rounds there were."""
        for number in range(1, rounds + 1):
            self.look(probes)
            if self.is_enough(keep, among):
                return number
        return rounds

    def look(self, probes: int) -> None:
        """Replace random tokens in some texts, and credit what the target loses."""
        size = max(1, round(self.share * len(self.inside)))
        chosen = np.zeros((probes, len(self.inside)), dtype=bool)
        for row in chosen:
            row[self.random.choice(len(self.inside), size=size, replace=False)] = True
        loss = self.whole - self._probabilities([self._exchanged(row) for row in chosen])
        credit = np.log(np.clip((1 + loss) / 2, 1e-6, 1 - 1e-6)) - np.log(np.clip((1 - loss) / 2, 1e-6, 1 - 1e-6))
        self.scores += credit.T @ np.where(chosen, 1.0, -1.0)

    def is_enough(self, keep: int, among: int) -> bool:
        """Whether each target stays among the most likely with all but its first tokens replaced."""
        rows = []
        for scores in self.scores:
            out = np.ones(len(self.inside), dtype=bool)
            out[np.argsort(-scores, kind="stable")[:keep]] = False
            rows.append(self._exchanged(out))

        def ranks(logits: torch.Tensor) -> torch.Tensor:
            token = torch.tensor([ids[0] for ids in self.targets.tokens[self.prompt]], device=logits.device)
            own = logits.gather(-1, token.expand(len(logits), -1)[..., None])
            return (logits > own).sum(dim=-1).double()

        found = scores_of_targets(self.model, rows, self.places, ranks).diagonal().cpu().numpy()
        self.settled = found < among
        return bool(self.settled.all())

    def seen(self, target: int) -> np.ndarray:
        """The places that a target sees and that can be replaced."""
        here: np.ndarray = self.inside[self.inside <= self.places[target]]
        return here

    def importance(self, target: int) -> Floats:
        """Softmax of the scores of those places."""
        scores = self.scores[target, : len(self.seen(target))]
        if not len(scores):
            return scores
        weights: Floats = np.exp(scores - scores.max())
        return weights / weights.sum()

    def _exchanged(self, out: np.ndarray) -> list[int]:
        ids = list(self.ids)
        for place in self.inside[out]:
            chances = self.fitting[place].cpu().numpy()
            ids[place] = int(self.random.choice(len(chances), p=chances / chances.sum()))
        return ids

    def _probabilities(self, rows: list[list[int]]) -> Floats:
        size = rows_at_once(self.model, len(self.ids), grad=False)
        pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
        same = [self.prompt] * size
        found = [
            scores_of(self.model, self.targets, same[: len(piece)], ids=piece, positions=self.places)
            for piece in pieces
        ]
        return torch.cat(found).double().cpu().numpy()
