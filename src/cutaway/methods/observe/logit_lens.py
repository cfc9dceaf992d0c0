"""What would the model say if it stopped after each layer?

The logit lens [@nostalgebraist2020] reads every layer as if it were the last: the final norm and the unembedding
are applied to the residual stream x after layer l at each position, lens(l) = softmax(W_U norm(x_l)). Kept for each
layer and position are the likeliest tokens, the answer's log-probability and rank, the entropy, and the divergence
KL(final || lens). The lens of the last layer is the model itself.

A layer x position x vocabulary table is never held: rows go through the unembedding in pieces, and what is kept of
each is a few numbers. The check moves the stream at the last token, from the layer on at which the lens no longer
changes its mind, into the same words in a random order: if the prediction was decided there, it goes along. Where that
is the last layer, an earlier one is tested, in the middle of the rise of the answer (see `lens_check.py`).
Limits: early layers of some families do not speak the language of the unembedding, and what the lens cannot read
may still be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch import Tensor

from cutaway.core import view as views
from cutaway.core.errors import MethodError, SiteError
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.run import token_positions
from cutaway.core.site import KINDS, Site, Span, parse_sites
from cutaway.core.task import EncodedTask, Task
from cutaway.methods.control import enough, interval, unchecked
from cutaway.methods.labels import described, token_table
from cutaway.methods.observe.lens_check import Moved, can_be_moved, carried, past_the_middle
from cutaway.models.model import Model

TOKENS_AT_ONCE = 4096  # of a batch of prompts whose streams are held
TRIED = 16  # tokens on which the lens of the last layer is held against the model
LOGITS_AT_ONCE = 2**22  # rows x vocabulary of one piece: 16 MiB in single precision
NOTHING_CLAIMED = (
    "Nothing is claimed about where the prediction is decided: that takes the last token, read up to the last layer, "
    "of a prompt whose words can be put in another order."
)
CALLED: Mapping[str, tuple[str, str]] = {
    "answer_log_probability": ("log-probability", "nats"),
    "answer_rank": ("rank", ""),
    "entropy": ("entropy", "nats"),
    "kl_from_final": ("divergence", "nats"),
}
PER_CELL = tuple(CALLED)


@method(
    asks="What would the model say if it stopped after each layer?",
    cites="nostalgebraist2020",
    needs=("unembedding",),
)
def logit_lens(
    model: Model,
    task: Task,
    *,
    sites: Annotated[
        str,
        Field(description="one kind of stream value, such as resid_post[*], resid_mid[*] or resid_post[*]@-1"),
    ] = "resid_post[*]",
    top: Annotated[int, Field(ge=1, le=100, description="likeliest tokens that are kept at each place")] = 5,
    controls: Annotated[
        int,
        Field(ge=0, description="random word orders that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    tested: Annotated[int, Field(ge=1, description="prompts that the check uses at most")] = 4,
    seed: Annotated[int, Field(ge=0, description="draws the random word orders")] = 0,
) -> Result:
    """Read the residual stream with the final norm and the unembedding, at every layer and position."""
    encoded = task.encode(model.tokenizer)
    streams = _streams(model, sites)
    where = _positions(streams[0], encoded)
    _refuse_other_ends(model, encoded)
    lens = _lens(model, encoded, streams, where, min(top, model.anatomy.vocab_size))
    data = _dataset(model, encoded, streams, where, lens)
    checks: tuple[Check, ...] = ()
    said: tuple[str, ...] = unchecked(controls)
    if controls:
        checks, said = _checks(model, encoded, streams, where, lens, data, controls, tested, seed)
    return Result(
        data=data,
        metrics=_metrics(data),
        views=_views(data, where),
        checks=checks,
        notes=(*encoded.notes, *_notes(encoded), *said),
    )


# --- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lens:
    """What is kept, in arrays [prompt, layer, position] and [prompt, layer, position, top]; beyond the end NaN, -1."""

    ids: NDArray[np.int64]
    probability: NDArray[np.float32]
    cells: dict[str, NDArray[np.float32]]
    final: NDArray[np.int64]  # [prompt, position]: the model's own prediction


def _streams(model: Model, sites: str) -> list[Site]:
    """Concrete sites of one kind that the unembedding can read, in the order of layers."""
    found = list(model.expand(sites))
    kinds = {site.kind for site in parse_sites(sites)}
    positions = {site.position for site in found}
    if len(kinds) != 1 or len(positions) != 1 or KINDS[found[0].kind][1] != ("position", "d_model"):
        able = [kind for kind, (part, dims) in KINDS.items() if dims == ("position", "d_model") and part == "stream"]
        raise SiteError(
            f"the lens cannot read {sites!r} as one picture;",
            f"it reads one kind of value as wide as the stream, at one choice of positions: {', '.join(able)}.",
            "Write for example resid_post[*].",
        )
    if found[0].unit is not None or found[0].layer is None:
        raise SiteError(f"the lens cannot read {sites!r};", "it reads whole vectors of layers.", "Write resid_post[*].")
    return sorted(found, key=lambda site: site.layer if isinstance(site.layer, int) else 0)


def _refuse_other_ends(model: Model, encoded: EncodedTask) -> None:
    """The lens of the last layer must be the model; where more stands between, no layer can be read."""
    last = Site("resid_post", model.anatomy.n_layers - 1, position=-1)
    run = model.run([encoded.ids[0][:TRIED]], read=(last,), logits="last")
    with torch.no_grad():
        ours, theirs = model.unembed(run[last]).float(), run.last_logits.float()
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
    if not float((ours - theirs).norm()) <= tolerance * float(theirs.norm()):
        raise MethodError(
            f"the lens of the last layer of {model.name!r} is not what the model says;",
            "between its last layer and its logits is more than the final norm and the unembedding.",
            "Use `ablate` or `patching` to see where the answer is decided.",
        )


def _positions(site: Site, encoded: EncodedTask) -> list[list[int]]:
    """The token indices of each prompt that a site means."""
    lengths = [len(ids) for ids in encoded.ids]
    if site.position is None:
        return [list(range(length)) for length in lengths]
    if isinstance(site.position, Span):
        return [site.position.indices(length) for length in lengths]
    return [[place] for place in token_positions(site.position, lengths, encoded.positions)]


def _lens(model: Model, encoded: EncodedTask, streams: list[Site], where: list[list[int]], top: int) -> _Lens:
    shape = (len(encoded), len(streams), max(map(len, where)))
    lens = _Lens(
        np.full((*shape, top), -1, dtype=np.int64),
        np.full((*shape, top), np.nan, dtype=np.float32),
        {name: np.full(shape, np.nan, dtype=np.float32) for name in PER_CELL},
        np.full((shape[0], shape[2]), -1, dtype=np.int64),
    )
    last = Site("resid_post", model.anatomy.n_layers - 1)
    whole = tuple(dict.fromkeys([*(site.at(None) for site in streams), last]))
    for group in track(_batches([len(ids) for ids in encoded.ids]), "logit lens"):
        run = model.run([encoded.ids[p] for p in group], read=whole, logits="none")
        for row, prompt in enumerate(group):
            places = torch.tensor(where[prompt], device=run[last].device)
            stream = torch.stack([run[site.at(None)][row, places].to(places.device) for site in streams])
            answers = encoded.answer_ids[prompt] if any(encoded.answer_ids) else ()
            _fill(lens, prompt, model, stream, run[last][row, places], answers)
    return lens


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Prompts in order, in groups of at most `TOKENS_AT_ONCE` tokens."""
    groups: list[list[int]] = [[]]
    for prompt in range(len(lengths)):
        if groups[-1] and sum(lengths[p] for p in groups[-1]) + lengths[prompt] > TOKENS_AT_ONCE:
            groups.append([])
        groups[-1].append(prompt)
    return groups


@torch.no_grad()
def _fill(lens: _Lens, prompt: int, model: Model, stream: Tensor, final: Tensor, answers: Sequence[int]) -> None:
    """Decode one prompt's stream [layer, position, d_model], a piece of positions at a time, and keep the figures."""
    rows = max(1, LOGITS_AT_ONCE // model.anatomy.vocab_size)
    for start in range(0, stream.shape[1], rows):
        piece = slice(start, min(start + rows, stream.shape[1]))
        last = model.unembed(final[piece]).float().log_softmax(dim=-1)
        own = last.argmax(dim=-1, keepdim=True)
        last_mass = last.exp()
        final_entropy = -_expected(last_mass, last)
        lens.final[prompt, piece] = own[:, 0].cpu().numpy()
        wanted = own if not answers else torch.tensor(answers, device=own.device).expand(len(own), -1)
        for layer in range(len(stream)):
            logits = model.unembed(stream[layer, piece]).float()
            kept = _figures(logits, last_mass, final_entropy, wanted, lens.ids.shape[-1])
            lens.ids[prompt, layer, piece] = kept[0].cpu().numpy()
            lens.probability[prompt, layer, piece] = kept[1].cpu().numpy()
            for name, values in zip(PER_CELL, kept[2:], strict=True):
                lens.cells[name][prompt, layer, piece] = values.cpu().numpy()


def _figures(logits: Tensor, final_mass: Tensor, final_entropy: Tensor, wanted: Tensor, top: int) -> tuple[Tensor, ...]:
    """Of rows of logits: top ids and probabilities, the answers' log-probability and rank, entropy, divergence."""
    values, ids = logits.topk(top, dim=-1)
    # The largest logit is known from here on: finding it again, as logsumexp does, costs as much as the unembedding.
    mass = (logits - values[:, :1]).exp_()
    whole = mass.sum(dim=-1)
    total = whole.log() + values[:, 0]
    answer = logits.gather(1, wanted)
    rank = torch.count_nonzero(logits > answer.max(dim=-1, keepdim=True).values, dim=-1)
    entropy = total - _expected(mass, logits) / whole
    divergence = (total - _expected(final_mass, logits) - final_entropy).clamp_min(0.0)
    return ids, (values - total[:, None]).exp(), answer.logsumexp(dim=-1) - total, rank.float(), entropy, divergence


def _expected(mass: Tensor, values: Tensor) -> Tensor:
    """Sum of values weighted by probabilities; where a token is impossible (a logit of -inf) it counts nothing."""
    found = torch.linalg.vecdot(mass, values)
    return found if bool(found.isfinite().all()) else (mass * values.masked_fill(mass == 0, 0.0)).sum(dim=-1)


# --- the result --------------------------------------------------------------------------------------------------


def _dataset(
    model: Model, encoded: EncodedTask, streams: list[Site], where: list[list[int]], lens: _Lens
) -> xr.Dataset:
    cell = ("prompt", "layer", "position")
    texts = token_table(model, encoded.ids)
    tokens = np.full(lens.final.shape, "", dtype=object)
    for prompt, places in enumerate(where):
        tokens[prompt, : len(places)] = texts[prompt, places]
    data = xr.Dataset({name: (cell, values) for name, values in lens.cells.items()})
    data["top_token"] = ((*cell, "top"), _as_text(model, lens.ids))
    data["top_id"] = ((*cell, "top"), lens.ids)
    data["top_probability"] = ((*cell, "top"), lens.probability)
    data["decision_layer"] = ("prompt", _decided(lens, where, streams))
    data["rise_layer"] = ("prompt", _risen(lens, where, streams))
    same = len({tuple(places) for places in where}) == 1
    numbers = where[0] if same else range(lens.final.shape[1])
    data = data.assign_coords(
        prompt=list(encoded.prompts),
        layer=[int(site.layer) if isinstance(site.layer, int) else -1 for site in streams],
        position=list(numbers),
        top=range(1, lens.ids.shape[-1] + 1),
        token=(("prompt", "position"), tokens),
    )
    return _with_curves(data, where)


def _as_text(model: Model, ids: NDArray[np.int64]) -> NDArray[np.object_]:
    known = [int(token) for token in np.unique(ids) if token >= 0]
    table = dict(zip(known, model.token_strings(known), strict=True)) | {-1: ""}
    return np.array([table[int(token)] for token in ids.ravel()], dtype=object).reshape(ids.shape)


def _decided(lens: _Lens, where: list[list[int]], streams: list[Site]) -> NDArray[np.int64]:
    """For each prompt the layer from which on the lens says what the model says at the last of its positions.

    -1 where the last layer read does not say it.
    """
    found = np.full(len(where), -1, dtype=np.int64)
    for prompt, places in enumerate(where):
        agrees = lens.ids[prompt, :, len(places) - 1, 0] == lens.final[prompt, len(places) - 1]
        first = len(agrees) - int(np.logical_and.accumulate(agrees[::-1]).sum())
        if first < len(agrees):
            layer = streams[first].layer
            found[prompt] = layer if isinstance(layer, int) else -1
    return found


def _risen(lens: _Lens, where: list[list[int]], streams: list[Site]) -> NDArray[np.int64]:
    """For each prompt the layer from which on the answer is past the middle of its rise at the last of its positions.

    -1 where its log-probability does not rise.
    """
    found = np.full(len(where), -1, dtype=np.int64)
    for prompt, places in enumerate(where):
        first = past_the_middle(lens.cells["answer_log_probability"][prompt, :, len(places) - 1])
        layer = streams[first].layer
        found[prompt] = layer if first >= 0 and isinstance(layer, int) else -1
    return found


def _with_curves(data: xr.Dataset, where: list[list[int]]) -> xr.Dataset:
    """Figures at the last position of each prompt, in the middle of the prompts and for 95 % of them, by layer."""
    last = xr.DataArray([len(places) - 1 for places in where], dims="prompt")
    for name in (*PER_CELL, "top_probability"):
        values = data[name].isel(position=last)
        values = values.isel(top=0) if "top" in values.dims else values
        table = np.array([interval(column) for column in values.transpose("layer", "prompt").values])
        for part, column in zip(("low", "", "high"), table.T, strict=True):
            data[f"last_{name}{'_' if part else ''}{part}"] = ("layer", column.astype(np.float32))
    return described(
        data,
        top="rank",
        top_probability="probability",
        last_top_probability="probability of the likeliest token",
        **{f"last_{name}": said for name, said in CALLED.items()},
    )


def _metrics(data: xr.Dataset) -> dict[str, float]:
    decided = data["decision_layer"].values
    known = decided[decided >= 0]
    return {
        "decision_layer": float(np.median(known)) if len(known) else -1.0,
        "first_kl_from_final": float(data["last_kl_from_final"].values[0]),
        "last_kl_from_final": float(data["last_kl_from_final"].values[-1]),
        "final_answer_log_probability": float(data["last_answer_log_probability"].values[-1]),
        "final_answer_rank": float(data["last_answer_rank"].values[-1]),
        "final_entropy": float(data["last_entropy"].values[-1]),
    }


def _views(data: xr.Dataset, where: list[list[int]]) -> tuple[views.View, ...]:
    first = {"prompt": 0, "top": 1}

    def curve(name: str, title: str) -> views.View:
        low, high = (f"last_{name}_low", f"last_{name}_high") if len(where) > 1 else (None, None)
        return views.curves(value=f"last_{name}", x="layer", low=low, high=high, title=title)

    return (
        views.heatmap(
            value="top_probability",
            x="token",
            y="layer",
            text="top_token",
            at=first,
            title="Likeliest next token if the model stopped here",
            scale="sequential",
        ),
        curve("answer_log_probability", "Log-probability of the answer at the last token by layer"),
        curve("answer_rank", "Rank of the answer at the last token (0: the prediction) by layer"),
        curve("kl_from_final", "Divergence of the final prediction from the lens by layer"),
        curve("entropy", "Entropy of the lens at the last token by layer"),
    )


def _notes(encoded: EncodedTask) -> tuple[str, ...]:
    if any(encoded.answer_ids):
        return ()
    return ("The task has no answers: the answer at each position is what the model itself predicts there.",)


# --- the check ---------------------------------------------------------------------------------------------------


def _checks(
    model: Model,
    encoded: EncodedTask,
    streams: list[Site],
    where: list[list[int]],
    lens: _Lens,
    data: xr.Dataset,
    controls: int,
    tested: int,
    seed: int,
) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """Does the stream at the last token carry the prediction from the layer on that the lens names?"""
    by_construction = model.anatomy.n_layers - 1 if streams[0].kind == "resid_post" else -1
    what = "the answer" if any(encoded.answer_ids) else "the prediction"
    decided, rising, early = [], [], []
    for prompt, ids in enumerate(encoded.ids):
        layer, middle = (int(data[name].values[prompt]) for name in ("decision_layer", "rise_layer"))
        if layer < 0 or where[prompt][-1:] != [len(ids) - 1] or not can_be_moved(ids):
            continue
        own = (int(lens.final[prompt, len(where[prompt]) - 1]),)
        if layer != by_construction:
            decided.append(Moved(ids, Site(streams[0].kind, layer, position=-1), own))
            continue
        tokens = encoded.answer_ids[prompt] if any(encoded.answer_ids) else own
        if 0 <= middle < layer:
            rising.append(Moved(ids, Site("resid_post", middle, position=-1), tokens))
        elif layer > 0:
            early.append(Moved(ids, Site("resid_post", layer - 1, position=-1), tokens))
    claims = (
        (decided, "From layer {layers} on, the stream at the last token holds the prediction.", "the prediction"),
        (
            rising,
            f"From layer {{layers}} on, where the lens is past the middle of its rise to {what}, the stream at the last "
            f"token holds {what}.",
            what,
        ),
        (early, f"After layer {{layers}}, one before the last, the stream at the last token holds {what}.", what),
    )
    checks = tuple(
        carried(model, cases, tested=tested, controls=controls, seed=seed, claim=claim, what=of)
        for cases, claim, of in claims
        if cases
    )
    return checks, () if checks else (NOTHING_CLAIMED,)
