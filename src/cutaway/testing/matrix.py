"""Which architectures keep every law, and which sites does each refuse? The list in `docs/architectures.md`.

    python -m cutaway.testing.matrix > docs/architectures.md

Every type of `architectures` is built tiny, with eager attention and with SDPA, and `cutaway.models.check` runs on
it. A line is what was measured on that type, and nothing else, so that a test can measure a few lines again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from cutaway.core.site import KINDS
from cutaway.models.check import CheckReport, SiteReport, check
from cutaway.models.model import Model
from cutaway.testing.architectures import (
    Family,
    attention_implementations,
    causal_types,
    encoder_decoder_types,
    encoder_types,
    tiny_model,
)

TITLES: dict[Family, str] = {
    "causal": "Causal language models",
    "encoder": "Encoders",
    "encoder_decoder": "Encoder–decoders",
}
# What is said of a type only where it is otherwise: most have no experts.
UNREMARKABLE = ("the layer has no mixture of experts",)

HEAD = """# Architectures

Every type that transformers can build without a network, built with four layers of random weights, and what
`cutaway check` found on it. A tick says that every law holds for every site that is served: an idle run and a run that
reads are the plain network bit for bit, writing back changes nothing, the stream is the sum of its parts, a head's `z`
and its rows of W_O agree, patterns are the softmax of their scores, gradients say what small changes do, and nothing is
left behind after an error. What stands under *refuses* raises an error that gives this reason; everything else is
served. *Shares* says how changed runs share work in a sweep: `suffix` (the lower layers and the earlier positions of
the base run), `grow` (the lower layers, one batch for all layers), `resume` (the lower layers), `full` (nothing), `none`
(the stream between layers is not served, so it cannot be swept).

The file is written by `python -m cutaway.testing.matrix`; tests compare it with what they measure.
"""


def types() -> list[tuple[str, Family]]:
    """Every type of every family."""
    found: list[tuple[str, Family]] = [(name, "causal") for name in causal_types()]
    found += [(name, "encoder") for name in encoder_types()]
    return found + [(name, "encoder_decoder") for name in encoder_decoder_types()]


def report(model_type: str, family: Family, attention: str) -> CheckReport:
    """What the laws find on the tiny model of a type."""
    hf = tiny_model(model_type, family, attn_implementation=attention)
    return check(Model(hf, name=model_type))


def line(model_type: str, family: Family) -> str:
    """The line of a type: how it fares with each attention implementation, and what it refuses."""
    able = attention_implementations(model_type, family)
    with torch.random.fork_rng(devices=[]):  # BigBird draws the blocks that its tokens see from the global state
        reports = {name: report(model_type, family, name) for name in able}
    cells = [verdict(reports[name]) if name in reports else "–" for name in ("eager", "sdpa")]
    first = reports[able[0]]
    refused = refusals(first.sites)
    for name, other in reports.items():
        if (there := refusals(other.sites)) != refused:
            refused += f"; with {name}: {there}"
    return f"| {model_type} | {cells[0]} | {cells[1]} | {first.tier} | {refused} |"


def verdict(found: CheckReport) -> str:
    """A tick, or the laws that fail."""
    failed = [law.law for law in found.laws if not law.passed]
    return "✗ " + ", ".join(failed) if failed else "✓"


def refusals(sites: Sequence[SiteReport]) -> str:
    """What is refused: kinds with the same reason together, and where only some layers refuse, which."""
    stacks = {"" if site.stack == "cross" else site.stack for site in sites}
    parts: dict[str, list[str]] = {}
    for site in sites:
        for reason, layers in site.refused.items():
            if reason not in UNREMARKABLE:
                where = "" if not site.served else f"[{', '.join(map(str, layers))}]"
                stack = f"{site.stack}." if len(stacks) > 1 and site.stack else ""
                parts.setdefault(reason, []).append(f"`{stack}{site.kind}{where}`")
    if len(layered := {s.kind for s in sites if s.served == () and s.stack == ""}) == _LAYERED:
        return f"every site of a layer: {next(iter(parts))}" if layered else ""
    return "; ".join(f"{', '.join(kinds)}: {reason}" for reason, kinds in parts.items())


_LAYERED = sum(1 for part, _ in KINDS.values() if part != "ends")


def page(lines: dict[tuple[str, Family], str]) -> str:
    """The whole list."""
    text = HEAD
    for family, title in TITLES.items():
        own = [found for (_, other), found in sorted(lines.items()) if other == family]
        if not own:
            continue
        whole = sum("✗" not in found for found in own)
        text += f"\n## {title}\n\n{whole} of {len(own)} types keep every law for every site that they serve.\n\n"
        text += "| type | eager | SDPA | shares | refuses |\n|---|---|---|---|---|\n" + "\n".join(own) + "\n"
    return text


def _measured(entry: tuple[str, Family]) -> str:
    torch.set_num_threads(1)
    try:
        return line(*entry)
    except Exception as error:  # noqa: BLE001 - one type that cannot be checked must not hide the others
        return f"| {entry[0]} | ✗ | ✗ | | {type(error).__name__} |"


def main(words: Sequence[str] | None = None) -> None:
    """Measure every type and print the list."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    jobs = parser.parse_args(words).jobs
    every = types()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        found = dict(zip(every, pool.map(_measured, every), strict=True))
    sys.stdout.write(page(found))


if __name__ == "__main__":
    main()
