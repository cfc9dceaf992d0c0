"""Where does the model look up what it knows of a subject? Damage the subject, and put single values back.

Causal tracing [@meng2022]. The embeddings of the subject's tokens get noise, and the probability of the answer falls
from p to p*: the total effect. Then one value of the clean run is restored in the damaged one: the stream after a layer,
or what the MLPs (or attentions) of a window of layers return, at one token. Its indirect effect is the probability that
it wins back, p(restored) - p*. Every layer, every token from the subject on and every noise sample is measured; in a
causal network earlier tokens cannot differ. Noise is `noise` standard deviations of the embeddings of the task's subjects.

`severed` repeats the stream's curve at the last subject token while the MLPs (or the attentions) of all later layers
keep there what they gave in the damaged run: what then is lost went through them.

The check restores the cell with the largest effect under fresh noise, in prompts that did not choose it where there are
four or more, against random cells of the same kind. The stream at the last token is left out there: the answer is read
from it, so that its last layer wins back everything.
Limits: noise of this size is far from any text, and a restored run is one that never happens; a window of layers wins
back more than its layers one by one; where a fact is read is not where it must be edited [@hase2023]. The window is at
most a third of the layers, so that shallow networks are not restored whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import xarray as xr
from pydantic import AfterValidator, Field

from cutaway.core import view as views
from cutaway.core.method import method
from cutaway.core.progress import track
from cutaway.core.result import Check, Result
from cutaway.core.task import Task
from cutaway.methods.control import compared, enough, unchecked
from cutaway.methods.labels import described, shared_labels, token_table
from cutaway.methods.scoring import with_answers
from cutaway.methods.subjects import (
    LAST_SUBJECT,
    PLACES,
    Distribution,
    embedding_deviation,
    subjects_of,
)
from cutaway.methods.tracing import (
    ATTENTION,
    MLP,
    NO_ATTENTION,
    NO_MLP,
    SITES,
    STREAM,
    Floats,
    Trace,
    Tracing,
    traced_kinds,
)
from cutaway.models.model import Model
from cutaway.models.restoration import Cell

WON_BACK = ("probability won back", "probability")
FRESH = 1  # in the seed of the check's noise


@method(
    asks="Where does the model look up what it knows of a subject?",
    cites="meng2022, hase2023",
    needs=("unembedding", "causal"),
)
def causal_trace(
    model: Model,
    task: Task,
    *,
    subject: Annotated[
        str, Field(description="the named word that gets noise; empty: `subject`, or the first word that is named")
    ] = "",
    noise: Annotated[float, Field(ge=0, description="size of the noise")] = 3.0,
    noise_unit: Annotated[
        Literal["deviation", "plain"],
        Field(description="deviation: standard deviations of the subjects' embeddings; plain: as it is"),
    ] = "deviation",
    distribution: Annotated[
        Distribution, Field(description="normal noise, or uniform between minus and plus the size")
    ] = "normal",
    samples: Annotated[int, Field(ge=1, description="draws of the noise")] = 10,
    window: Annotated[
        int, Field(ge=1, description="layers whose MLPs (attentions) are restored together; at most a third of all")
    ] = 10,
    severed: Annotated[bool, Field(description="repeat the stream's curve without later MLPs and attentions")] = False,
    controls: Annotated[
        int,
        Field(ge=0, description="random cells that the check compares with, 5 or more; 0: no check"),
        AfterValidator(enough),
    ] = 20,
    seed: Annotated[int, Field(ge=0, description="draws the noise and the random cells")] = 0,
) -> Result:
    """Restore every layer and token of a damaged run, and measure what the answer wins back."""
    encoded, said = with_answers(model, task.encode(model.tokenizer))
    subjects = subjects_of(model, encoded, subject)
    unit = embedding_deviation(model, encoded, subjects) if noise_unit == "deviation" else 1.0
    width = max(1, min(window, model.anatomy.n_layers // 3))
    tracing = Tracing(model, encoded, subjects, noise * unit, distribution, samples, width, traced_kinds(model), seed)
    traces = [tracing.prompt(prompt, severed) for prompt in track(range(len(encoded)), "tracing prompts")]
    data = _dataset(tracing, traces)
    return Result(
        data=data,
        metrics=_metrics(data, tracing, width),
        views=_views(tracing, data),
        checks=_checks(tracing, data, controls) if controls else (),
        notes=(
            *encoded.notes,
            *((encoded.summary,) if encoded.dropped else ()),
            *said,
            *subjects.notes,
            *_window_note(window, width, model),
            *_missing(model),
            *unchecked(controls),
        ),
    )


def _missing(model: Model) -> tuple[str, ...]:
    gone = [kind for kind in SITES if kind not in traced_kinds(model)]
    return tuple(f"Not every layer has an {kind} that can be written, so {kind} windows are left out." for kind in gone)


def _window_note(asked: int, width: int, model: Model) -> tuple[str, ...]:
    if width == asked:
        return ()
    return (f"The window is {width} of {model.anatomy.n_layers} layers, and not {asked}: at most a third of them.",)


# --- the result --------------------------------------------------------------------------------------------------


def _dataset(tracing: Tracing, traces: Sequence[Trace]) -> xr.Dataset:
    """Maps by position and by place, curves at the last subject token, and the probabilities of the plain runs."""
    encoded, layers = tracing.encoded, tracing.model.anatomy.n_layers
    table = token_table(tracing.model, encoded.ids)
    shape = (len(traces), len(tracing.kinds), layers, table.shape[1])
    won, log_won = np.full(shape, np.nan), np.full(shape, np.nan)
    placed = np.full((len(traces), len(tracing.kinds), layers, len(PLACES), tracing.samples), np.nan)
    for prompt, trace in enumerate(traces):
        effect = np.exp(trace.restored) - np.exp(trace.damaged)
        won[prompt, ..., : effect.shape[2]] = effect.mean(axis=-1)
        log_won[prompt, ..., : effect.shape[2]] = (trace.restored - trace.damaged).mean(axis=-1)
        for number, positions in enumerate(tracing.subjects.places(prompt, effect.shape[2]).values()):
            if positions:
                placed[prompt, :, :, number] = effect[:, :, positions].mean(axis=2)
    data = xr.Dataset(
        {
            "effect": (("prompt", "kind", "layer", "position"), won),
            "log_effect": (("prompt", "kind", "layer", "position"), log_won),
            "effect_by_place": (("kind", "layer", "place"), _mean(placed.mean(axis=-1), axis=0)),
            "clean_probability": ("prompt", np.exp([trace.clean for trace in traces])),
            "damaged_probability": (("prompt", "sample"), np.exp([trace.damaged for trace in traces])),
            "token": (("prompt", "position"), table),
        },
        coords={
            "prompt": list(encoded.prompts),
            "kind": list(tracing.kinds),
            "layer": range(layers),
            "place": list(PLACES),
            "position_label": ("position", shared_labels(table, range(table.shape[1]))),
        },
    )
    data = data.isel(place=np.flatnonzero(np.isfinite(data["effect_by_place"].values).any(axis=(0, 1))))
    for number, kind in enumerate(tracing.kinds):
        if len(traces) == 1:
            data[_map(kind)] = (("position", "layer"), won[0, number].T)
        else:
            data[_map(kind)] = (("place", "layer"), data["effect_by_place"].values[number].T)
        data = described(data, **{_map(kind): WON_BACK})
    return _with_curves(data, tracing, traces, placed)


def _map(kind: str) -> str:
    return f"effect_{kind.lower()}"


def _with_curves(data: xr.Dataset, tracing: Tracing, traces: Sequence[Trace], placed: Floats) -> xr.Dataset:
    """Effects at the last subject token by layer, with 95 % intervals of the mean."""
    names = list(tracing.kinds)
    each = placed[:, :, :, PLACES.index(LAST_SUBJECT)]  # prompt kind layer sample
    if traces[0].curves.size:
        damaged = np.stack([np.exp(trace.damaged) for trace in traces])[:, None, None]
        cut = np.exp(np.stack([trace.curves for trace in traces])) - damaged
        each = np.concatenate([each, cut], axis=1)
        names += [name for name, kind in ((NO_MLP, MLP), (NO_ATTENTION, ATTENTION)) if kind in tracing.kinds]
    # Prompts are what is drawn; with one prompt the samples are.
    drawn = each.mean(axis=-1) if len(traces) > 1 else np.moveaxis(each[0], -1, 0)
    mean, half = drawn.mean(axis=0), 1.96 * _standard_error(drawn)
    for name, values in (("curve", mean), ("curve_low", mean - half), ("curve_high", mean + half)):
        data[name] = (("series", "layer"), values)
    return described(data.assign_coords(series=names), curve=WON_BACK)


def _standard_error(drawn: Floats) -> Floats:
    if len(drawn) < 2:
        return np.zeros(drawn.shape[1:])
    found: Floats = drawn.std(axis=0, ddof=1) / np.sqrt(len(drawn))
    return found


def places_of(kind: str) -> tuple[str, ...]:
    """Places whose effect says something: the stream at the last token is all that the answer is read from."""
    return PLACES[:-1] if kind == STREAM else PLACES


def _mean(values: Floats, axis: int) -> Floats:
    """The mean of what is there; NaN where nothing is."""
    there = np.isfinite(values).sum(axis=axis)
    with np.errstate(invalid="ignore"):
        found: Floats = np.where(there > 0, np.nansum(values, axis=axis) / np.maximum(there, 1), np.nan)
    return found


def _metrics(data: xr.Dataset, tracing: Tracing, width: int) -> dict[str, float | int | str]:
    total = data["clean_probability"] - data["damaged_probability"].mean("sample")
    found: dict[str, float | int | str] = {
        "clean_probability": float(data["clean_probability"].mean()),
        "damaged_probability": float(data["damaged_probability"].mean()),
        "total_effect": float(total.mean()),
        "noise": tracing.size,
        "window": width,
    }
    places = data["place"].values.tolist()
    for number, kind in enumerate(tracing.kinds):
        able = [place for place in places if place in places_of(kind)]
        effect, layer, place = _peak(data["effect_by_place"].sel(place=able).values[number])
        key = kind.lower()
        found |= {f"{key}_largest_effect": effect, f"{key}_layer": layer, f"{key}_place": able[place]}
    return found


def _peak(table: Floats) -> tuple[float, int, int]:
    """The largest effect [layer, place], and where it is."""
    layer, place = np.unravel_index(int(np.nanargmax(table)), table.shape)
    return float(table[layer, place]), int(layer), int(place)


def _views(tracing: Tracing, data: xr.Dataset) -> tuple[views.View, ...]:
    y = "position_label" if len(tracing.encoded) == 1 else "place"
    what = {
        STREAM: "the stream after one layer",
        MLP: f"the MLPs of {tracing.width} layers",
        ATTENTION: f"the attentions of {tracing.width} layers",
    }
    maps = tuple(
        views.heatmap(value=_map(kind), x="layer", y=y, title=f"Probability won back by restoring {what[kind]}")
        for kind in tracing.kinds
    )
    curve = views.curves(
        value="curve",
        x="layer",
        series="series",
        low="curve_low",
        high="curve_high",
        title="Probability won back at the last subject token, by layer",
        note="The band is the 95 % interval of the mean over "
        + ("prompts." if len(tracing.encoded) > 1 else "noise samples."),
    )
    return (*maps, curve)


# --- the check ---------------------------------------------------------------------------------------------------


def _checks(tracing: Tracing, data: xr.Dataset, controls: int) -> tuple[Check, ...]:
    """For each kind, the cell with the largest effect under fresh noise, against random cells of its kind."""
    prompts = range(len(tracing.encoded))
    half = len(prompts) >= 4
    choosing, testing = (prompts[::2], prompts[1::2]) if half else (prompts, prompts)
    random = np.random.default_rng([tracing.seed, FRESH])
    found = []
    for kind in tracing.kinds:
        table = np.stack([_by_place(tracing, data, kind, prompt) for prompt in choosing])
        there = [
            number
            for number, name in enumerate(PLACES)
            if name in places_of(kind)
            and any(tracing.subjects.places(p, len(tracing.encoded.ids[p]))[name] for p in testing)
        ]
        mean = _mean(table, axis=0)
        mean[:, [number for number in range(len(PLACES)) if number not in there]] = np.nan
        _, layer, place = _peak(mean)
        others = [(a, b) for a in range(len(mean)) for b in there if (a, b) != (layer, place)]
        drawn = [others[int(i)] for i in random.choice(len(others), controls, replace=controls > len(others))]
        effects = _restored_again(tracing, kind, [(layer, place), *drawn], testing)
        found.append(_check(tracing, kind, layer, PLACES[place], effects, half))
    return tuple(found)


def _by_place(tracing: Tracing, data: xr.Dataset, kind: str, prompt: int) -> Floats:
    """The mean effect [layer, place] of one prompt."""
    effect = data["effect"].values[prompt, tracing.kinds.index(kind)]
    found = np.full((len(effect), len(PLACES)), np.nan)
    for number, positions in enumerate(tracing.subjects.places(prompt, len(tracing.encoded.ids[prompt])).values()):
        if positions:
            found[:, number] = effect[:, positions].mean(axis=1)
    return found


def _restored_again(
    tracing: Tracing, kind: str, wanted: Sequence[tuple[int, int]], prompts: Sequence[int]
) -> list[float]:
    """Mean effects of some (layer, place) of a kind, with noise that no map has seen."""
    effects: list[list[float]] = [[] for _ in wanted]
    for prompt in track(prompts, f"checking the {kind}"):
        places = list(tracing.subjects.places(prompt, len(tracing.encoded.ids[prompt])).values())
        cells = [
            (number, Cell(SITES[kind], tracing.window(kind, layer), (position,)))
            for number, (layer, place) in enumerate(wanted)
            for position in places[place]
        ]
        values, damaged, _ = tracing.scores(prompt, [cell for _, cell in cells], fresh=FRESH)
        won = (np.exp(values) - np.exp(damaged)).mean(axis=1)
        for number in range(len(wanted)):
            mine = [float(won[row]) for row, (owner, _) in enumerate(cells) if owner == number]
            if mine:
                effects[number].append(float(np.mean(mine)))
    return [float(np.mean(one)) if one else 0.0 for one in effects]


def _check(tracing: Tracing, kind: str, layer: int, place: str, effects: Sequence[float], half: bool) -> Check:
    window = tracing.window(kind, layer)
    which = f"layer {layer}" if len(window) == 1 else f"layers {window[0]} to {window[-1]}"
    what = {STREAM: "the stream after", MLP: "the MLPs of", ATTENTION: "the attentions of"}[kind]
    return compared(
        effects[0],
        effects[1:],
        claim=f"What wins the answer back is {what} {which} at the {place}.",
        how="Restore it under fresh noise"
        + (", in the half of the prompts that did not choose it" if half else "")
        + "; the control restores random cells of the same kind, at or after the subject.",
        unit="probability",
    )
