"""Maps beside Captum's and Inseq's where the definition is the same, on SmolLM2; and what theirs leave out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.peers, pytest.mark.real]

Start = Callable[[str], Any]


@pytest.fixture(scope="module")
def asked(start: Start, folder: Path) -> dict[str, Any]:
    from bench.gradients import question
    from bench.harness import Bench

    bench = Bench("smollm2", folder, None, threads=1, quick=True, most=None, say=lambda text: None)
    return question(bench, start("plain"))


@pytest.mark.parametrize("method", ["saliency", "occlusion"])
def test_a_map_equals_inseqs(start: Start, asked: dict[str, Any], method: str) -> None:
    """Sizes: Inseq's occlusion has no signs."""
    ours = np.abs(start("ours").ask("explained", **asked, method=method, values=True).values["values"])
    theirs = np.abs(start("inseq").ask("explained", **asked, method=method, values=True).values["values"])
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    assert both.sum() > 50
    np.testing.assert_allclose(ours[both], theirs[both], atol=1e-4, rtol=1e-3)
    assert theirs[both].max() > 0.05


@pytest.mark.parametrize("name", ["DeepLift", "ShapleyValues", "FeatureAblation"])
def test_a_map_of_a_small_network_equals_captums(start: Start, name: str) -> None:
    """A network of linear maps and ReLUs: there Captum's DeepLift knows every operation."""
    import torch

    from cutaway.methods.attribute.kernel_shap import coalitions, shapley
    from cutaway.models.rescale import Rescale

    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(size, generator=generator, dtype=torch.float64) for size in ((6, 5), (4, 6), (1, 4))]
    x, base = torch.randn(2, 5, generator=generator, dtype=torch.float64)

    def network(rows: torch.Tensor) -> torch.Tensor:
        for weight in weights[:-1]:
            rows = torch.relu(rows @ weight.T)
        return (rows @ weights[-1].T)[:, 0]

    arguments = {"name": name, "weights": [w.tolist() for w in weights], "x": x.tolist(), "base": base.tolist()}
    theirs = start("inseq").ask("captum_of_layers", **arguments, values=True).values["values"]
    if name == "DeepLift":
        both = torch.stack([x, base]).requires_grad_(True)
        with Rescale():
            (slope,) = torch.autograd.grad(network(both)[0], both)
        ours = (slope[0] * (x - base)).numpy()
    elif name == "ShapleyValues":
        kept, kernel = coalitions(5, 100, 0)
        rows = torch.where(torch.from_numpy(kept), x, base)
        whole, nothing = float(network(x[None])), float(network(base[None]))
        ours = shapley(kept, kernel, network(rows).numpy() - nothing, whole - nothing)
    else:
        holes = torch.where(torch.eye(5, dtype=torch.bool), base, x)
        ours = (network(x[None]) - network(holes)).numpy()
    # Captum adds Shapley values up in single precision.
    np.testing.assert_allclose(ours, theirs, atol=1e-5 if name == "ShapleyValues" else 1e-8)
