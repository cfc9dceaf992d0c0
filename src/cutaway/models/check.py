"""Which sites of this network can be trusted? The laws of `laws.py`, on the model in front.

    report = check(model)
    report.passed, report.laws, report.sites

A site that breaks a law is refused from then on, with the reason. The report also says how far this network lets
changed runs share work (`tier`). Limits: a law is tried on one short prompt; a pass is no proof for every input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cutaway.core.progress import track
from cutaway.core.site import KINDS
from cutaway.models import laws, running_laws
from cutaway.models.law_bench import Bench, Finding
from cutaway.models.running_laws import tier_of

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
        found = {name: getattr(self, name) for name in ("model", "architecture", "attention", "dtype", "tier")}
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
    running_laws.resumes,
    running_laws.gradients,
    running_laws.site_gradients,
    laws.left_behind,
)


def check(model: Model) -> CheckReport:
    """Run every law on a network; sites that break one are refused from then on.

    Args:
        model: an opened network.
    """
    bench = Bench.of(model)
    findings: list[Finding] = []
    for law in track(LAWS, "laws", total=len(LAWS)):
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
        reason = anatomy.refused_ends.get(kind) if has else "the model has none"
        reports.append(SiteReport("", kind, None, {reason: ()} if reason else {}))
    return tuple(reports)


def _report(stack: str, kind: str, layers: Sequence[Any]) -> SiteReport:
    refused: dict[str, list[int]] = {}
    for layer in layers:
        if kind not in layer.places:
            refused.setdefault(layer.refused.get(kind, "the probe did not find it"), []).append(layer.index)
    served = tuple(layer.index for layer in layers if kind in layer.places)
    return SiteReport(stack, kind, served, {reason: tuple(where) for reason, where in refused.items()})
