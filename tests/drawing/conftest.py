from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import xarray as xr

from cutaway.core import view as views
from cutaway.core.result import Check, Result

WORDS = ["<|im_start|>", "When", " Mary", " and", " John", " went", " to", " the", " store", ",", " John"]
WORDS += [" gave", " a", " drink", " to"]


def example() -> Result:
    """A result with every kind of view, of the shapes that methods give."""
    draw = np.random.default_rng(0)
    words = np.array(WORDS, dtype=object)
    n, layers = len(words), 12
    lens = np.array([[WORDS[(i * j) % n] for j in range(n)] for i in range(layers)], dtype=object)
    pattern = np.tril(draw.dirichlet(np.full(n, 0.3), size=(2, 4, n)))
    pattern /= pattern.sum(-1, keepdims=True)
    heads = np.array([f"z[{i}].head[{i % 9}]" for i in range(12)], dtype=object)
    effect = np.sort(draw.normal(0, 1, 12))[::-1]
    data = xr.Dataset(
        {
            "saliency": (("position",), draw.normal(0, 1, n), {"units": "logits"}),
            "effect": (
                ("layer", "position"),
                draw.normal(0, 1, (layers, n)) * np.linspace(0, 2, layers)[:, None],
            ),
            "probability": (("layer", "position"), draw.uniform(0, 1, (layers, n))),
            "word": (("layer", "position"), lens),
            "pattern": (("block", "head", "query", "key"), pattern),
            "accuracy": (("model", "layer"), np.cumsum(draw.normal(0.1, 0.2, (3, layers)), axis=1)),
            "accuracy_low": (("model", "layer"), np.cumsum(draw.normal(0.1, 0.2, (3, layers)), axis=1) - 0.4),
            "loss": (("layer",), np.exp(-np.arange(layers) / 4)),
            "contribution": (("part",), effect, {"units": "logits"}),
            "contribution_low": (("part",), effect - 0.3),
            "contribution_high": (("part",), effect + 0.3),
            "by_model": (("part", "model"), draw.normal(0, 1, (12, 3))),
            "x": (("part",), draw.normal(0, 1, 12)),
            "y": (("part",), draw.normal(0, 1, 12)),
            "norm": (("prompt",), draw.gamma(3, 1, 400)),
            "template": (("prompt",), np.array([["ABBA", "BABA"][i % 2] for i in range(400)], dtype=object)),
            "source": (
                ("edge",),
                np.array(["embed", "embed", "a1.h6", "a5.h5", "mlp3", "a1.h6", "a9.h9"], object),
            ),
            "target": (
                ("edge",),
                np.array(["a1.h6", "mlp3", "a5.h5", "a9.h9", "a9.h9", "logits", "logits"], object),
            ),
            "weight": (("edge",), np.array([0.8, 0.3, 1.2, 0.9, -0.4, 0.1, 2.1])),
            "said": (
                ("prompt_of_text",),
                np.array(["Mary & <b>John</b>\nwent home.", "A second text."], object),
            ),
        },
        coords={
            "token": ("position", words),
            "layer": np.arange(layers),
            "part": heads,
            "model": np.array(["smollm2", "gemma3-270m", "random"], dtype=object),
        },
    )
    kinds = (
        views.tokens(value="saliency", token="token", title="Which words matter"),
        views.heatmap(value="probability", x="token", y="layer", text="word", title="What it would say at each layer"),
        views.heatmap(value="effect", x="token", y="layer", title="Where the difference lives"),
        views.attention(value="pattern", token="token", at={"block": 1, "head": 2}, title="Where a head looks"),
        views.curves(value="accuracy", x="layer", series="model", low="accuracy_low", title="Accuracy by layer"),
        views.bars(
            value="contribution",
            label="part",
            low="contribution_low",
            high="contribution_high",
            title="Which heads write the answer",
            note="Bars show the mean over prompts.",
        ),
        views.bars(value="by_model", label="part", group="model", title="The same heads in three models"),
        views.scatter(x="x", y="y", label="part", value="contribution", title="Heads in a plane"),
        views.histogram(value="norm", group="template", title="Norms of the residual stream"),
        views.graph(source="source", target="target", weight="weight", title="The circuit"),
        views.table(columns=["part", "contribution", "x"], title="Heads"),
        views.text(value="said", title="What it said"),
    )
    checks = (
        Check(
            claim="These three heads write the answer.",
            how="All three are ablated together (mean over prompts), against 50 random sets of three heads.",
            measured=3.21,
            control=0.41,
            interval=(0.1, 0.92),
            n=50,
            passed=True,
            unit="logits",
        ),
        Check("Layer 3 matters.", "Its output is zeroed.", 0.2, 0.3, (-0.1, 0.6), 20, False),
    )
    return Result(
        data=data,
        metrics={"logit difference": 3.456, "prompts": 50, "top token": " Mary"},
        views=kinds,
        checks=checks,
        notes=("2 prompts were left out because their contrast has another length.",),
        provenance={
            "method": "logit_lens",
            "model": {"name": "smollm2", "dtype": "float32", "device": "cpu"},
            "task": {"name": "ioi", "n": 50, "seed": 0},
            "seconds": 1.234,
            "command": "cutaway run logit-lens --model smollm2 --task ioi",
        },
    )


@pytest.fixture(scope="session")
def result() -> Result:
    return example()


VARIANTS = {
    "empty": (0, 0.0),
    "single": (1, 1.5),
    "all zero": (4, 0.0),
    "all equal": (4, -2.0),
    "missing": (4, np.nan),
    "infinite": (4, np.inf),
    "tiny": (4, 5e-324),
    "giant": (4, 1e308),
    "both giants": (4, -1e308),
}


def variant(kind: str, size: int, value: float, word: str = " a") -> Result:
    """A result with one view of this kind, of `size` by `size` elements, alike but for the sign of giants."""
    signs = np.resize([1.0, -1.0], size) if value == -1e308 else np.ones(size)
    row, square = value * signs, value * np.tile(signs, (size, 1))
    words = np.array([f"{word}{i}" for i in range(size)], dtype=object)
    data = xr.Dataset(
        {
            "v": (("x",), row),
            "w": (("x",), row),
            "vv": (("y", "x"), square),
            "words": (("y", "x"), np.array([words] * size, dtype=object).reshape(size, size)),
            "from": (("x",), words),
            "to": (("x",), words[::-1]),
        },
        coords={"token": ("x", words), "row": ("y", words)},
    )
    made = {
        "tokens": lambda: views.tokens(value="v"),
        "heatmap": lambda: views.heatmap(value="vv", x="token", y="y", text="words"),
        "attention": lambda: views.attention(value="vv", query="y", key="x", token="token"),
        "curves": lambda: views.curves(value="vv", x="x", series="row", low="vv", high="vv"),
        "bars": lambda: views.bars(value="v", label="token", low="w", high="w"),
        "scatter": lambda: views.scatter(x="v", y="w", label="token", value="v"),
        "histogram": lambda: views.histogram(value="vv", group="token"),
        "graph": lambda: views.graph(source="from", target="to", weight="v"),
        "table": lambda: views.table(columns=["token", "v"]),
        "text": lambda: views.text(value="from"),
    }
    check = Check(f"Claim {word}", f"How {word}", value, value, (value, value), size, True, word)
    return Result(data, {"m": value}, (made[kind](),), (check,), (f"Note {word}",), {"method": word})


@pytest.fixture(scope="session")
def make() -> Callable[..., Result]:
    return variant


@pytest.fixture(scope="session")
def variants() -> Mapping[str, tuple[int, float]]:
    return VARIANTS
