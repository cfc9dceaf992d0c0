"""Does a head write the tokens of the text, or against them? What its removal does to the text's own tokens.

The measure is the mean logit of the tokens that occur in a prompt minus that of tokens that do not, at the last token.
A head that copies raises it; without the head it falls. A head that suppresses copies lowers it.
Limits: heads that act on other heads' copying move it too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cutaway.core.site import Site
from cutaway.core.task import EncodedTask
from cutaway.models.metric import Metric
from cutaway.models.model import Model

ABSENT = 64  # tokens that do not occur, for comparison


def context_metric(model: Model, encoded: EncodedTask, seed: int) -> Metric:
    """The lead of a prompt's own tokens over tokens that are not in it, in logits."""
    special = set(getattr(model.tokenizer, "all_special_ids", None) or ())
    random = np.random.default_rng(seed)
    size = model.anatomy.vocab_size
    drawn = [int(i) for i in random.choice(size, size=min(size, ABSENT + 32), replace=False)]
    inside = [tuple(sorted(set(ids) - special)) or tuple(set(ids)) for ids in encoded.ids]
    outside = [tuple(i for i in drawn if i not in set(ids) | special)[:ABSENT] for ids in encoded.ids]
    return Metric("logit_difference", tuple(inside), tuple(outside))


def lost_without(model: Model, encoded: EncodedTask, heads: Sequence[Site], metric: Metric) -> NDArray[np.float64]:
    """How much lower the metric is without each head (its mean is put in), on average over the prompts [head]."""
    sweep = model.sweep(encoded, over=list(heads), edit="mean", metric=metric)
    change = (sweep.base[:, None] - sweep.values).double().mean(dim=0)
    lost: NDArray[np.float64] = change.cpu().numpy()
    return lost
