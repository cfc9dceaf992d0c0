"""What does a text score with a hole in it? Runs that share what comes before the hole with the text itself.

In a causal model a token that is put out of the text changes nothing before its place. So the text is run once, and a
text with a hole goes on from the first token that is missing, with the text's own keys and values before it; what is
predicted earlier keeps its score. Holes that begin near each other are rows of one pass, which begins with the first of
them: they are grouped so that the fewest tokens are computed.

Limits: `sweep.tier_of` must find that the network hands on keys and values ("suffix"); whoever calls asks `is_shorter`
first, which also says no where nothing is gained, and where edits or hooks are in place, which count positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.core.edit import replace
from cutaway.models import forward, taps
from cutaway.models.multigrad import EMBED, Score, rows_at_once, scores_of_targets
from cutaway.models.pass_groups import groups_of_rows, pass_tokens, tokens_of_rows
from cutaway.models.program import Clock, Program
from cutaway.models.recording import Recording, prefix_cache, record
from cutaway.models.sweep import tier_of

if TYPE_CHECKING:
    from cutaway.models.model import Model

# Gives, for so many rows and some of the targets, the score: logits [row, target, vocab] -> [row, target].
ScoreOf = Callable[[int, Sequence[int]], Score]
# Sharing a prefix has to save so many tokens before it is worth finding out whether a network can.
WORTH = 1024


def is_shorter(model: Model, length: int, holes: Sequence[Sequence[int]]) -> bool:
    """Whether `scores_with_holes` can be used, and computes clearly less than whole texts do."""
    anatomy = model.anatomy
    if anatomy.is_encoder_decoder or not anatomy.is_causal or not _is_bare(model.hf):
        return False
    lengths, groups, extra = _groups(model, length, holes, 1)
    whole = tokens_of_rows((length,) * len(holes), [range(len(holes))], extra)
    shared = tokens_of_rows(lengths, groups, extra) + 2 * (extra + length)
    return whole - shared >= max(WORTH, whole // 8) and tier_of(model) == "suffix"


def scores_with_holes(
    model: Model,
    ids: Sequence[int],
    positions: Sequence[int],
    score_of: ScoreOf,
    holes: Sequence[Sequence[int]],
    *,
    embeddings: Float[Tensor, "position d_model"],
    filler: Float[Tensor, " d_model"],
) -> Float[Tensor, "hole target"]:
    """Scores of a text with the tokens of each hole put out.

    Args:
        model: the network.
        ids: tokens of the text.
        positions: for each target the index of the token whose logits are scored.
        score_of: the score.
        holes: the places whose tokens are put out, for each row; none: the text itself.
        embeddings: of the text.
        filler: the embedding that takes the place of a token's own.
    """
    every = range(len(positions))
    with torch.no_grad():
        text = scores_of_targets(model, [ids], positions, score_of(1, every))
        found = text.repeat(len(holes), 1)
        base = record(model, [ids], (), streams=False)
        lengths, groups, _ = _groups(model, len(ids), holes, len(positions))
        for group in groups:
            start = len(ids) - lengths[group[0]]
            later = [target for target in every if positions[target] >= start]
            if not later:
                continue
            rows = embeddings[start:].repeat(len(group), 1, 1)
            for row, hole in enumerate(group):
                rows[row, [place - start for place in holes[hole]]] = filler.to(rows)
            places = [positions[target] - start for target in later]
            logits = _logits(model, base, start, rows, places)
            found[torch.tensor(group)[:, None], torch.tensor(later)] = score_of(len(group), later)(logits)
    return found


def _logits(model: Model, base: Recording, start: int, rows: Tensor, places: Sequence[int]) -> Tensor:
    """The logits [row, place, vocab] of texts whose embeddings from `start` on are given [row, position, d_model]."""
    count, width = rows.shape[:2]

    def chosen(hidden: Tensor) -> Tensor | None:
        if hidden.dim() != 3 or hidden.shape[1] != width:
            return None  # this network gathers positions by itself: the logits are cut instead
        gathered.append(True)
        return hidden[:, list(places)]

    gathered: list[bool] = []
    clock = Clock([base.length] * count, offset=start, width=width, rows=range(count))
    program = Program(model.anatomy, (), [replace(EMBED, rows)], clock)
    assert model.anatomy.unembed is not None
    end = taps.ModuleTap(model.anatomy.unembed, "in", chosen)
    with program.installed(), taps.module_taps([end]):
        logits: Tensor = model.hf(**_inputs(model, base, start, count)).logits
    return logits if gathered else logits[:, list(places)]


def _inputs(model: Model, base: Recording, start: int, count: int) -> dict[str, Any]:
    inputs = forward.model_inputs(model.hf, [base.ids[0][start:]] * count)
    if start:
        inputs.pop("attention_mask", None)
        inputs |= {"past_key_values": prefix_cache(base, start)[0], "use_cache": True}
        if forward.accepts(model.hf, "position_ids"):
            inputs["position_ids"] = torch.arange(start, base.length, device=inputs["input_ids"].device)[None]
    return inputs


def _groups(
    model: Model, length: int, holes: Sequence[Sequence[int]], targets: int
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...], int]:
    """How many tokens each text has from its first difference on, which texts share a pass, and what a pass costs."""
    extra = pass_tokens(forward.input_device(model.hf))
    most = rows_at_once(model, length, grad=False, targets=targets)
    lengths = tuple(length - min(hole, default=length) for hole in holes)
    return lengths, groups_of_rows(lengths, extra, most), extra


def _is_bare(hf: Any) -> bool:
    """No edit and no hook is in place, but for transformers' own."""
    hooks = (hook for m in hf.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values()))
    return taps.idle() and all(getattr(hook, "__module__", "").startswith("transformers.") for hook in hooks)
