"""Which sites of this network can be trusted? The laws of `laws.py`, on the model in front.

    report = check(model)
    report.passed, report.laws, report.sites

A site that breaks a law is refused from then on, with the reason. The report also says how far this network lets changed
runs share work (`tier`), and that a resumed run equals a whole one bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.core.edit import Edit
from cutaway.core.progress import track
from cutaway.core.site import KINDS, Site
from cutaway.models import laws
from cutaway.models.forward import accepts, model_inputs
from cutaway.models.laws import Bench, Finding, difference

if TYPE_CHECKING:
    from cutaway.models.model import Model


@dataclass(frozen=True)
class SiteReport:
    """How one kind of site fares.

    Attributes:
        stack, kind: which.
        served: layers that serve it; None for kinds that belong to no layer.
        refused: reason -> layers that do not.
    """

    stack: str
    kind: str
    served: tuple[int, ...] | None
    refused: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class CheckReport:
    """What the laws found on one network.

    Attributes:
        model: its name.
        architecture: its class.
        attention: its attention implementation.
        dtype: of its weights.
        laws: what each law found.
        sites: every kind of site, served or refused.
        tier: how far changed runs share work; "none" where the stream between layers is not served.
    """

    model: str
    architecture: str
    attention: str
    dtype: str
    laws: tuple[Finding, ...]
    sites: tuple[SiteReport, ...]
    tier: str

    @property
    def passed(self) -> bool:
        """True when no law failed."""
        return all(law.passed for law in self.laws)

    def record(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        found = {
            name: getattr(self, name) for name in ("model", "architecture", "attention", "dtype", "tier")
        }
        return {
            "passed": self.passed,
            **found,
            "laws": [law.record() for law in self.laws],
            "sites": [asdict(site) for site in self.sites],
        }


LAWS: tuple[Callable[[Bench], Finding | tuple[Finding, ...]], ...] = (
    laws.idle,
    laws.reads,
    laws.write_back,
    laws.sums,
    laws.effects,
    laws.output_projections,
    laws.patterns,
    laws.shared_keys,
    laws.left_behind,
)


def check(model: Model) -> CheckReport:
    """Run every law on a network; sites that break one are refused from then on.

    Args:
        model: an opened network.
    """
    bench = Bench.of(model)
    findings: list[Finding] = []
    for law in track([*LAWS, resumes, gradients], "laws", total=len(LAWS) + 2):
        found = law(bench)
        for one in (found,) if isinstance(found, Finding) else found:
            findings.append(one)
            for site, reason in one.faults.items():
                bench.refuse(site, reason)
    return CheckReport(
        model=model.name,
        architecture=type(model.hf).__name__,
        attention=model.attention_implementation,
        dtype=str(model.dtype).removeprefix("torch."),
        laws=tuple(findings),
        sites=sites_of(model),
        tier=tier_of(model),
    )


def tier_of(model: Model) -> str:
    """How far this network lets changed runs share work."""
    from cutaway.models import sweep

    anatomy = model.anatomy
    if anatomy.is_encoder_decoder:
        return "full"
    served = all("resid_post" in layer.places for layer in anatomy.stacks[""].layers)
    return sweep.tier_of(model) if served else "none"


def sites_of(model: Model) -> tuple[SiteReport, ...]:
    """Every kind of site of a network, served or refused."""
    anatomy = model.anatomy
    reports = []
    for name, stack in anatomy.stacks.items():
        reports += [_report(name, kind, stack.layers) for kind in KINDS if KINDS[kind][0] != "ends"]
        crossing = list(stack.cross.values())
        reports += [r for kind in KINDS if crossing and (r := _report("cross", kind, crossing)).served]
    for kind in ("embed", "final", "logits"):
        has = (anatomy.embed if kind == "embed" else anatomy.unembed) is not None
        reports.append(SiteReport("", kind, None, {} if has else {"the model has none": ()}))
    return tuple(reports)


def _report(stack: str, kind: str, layers: Sequence[Any]) -> SiteReport:
    refused: dict[str, list[int]] = {}
    for layer in layers:
        if kind not in layer.places:
            refused.setdefault(layer.refused.get(kind, "the probe did not find it"), []).append(layer.index)
    served = tuple(layer.index for layer in layers if kind in layer.places)
    return SiteReport(stack, kind, served, {reason: tuple(where) for reason, where in refused.items()})


# --- laws about running ------------------------------------------------------------------------------------------


def resumes(bench: Bench) -> Finding:
    """A strict run that is resumed from a layer equals the whole run, bit for bit."""
    model = bench.model
    anatomy = model.anatomy
    if anatomy.is_encoder_decoder or not anatomy.has_unembedding:
        return Finding("resumes", skipped="sweeps of this kind of network run every layer")
    tier = tier_of(model)
    if tier == "none":
        return Finding("resumes", skipped="the stream between layers is not served")
    cells = [
        Site("resid_pre", layer, position=4)
        for layer in sorted({0, anatomy.n_layers // 2, anatomy.n_layers - 1})
    ]
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
    return Finding(
        "gradients", gap, allowed, 1, broken="" if gap <= allowed else "it differs from autograd's"
    )


def _through_embeddings(bench: Bench) -> Tensor | str:
    """The gradient of the same metric at `inputs_embeds`, or why the network cannot give it."""
    hf = bench.model.hf
    inputs = model_inputs(hf, [bench.prompt])
    seen: list[Tensor] = []

    def keep(name: str, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        seen.append(output)

    from cutaway.models import taps

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
