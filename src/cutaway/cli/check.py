"""Which sites of this model can be trusted? `cutaway check MODEL` runs the laws on it and prints what they found.

Exit status 1 when a law fails: the sites at fault are then refused, and the table says why.
"""

from __future__ import annotations

import json as to_json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from cutaway.models.check import CheckReport, SiteReport
    from cutaway.models.law_bench import Finding

_SAYS = {
    "idle": "an idle run is the plain network, bit for bit",
    "reads": "reading every site changes nothing, bit for bit",
    "write_back": "writing back what was read changes nothing, bit for bit",
    "sums": "resid_post = resid_pre + contributions",
    "effects": "writing another value shows in the output",
    "sums_while_writing": "the stream still adds up while a site is written",
    "output_projections": "zeroing a head's z = zeroing its rows of W_O",
    "patterns": "a pattern is the softmax of its scores; rows sum to one",
    "shared_keys": "keys for each query head are those of its key/value head",
    "resumes": "a run resumed from a layer is the whole run, bit for bit",
    "gradients": "the gradient at embed is autograd's on the plain network",
    "site_gradients": "a site's gradient says what a small change does",
    "left_behind": "after an error nothing is left behind",
}


def check(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="See `cutaway models`.")] = "smollm2",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    device: Annotated[str | None, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1 or mps.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", metavar="NAME", help="float32, bfloat16 or float16.")] = None,
    attention: Annotated[
        str | None, typer.Option("--attention", metavar="NAME", help="eager, sdpa or another implementation.")
    ] = None,
) -> None:
    """Run the laws on a model: which sites can be trusted, and why the others are refused."""
    from cutaway.models.check import check as run_laws  # torch, transformers
    from cutaway.models.open import open
    from cutaway.runtime.progress import watched

    asked = {"device": device, "dtype": dtype, "attn_implementation": attention}
    given: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    with watched():
        report = run_laws(open(model, **given))
    if json:
        typer.echo(to_json.dumps(report.record(), indent=1, allow_nan=False))
    else:
        _show(report)
    if not report.passed:
        raise typer.Exit(1)


def _show(report: CheckReport) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"[bold]{report.model}[/] · {report.architecture} · {report.dtype} · attention {report.attention}")
    console.print(laws_table(report.laws))
    console.print(sites_table(report.sites))
    console.print(f"Changed runs share work by: [bold]{report.tier}[/] (suffix > grow > resume > full > none)")
    verdict = "[green]Every law holds.[/]" if report.passed else "[red]A law fails: see above.[/]"
    console.print(verdict)


def laws_table(laws: Sequence[Finding]) -> Table:
    """What each law says, whether it holds, and the largest difference that was found."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading, justify in (("law", "left"), ("", "left"), ("tried", "right"), ("difference", "right")):
        drawn.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for law in laws:
        mark = "[dim]–[/]" if law.skipped else "[green]✓[/]" if law.passed else "[red]✗[/]"
        says = _SAYS.get(law.law, law.law) + (f"\n[dim]{law.skipped}[/]" if law.skipped else "")
        says += "".join(f"\n[red]{reason}[/]" for reason in faults(law))
        drawn.add_row(says, mark, str(law.tried or ""), "" if law.skipped else _difference(law))
    return drawn


def faults(law: Finding) -> list[str]:
    """What is wrong, in a few lines."""
    found = [law.broken] if law.broken else []
    found += [f"{site}: {reason}" for site, reason in list(law.faults.items())[:3]]
    more = len(law.faults) - 3
    return [*found, f"and {more} more"] if more > 0 else found


def _difference(law: Finding) -> str:
    if law.law == "effects":  # here a large difference is what is asked for
        return f"≥ {law.worst:.1e}"
    return f"{law.worst:.1e} ≤ {law.allowed:.0e}" if law.allowed else f"{law.worst:g}"


def sites_table(sites: Sequence[SiteReport]) -> Table:
    """Every kind of site: which layers serve it, and why others do not."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("site", "served", "refused"):
        drawn.add_column(heading, overflow="fold")
    for site in sites:
        name = f"{site.stack}.{site.kind}" if site.stack else site.kind
        if site.served is None:
            served = "[red]no[/]" if site.refused else "[green]yes[/]"
        else:
            served = f"[green]{spans(site.served)}[/]" if site.served else "[red]no layer[/]"
        every = not site.served
        why = [reason if every else f"{spans(where)}: {reason}" for reason, where in site.refused.items()]
        drawn.add_row(name, served, "\n".join(why), style="" if site.served or site.served is None else "dim")
    return drawn


def spans(numbers: Sequence[int]) -> str:
    """Numbers as a reader would write them.

    >>> spans((0, 1, 2, 5, 7, 8))
    '0–2, 5, 7–8'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)
