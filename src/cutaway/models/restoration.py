"""What does a damaged run win back when some of its values are put back?

The tokens of a subject get noise on their embeddings, once for each sample, and values of the clean run are restored:
the stream after a layer, or what the MLPs (or the attentions) of a window of layers return, at some positions. With
`severed`, those branches of all later layers keep at these positions what they gave in the damaged run, so that what was
restored cannot pass through them.

The slow path is one forward pass for each cell (`restored_slowly`). The fast one resumes: a row joins the growing batch
of `resume.py` at the layer after the first value that is put back, with the keys and values of the damaged run before its
first position; samples and cells are rows of one pass. A cell that can change nothing is not run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.core.edit import add, replace
from cutaway.core.errors import PlanError
from cutaway.core.progress import track
from cutaway.core.site import Site
from cutaway.models import memory, taps
from cutaway.models.anatomy import Layer
from cutaway.models.forward import input_device
from cutaway.models.recording import Recording, record
from cutaway.models.resume import Job, Pass
from cutaway.models.sweep import tier_of

if TYPE_CHECKING:
    from cutaway.core.edit import Edit
    from cutaway.models.model import Model

Kind = Literal["resid_post", "mlp_out", "attn_out"]
Score = Callable[[Tensor], Tensor]
# Logits of all rows of a pass: more of them make nothing faster, and only take memory.
CPU_LOGITS, GPU_LOGITS = 2**25, 2**29
BRANCHES = {"mlp_out": "mlp_contrib", "attn_out": "attn_contrib"}


@dataclass(frozen=True)
class Cell:
    """What is put back.

    Attributes:
        kind: the stream after a layer, or what a branch returns.
        layers: one layer for the stream, a window of neighbouring ones for a branch.
        positions: where in the prompt.
        severed: a branch of all later layers that keeps what it gave in the damaged run at these positions.
    """

    kind: Kind
    layers: tuple[int, ...]
    positions: tuple[int, ...]
    severed: Literal["", "mlp_out", "attn_out"] = ""


@dataclass(frozen=True, eq=False)
class Restored:
    """Scores of one prompt.

    Attributes:
        values: with a cell restored [sample, cell].
        damaged: without any [sample].
        clean: of the run without noise.
        computed: rows that were run.
    """

    values: Float[Tensor, "sample cell"]
    damaged: Float[Tensor, " sample"]
    clean: Float[Tensor, ""]
    computed: int


def restored(
    model: Model,
    ids: Sequence[int],
    noise: Float[Tensor, "sample position d_model"],
    cells: Sequence[Cell],
    score: Score,
    *,
    batch: int | None = None,
) -> Restored:
    """Restore each cell of a prompt in every damaged run.

    Args:
        model: a causal network with an unembedding.
        ids: the prompt's tokens.
        noise: what is added to their embeddings, for each sample; zero where the tokens are left alone.
        cells: what is put back, one after another.
        score: logits at the last token [row, vocab] -> [row].
        batch: rows at once; None: as many as fit.
    """
    _refuse(model, ids, noise, cells)
    tier = tier_of(model)
    if tier not in ("suffix", "grow"):
        return restored_slowly(model, ids, noise, cells, score)
    base, scores = _recorded(model, ids, noise, cells, score, cache=tier == "suffix")
    samples = len(noise)
    values = scores[1:, None].repeat(1, len(cells))
    rows = [row for row in _rows(model, base, cells) if row is not None]
    by_start: dict[int, list[_Row]] = {}
    for row in rows:
        by_start.setdefault(row.start if tier == "suffix" else 0, []).append(row)
    for start, group in sorted(by_start.items()):
        ordered = sorted(group, key=lambda row: row.job.layer)
        size = batch or _rows_at_once(model, base.length, base.length - start)
        for chunk in track([ordered[i : i + size] for i in range(0, len(ordered), size)], "restoring"):
            found = _pass(model, base, chunk, start, score)
            where = torch.tensor([row.job.cell for row in chunk], device=found.device)
            values[where[:, 0], where[:, 1]] = found.to(values)
    assert values.shape == (samples, len(cells))
    return Restored(values, scores[1:], scores[0], len(rows))


def restored_slowly(
    model: Model,
    ids: Sequence[int],
    noise: Float[Tensor, "sample position d_model"],
    cells: Sequence[Cell],
    score: Score,
) -> Restored:
    """The same by one whole forward pass for each cell, with all samples as its rows."""
    samples = len(noise)
    wholes = _wholes(model, cells)
    clean = model.run([list(ids)], read=wholes, logits="last")
    rows = [list(ids)] * samples
    noisy = add("embed", noise)
    damaged = model.run(rows, read=wholes, edit=noisy, logits="last", batch=samples)
    columns = []
    for cell in track(cells, "restoring, cell by cell"):
        edits: list[Edit] = [noisy]
        for position in cell.positions:
            edits += [
                replace(Site(cell.kind, m, position=position), clean[Site(cell.kind, m)][:, position])
                for m in cell.layers
            ]
            if cell.severed:
                later = range(cell.layers[-1] + 1, model.anatomy.n_layers)
                edits += [
                    replace(Site(cell.severed, m, position=position), damaged[Site(cell.severed, m)][:, position])
                    for m in later
                ]
        columns.append(score(model.run(rows, edit=edits, logits="last", batch=samples).last_logits))
    values = torch.stack(columns, dim=1) if columns else noise.new_zeros(samples, 0)
    return Restored(values, score(damaged.last_logits), score(clean.last_logits)[0], samples * len(cells))


def _refuse(model: Model, ids: Sequence[int], noise: Tensor, cells: Sequence[Cell]) -> None:
    layers, length = model.anatomy.n_layers, len(ids)
    if noise.shape != (len(noise), length, model.anatomy.d_model):
        raise PlanError(
            f"The noise is {tuple(noise.shape)}.",
            f"It is [sample, position, d_model]: (…, {length}, {model.anatomy.d_model}).",
        )
    for cell in cells:
        if not cell.positions or not all(0 <= position < length for position in cell.positions):
            raise PlanError(f"A cell has the positions {cell.positions}.", f"The prompt has 0 to {length - 1}.")
        window = tuple(range(cell.layers[0], cell.layers[0] + len(cell.layers))) if cell.layers else ()
        if not cell.layers or cell.layers != window or not 0 <= window[0] <= window[-1] < layers:
            raise PlanError(
                f"A cell has the layers {cell.layers}.", f"They are neighbours in rising order, of 0 to {layers - 1}."
            )
        if cell.kind == "resid_post" and len(cell.layers) > 1:
            raise PlanError(
                f"The stream is to be restored after the layers {cell.layers}.",
                "What follows from it is restored by its first layer alone.",
                f"Give layers=({cell.layers[0]},).",
            )


# --- the base run ------------------------------------------------------------------------------------------------


def _wholes(model: Model, cells: Sequence[Cell]) -> tuple[Site, ...]:
    """Whole sites whose values are put back or kept."""
    found: dict[Site, None] = {}
    for cell in cells:
        for layer in cell.layers:
            found[Site(cell.kind, layer)] = None
        if cell.severed:
            found |= {Site(cell.severed, layer): None for layer in range(model.anatomy.n_layers)}
    for site in found:
        model.anatomy.place(site)
    return tuple(found)


def _recorded(
    model: Model, ids: Sequence[int], noise: Tensor, cells: Sequence[Cell], score: Score, *, cache: bool
) -> tuple[Recording, Tensor]:
    """The clean run as row 0 and the damaged ones after it, and their scores."""
    layers = model.anatomy.stacks[""].layers
    wholes = dict.fromkeys(site for site in _wholes(model, cells) if site.kind != "resid_post")
    for site in list(wholes):
        contribution = BRANCHES[site.kind]
        if isinstance(site.layer, int) and contribution in layers[site.layer].places:
            wholes[Site(contribution, site.layer)] = None
    added = torch.cat([torch.zeros_like(noise[:1]), noise])
    rows = [tuple(ids)] * len(added)
    with model.editing(add("embed", added), lengths=[len(ids)] * len(added)):
        base = record(model, rows, tuple(wholes), cache=cache)
    assert base.logits is not None
    return base, score(base.logits)


# --- rows --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Row:
    """One changed run: how it joins, and what is put into branches of later layers."""

    job: Job
    start: int
    cell: Cell
    holds: tuple[tuple[str, int, int], ...]  # kind, layer, the row of the base whose value is put in


def _rows(model: Model, base: Recording, cells: Sequence[Cell]) -> list[_Row | None]:
    return [
        _row(model, base, cell, sample, column)
        for column, cell in enumerate(cells)
        for sample in range(1, len(base.ids))
    ]


def _row(model: Model, base: Recording, cell: Cell, sample: int, column: int) -> _Row | None:
    """How a cell is restored in a sample; None where nothing can change."""
    layers = model.anatomy.stacks[""].layers
    first, end = cell.layers[0], len(layers)
    joins, values = _joining(layers[first], base, cell, sample)
    holds = [(cell.kind, m, 0) for m in cell.layers if m >= joins] if cell.kind != "resid_post" else []
    if cell.severed:
        holds += [(cell.severed, m, sample) for m in range(cell.layers[-1] + 1, end)]
    same = values is not None and torch.equal(values, _stream(base, joins, cell, sample))
    last = base.length - 1
    if (same and not [hold for hold in holds if hold[2] == 0]) or (joins == end and last not in cell.positions):
        return None
    site = Site("resid_post", end - 1) if joins == end else Site("resid_pre", joins)
    if len(cell.positions) == 1:
        site = site.at(cell.positions[0])
        value = _stream(base, joins, cell, sample)[0] if values is None else values[0]
    else:
        value = base.streams[joins][sample].clone()
        if values is not None:
            value[list(cell.positions)] = values
    start = min(cell.positions)
    return _Row(Job(sample, site, joins, start, value, (sample - 1, column)), start, cell, tuple(holds))


def _stream(base: Recording, layer: int, cell: Cell, row: int) -> Tensor:
    """What enters a layer at the cell's positions [position, d_model]."""
    return base.streams[layer][row, list(cell.positions)]


def _joining(layer: Layer, base: Recording, cell: Cell, sample: int) -> tuple[int, Tensor | None]:
    """The layer at which a row joins, and the stream there [position, d_model]; None where it is the damaged one."""
    if cell.kind == "resid_post":
        return layer.index + 1, _stream(base, layer.index + 1, cell, 0)
    contribution = BRANCHES[cell.kind]
    known = contribution in layer.places and layer.complete and not layer.post_norm
    if not known or (cell.kind == "attn_out" and not layer.parallel):
        return layer.index, None
    added = base.sites[Site(contribution, layer.index)]
    change = added[0, list(cell.positions)] - added[sample, list(cell.positions)]
    return layer.index + 1, _stream(base, layer.index + 1, cell, sample) + change


# --- a pass ------------------------------------------------------------------------------------------------------


def _pass(model: Model, base: Recording, rows: Sequence[_Row], start: int, score: Score) -> Tensor:
    """The scores of rows, in the order in which they join."""
    alive = [sum(row.job.layer <= layer for row in rows) for layer in range(model.anatomy.n_layers)]
    held: dict[tuple[str, int], list[int]] = {}
    for place, row in enumerate(rows):
        for kind, layer, _ in row.holds:
            held.setdefault((kind, layer), []).append(place)
    found = [
        _hold(model.anatomy.stacks[""].layers[layer], base, kind, [(place, rows[place]) for place in places], alive)
        for (kind, layer), places in held.items()
    ]
    jobs = [row.job for row in rows]
    with taps.module_taps(found):
        return Pass(model, base, jobs, start, True, True, score, [0] * len(jobs)).run()


def _hold(
    layer: Layer, base: Recording, kind: str, rows: Sequence[tuple[int, _Row]], alive: Sequence[int]
) -> taps.ModuleTap:
    """Puts values of the base into what a branch returns, in the rows that restore (or sever) it."""
    place, source = layer.places[kind], base.sites[Site(kind, layer.index)]
    into, at, taken = [], [], []
    for number, row in rows:
        (which,) = {origin for held, where, origin in row.holds if (held, where) == (kind, layer.index)}
        for position in row.cell.positions:
            into.append(number)
            at.append(position)
            taken.append(which)
    inside = torch.tensor(at, device=source.device)
    rows_of = torch.tensor(into, device=source.device)
    values = source[torch.tensor(taken, device=source.device), inside]

    def visit(raw: Tensor) -> Tensor:
        new = place.get(raw, alive[layer.index]).clone()
        # A pass may leave out positions that nobody reads; those that are there end with the prompt.
        column = inside - (base.length - new.shape[1])
        here = column >= 0
        new[rows_of[here].to(new.device), column[here].to(new.device)] = values[here].to(new)
        return place.put(raw, new)

    return taps.ModuleTap(place.module, place.side, visit, place.index)


def _rows_at_once(model: Model, length: int, tokens: int) -> int:
    anatomy = model.anatomy
    width = next(model.hf.parameters()).element_size()
    per_row = tokens * anatomy.d_model * 40 * width + 4 * length * anatomy.d_model * width + anatomy.vocab_size * 12
    device = input_device(model.hf)
    logits = GPU_LOGITS if device.type == "cuda" else CPU_LOGITS
    return min(memory.rows_at_once(per_row, tokens, device), max(1, logits // anatomy.vocab_size))
