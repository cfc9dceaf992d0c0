"""What should be changed? An `Edit` is a write as data: a site, an operation and its values.

    patch("resid_pre[7]@4", other_run)       put in what another run has there
    ablate("z[9].head[6]", "mean")           zero, mean or resampled values
    add("resid_post[12]", vector, scale=4)   steer; a list of scales gives one row of the batch for each
    scale("mlp_out[3]", 0.5)                 make it smaller or larger
    replace("attn_out[2]@-1", tensor)        put in these values
    project_out("resid_mid[*]", direction)   take a direction out
    apply("mlp_act[4]", torch.relu)          a function of the value; it must not change its argument

Several edits of one site act in the order given; a read of an edited site shows the value after the edits.
Patterns are allowed: `ablate("z[9].head[*]", "zero")` is one edit for every head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cutaway.core.errors import PlanError, nearest
from cutaway.core.site import Site

if TYPE_CHECKING:
    from torch import Tensor

Operation = Literal["replace", "zero", "mean", "resample", "add", "scale", "project_out", "apply"]


@dataclass(frozen=True)
class Edit:
    """One write.

    Attributes:
        site: where; may be a pattern.
        operation: what is done with the value there.
        value: a tensor (`replace`, `add`, `project_out`), broadcast against the value at the site.
        source: a run whose values are taken (`replace`), averaged (`mean`) or drawn from (`resample`).
        source_site: where in the source; None for the same site.
        scales: the factors of `add` and `scale`; more than one makes a row of the batch for each.
        function: of `apply`.
        seed: of `resample`.
    """

    site: Site
    operation: Operation
    value: Tensor | None = None
    source: Mapping[Site, Tensor] | None = None
    source_site: Site | None = None
    scales: tuple[float, ...] = (1.0,)
    function: Callable[[Tensor], Tensor] | None = None
    seed: int = 0

    def __str__(self) -> str:
        scales = "" if self.scales == (1.0,) else f" × {', '.join(f'{s:g}' for s in self.scales)}"
        return f"{self.operation} {self.site}{scales}"


def patch(site: str | Site, source: Mapping[Site, Tensor] | Tensor, *, at: str | Site | None = None) -> Edit:
    """Put in what another run has: `patch("resid_pre[7]@4", other_run)`.

    Args:
        site: where to write.
        source: a run that has read the site, or the values themselves.
        at: where in the source run, if elsewhere.
    """
    if isinstance(source, Mapping):
        return Edit(Site.parse(site), "replace", source=source, source_site=Site.parse(at) if at else None)
    return replace(site, source)


def replace(site: str | Site, value: Tensor) -> Edit:
    """Put in these values; they are broadcast over prompts and positions where a dimension is missing."""
    return Edit(Site.parse(site), "replace", value=_tensor(value, "replace"))


def ablate(
    site: str | Site,
    how: Literal["zero", "mean", "resample"] = "zero",
    *,
    reference: Mapping[Site, Tensor] | None = None,
    seed: int = 0,
) -> Edit:
    """Take a part out: its value becomes zero, a mean, or that of another prompt.

    Args:
        site: where.
        how: `zero`; `mean` over all prompts and positions; `resample`: the value of another prompt at the position.
        reference: a run whose prompts are averaged or drawn from; None for the prompts of the run itself.
        seed: which other prompt `resample` draws.
    """
    if how not in ("zero", "mean", "resample"):
        raise PlanError(f"ablate does not know {how!r}:", nearest(str(how), ["zero", "mean", "resample"]))
    return Edit(Site.parse(site), how, source=reference, seed=seed)


def add(site: str | Site, vector: Tensor, *, scale: float | Sequence[float] = 1.0) -> Edit:
    """Add `scale * vector`; a list of scales runs every prompt once with each."""
    return Edit(Site.parse(site), "add", value=_tensor(vector, "add"), scales=_scales(scale))


def scale(site: str | Site, factor: float | Sequence[float]) -> Edit:
    """Multiply the value by a number; a list of factors runs every prompt once with each."""
    return Edit(Site.parse(site), "scale", scales=_scales(factor))


def project_out(site: str | Site, direction: Tensor) -> Edit:
    """Take the part along a direction out of the value."""
    return Edit(Site.parse(site), "project_out", value=_tensor(direction, "project_out"))


def apply(site: str | Site, function: Callable[[Tensor], Tensor]) -> Edit:
    """Put in `function(value)`. The function must return a new tensor of the same shape."""
    if not callable(function):
        raise PlanError(
            f"apply got {type(function).__name__}.",
            "It takes a function of a tensor,",
            "as in apply(site, torch.relu).",
        )
    return Edit(Site.parse(site), "apply", function=function)


def edits_of(edits: Edit | Sequence[Edit] | None) -> tuple[Edit, ...]:
    """One edit, a sequence of them or nothing, as a tuple."""
    if edits is None:
        return ()
    given = (edits,) if isinstance(edits, Edit) else tuple(edits)
    for one in given:
        if not isinstance(one, Edit):
            raise PlanError(
                f"{one!r} is not an edit.",
                "Edits are made by patch, ablate, add, scale, replace, project_out and apply,",
                'for example ablate("z[9].head[6]", "mean").',
            )
    return given


def _scales(value: float | Sequence[float]) -> tuple[float, ...]:
    scales = (float(value),) if isinstance(value, int | float) else tuple(float(v) for v in value)
    if not scales:
        raise PlanError("An empty list of scales.", "Give at least one number,", "as in scale=[-4, 0, 4].")
    return scales


def _tensor(value: Any, name: str) -> Tensor:
    if not hasattr(value, "detach"):
        raise PlanError(f"{name} got {type(value).__name__}.", "It takes a torch tensor,", "as in torch.tensor([...]).")
    return value
