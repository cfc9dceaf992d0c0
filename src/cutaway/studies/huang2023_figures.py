"""What do the accounts of all reviews say together? Figures with their intervals, and the pictures of the study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from cutaway.core import view as views
from cutaway.core.claim import Figure
from cutaway.core.result import Result
from cutaway.studies.huang2023_measures import MEASURES, TENTHS, Floats
from cutaway.studies.huang2023_orders import READABLE
from cutaway.studies.statistics import resampled

ORDERS = ("occlusion", "lime", "named", "written", "random", "untrained")
COMPARED = tuple(name for name in ORDERS if name != "written")  # every review has these
TWIN = "words that an untrained network names"
FEWEST = 5  # replies that can be read; with fewer, what they say is not measured
Rows = Sequence[Mapping[str, Any]]


def figures_of(
    labels: Sequence[bool], decided: Sequence[float], decided_after: Sequence[float], rows: Rows, seed: int
) -> dict[str, Figure]:
    """The figures of all claims that were measured.

    Args:
        labels: whether each review is positive.
        decided: logit of "positive" minus that of "negative" of each.
        decided_after: the same where the model lists words first.
        rows: what was found of each review, as `examined` gives it.
        seed: draws reviews again for the intervals.
    """
    return {
        **_of_decisions(np.array(labels), np.array(decided) > 0, np.array(decided_after) > 0, seed),
        **_of_replies(rows, seed),
        **_of_orders(rows, seed),
        **_of_agreement(rows, seed),
    }


def _of_decisions(positive: Any, says: Any, says_after: Any, seed: int) -> dict[str, Figure]:
    right, after = (says == positive).astype(float), (says_after == positive).astype(float)
    common = float(max(positive.mean(), 1 - positive.mean()))
    said = f"It says positive of {says.mean():.0%}, and {positive.mean():.0%} are."
    return {
        "accuracy": _mean_of(right, seed, control=common, control_is="the commoner class", note=said),
        "explaining_first": _mean_of(right - after, seed, note=f"{after.mean():.1%} right where it lists words first."),
    }


def _of_replies(rows: Rows, seed: int) -> dict[str, Figure]:
    """Whether it answers as it was asked, and what of these answers can be measured."""
    n = len(rows)
    coverage = np.array([row["coverage"] for row in rows])
    readable, listed = coverage >= READABLE, np.array([bool(row["listed"]) for row in rows])
    unread = f"{int((coverage == 0).sum())} of {n} replies had no number for any word; {coverage.mean():.0%} of the words had one."
    figures = {
        "answers": _mean_of(readable.astype(float), seed, note=unread),
        "lists": _mean_of(listed.astype(float), seed, note=f"{int((~listed).sum())} of {n} replies could not be read."),
    }
    if readable.sum() >= FEWEST:
        levels = np.array([row["levels"] for row in rows])[readable]
        figures["few_levels"] = _mean_of(levels, seed, note="Of the replies that could be read.")
    if listed.sum() >= FEWEST:
        falls = [row["listed"] for row in rows if row["listed"]]
        gain = np.array([each["list"] - each["random"] for each in falls])
        everywhere = [name for name in falls[0] if all(name in each for each in falls)]
        means = {name: float(np.mean([each[name] for each in falls])) for name in everywhere}
        figures["listed_words"] = _mean_of(
            gain, seed, control=means["untrained"] - means["random"], control_is=TWIN, note=_said(means)
        )
    return figures


def _of_orders(rows: Rows, seed: int) -> dict[str, Figure]:
    """How faithful the orders are."""
    of = {measure: {name: _column(rows, name, measure) for name in COMPARED} for measure in MEASURES}
    notes = {measure: _said(_means(rows, measure)) for measure in MEASURES}
    missed = of["comprehensiveness"]
    twin = float((missed["untrained"] - missed["random"]).mean())
    figures = {
        f"{name}_matters": _mean_of(
            missed[name] - missed["random"], seed, control=twin, control_is=TWIN, note=notes["comprehensiveness"]
        )
        for name in ("occlusion", "lime", "named")
    }
    for measure, better in (("comprehensiveness", 1), ("sufficiency", -1)):
        own, other = (share_of_gain(of[measure], name, better) for name in ("named", "untrained"))
        control = other(np.arange(len(rows)))
        figures[measure] = _figure(own, len(rows), seed, control=control, control_is=TWIN, note=notes[measure])
    for measure in ("flip", "fraction"):
        both = (of[measure]["occlusion"] + of[measure]["lime"]) / 2
        control = float((of[measure]["random"] - both).mean())
        figures[measure] = _mean_of(
            of[measure]["named"] - both, seed, control=control, control_is="random orders", note=notes[measure]
        )
    figures["rank_correlation"] = _mean_of(of["rank_correlation"]["named"], seed, note=notes["rank_correlation"])
    return figures


def share_of_gain(values: Mapping[str, Floats], name: str, better: int) -> Callable[[Any], float]:
    """Of what occlusion and LIME gain over random orders, the share that an order gains.

    Args:
        values: of each order its measure [review].
        name: of the order.
        better: 1 where more is better, -1 where less is.

    Returns:
        A function of the chosen reviews; missing where occlusion and LIME are no better than random orders.
    """

    def share(chosen: Any) -> float:
        mean = {each: better * float(found[chosen].mean()) for each, found in values.items()}
        gain = (mean["occlusion"] + mean["lime"]) / 2 - mean["random"]
        return (mean[name] - mean["random"]) / gain if gain > 0 else float("nan")

    return share


def _of_agreement(rows: Rows, seed: int) -> dict[str, Figure]:
    top = {name: _agreed(rows, "named", name, "top") for name in ("occlusion", "lime", "random")}
    both = float(np.mean(_agreed(rows, "occlusion", "lime", "top")))
    ranks = float(np.mean(_agreed(rows, "named", "occlusion", "correlation")))
    said = f"With LIME {top['lime'].mean():.2f}; occlusion with LIME {both:.2f}. Correlation of all ranks {ranks:.2f}."
    control = float(top["random"].mean())
    return {"disagreement": _mean_of(top["occlusion"], seed, control=control, control_is="random orders", note=said)}


def _figure(of: Callable[[Any], float], n: int, seed: int, **said: Any) -> Figure:
    """A figure of reviews that are drawn again for its interval; no interval where it cannot be computed."""
    value = of(np.arange(n))
    low, high = resampled(of, n, seed=seed)
    if np.isnan([value, low, high]).any():
        return Figure(value, n=n, **said)
    return Figure(value, min(low, value), max(high, value), n, **said)


def _mean_of(values: Floats, seed: int, **said: Any) -> Figure:
    return _figure(lambda chosen: float(values[chosen].mean()), len(values), seed, **said)


def _means(rows: Rows, measure: str) -> dict[str, float]:
    """The mean of each order; of what the model wrote, over the replies that could be read."""
    columns = {name: _column(rows, name, measure) for name in ORDERS}
    there = {name: values[~np.isnan(values)] for name, values in columns.items()}
    return {
        f"written ({len(values)} replies)" if name == "written" else name: float(values.mean())
        for name, values in there.items()
        if len(values)
    }


def _column(rows: Rows, name: str, measure: str) -> Floats:
    """A measure of an order [review]; missing where the model's reply could not be read."""
    return np.array([row["measures"].get(name, {}).get(measure, np.nan) for row in rows])


def _agreed(rows: Rows, first: str, second: str, by: str) -> Floats:
    return np.array([row["agreement"].get(f"{first}|{second}", {}).get(by, np.nan) for row in rows])


def _said(means: Mapping[str, float]) -> str:
    said = ", ".join(f"{name} {value:.2f}" for name, value in means.items())
    return f"{said[:1].upper()}{said[1:]}."


# --- the pictures ------------------------------------------------------------------------------------------------


def picture(texts: Sequence[str], replies: Mapping[str, Sequence[str]], rows: Rows) -> Result:
    """Faithfulness of each order, how far they agree, f while words go, and the words of the first review.

    Args:
        texts: the reviews.
        replies: what the model wrote of them.
        rows: as in `figures_of`.
    """
    here = [name for name in ORDERS if any(name in row["measures"] for row in rows)]
    data: dict[str, Any] = {
        name: ("order", [float(np.nanmean(_column(rows, each, name))) for each in here]) for name in MEASURES
    }
    data |= {f"{by}_agreement": (("order", "other"), _table(rows, here, by)) for by in ("top", "rank", "correlation")}
    curves = [np.mean([row["curves"][each] for row in rows if each in row["curves"]], axis=0) for each in here]
    words, maps = texts[0].split(), rows[0]["maps"]
    example = [name for name in here if name in maps]
    coverage = [row["coverage"] for row in rows]
    dataset = xr.Dataset(
        {
            **data,
            "curve": (("order", "share"), np.array(curves)),
            "importance": (("account", "word"), np.array([_to_one(maps[name]) for name in example])),
            "probability": ("review", [row["whole"] for row in rows]),
            "lime_fit": ("review", [row["fit"] for row in rows]),
            "coverage": ("review", coverage),
            "written": ("review", list(replies["each"])),
            "listed": ("review", list(replies["list"])),
        },
        coords={
            "order": here,
            "other": here,
            "share": np.linspace(0, 1, TENTHS + 1),
            "account": example,
            "word": np.arange(len(words)),
            "word_text": ("word", [f" {word}" for word in words]),
            "review": list(texts),
        },
    )
    return Result(
        data=dataset,
        metrics={"reviews": len(rows), "replies_without_a_number": sum(each == 0 for each in coverage)},
        views=_views(example),
    )


def _views(example: Sequence[str]) -> tuple[views.View, ...]:
    agree = "Words that two accounts both rank first (a fifth of the review)"
    said = {
        "comprehensiveness": "larger is better",
        "sufficiency": "smaller is better",
        "fraction": "smaller is better",
    }
    bars = [views.bars(value=name, label="order", title=f"{name.capitalize()} ({how})") for name, how in said.items()]
    return (
        *bars,
        views.heatmap(value="top_agreement", x="other", y="order", title=agree),
        views.heatmap(
            value="correlation_agreement", x="other", y="order", title="Rank correlation of two accounts' importances"
        ),
        views.curves(
            value="curve", x="share", series="order", title="Probability of the decision while words are taken out"
        ),
        *(
            views.tokens(
                value="importance", token="word_text", at={"account": place}, title=f"The first review by {name}"
            )
            for place, name in enumerate(example)
        ),
        views.table(columns=["review", "written", "listed"], title="What the model wrote"),
    )


def _table(rows: Rows, here: Sequence[str], by: str) -> Floats:
    return np.array([[1.0 if a == b else float(np.nanmean(_agreed(rows, a, b, by))) for b in here] for a in here])


def _to_one(values: Sequence[float]) -> Floats:
    """Importances moved and scaled so that the least is 0 and the largest 1."""
    found = np.asarray(values, dtype=np.float64) - min(values)
    return found / (found.max() or 1.0)
