"""Which laws must hold on every network, and does this one keep them?

Each law compares what Cutaway serves with what the plain network does. Reads must leave the output as it is, bit for
bit; so must writing back what was read. Writing another value must show in the output; the parts of the stream must
add up, also while something is written; taking a head's z out must equal taking its rows out of W_O; patterns must be
the softmax of their scores. `check.py` runs them and refuses what fails.

Limits: laws are tried on one short prompt of random tokens; effects on rows of one batch, a row for each layer.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.core.edit import Edit, apply
from cutaway.core.site import KINDS, Site
from cutaway.models import taps
from cutaway.models.anatomy import Layer
from cutaway.models.law_bench import Bench, Finding, difference, noise_in_row, output_gap, sample, tries
from cutaway.models.place import projection_weight

STREAM = ("resid_pre", "attn_contrib", "resid_mid", "mlp_contrib", "resid_post")


def idle(bench: Bench) -> Finding:
    """A run that asks for nothing is the plain network, bit for bit."""
    worst = difference(bench.run()[0], bench.base)
    model = bench.model
    if model.anatomy.has_unembedding and worst == 0:
        decoder = None if bench.decoder is None else [list(bench.decoder)]
        run = model.run([list(bench.prompt)], decoder=decoder, strict=True)
        assert run.logits is not None
        worst = difference(run.logits, bench.base)
    again = difference(bench.output(), bench.base)
    if again:
        return Finding("idle", again, 0.0, 1, broken="the plain network does not repeat its own output")
    return Finding("idle", worst, 0.0, 1, broken="an idle run differs from the plain network" if worst else "")


def reads(bench: Bench) -> Finding:
    """A run that reads every site is the plain network, bit for bit."""
    gaps = tries(bench.sites, lambda sites: output_gap(bench, sites, ()))
    faults = {s: f"reading it changes the output by {g:.1e}" for s, g in gaps.items()}
    sound = [site for site in bench.sites if site not in gaps]
    values = bench.run(sound)[1]
    faults |= {s: "no value passes there" for s in sound if s not in values}
    return Finding("reads", max(gaps.values(), default=0.0), 0.0, len(bench.sites), faults)


def write_back(bench: Bench) -> Finding:
    """Writing back what was read changes nothing, bit for bit."""
    worst = 0.0
    faults: dict[Site, str] = {}
    for kind in KINDS:
        sites = [site for site in bench.sites if site.kind == kind]
        found = tries(sites, lambda some: output_gap(bench, (), [apply(s, torch.clone) for s in some])) if sites else {}
        worst = max([worst, *found.values()])
        faults |= {s: f"writing back what was read changes the output by {g:.1e}" for s, g in found.items()}
    return Finding("write_back", worst, 0.0, len(bench.sites), faults)


def effects(bench: Bench) -> tuple[Finding, Finding]:
    """Writing another value shows in the output; and while it is written, the parts of the stream still add up."""
    silent: dict[Site, str] = {}
    unequal: dict[Site, str] = {}
    least, most, tried = math.inf, 0.0, 0
    for kind in KINDS:
        for stack in ("", "encoder", "cross"):
            sites = [site for site in bench.sites if site.kind == kind and site.stack == stack]
            found = _effects_of(bench, sample(bench, sites))
            if any(not _NOISE < change < math.inf for change, _ in found.values()):
                found |= _effects_of(bench, [site for site in sites if site not in found])
            for site, (change, gaps) in found.items():
                tried, least, most = tried + 1, min(least, change), max([most, *gaps.values()])
                if not math.isfinite(change):
                    silent[site] = "writing another value there is an error in this network's code"
                elif change <= _NOISE:
                    silent[site] = "writing another value there changes nothing"
                for at, gap in gaps.items():
                    if gap > bench.tolerance:
                        unequal |= _contributions(bench, at, f"while {site} is written, the sum is off by {gap:.1e}")
    return (
        Finding("effects", least if tried else 0.0, _NOISE, tried, silent),
        Finding("sums_while_writing", most, bench.tolerance, tried, unequal),
    )


_NOISE = 1e-7


def _contributions(bench: Bench, at: Site, reason: str) -> dict[Site, str]:
    """What is at fault when the sum of a layer is off: its parts, not the stream itself."""
    layer = bench.model.anatomy.layer(at)
    kinds = [kind for kind in ("attn_contrib", "resid_mid", "mlp_contrib") if kind in layer.places]
    return {Site(kind, at.layer, stack=at.stack): reason for kind in kinds}


def _effects_of(bench: Bench, sites: Sequence[Site]) -> dict[Site, tuple[float, dict[Site, float]]]:
    """Row i of a batch writes noise at site i.

    Returns:
        For each site, how much its row of the output changes, and by how much each layer's sum is off in that row.
    """
    if not sites:
        return {}
    rows, stack = len(sites), "" if sites[0].stack == "cross" else sites[0].stack
    edits = [apply(site, noise_in_row(row)) for row, site in enumerate(sites)]
    layers = {site.layer for site in sites}
    own = (stack, "cross") if stack == "" else (stack,)
    stream = [s for s in bench.sites if s.kind in STREAM and s.stack in own and s.layer in layers]
    try:
        output, values = bench.run(stream, edits, rows)
    except Exception:  # noqa: BLE001 - whatever a network raises under a tap is the law's finding
        if rows == 1:
            return {sites[0]: (math.inf, {})}
        return _effects_of(bench, sites[: rows // 2]) | _effects_of(bench, sites[rows // 2 :])
    base, found = bench.untouched(rows), {}
    for row, site in enumerate(sites):
        in_row = {s: value[row : row + 1] for s, value in values.items()}
        change = difference(output.reshape(rows, -1)[row], base.reshape(rows, -1)[row])
        found[site] = (change, _sum_gaps(bench, in_row, stack, site))
    return found


def _sum_gaps(bench: Bench, values: dict[Site, Tensor], stack: str, written: Site | None) -> dict[Site, float]:
    """For each layer of a stack whose parts are known, how far the stream is from their sum."""
    gaps = {}
    for name, layer in bench.layers:
        crossing = bench.model.anatomy.stacks[name].cross.get(layer.index) if name == stack else None
        if name != stack or (crossing is not None and layer.post_norm):
            continue
        if written is not None and written.layer != layer.index:
            continue
        own = {s.kind: v.double() for s, v in values.items() if s.layer == layer.index and s.stack == name}
        kind = written.kind if written is not None and written.stack != "cross" else ""
        if crossing is not None and not _add_cross(values, layer, own):
            continue
        gap = _sum_gap(layer, own, kind)
        if gap is not None:
            gaps[Site("resid_post", layer.index, stack=name)] = gap
    return gaps


def _add_cross(values: dict[Site, Tensor], layer: Layer, own: dict[str, Tensor]) -> bool:
    """Count what cross-attention adds with what attention adds; False where one of them is not known."""
    added = values.get(Site("attn_contrib", layer.index, stack="cross"))
    if added is None or "attn_contrib" not in own:
        return False
    own["attn_contrib"] = own["attn_contrib"] + added.double()
    return True


def _sum_gap(layer: Layer, found: dict[str, Tensor], written: str) -> float | None:
    """How far the stream after a layer is from the sum of its parts; None where the parts are not known."""
    gaps: list[float] = []
    pre, post = found.get("resid_pre"), found.get("resid_post")
    attention, mlp, mid = found.get("attn_contrib"), found.get("mlp_contrib"), found.get("resid_mid")
    if pre is None or post is None:
        return None
    normed = layer.post_norm
    if mid is not None:
        if attention is not None and written != "resid_mid":
            gaps.append(_relative(_normed(layer, "resid_mid", pre + attention, normed), mid))
        if mlp is not None and written != "resid_post":
            gaps.append(_relative(_normed(layer, "resid_post", mid + mlp, normed), post))
    elif layer.complete and written != "resid_post" and (attention is not None or mlp is not None):
        total = pre
        for part in (attention, mlp):
            total = total if part is None else total + part
        gaps.append(_relative(_normed(layer, "resid_post", total, normed), post))
    return max(gaps, default=None)


def _normed(layer: Layer, kind: str, value: Tensor, normed: bool) -> Tensor:
    norm = layer.norms.get(kind)
    if not normed or norm is None:
        return value
    weight = next(norm.parameters(), None)
    with torch.no_grad():
        return norm(value if weight is None else value.to(weight.dtype)).double()


def _relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-12))


def sums(bench: Bench) -> Finding:
    """resid_post = resid_pre + contributions (with the norm after each sum, where a layer has it)."""
    _, values = bench.run([site for site in bench.sites if site.kind in STREAM])
    gaps: dict[Site, float] = {}
    for stack in bench.model.anatomy.stacks:
        gaps |= _sum_gaps(bench, values, stack, None)
    faults: dict[Site, str] = {}
    for at, gap in gaps.items():
        if gap > bench.tolerance:
            faults |= _contributions(bench, at, f"the stream is not the sum of its parts (off by {gap:.1e})")
    return Finding("sums", max(gaps.values(), default=0.0), bench.tolerance, len(gaps), faults)


def output_projections(bench: Bench) -> Finding:
    """Zeroing z of a head equals zeroing its rows of W_O."""
    able = [
        (name, layer) for name, layer in bench.layers if layer.output_projection is not None and "z" in layer.places
    ]
    able = [(name, layer) for name, layer in able if _plain_weight(layer)]
    if not able:
        return Finding("output_projections", skipped="no layer has a plain matrix that takes z to the stream")
    allowed = bench.tolerance * 20
    faults = tries(
        [Site("z", layer.index, stack=name) for name, layer in able],
        lambda s: _projection_gap(bench, s),
        allowed,
    )
    worst = max(faults.values(), default=0.0) or _projection_gap(
        bench, [Site("z", layer.index, stack=n) for n, layer in able]
    )
    reasons = {s: f"zeroing a head is not zeroing its rows of W_O (off by {g:.1e})" for s, g in faults.items()}
    return Finding("output_projections", worst, allowed, len(able), reasons)


def _plain_weight(layer: Layer) -> bool:
    weight = _weight(layer)
    return isinstance(weight, Tensor) and weight.is_floating_point() and weight.dim() == 2


def _projection_gap(bench: Bench, sites: Sequence[Site]) -> float:
    """All the sites at once: one head of each, and of every layer whose matrix is the same tensor."""
    weights = {id(_weight(bench.model.anatomy.layer(site))) for site in sites}
    heads: dict[int, tuple[Layer, int]] = {}
    edits = []
    for name, layer in bench.layers:
        key = id(_weight(layer))
        if "z" in layer.places and _weight(layer) is not None and key in weights:
            _, head = heads.setdefault(key, (layer, layer.index % layer.n_heads))
            edits.append(Edit(Site("z", layer.index, head, stack=name), "zero"))
    zeroed = bench.run((), edits)[0]
    with contextlib.ExitStack() as stack:
        for layer, head in heads.values():
            stack.enter_context(_without_head(layer, head))
        cut = bench.output()
    return difference(zeroed, cut)


def _weight(layer: Layer) -> Any:
    return getattr(layer.output_projection, "weight", None)


@contextlib.contextmanager
def _without_head(layer: Layer, head: int) -> Iterator[None]:
    weight, module = _weight(layer), layer.output_projection
    assert module is not None
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            matrix = projection_weight(module)
            width = matrix.shape[0] // layer.n_heads
            matrix[head * width : (head + 1) * width] = 0
        yield
    finally:
        with torch.no_grad():
            weight.copy_(before)


def patterns(bench: Bench) -> Finding:
    """A pattern is the softmax of its scores: rows sum to one, less what an attention sink takes."""
    wanted = [site for site in bench.sites if site.kind in ("pattern", "scores")]
    _, values = bench.run(wanted)
    worst, faults, tried = 0.0, {}, 0
    allowed = bench.tolerance * 5
    for site in wanted:
        if site.kind != "pattern" or site not in values:
            continue
        layer, pattern = bench.model.anatomy.layer(site), values[site].double()
        sums = pattern.sum(-1)
        gap = float((sums - 1).clamp_min(0).max() if layer.sinks else (sums - 1).abs().max())
        scores = values.get(Site("scores", site.layer, stack=site.stack))
        if scores is not None:
            ours = scores.double().softmax(-1) * sums[..., None]
            gap = max(gap, float((ours - pattern).abs().max()))
        tried, worst = tried + 1, max(worst, gap)
        if not gap <= allowed:
            for kind in ("scores", "pattern"):
                faults[Site(kind, site.layer, stack=site.stack)] = (
                    f"rows of the pattern are no softmax (off by {gap:.1e})"
                )
    if not tried:
        return Finding("patterns", skipped="no layer serves patterns")
    return Finding("patterns", worst, allowed, tried, faults)


def shared_keys(bench: Bench) -> Finding:
    """Keys and values for each query head are those of its key/value head."""
    pairs = [(s, Site(f"{s.kind}_per_query_head", s.layer, stack=s.stack)) for s in bench.sites if s.kind in ("k", "v")]
    pairs = [(own, wide) for own, wide in pairs if wide in bench.sites]
    if not pairs:
        return Finding("shared_keys", skipped="no layer serves keys for each query head")
    _, values = bench.run([site for pair in pairs for site in pair])
    worst, faults = 0.0, {}
    for own, wide in pairs:
        groups = values[wide].shape[2] // values[own].shape[2]
        gap = difference(values[wide], values[own].repeat_interleave(groups, dim=2))
        worst = max(worst, gap)
        if gap:
            faults[wide] = f"it is not the key/value head repeated (off by {gap:.1e})"
    return Finding("shared_keys", worst, 0.0, len(pairs), faults)


def left_behind(bench: Bench) -> Finding:
    """After an error in the middle of a run with every tap in place, the network is as it was."""
    before = _state(bench.model.hf)
    sites = bench.sites

    def fail(value: Tensor) -> Tensor:
        raise _DeliberateError

    broken = ""
    if sites:
        try:
            bench.run(sites, [apply(sites[len(sites) // 2], fail)])
            broken = "an error in a tap did not reach the caller"
        except _DeliberateError:
            pass
    if not taps.idle():
        broken = "taps on attention or experts are still in place"
    elif _state(bench.model.hf) != before:
        broken = "hooks, flags or replaced methods are still in place"
    gap = 0.0 if broken else difference(bench.output(), bench.base)
    return Finding("left_behind", gap, 0.0, 1, broken=broken or ("the output has changed" if gap else ""))


class _DeliberateError(Exception):
    """The error that `left_behind` makes."""


def _state(hf: nn.Module) -> list[Any]:
    modules = [
        (
            len(m._forward_hooks),
            len(m._forward_pre_hooks),
            "forward" in m.__dict__,
            getattr(m, "num_key_value_groups", None),
        )
        for m in hf.modules()
    ]
    return [modules, [p.requires_grad for p in hf.parameters()], hf.training]
