"""How is the report of all studies read? As one HTML page that needs no network, and as a page of the documentation.

Both say the same: each paper with its question, its claims (the paper's figure, ours with its interval, the control, the
criterion, the verdict), what differs from the paper, and the command that repeats it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cutaway.core.claim import MARKS, Claim
from cutaway.drawing.html import checks, ended, figures, fragment, notes, page, text
from cutaway.studies.report import VERDICTS, Standing, about, control, elsewhere, ours, theirs, totals

if TYPE_CHECKING:
    from cutaway.core.result import Result

COLUMNS = ("claim", "paper", "ours", "control", "criterion", "verdict")
_INTRODUCTION = """Every paper and article of the public list of language-model interpretability, with what became of it
here. A verdict follows from our figure, from a criterion that was fixed before the run, and from the scale: *reproduced* is
said of the paper's own model alone; on a smaller one it is at best the *same phenomenon at small scale*."""


def row(claim: Claim) -> tuple[str, ...]:
    """A claim as the cells of `COLUMNS`."""
    where = f" ({claim.where})" if claim.where else ""
    return f"{claim.sentence}{where}", theirs(claim), ours(claim), control(claim), claim.criterion, claim.verdict


# --- HTML --------------------------------------------------------------------------------------------------------


def html_report(found: Sequence[Standing]) -> str:
    """One page with all papers."""
    parts = [f"<p>{_emphasised(text(_INTRODUCTION))}</p>", _counted_html(found)]
    for standing in found:
        parts.append(f'<section id="{text(standing.paper.item)}"><h2>{_heading_html(standing)}</h2>')
        parts += [*_about_html(standing), *_claims_html(standing), "</section>"]
    return page("Studies", parts)


def html_of_study(standing: Standing, result: Result | None) -> str:
    """One page with one study: claims, pictures, what differs."""
    parts = [*_about_html(standing), *_claims_html(standing)]
    if result is not None:
        parts += [fragment(result, index, with_checks=False) for index in range(len(result.views))]
        parts += [figures(result), checks(result.checks), notes(result), ended(result)]
    return page(f"{standing.paper.title} ({standing.paper.item})", parts)


def _heading_html(standing: Standing) -> str:
    paper = standing.paper
    title = text(paper.title)
    linked = f'<a href="{text(paper.link)}">{title}</a>' if paper.link.startswith("https://") else title
    return f"{text(paper.item)} {linked}"


def _about_html(standing: Standing) -> Iterator[str]:
    for line in about(standing):
        yield f"<p>{text(line)}</p>"


def _claims_html(standing: Standing) -> Iterator[str]:
    if not standing.claims:
        return
    head = "".join(f'<th class="text">{name}</th>' for name in COLUMNS)
    rows = ("".join(f'<td class="text">{text(cell)}</td>' for cell in row(claim)) for claim in standing.claims)
    body = "".join(f"<tr>{cells}</tr>" for cells in rows)
    yield f'<div class="picture"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    if standing.others:
        head = "".join(f'<th class="text">{text(name)}</th>' for name in _heads(standing))
        cells = ("".join(f'<td class="text">{text(cell)}</td>' for cell in line) for line in _lines(standing))
        body = "".join(f"<tr>{line}</tr>" for line in cells)
        yield f'<div class="picture"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    if standing.record is not None:
        yield f"<p>{text(standing.record.differs)}</p><p>Again: <code>{text(standing.record.command)}</code></p>"


def _heads(standing: Standing) -> list[str]:
    """The headings of the table of other models."""
    return ["claim", *(f"on {record.model}" for record in standing.others)]


def _lines(standing: Standing) -> list[list[str]]:
    """Each claim with the figures and verdicts on other models."""
    return [[said, *(f"{figure}: {verdict}" for figure, verdict in each)] for said, each in elsewhere(standing)]


def _counted_html(found: Sequence[Standing]) -> str:
    rows = "".join(f"<dt>{text(name)}</dt><dd>{count}</dd>" for name, count in totals(found).items())
    return f'<dl class="figures">{rows}</dl>'


def _emphasised(escaped: str) -> str:
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", escaped)


# --- the page of the documentation -------------------------------------------------------------------------------


def markdown(found: Sequence[Standing], made: str) -> str:
    """The page of the documentation.

    Args:
        found: where each paper stands.
        made: the line that says how the page is made.
    """
    counts = totals(found)
    marks = "; ".join(f"*{mark}*: {said}" for mark, said in MARKS.items())
    summary = ", ".join(f"{count} {name}" for name, count in counts.items() if name not in VERDICTS)
    verdicts = ", ".join(f"{counts[name]} {name}" for name in VERDICTS)
    lines = ["# Studies", "", made, "", _INTRODUCTION, "", f"Papers: {summary}. Claims: {verdicts}.", ""]
    lines += [f"How a paper's figure is known: {marks}.", "", "| | paper | asks | status |", "|---|---|---|---|"]
    for standing in found:
        paper = standing.paper
        name = f"[{_cell(paper.title)}](#{standing.study.name})" if standing.study else _linked(standing)
        status = "; ".join(f"{n} {v}" for v, n in standing.verdicts.items()) if standing.record else standing.status
        lines.append(f"| {paper.item} | {name} | {_cell(paper.question)} | {status} |")
    for standing in found:
        if standing.study is not None:
            lines += ["", *_section(standing)]
    corrected = [standing.paper for standing in found if standing.paper.listed]
    lines += ["", "## Links put right", "", "| | the list has | it is |", "|---|---|---|"]
    lines += [f"| {paper.item} {_cell(paper.title)} | {paper.listed} | {paper.link} |" for paper in corrected]
    return "\n".join(lines) + "\n"


def _section(standing: Standing) -> Iterator[str]:
    assert standing.study is not None
    paper, record = standing.paper, standing.record
    item = f"{paper.item}: " if paper.item else ""
    yield from (
        f"## {standing.study.name}",
        "",
        f"{item}{_linked(standing)}. {about(standing)[0]}",
        "",
        *(f"{line}\n" for line in about(standing)[1:]),
    )
    yield from (f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}")
    yield from (f"| {' | '.join(_cell(cell) for cell in row(claim))} |" for claim in standing.claims)
    if standing.others:
        heads = _heads(standing)
        yield from ("", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}")
        yield from (f"| {' | '.join(_cell(cell) for cell in line)} |" for line in _lines(standing))
    if record is None:
        yield from ("", f"`cutaway study run {standing.study.name}`")
        return
    models = ", ".join(dict.fromkeys(str(model.get("name")) for model in record.models))
    machine = f"{models or 'no model'}; seed {record.seed}; {record.device}; {record.seconds:.0f} s"
    yield from ("", record.differs, "", f"`{record.command}` ({machine})")
    yield from (f"\n`{other.command}` ({other.device}; {other.seconds:.0f} s)" for other in standing.others)


def _linked(standing: Standing) -> str:
    paper = standing.paper
    return f"[{_cell(paper.title)}]({paper.link})" if paper.link else _cell(paper.title)


def _cell(written: str) -> str:
    return written.replace("|", "\\|").replace("\n", " ")
