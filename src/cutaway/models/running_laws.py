"""Which laws must running keep? Resumed runs equal whole ones, and gradients say what a small change does.

The gradient at the embeddings is compared with autograd's on the plain network; the gradient at every other site with
what two small writes there really do (a central difference). Limits: a difference tells a wrong gradient from a right
one, not a rounded one; where experts are picked by rank, the two differ at a change of rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.core.edit import Edit, apply
from cutaway.core.site import KINDS, Site
from cutaway.models import taps
from cutaway.models.forward import accepts, model_inputs
from cutaway.models.law_bench import Bench, Finding, difference, main_output, noise_in_row, sample
from cutaway.models.program import Program

if TYPE_CHECKING:
    from cutaway.models.model import Model

STEP = 3e-3  # of a site's spread: large beside rounding, small beside curvature


def tier_of(model: Model) -> str:
    """How far this network lets changed runs share work."""
    from cutaway.models import sweep

    anatomy = model.anatomy
    if anatomy.is_encoder_decoder:
        return "full"
    served = all("resid_post" in layer.places for layer in anatomy.stacks[""].layers)
    return sweep.tier_of(model) if served else "none"


def resumes(bench: Bench) -> Finding:
    """A strict run that is resumed from a layer equals the whole run, bit for bit."""
    model = bench.model
    anatomy = model.anatomy
    if anatomy.is_encoder_decoder or not anatomy.has_unembedding:
        return Finding("resumes", skipped="sweeps of this kind of network run every layer")
    if "final" in anatomy.refused_ends:
        return Finding("resumes", skipped=anatomy.refused_ends["final"])
    tier = tier_of(model)
    if tier == "none":
        return Finding("resumes", skipped="the stream between layers is not served")
    cells = [Site("resid_pre", layer, position=4) for layer in sorted({0, anatomy.n_layers // 2, anatomy.n_layers - 1})]
    cells = [site for site in cells if site.kind in anatomy.layer(site).places]
    if not cells:
        return Finding("resumes", skipped="no layer serves resid_pre")
    prompt = [list(bench.prompt)]

    def metric(logits: Tensor) -> Tensor:
        return logits.float().norm(dim=-1)

    worst, faults = 0.0, {}
    swept = model.sweep(prompt, cells, edit="zero", metric=metric, strict=True)
    for column, site in enumerate(swept.cells):
        plain = model.run(prompt, edit=Edit(site, "zero"), strict=True, logits="all")
        gap = difference(swept.values[:, column], metric(plain.last_logits).to(swept.values))
        worst = max(worst, gap)
        if gap:
            faults[site] = f"a run resumed there differs from the whole run by {gap:.1e}"
    return Finding(
        "resumes",
        worst,
        0.0,
        len(cells),
        broken="; ".join(f"{s}: {r}" for s, r in faults.items()) + ("" if not faults else f" (tier {tier})"),
    )


def gradients(bench: Bench) -> Finding:
    """The gradient at `embed` is what autograd gives for the embeddings handed to the plain network."""
    model, hf = bench.model, bench.model.hf
    if model.anatomy.embed is None or not model.anatomy.has_unembedding or not accepts(hf, "inputs_embeds"):
        return Finding("gradients", skipped="the network does not take embeddings in place of tokens")
    if bench.decoder is not None:
        return Finding("gradients", skipped="an encoder-decoder embeds two texts")
    if "embed" in model.anatomy.refused_ends:
        return Finding("gradients", skipped=model.anatomy.refused_ends["embed"])
    expected = _through_embeddings(bench)
    if isinstance(expected, str):
        return Finding("gradients", skipped=expected)

    def metric(logits: Tensor) -> Tensor:
        return logits.float().square().mean(-1)

    allowed = bench.tolerance * 50
    try:
        run = model.grad([list(bench.prompt)], metric, at="embed")
    except Exception as error:  # noqa: BLE001 - whatever a network raises is the law's finding
        return Finding("gradients", float("inf"), allowed, 1, broken=f"{type(error).__name__}: {error}"[:200])
    gap = difference(run.grad("embed"), expected)
    return Finding("gradients", gap, allowed, 1, broken="" if gap <= allowed else "it differs from autograd's")


def _through_embeddings(bench: Bench) -> Tensor | str:
    """The gradient of the same metric at `inputs_embeds`, or why the network cannot give it."""
    hf = bench.model.hf
    inputs = model_inputs(hf, [bench.prompt])
    seen: list[Tensor] = []

    def keep(name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        seen.append(output)

    assert bench.model.anatomy.embed is not None
    with torch.no_grad(), taps.watching({"embed": bench.model.anatomy.embed}, keep):
        hf(**inputs)
    if len(seen) != 1 or not isinstance(seen[0], Tensor):
        return f"the embedding runs {len(seen)} times"
    embeddings = seen[0].detach().clone().requires_grad_(True)
    ids = inputs.pop("input_ids")
    try:
        with torch.enable_grad():
            logits = hf(**inputs, inputs_embeds=embeddings).logits
            same = difference(logits.detach(), bench.base) <= bench.tolerance
            (grad,) = torch.autograd.grad(logits[:, ids.shape[1] - 1].float().square().mean(), [embeddings])
    except Exception as error:  # noqa: BLE001 - a network that cannot is not at fault
        return f"the plain network fails on embeddings ({type(error).__name__})"
    return grad if same else "the network gives other logits for embeddings than for their tokens"


def site_gradients(bench: Bench) -> Finding:
    """The gradient at a site says what a small change there does to the output."""
    sites = bench.sites
    if isinstance(problem := _differentiable(bench), str) or not sites:
        return Finding("site_gradients", skipped=str(problem) if sites else "no layer serves a site")
    weights = torch.randn(bench.base.shape, generator=torch.Generator().manual_seed(7)).to(bench.base)
    worst, faults = 0.0, {}
    sites = sample(bench, sites)
    grads, values = _gradients(bench, sites, weights), bench.run(sites)[1]
    slopes = _Slopes(bench, weights, grads, values)
    for kind in KINDS:
        for stack in ("", "encoder", "cross"):
            some = [site for site in sites if site.kind == kind and site.stack == stack]
            misses = _misses(slopes, some, 0)
            for seed in range(1, 4):  # an expert that changes its rank is no fault of the gradient: another direction
                again = [site for site, gap in misses.items() if gap > 0.5]
                misses |= {s: min(misses[s], g) for s, g in _misses(slopes, again, seed).items()}
            for site, gap in misses.items():
                worst = max(worst, gap)
                if gap > 0.5:
                    faults[site] = f"its gradient misses what a small change does by {gap:.0%}"
    return Finding("site_gradients", worst, 0.5, len(sites), faults)


def _differentiable(bench: Bench) -> str | None:
    """Why the plain network gives no gradients in evaluation mode, where it gives none."""
    leaves: list[Tensor] = []
    first = bench.model.anatomy.stacks[""].layers[0].module

    def leaf(value: Tensor) -> Tensor:
        leaves.append(value.detach().requires_grad_(True))
        return leaves[-1]

    try:
        with torch.enable_grad(), taps.module_taps([taps.ModuleTap(first, "in", leaf)]):
            torch.autograd.grad(main_output(bench.model.hf(**bench.inputs(1))).sum(), leaves)
    except Exception as error:  # noqa: BLE001 - a network that cannot is not at fault
        return f"the plain network gives no gradients ({type(error).__name__})"
    return None


def _gradients(bench: Bench, sites: Sequence[Site], weights: Tensor) -> dict[Site, Tensor]:
    """The gradients of the weighted sum of the output, all at once, or kind by kind where that is an error."""
    program = Program(bench.model.anatomy, (), (), bench.clock(1), grad=sites)
    try:
        with torch.enable_grad(), program.installed():
            output = main_output(bench.model.hf(**bench.inputs(1)))
        leaves = [program.leaves[site] for site in sites]
        found = torch.autograd.grad((output * weights).sum(), leaves, allow_unused=True)
    except Exception:  # noqa: BLE001 - whatever a network raises under a tap is the law's finding
        kinds = list(dict.fromkeys(site.kind for site in sites))
        if len(kinds) == 1:
            return {}
        parts = [_gradients(bench, [s for s in sites if s.kind == kind], weights) for kind in kinds]
        return {site: grad for part in parts for site, grad in part.items()}
    pairs = zip(sites, leaves, found, strict=True)
    return {site: program.at_leaf(site, torch.zeros_like(leaf) if grad is None else grad) for site, leaf, grad in pairs}


@dataclass(frozen=True)
class _Slopes:
    """The gradients of a weighted sum of the output, and the values at which they hold."""

    bench: Bench
    weights: Tensor
    grads: dict[Site, Tensor]
    values: dict[Site, Tensor]

    def measured(self, sites: Sequence[Site], seeds: Sequence[int], step: float = STEP) -> Tensor:
        """How far the sum really moves when row i adds noise to site i [site], for a step of `STEP`."""
        rows = len(sites)
        ends = []
        for size in (step, -step):
            edits = [apply(s, noise_in_row(row, size, seed=seeds[row])) for row, s in enumerate(sites)]
            output = self.bench.run((), edits, rows)[0].reshape(rows, -1).double()
            ends.append((output * self.weights.reshape(1, -1).double()).sum(-1))
        return (ends[0] - ends[1]) / 2 * (STEP / step)

    def predicted(self, site: Site, seed: int) -> float:
        """How far the gradient says that the sum moves with the same noise."""
        value = self.values[site]
        change = noise_in_row(0, STEP, seed=seed)(value) - value
        return float((self.grads[site].double() * change.double()).sum())


def _misses(slopes: _Slopes, sites: Sequence[Site], seed: int) -> dict[Site, float]:
    """By what share of the larger one the gradient's prediction and the measured change differ."""
    if not sites:
        return {}
    seeds = [1000 * seed + row for row in range(len(sites))]
    measured = slopes.measured(sites, seeds).tolist()
    longer = slopes.measured(sites, seeds, 4 * STEP).tolist() if seed else measured
    further = dict(zip(sites, longer, strict=True))
    noise = 1e-5 * float(slopes.bench.base.double().norm())
    misses = {}
    for site, seed_of_row, moved in zip(sites, seeds, measured, strict=True):
        if site not in slopes.grads:
            misses[site] = float("inf")
            continue
        predicted = slopes.predicted(site, seed_of_row)
        misses[site] = abs(predicted - moved) / max(abs(predicted), abs(moved), noise)
        if seed and predicted and abs(moved - further[site]) > 0.2 * max(abs(moved), abs(further[site])):
            misses[site] = 0.0  # two steps do not agree: the function has a kink there, and tells nothing
    return misses
