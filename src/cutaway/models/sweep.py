"""Which part matters? Change one site after another, and measure each change on its own.

    sweep = model.sweep(task, over="resid_pre[*]@*")      every layer and position: activation patching
    sweep.grid()                                          [prompt, layer, position]

The slow path is one whole forward pass for each cell. The fast one resumes the base run (`resume.py`), and answers
cells at which the new value equals the base's with the base's own number: there is nothing to compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from cutaway.core.errors import ModelError, PlanError, TaskError, nearest
from cutaway.core.progress import track
from cutaway.core.run import token_positions
from cutaway.core.site import KINDS, Site, Span, parse_sites
from cutaway.models import memory, midblock, resume
from cutaway.models.encode import Encoded, encode
from cutaway.models.forward import input_device
from cutaway.models.metric import Metric, as_metric
from cutaway.models.probe import tokens_from
from cutaway.models.recording import Recording, by_length, record
from cutaway.models.resolve import mean_over_prompts
from cutaway.models.resume import Job, Tier

if TYPE_CHECKING:
    import xarray as xr

    from cutaway.models.model import Model

How = Literal["patch", "zero", "mean"] | Callable[[Site, Tensor], Tensor]
LIKE_POSITION = ("scores", "pattern")


@dataclass(frozen=True)
class Sweep:
    """What a sweep measured.

    Attributes:
        cells: the sites, one for each column of `values`; positions as they were asked for.
        values: the metric with the cell changed [prompt, cell]; NaN where a prompt has no such position.
        base: the metric of the unchanged run [prompt].
        source: the metric of the run that values were taken from [prompt]; NaN where there is none.
        tier: how far work was shared.
        computed: cells that were run; the others equal the base.
    """

    cells: tuple[Site, ...]
    values: Tensor
    base: Tensor
    source: Tensor
    tier: str
    computed: int
    tokens: tuple[tuple[str, ...], ...] = ()

    def normalised(self) -> Tensor:
        """How far each cell moves the metric from the base (0) to the source (1) [prompt, cell]."""
        return (self.values - self.base[:, None]) / (self.source - self.base)[:, None]

    def grid(self, values: Tensor | None = None) -> xr.DataArray:
        """The values by layer, head, unit and position, with a dimension for each that varies.

        Args:
            values: another table of the same shape, for example `normalised()`.
        """
        import numpy as np
        import xarray as xr

        axes = {
            name: list(dict.fromkeys(getattr(site, name) for site in self.cells))
            for name in ("kind", "layer", "head", "unit", "position")
        }
        dims: list[str] = [
            name for name, found in axes.items() if len(found) > 1 or (found[0] is not None and name not in ("kind",))
        ]
        table = (self.values if values is None else values).cpu().numpy()
        shape = [len(self.values), *(len(axes[name]) for name in dims)]
        grid = np.full(shape, np.nan, dtype=table.dtype)
        for column, site in enumerate(self.cells):
            where: tuple[Any, ...] = tuple(axes[name].index(getattr(site, name)) for name in dims)
            grid[(slice(None), *where)] = table[:, column]
        coords = {name: [str(v) if isinstance(v, str) else v for v in axes[name]] for name in dims}
        return xr.DataArray(grid, dims=["prompt", *dims], coords=coords)


def sweep(
    model: Model,
    task: Any,
    over: str | Site | Sequence[str | Site],
    *,
    edit: How = "patch",
    direction: str = "denoise",
    metric: Any = None,
    batch: int | str = "auto",
    strict: bool = False,
) -> Sweep:
    """Change one site after another and measure each.

    Args:
        model: the network.
        task: a task with answers; with contrasts where `edit` is "patch". Prompts alone do with a metric function.
        over: the sites; `@*` for each position on its own, `.head[*]` for each head.
        edit: "patch" puts in the other prompt's value; "zero" and "mean" (over all prompts and positions) take the
            part out; a function gets the site and its base value for one prompt and returns the new one.
        direction: for "patch": "denoise" puts the prompt's values into the contrast's run (what is enough to
            bring the answer back?), "noise" the contrast's into the prompt's (what is needed?).
        metric: a name, a `Metric` or a function of logits; the task's own by default.
        batch: rows at once, or "auto".
        strict: no sharing of work that changes a bit: whole prompts, one at a time, all logits.
    """
    if direction not in ("denoise", "noise"):
        raise PlanError(f"direction is {direction!r}:", nearest(str(direction), ["denoise", "noise"]))
    if isinstance(edit, str) and edit not in ("patch", "zero", "mean"):
        raise PlanError(
            f"edit is {edit!r}:",
            nearest(edit, ["patch", "zero", "mean"]),
            "Or give a function of (site, value).",
        )
    _require_sweepable(model, batch)
    encoded = task.encode(model.tokenizer) if hasattr(task, "encode") and not isinstance(task, str) else task
    prompts = encode(encoded, model.tokenizer)
    model._within_context(prompts)
    other = _source_of(encoded, prompts) if edit == "patch" else None
    base, source = (other, prompts) if other is not None and direction == "denoise" else (prompts, other)
    scored = as_metric(metric, encoded)
    cells = _cells(model, over, base)
    return _Sweeping(model, base, source, edit, scored, cells, tier_of(model), batch, strict).run()


def _require_sweepable(model: Model, batch: int | str) -> None:
    name = type(model.hf).__name__
    if not model.anatomy.has_unembedding:
        raise ModelError(
            f"{name} has no unembedding, so a sweep has no logits to measure.",
            "",
            "Run each edit with model.run(prompts, edit=..., read=...) and compare what it reads.",
        )
    if model.anatomy.is_encoder_decoder:
        raise PlanError(
            f"{name} is an encoder-decoder.",
            "Sweeps go over models with one stack.",
            "Run each edit with model.run(prompts, edit=..., decoder=...).",
        )
    if batch != "auto" and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise PlanError(f"batch is {batch!r}.", 'It is a number of rows, one or more, or "auto".')


def _source_of(encoded: Any, prompts: Encoded) -> Encoded:
    contrasts = getattr(encoded, "contrast_ids", ())
    if not contrasts:
        raise TaskError(
            "Patching needs a contrast prompt for each prompt.",
            "",
            'Give contrasts=[...] with the task, or use edit="zero" or edit="mean".',
        )
    return Encoded(tuple(contrasts), prompts.named)


def _cells(model: Model, over: str | Site | Sequence[str | Site], base: Encoded) -> tuple[Site, ...]:
    """Concrete sites; `@*` becomes every position of the longest prompt."""
    longest = max(base.lengths)
    found: dict[Site, None] = {}
    for site in parse_sites(over):
        if KINDS[site.kind][0] == "ends" or site.stack or site.kind in ("router", "expert_out"):
            raise PlanError(f"'{site}' cannot be swept.", "A sweep goes over sites of the layers of the main stack.")
        if isinstance(site.position, Span) and site.position.from_end and len(set(base.lengths)) > 1:
            raise PlanError(
                f"'{site}' counts from the end of prompts of {min(base.lengths)} to {longest} tokens.",
                "Where prompts differ in length, a slice counts from the start of each prompt.",
                "Name positions one by one, as in 'z[3]@-2, z[3]@-1'.",
            )
        for one in model.anatomy.expand(site):
            if isinstance(one.position, Span):
                found.update({one.at(p): None for p in one.position.indices(longest)})
            else:
                found[one] = None
    for site in found:
        model.anatomy.place(site)
    if not found:
        raise PlanError(f"Nothing is named by {over!r} on {model.name}.")
    return tuple(found)


@dataclass
class _Sweeping:
    model: Model
    base: Encoded
    source: Encoded | None
    edit: How
    metric: Any
    cells: tuple[Site, ...]
    tier: Tier
    batch: int | str
    strict: bool
    _means: dict[Site, Tensor] = field(default_factory=dict, init=False)

    def run(self) -> Sweep:
        n, device = len(self.base.ids), input_device(self.model.hf)
        dtype = torch.promote_types(self.model.dtype, torch.float32)
        values = torch.full((n, len(self.cells)), math.nan, device=device, dtype=dtype)
        base, source = (torch.full((n,), math.nan, device=device, dtype=dtype) for _ in range(2))
        computed = 0
        for prompts in track(self._groups(), f"sweep of {len(self.cells)} cells × {n} prompts"):
            recording = self._record(self.base, prompts)
            assert recording.logits is not None
            base[prompts] = self._score(recording.logits, prompts).to(base)
            new = self._new_values(recording, prompts, source)
            jobs = self._jobs(recording, new, prompts, values, base)
            computed += len(jobs)
            passes = resume.run_jobs(
                self.model,
                recording,
                jobs,
                self.tier,
                self.metric,
                prompts,
                at_once=self._rows_at_once,
                strict=self.strict,
            )
            done = 0
            for chunk, measured in track(passes, "cells", total=None):
                where = torch.tensor([job.cell for job in chunk], device=device)
                values[where[:, 0], where[:, 1]] = measured.to(values)
                done += len(chunk)
        texts = tuple(tuple(self.model.token_strings(ids)) for ids in self.base.ids)
        return Sweep(self.cells, values, base, source, "strict" if self.strict else self.tier, computed, texts)

    def _groups(self) -> list[list[int]]:
        """Prompts of one length, as many as can be recorded at once."""
        groups = []
        for length, prompts in by_length(self.base).items():
            if self.source is not None and any(len(self.source.ids[p]) != length for p in prompts):
                bad = next(p for p in prompts if len(self.source.ids[p]) != length)
                raise TaskError(
                    f"Prompt {bad} has {length} tokens, its contrast {len(self.source.ids[bad])}.",
                    "Patching puts a value where the other prompt has it, so both must be equally long.",
                )
            anatomy = self.model.anatomy
            width = 4 * (anatomy.n_layers * (4 * anatomy.d_model + 2 * anatomy.d_model))
            size = 1 if self.strict else memory.rows_at_once(length * width, length, input_device(self.model.hf))
            groups += [[prompts[i] for i in chunk] for chunk in memory.chunks(prompts, size)]
        return groups

    def _whole_sites(self) -> tuple[Site, ...]:
        """What must be read: every layer's kind, but not the streams, which a recording has anyway."""
        found = {site.whole for site in self.cells if site.kind not in ("resid_pre", "resid_post")}
        if self.tier in ("suffix", "grow") and not self.strict:
            layers = self.model.anatomy.stacks[""].layers
            heads = [site.layer for site in found if site.kind == "z" and isinstance(site.layer, int)]
            found |= {Site("attn_out", i) for i in heads if midblock.attention_module(layers[i]) is not None}
        return tuple(found)

    def _record(self, encoded: Encoded, prompts: list[int]) -> Recording:
        """A run of its own for base and for source: rows of one pass may differ in their last bits where texts agree."""
        ids = [encoded.ids[p] for p in prompts]
        return record(
            self.model,
            ids,
            self._whole_sites(),
            cache=self.tier == "suffix" and not self.strict,
            strict=self.strict,
        )

    def _value(self, recording: Recording, whole: Site) -> Tensor:
        assert isinstance(whole.layer, int)
        if whole.kind in ("resid_pre", "resid_post"):
            return recording.streams[whole.layer + (whole.kind == "resid_post")]
        return recording.sites[whole]

    def _score(self, logits: Tensor, prompts: Sequence[int]) -> Tensor:
        metric = self.metric.for_rows(prompts) if isinstance(self.metric, Metric) else self.metric
        return metric(logits)

    def _new_values(self, recording: Recording, prompts: list[int], source: Tensor) -> Callable[[Site, int], Tensor]:
        """A function of a concrete site (position as an index) and a prompt's place that gives the new value."""
        if self.source is not None:
            other = self._record(self.source, prompts)
            assert other.logits is not None
            source[prompts] = self._score(other.logits, prompts).to(source)
            return lambda site, place: self._value(other, site.whole)[(place, *resume.index_in_row(site, 0))]
        if self.edit == "mean":
            return lambda site, place: self._mean_value(site, prompts[place])
        if self.edit == "zero":
            return lambda site, place: torch.zeros_like(
                self._value(recording, site.whole)[(place, *resume.index_in_row(site, 0))]
            )
        function = self.edit
        assert callable(function)
        # A copy: what a function does to its argument must not reach the base run.
        return lambda site, place: function(
            site, self._value(recording, site.whole)[(place, *resume.index_in_row(site, 0))].clone()
        )

    def _mean_value(self, site: Site, prompt: int) -> Tensor:
        whole = site.whole
        if whole not in self._means:
            wanted = {s.whole for s in self.cells}
            run = self.model.run(self.base, read=tuple(wanted), logits="none")
            lengths = run.lengths
            for one in wanted:
                value = run[one]
                if one.kind in LIKE_POSITION:
                    self._means[one] = mean_over_prompts(value, one.dims, lengths)[0]
                else:
                    real = torch.cat([value[row, :length] for row, length in enumerate(lengths)])
                    self._means[one] = real.mean(dim=0, keepdim=True)
        mean = self._means[whole]
        if site.kind in LIKE_POSITION:
            length = len(self.base.ids[prompt])
            return mean[:, :length, :length][resume.index_in_row(site, 0)]
        index = list(resume.index_in_row(site, 0))
        if isinstance(site.position, int):
            index[KINDS[site.kind][1].index("position")] = 0
        return mean[tuple(index)]

    def _jobs(
        self,
        recording: Recording,
        new: Callable[[Site, int], Tensor],
        prompts: list[int],
        values: Tensor,
        base: Tensor,
    ) -> list[Job]:
        """The cells of a group that must be run; the others get the base's number."""
        jobs, length, n_layers = [], recording.length, self.model.anatomy.n_layers
        causal = self.model.anatomy.is_causal
        for column, asked in enumerate(self.cells):
            for place, prompt in enumerate(prompts):
                site = self._at(asked, prompt, length)
                if site is None:
                    continue
                old = self._value(recording, site.whole)[(place, *resume.index_in_row(site, 0))]
                value = _like(new(site, place), old, asked)
                start = self._first_difference(site, old, value, causal)
                if start is None:
                    values[prompt, column] = base[prompt]
                    continue
                assert isinstance(site.layer, int)
                layer = site.layer + (site.kind == "resid_post")
                # The stream after a layer is the stream before the next one.
                if site.kind == "resid_post" and layer < n_layers:
                    site = replace(site, kind="resid_pre", layer=layer)
                jobs.append(Job(place, site, layer, start, value, (prompt, column)))
        return jobs

    def _at(self, site: Site, prompt: int, length: int) -> Site | None:
        """The site with its position as an index into this prompt, or None where it lies outside."""
        if isinstance(site.position, int) and not -length <= site.position < length:
            return None
        if isinstance(site.position, int | str):
            named = {name: [where[prompt]] for name, where in self.base.named.items()}
            return site.at(token_positions(site.position, [length], named)[0])
        return site

    def _first_difference(self, site: Site, old: Tensor, new: Tensor, causal: bool) -> int | None:
        """The first position that changes, or None where nothing does."""
        if isinstance(site.position, int):
            return None if torch.equal(old, new) else (site.position if causal else 0)
        axis = site.dims[1:].index("query" if "query" in site.dims else "position")
        changed = (old != new).movedim(axis, 0)
        differs = changed.reshape(len(changed), -1).any(dim=1)
        if not bool(differs.any()):
            return None
        return int(differs.nonzero()[0]) if causal else 0

    def _rows_at_once(self, tokens: int) -> int:
        if isinstance(self.batch, int) and not isinstance(self.batch, bool):
            return self.batch
        anatomy = self.model.anatomy
        total = max(self.base.lengths)
        width = next(self.model.hf.parameters()).element_size()
        vocabulary = anatomy.vocab_size if getattr(self.metric, "needs_vocabulary", True) else 0
        per_row = tokens * anatomy.d_model * 40 * width + 4 * total * anatomy.d_model * width + vocabulary * 12
        return memory.rows_at_once(per_row, tokens, input_device(self.model.hf))


def _like(new: Tensor, old: Tensor, site: Site) -> Tensor:
    """A new value in the shape and type of the old one."""
    try:
        return new.to(old.dtype).to(old.device).expand_as(old)
    except (RuntimeError, AttributeError) as error:
        given = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
        raise PlanError(
            f"The new value of '{site}' is {given}.", f"It has the shape of the old one, {tuple(old.shape)}."
        ) from error


# --- tiers -------------------------------------------------------------------------------------------------------


def tier_of(model: Model) -> Tier:
    """How far this network allows runs to share work, found by comparing with plain runs; measured once."""
    known = model.__dict__.get("_tier")
    if known is None:
        known = model.__dict__["_tier"] = _find_tier(model)
    return known


def _find_tier(model: Model) -> Tier:
    anatomy = model.anatomy
    if anatomy.unembed is None or "final" in anatomy.refused_ends or not model._unembedding.exact:
        return "full"
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(*tokens_from(anatomy.vocab_size), (2, 7), generator=generator).tolist()
    kinds = [kind for kind in ("resid_pre", "z", "mlp_out") if kind in anatomy.stacks[""].layers[-1].places]
    middle = anatomy.n_layers // 2
    cells = tuple(Site(kind, layer, position=p) for kind in kinds for layer, p in ((0, 0), (middle, 4), (middle, 2)))
    cells = tuple(site for site in cells if site.kind in anatomy.layer(site).places)
    encoded, other = Encoded((tuple(ids[0]),)), Encoded((tuple(ids[1]),))

    def metric(logits: Tensor) -> Tensor:
        return logits.float()[:, : min(64, anatomy.vocab_size)].norm(dim=-1)

    slow = _Sweeping(model, encoded, other, "patch", metric, cells, "full", "auto", False)
    try:
        expected = slow.run()
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return "full"
    tolerance = 1e-4 if model.dtype in (torch.float32, torch.float64) else 5e-2
    for tier in resume.TIERS[:-1]:
        if tier == "suffix" and not anatomy.is_causal:
            continue
        for slim in (True, False) if tier in ("suffix", "grow") else (False,):
            model.__dict__["_slim_end"] = slim
            try:
                found = replace(slow, tier=tier).run()
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, AssertionError):
                continue  # this network's code does not allow it: the next one shares less
            if torch.allclose(found.values, expected.values, rtol=tolerance, atol=tolerance):
                return tier
    return "full"
