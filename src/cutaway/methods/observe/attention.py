"""Where does each head look, and what sort of head is it?

A head's pattern A[i, j] says how much of what it writes at position i it takes from position j. Four habits are
known well enough to be scored, each as the mean over the positions i that have such a key of the attention to it
[@elhage2021; @olsson2022]:

    previous token     A[i, i-1]
    first token        A[i, 0], the place where attention rests when there is nothing to fetch [@xiao2024]
    duplicate token    sum of A[i, j] over earlier positions j with the same token as i
    induction          sum of A[i, j] over positions j whose token before is the token at i ("what came next?")

They are measured on random tokens said twice, where only position and repetition can guide a head, and on the
prompts themselves. The check takes the heads with the largest induction scores out (their mean instead of their
value) and measures how much worse the repeated half is predicted, against as many random heads.
Limits: attention says where a head looks and not what it moves; a score near 1 on random tokens may be far from it
on text. NaN: no position of the prompts has such a key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.edit import ablate
from cutaway.core.errors import SiteError
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.run import Run
from cutaway.core.site import Site
from cutaway.core.task import EncodedTask, Task
from cutaway.methods.control import compared, enough, sets_like, unchecked
from cutaway.methods.labels import described, token_table
from cutaway.methods.reading_options import Heads
from cutaway.models.model import Model

HABITS = ("previous_token", "first_token", "duplicate_token", "induction")
ENTRIES_AT_ONCE = 2**26  # of patterns that are held: 256 MiB in single precision
ENTRIES_KEPT = 2**23  # of patterns that go into the result


@method(
    asks="Where does each head look, and what sort of head is it?",
    cites="elhage2021, olsson2022, xiao2024",
    needs=("attention",),
)
def attention(
    model: Model,
    task: Task,
    *,
    sites: Heads = "pattern[*]",
    length: Annotated[int, Field(ge=4, description="random tokens that are said twice")] = 25,
    sequences: Annotated[int, Field(ge=1, description="texts of random tokens")] = 2,
    top: Annotated[int, Field(ge=1, description="induction heads that are taken out together")] = 3,
    controls: Annotated[
        int,
        Field(ge=0, description="random sets of heads that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the tokens and the random sets")] = 0,
) -> Result:
    """Attention patterns, and how much of each head is looking back, resting, or copying."""
    encoded = task.encode(model.tokenizer)
    chosen = _chosen(model, sites)
    repeated = _repeated(model, length, sequences, seed)
    layers = sorted({int(site.layer) for site in chosen if isinstance(site.layer, int)})
    heads = sorted({site.head for site in chosen if isinstance(site.head, int)})
    random_scores = _score_table(model, repeated, chosen, layers, heads, "attention on random tokens")
    prompt_scores = _score_table(model, encoded.ids, chosen, layers, heads, "attention on the prompts")
    data, notes = _patterns(model, encoded, chosen, layers, heads)
    data["score"] = (("habit", "layer", "head"), random_scores)
    data["prompt_score"] = (("habit", "layer", "head"), prompt_scores)
    data = data.assign_coords(habit=list(HABITS), layer=layers, head=heads)
    check: tuple[Check, ...] = ()
    said: tuple[str, ...] = unchecked(controls)
    if controls:
        check, said = _check(model, data, chosen, repeated, top, controls, seed)
    return Result(
        data=_with_best(data),
        metrics=_metrics(data),
        views=_views(data),
        checks=check,
        notes=(*encoded.notes, *notes, *said),
    )


def _chosen(model: Model, sites: str) -> list[Site]:
    """One site for each head that is asked for."""
    found = model.expand(sites)
    wrong = [site for site in found if site.kind != "pattern" or site.position is not None or site.unit is not None]
    if wrong:
        raise SiteError(
            f"{str(wrong[0])!r} is not a head's pattern;",
            "attention is about patterns of whole prompts.",
            "Write pattern[*], pattern[5] or pattern[9].head[6].",
        )
    heads: dict[Site, None] = {}
    for site in found:
        number = model.anatomy.layer(site).n_heads
        for head in range(number) if site.head is None else (site.head,):
            heads[Site("pattern", site.layer, head=head, stack=site.stack)] = None
    return list(heads)


# --- random tokens -----------------------------------------------------------------------------------------------


def _repeated(model: Model, length: int, sequences: int, seed: int) -> list[list[int]]:
    """Texts of random tokens said twice, after the start token where the tokenizer writes one."""
    tokenizer = model.tokenizer
    special = set(getattr(tokenizer, "all_special_ids", ()) or ())
    size = min(model.anatomy.vocab_size, len(tokenizer) if tokenizer is not None else model.anatomy.vocab_size)
    ordinary = np.array([token for token in range(size) if token not in special])
    limit = getattr(model.anatomy.text_config, "max_position_embeddings", None) or 10**9
    start = _start(model, special)
    length = min(length, len(ordinary), (int(limit) - len(start)) // 2)
    random = np.random.default_rng(seed)
    texts = []
    for _ in range(sequences):
        tokens = random.choice(ordinary, size=length, replace=False).tolist()
        texts.append([*start, *tokens, *tokens])
    return texts


def _start(model: Model, special: set[int]) -> list[int]:
    if model.tokenizer is None:
        return []
    first = model.encode("a")[:1]
    return first if first and first[0] in special else []


# --- scores ------------------------------------------------------------------------------------------------------


def _score_table(
    model: Model, ids: Sequence[Sequence[int]], chosen: Sequence[Site], layers: list[int], heads: list[int], what: str
) -> NDArray[np.float64]:
    """The mean over prompts of each habit's score [habit, layer, head]; NaN where no prompt has such a key."""
    table = np.full((len(ids), len(HABITS), len(layers), len(heads)), np.nan)
    for prompts, run, wholes in track(_runs(model, ids, chosen), what):
        for row, prompt in enumerate(prompts):
            masks = habit_masks(ids[prompt])
            for whole in wholes:
                size = len(ids[prompt])
                scored = habit_scores(run[whole][row, :, :size, :size], masks)
                for site in (s for s in chosen if s.whole == whole and isinstance(s.head, int)):
                    column = scored[:, site.head].cpu().numpy()  # type: ignore[index]
                    table[prompt, :, layers.index(int(str(site.layer))), heads.index(int(str(site.head)))] = column
    counted = np.isfinite(table).sum(axis=0)
    return np.where(counted > 0, np.nansum(table, axis=0) / np.maximum(counted, 1), np.nan)


def _runs(
    model: Model, ids: Sequence[Sequence[int]], chosen: Sequence[Site]
) -> Iterator[tuple[list[int], Run, list[Site]]]:
    """Runs that hold some prompts' patterns at some layers, never more than fits."""
    wholes = list(dict.fromkeys(site.whole for site in chosen))
    for prompts in _alike(ids):
        entries = len(ids[prompts[0]]) ** 2 * max(model.anatomy.n_heads, 1)
        at_once = max(1, ENTRIES_AT_ONCE // (entries * len(prompts)))
        for start in range(0, len(wholes), at_once):
            some = wholes[start : start + at_once]
            yield prompts, model.run([list(ids[p]) for p in prompts], read=some, logits="none"), some


def _alike(ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Prompts of one length together, a few thousand tokens at most."""
    by_length: dict[int, list[int]] = {}
    for prompt, tokens in enumerate(ids):
        by_length.setdefault(len(tokens), []).append(prompt)
    groups = []
    for length, prompts in by_length.items():
        size = max(1, 1024 // length)
        groups += [prompts[start : start + size] for start in range(0, len(prompts), size)]
    return groups


def habit_masks(ids: Sequence[int]) -> Tensor:
    """Which key each habit means at each query [habit, query, key]."""
    tokens = torch.tensor(list(ids))
    size = len(tokens)
    earlier = torch.ones(size, size).tril(-1).bool()
    before = torch.eye(size).roll(-1, dims=1).bool() & earlier
    first = torch.zeros(size, size, dtype=torch.bool)
    first[:, 0] = True
    same = tokens[:, None] == tokens[None, :]
    follower = torch.zeros_like(same)
    follower[:, 1:] = same[:, :-1]
    return torch.stack([before, first & earlier, same & earlier, follower & earlier])


def habit_scores(pattern: Tensor, masks: Tensor) -> Tensor:
    """Scores [habit, head] of one prompt's pattern [head, query, key]: means over the queries that have such a key."""
    masks = masks.to(pattern.device)
    attended = torch.einsum("hqk,mqk->mhq", pattern.float(), masks.float())
    has = masks.any(dim=-1)
    count = has.sum(dim=-1)
    total = (attended * has[:, None]).sum(dim=-1)
    return torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], torch.nan)


# --- the result --------------------------------------------------------------------------------------------------


def _patterns(
    model: Model, encoded: EncodedTask, chosen: Sequence[Site], layers: list[int], heads: list[int]
) -> tuple[xr.Dataset, tuple[str, ...]]:
    """The patterns of as many prompts as a file should hold [prompt, layer, head, query, key]."""
    longest = max(map(len, encoded.ids))
    each = len(layers) * len(heads) * longest**2
    kept = max(1, min(len(encoded), ENTRIES_KEPT // each))
    table = np.full((kept, len(layers), len(heads), longest, longest), np.nan, dtype=np.float32)
    for prompts, run, wholes in _runs(model, encoded.ids[:kept], chosen):
        for row, prompt in enumerate(prompts):
            size = len(encoded.ids[prompt])
            for site in (s for s in chosen if s.whole in wholes):
                place = (prompt, layers.index(int(str(site.layer))), heads.index(int(str(site.head))))
                value = run[site.whole][row, int(str(site.head)), :size, :size]
                table[(*place, slice(size), slice(size))] = value.float().cpu().numpy()
    data = xr.Dataset({"pattern": (("prompt", "layer", "head", "query", "key"), table)})
    tokens = token_table(model, encoded.ids[:kept])
    padded = np.full((kept, longest), "", dtype=object)
    padded[:, : tokens.shape[1]] = tokens
    data = data.assign_coords(
        prompt=list(encoded.prompts[:kept]),
        query=range(longest),
        key=range(longest),
        query_token=(("prompt", "query"), padded),
        key_token=(("prompt", "key"), padded),
    )
    said = f"Patterns of the first {kept} of {len(encoded)} prompts are kept; the scores are of all of them."
    return data, () if kept == len(encoded) else (said,)


def _with_best(data: xr.Dataset) -> xr.Dataset:
    """The five heads with the largest score of each habit, by name."""
    scores = data["score"].values.reshape(len(HABITS), -1)
    names = np.array([f"{layer}.{head}" for layer in data["layer"].values for head in data["head"].values])
    order = np.argsort(np.where(np.isfinite(scores), -scores, np.inf), axis=1, kind="stable")[:, :5]
    data["best_head"] = (("habit", "place"), names[order])
    data["best_score"] = (("habit", "place"), np.take_along_axis(scores, order, axis=1))
    data = data.assign_coords(place=range(1, order.shape[1] + 1))
    return described(data, best_head="head", best_score="mean attention", score="mean attention", pattern="attention")


def _metrics(data: xr.Dataset) -> dict[str, float]:
    best = data["score"].max(("layer", "head"), skipna=True)
    return {f"largest_{habit}_score": float(best.sel(habit=habit)) for habit in HABITS}


def _views(data: xr.Dataset) -> tuple[views.View, ...]:
    titles = {
        "induction": "Induction: attention to what followed this token the last time",
        "previous_token": "Attention to the token before",
        "duplicate_token": "Attention to the same token earlier on",
        "first_token": "Attention to the first token (at rest)",
    }
    scores = data["score"].sel(habit="induction")
    layer, head = np.unravel_index(int(np.nanargmax(scores.values)), scores.shape)
    place = {"prompt": 0, "layer": int(data["layer"].values[layer]), "head": int(data["head"].values[head])}
    maps = tuple(
        views.heatmap(value="score", x="head", y="layer", at={"habit": habit}, title=title, scale="sequential")
        for habit, title in titles.items()
    )
    return (
        *maps,
        views.attention(
            value="pattern",
            token="query_token",
            key_token="key_token",
            at=place,
            title=f"Pattern of head {place['layer']}.{place['head']}, the strongest induction head",
        ),
        views.table(
            columns=["best_head", "best_score"],
            at={"habit": "induction"},
            title="Heads with the largest induction scores",
        ),
    )


# --- the check ---------------------------------------------------------------------------------------------------


def _check(
    model: Model,
    data: xr.Dataset,
    chosen: Sequence[Site],
    repeated: list[list[int]],
    top: int,
    controls: int,
    seed: int,
) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """Take the strongest induction heads out, and as many random ones, and see what the repeated half costs."""
    if not {"unembedding", "causal"} <= model.anatomy.features:
        return (), ("The model does not predict the next token, so nothing was taken out.",)
    table = data["score"].sel(habit="induction")
    pool = [Site("z", site.layer, head=site.head) for site in chosen]
    able = [site for site in pool if "z" in model.anatomy.layer(site).places]
    if len(able) < 2:
        return (), ("Fewer than two heads can be taken out, so there is nothing to compare with.",)
    strength = np.array([float(table.sel(layer=site.layer, head=site.head)) for site in able])
    best = [able[i] for i in np.argsort(-strength, kind="stable")[: min(top, len(able) // 2)]]
    reference = model.run(repeated, read=tuple({site.whole for site in able}), logits="none")
    base = _loss(model, repeated, (), reference)
    sets = sets_like(best, able, controls, seed, sort=lambda site: site.kind)
    others = [_loss(model, repeated, chosen, reference) - base for chosen in track(sets, "taking random heads out")]
    names = ", ".join(f"{site.layer}.{site.head}" for site in best)
    check = compared(
        _loss(model, repeated, best, reference) - base,
        others,
        claim=f"The heads with the largest induction scores ({names}) predict a repeated text, more than others do.",
        how="Replace what they write by its mean and measure how much the loss on the repeated half of random "
        "tokens grows; the control takes out as many random heads.",
        unit="nats a token",
    )
    return (check,), (f"Loss on the repeated half of the random tokens: {base:.2f} nats a token.",)


def _loss(model: Model, texts: list[list[int]], out: Sequence[Site], reference: Run) -> float:
    """Mean loss (nats) of the second half's tokens from its second token on, with heads at their means."""
    edits = [ablate(site, "mean", reference=reference) for site in out]
    logits = model.run(texts, edit=edits, logits="all").logits
    assert logits is not None
    half = (len(texts[0]) + 1) // 2
    targets = torch.tensor(texts, device=logits.device)[:, half + 1 :]
    picked = logits[:, half:-1].float().log_softmax(dim=-1).gather(-1, targets[..., None])
    return -float(picked.mean())
