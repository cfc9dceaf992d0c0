"""Does the documentation do what it says? Code blocks and links of a Markdown page, read so that a test can run them.

A block is fenced with three back-ticks and a language. HTML comments directly above it, which no reader sees, say how
it is to be taken:

    <!-- needs: smollm2 -->      the page needs these weights
    <!-- tier: all -->           the page takes minutes: it is run by `make test-all`
    <!-- file: prompts.csv -->   the text of the block is a file that later blocks find
    <!-- raises: TaskError -->   a Python block that ends with this error; its message is the output
    <!-- status: 2 -->           commands that end with this exit status, which is 0 otherwise
    <!-- output -->              what the block above prints

In an output `…` stands for anything, and a line with nothing else for any lines. Numbers may differ by two per cent or
by two in their last digit, and bars in their length, since another machine rounds otherwise.
Limits: fences begin in the first column; links are inline ones.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

_COMMENT = re.compile(r"^<!--\s*(?P<key>[a-z]+)(?::\s*(?P<value>.*?))?\s*-->$")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_NUMBER = re.compile(r"(?<![\w.])[-−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w])")
_CLOSE = 0.02


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: the word after the back-ticks.
        text: what stands between the fences, with its last line end.
        line: the line of the file on which the text begins, from 1.
        said: the comments above it, key to value.
        output: the text of the output block that follows; None where none does.
        output_line: the line on which that text begins.
    """

    language: str
    text: str
    line: int
    said: dict[str, str] = field(default_factory=dict)
    output: str | None = None
    output_line: int = 0

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a console block as words, without the prompt sign."""
        joined = self.text.replace("\\\n", " ")
        lines = [line.removeprefix("$ ") for line in joined.splitlines()]
        return [shlex.split(line, comments=True) for line in lines if line.strip() and not line.startswith("#")]


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks of a page, each with the output that follows it."""
    found: list[Block] = []
    for block in _fenced(text.splitlines(keepends=True)):
        if "output" in block.said and found:
            last = found.pop()
            shown = Block(last.language, last.text, last.line, last.said, block.text, block.line)
            found.append(shown)
        else:
            found.append(block)
    return found


def needs_of(blocks: list[Block]) -> set[str]:
    """The weights that a page needs."""
    return {name for block in blocks for name in block.said.get("needs", "").replace(",", " ").split()}


def is_long(blocks: list[Block]) -> bool:
    """Whether a page takes minutes."""
    return any(block.said.get("tier") == "all" for block in blocks)


def links_of(text: str) -> list[str]:
    """The targets of a page's links and pictures, those inside code left out."""
    prose, inside = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            prose.append(re.sub(r"`[^`]*`", "", line))
    return _LINK.findall("\n".join(prose))


def anchors_of(text: str) -> set[str]:
    """What a link to a part of the page may name: its headings, in small letters with dashes."""
    headings = re.findall(r"^#+\s+(.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def with_output(text: str, block: Block, printed: str) -> str:
    """The page with what the block prints now in place of what was written down."""
    lines = text.splitlines(keepends=True)
    assert block.output is not None
    start = block.output_line - 1
    return "".join([*lines[:start], printed, *lines[start + len(block.output.splitlines()) :]])


def difference(expected: str, printed: str) -> str:
    """How what was printed differs from what a page shows: a sentence with the first such line, or nothing."""
    wanted = [_plain(line) for line in expected.rstrip().splitlines()]
    given = [_plain(line) for line in printed.rstrip().splitlines()]
    place = 0
    for number, line in enumerate(wanted):
        if line == "…":
            rest = wanted[number + 1 :]
            if not rest:
                return ""
            after = next((i for i in range(place, len(given)) if _same(rest[0], given[i])), None)
            if after is None:
                return f"{rest[0]!r} is not printed after line {place}"
            place = after
        elif place >= len(given):
            return f"{line!r} is not printed"
        elif not _same(line, given[place]):
            return f"{line!r} is shown, {given[place]!r} is printed"
        else:
            place += 1
    return f"{given[place]!r} is printed too" if place < len(given) else ""


def _fenced(lines: list[str]) -> Iterator[Block]:
    said: dict[str, str] = {}
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if comment := _COMMENT.match(line.strip()):
            said[comment["key"]] = comment["value"] or ""
        elif line.startswith("```"):
            end = next(i for i in range(number, len(lines)) if lines[i].startswith("```"))
            yield Block(line[3:].strip(), "".join(lines[number:end]), number + 1, said)
            said, number = {}, end + 1
        elif line.strip():
            said = {}


def _plain(line: str) -> str:
    return re.sub(r"([·─])\1+", r"\1", re.sub(r"[▁-▐]+", "█", re.sub(r"\s+", " ", line))).strip()


def _same(shown: str, printed: str) -> bool:
    """One line against another: words exactly, numbers nearly."""
    parts, last, numbers = [], 0, []
    for match in _NUMBER.finditer(shown):
        parts += [_wild(shown[last : match.start()]), f"({_NUMBER.pattern})"]
        numbers.append(match[0])
        last = match.end()
    pattern = "".join([*parts, _wild(shown[last:])])
    found = re.fullmatch(pattern, printed)
    return found is not None and all(_near(ours, theirs) for ours, theirs in zip(numbers, found.groups(), strict=True))


def _wild(text: str) -> str:
    return ".*?".join(re.escape(part) for part in text.split("…"))


def _near(shown: str, printed: str) -> bool:
    a, b = (float(text.replace("−", "-")) for text in (shown, printed))
    decimals = len(shown.partition("e")[0].partition(".")[2])
    if not decimals and "e" not in shown:
        return a == b
    return abs(a - b) <= max(_CLOSE * abs(a), 2 * 10.0**-decimals)
