"""Writes the files of format version 1 that `test_netcdf` and `test_artifacts` read.

They are kept as they were written; this file says what is in them. Run it only for a new version of the
format, with a new name.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import xarray as xr

from cutaway.core import view as views
from cutaway.core.artifact import Artifact
from cutaway.core.result import Check, Result

WORDS = ["<s>", " Mary\n", "\x00", "\ud83d", "🙂", "", "back\\slash \\u0041"]


def result() -> Result:
    data = xr.Dataset(
        {
            "value": (
                ("layer", "position"),
                np.linspace(-1, 1, 14, dtype=np.float32).reshape(2, 7),
                {"units": "logits"},
            ),
            "found": (("layer",), np.array([True, False])),
            "count": ((), np.int64(7)),
            "nothing": (("none",), np.zeros(0)),
            "no_words": (("none",), np.zeros(0, dtype=object)),
        },
        coords={"token": ("position", np.array(WORDS, dtype=object)), "layer": [3, 9]},
        attrs={"about": "two layers"},
    )
    return Result(
        data=data,
        metrics={"accuracy": 0.5, "n": 3, "top": " Mary", "gap": float("inf")},
        views=(views.heatmap(value="value", x="token", y="layer", title="Effect"), views.text(value="token")),
        checks=(Check("It matters.", "It was removed.", 2.0, 0.1, (0.0, 0.3), 20, True, "logits"),),
        notes=("One prompt was dropped.",),
        provenance={"method": "test", "model": {"name": "tiny"}},
    )


def artifact() -> Artifact:
    import torch

    tensors = {"direction": torch.arange(4, dtype=torch.bfloat16), "bias": torch.tensor(0.5)}
    return Artifact("direction", tensors, {"site": "resid_post[3]"}, {"seed": 0})


if __name__ == "__main__":
    folder = Path(__file__).parent / "data"
    folder.mkdir(exist_ok=True)
    version = sys.argv[1]
    result().save(folder / f"result_{version}.nc")
    result().save(folder / f"result_{version}.json")
    artifact().save(folder / f"artifact_{version}.safetensors")
