"""What is known of the words of a sentence? Trees, mentions and senses, read from CoNLL-U files.

CoNLL-U is the format of Universal Dependencies [@nivre2020]: ten columns a word, an empty line after each sentence.
The text is put together from the words and `SpaceAfter=No`, so that every word knows its characters in it, which is
what a tokenizer's offsets are compared with. Words within a multiword token (`3-4`) get their share of its characters
where they spell it, and all of them where they do not. Empty nodes (`8.1`) are passed over. From the last column are
read `Sense=`, and `Entity=` as CorefUD writes it.
Limits: enhanced dependencies are not read; mentions of several parts are read by their first part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cutaway.core.errors import TaskError

COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
_ID = re.compile(r"(\d+)(?:([-.])(\d+))?")
_ENTITY = re.compile(r"\(([^()]+)\)?|([^()\s]+)\)")


@dataclass(frozen=True)
class Word:
    """One syntactic word.

    Attributes:
        form: as written.
        upos: part of speech of Universal Dependencies.
        head: place of its head in the sentence, from 0; -1 for the root.
        relation: to its head, with its subtype: `nsubj:pass`.
        span: its characters in the text.
        lemma: its dictionary form.
        sense: which meaning it has here, where that is known.
    """

    form: str
    upos: str
    head: int
    relation: str
    span: tuple[int, int]
    lemma: str = ""
    sense: str = ""


@dataclass(frozen=True)
class Mention:
    """Words that name something.

    Attributes:
        start: place of its first word.
        end: place after its last word.
        head: place of its main word.
        entity: what it names: mentions of one thing have one entity.
        kind: `pronoun`, `proper` or `nominal`.
    """

    start: int
    end: int
    head: int
    entity: str
    kind: str


@dataclass(frozen=True)
class Sentence:
    """A text and what is known of its words.

    Attributes:
        text: as it is given to a model.
        words: in order.
        id: its name in the treebank.
        mentions: what is named in it, in the order of their heads.
    """

    text: str
    words: tuple[Word, ...]
    id: str = ""
    mentions: tuple[Mention, ...] = ()

    @property
    def heads(self) -> tuple[int, ...]:
        """The head of each word; -1 for the root."""
        return tuple(word.head for word in self.words)

    @property
    def relations(self) -> tuple[str, ...]:
        """The relation of each word to its head."""
        return tuple(word.relation for word in self.words)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """The characters of each word."""
        return tuple(word.span for word in self.words)


def read_conllu(path: str | Path, limit: int | None = None) -> tuple[Sentence, ...]:
    """The sentences of a file.

    Args:
        path: a `.conllu` file in UTF-8.
        limit: the first so many sentences; all of them when None.

    Raises:
        TaskError: the file is absent, or a line of it is not CoNLL-U; with the number of the line.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig") as lines:
            return parse_conllu(lines, path.name, limit)
    except (OSError, UnicodeDecodeError) as error:
        reason = f"it is not UTF-8 ({error.reason})" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise TaskError(
            f"the treebank {str(path)!r} cannot be read: {reason};",
            "a treebank is a .conllu file.",
            "Treebanks of many languages are at https://universaldependencies.org.",
        ) from error


def parse_conllu(lines: str | Iterable[str], name: str = "the text", limit: int | None = None) -> tuple[Sentence, ...]:
    """The sentences of a text in CoNLL-U.

    Args:
        lines: the text, or its lines.
        name: how messages call it.
        limit: as in `read_conllu`.

    Raises:
        TaskError: a line that is not CoNLL-U, with its number.
    """
    found: list[Sentence] = []
    entity_parts: tuple[str, ...] = ()
    for block in _blocks(lines.splitlines() if isinstance(lines, str) else lines):
        if limit is not None and len(found) >= limit:
            break
        for _, line in block:
            if line.startswith("# global.Entity"):
                entity_parts = tuple(line.partition("=")[2].strip().split("-"))
        if any(not line.startswith("#") for _, line in block):
            found.append(_sentence(block, name, entity_parts))
    if not found:
        raise TaskError(f"{name} has no sentences;", "a sentence is lines of ten columns and an empty line after them.")
    return tuple(found)


@dataclass
class _Row:
    """A line of ten columns."""

    number: int
    first: int
    last: int
    kind: str  # "word", "multiword" or "empty"
    columns: Sequence[str]
    misc: Mapping[str, str] = field(default_factory=dict)

    @property
    def form(self) -> str:
        return self.columns[1]

    @property
    def spaced(self) -> bool:
        return self.misc.get("SpaceAfter") != "No"


def _blocks(lines: Iterable[str]) -> Iterator[list[tuple[int, str]]]:
    block: list[tuple[int, str]] = []
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\r\n")
        if text.strip():
            block.append((number, text))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _sentence(block: list[tuple[int, str]], name: str, entity_parts: tuple[str, ...]) -> Sentence:
    comments = dict(_comment(line) for _, line in block if line.startswith("#"))
    rows = [_row(number, line, name) for number, line in block if not line.startswith("#")]
    words = [row for row in rows if row.kind == "word"]
    for place, row in enumerate(words, start=1):
        if row.first != place:
            raise _wrong(name, row.number, f"the word {row.form!r} has the ID {row.first}", f"word {place} was due.")
    if not words:
        raise _wrong(name, block[0][0], "a sentence without words", "it has one at least.")
    text, spans = _text(rows, name)
    said = comments.get("text")
    if said is not None and " ".join(said.split()) != " ".join(text.split()):
        first = next((number for number, line in block if line.startswith("# text =")), block[0][0])
        expected = f"the words spell {_short(text)!r}."
        raise _wrong(name, first, f"the comment says text = {_short(said)!r}", expected)
    heads = [_head(row, len(words), name) for row in words]
    _require_tree(heads, words, name)
    made = tuple(_word(row, head, spans[row.first]) for row, head in zip(words, heads))
    return Sentence(text, made, comments.get("sent_id", ""), _mentions(words, made, entity_parts))


def _comment(line: str) -> tuple[str, str]:
    key, _, value = line[1:].partition("=")
    return key.strip(), value.strip()


def _row(number: int, line: str, name: str) -> _Row:
    columns = line.split("\t")
    if len(columns) != len(COLUMNS):
        hint = "Columns stand between tab characters." if len(columns) == 1 else ""
        raise _wrong(name, number, f"{len(columns)} columns", f"there are ten: {' '.join(COLUMNS)}.", hint)
    matched = _ID.fullmatch(columns[0])
    if matched is None:
        raise _wrong(
            name, number, f"the ID {columns[0]!r}", "it is a number, a range as 3-4, or 8.1 for an empty node."
        )
    if not columns[1]:
        raise _wrong(name, number, "a word without a FORM", "it is written as in the text.")
    first, mark, second = matched.groups()
    kind = {None: "word", "-": "multiword", ".": "empty"}[mark]
    last = int(second) if kind == "multiword" else int(first)
    if last < int(first):
        raise _wrong(name, number, f"the range {columns[0]}", "its first number is the smaller one.")
    misc = dict(part.partition("=")[::2] for part in columns[9].split("|")) if columns[9] != "_" else {}
    return _Row(number, int(first), last, kind, columns, misc)


def _text(rows: Sequence[_Row], name: str) -> tuple[str, dict[int, tuple[int, int]]]:
    """The text, and the characters of each word by its ID."""
    text, spans = "", dict[int, tuple[int, int]]()
    within = 0  # the last word of the multiword token that is being read
    held: list[_Row] = []
    for row in (row for row in rows if row.kind != "empty"):
        if row.kind == "word" and row.first <= within:
            held.append(row)
            if row.first == within:
                spans |= _shares(held, spans.pop(0))
            continue
        start = len(text)
        text += row.form
        if row.kind == "multiword":
            if row.first <= within:
                raise _wrong(name, row.number, f"the range {row.columns[0]} inside another", "ranges do not overlap.")
            within, held, spans[0] = row.last, [], (start, len(text))
        else:
            spans[row.first] = (start, len(text))
        text += " " if row.spaced else ""
    if 0 in spans:
        raise _wrong(name, rows[-1].number, f"a range that ends at {within}", "its words follow it.")
    return text.rstrip(" "), spans


def _shares(words: Sequence[_Row], span: tuple[int, int]) -> dict[int, tuple[int, int]]:
    """The characters of words within a multiword token."""
    if sum(len(word.form) for word in words) != span[1] - span[0]:
        return {word.first: span for word in words}
    shares, start = {}, span[0]
    for word in words:
        shares[word.first] = (start, start + len(word.form))
        start += len(word.form)
    return shares


def _head(row: _Row, size: int, name: str) -> int:
    text = row.columns[6]
    if not text.isdigit() or int(text) > size:
        raise _wrong(name, row.number, f"the HEAD {text!r} of {row.form!r}", f"it is 0 (the root) to {size}.")
    if int(text) == row.first:
        raise _wrong(name, row.number, f"{row.form!r} is its own head", "a head is another word, or 0 for the root.")
    return int(text) - 1


def _require_tree(heads: Sequence[int], words: Sequence[_Row], name: str) -> None:
    """Every word leads to the root."""
    leads = {-1}
    for place in range(len(heads)):
        path: list[int] = []
        here = place
        while here not in leads and here not in path:
            path.append(here)
            here = heads[here]
        if here not in leads:
            circle = " → ".join(repr(words[i].form) for i in path[path.index(here) :])
            raise _wrong(name, words[place].number, f"the heads go in a circle: {circle}", "they lead to the root.")
        leads |= set(path)


def _word(row: _Row, head: int, span: tuple[int, int]) -> Word:
    _, form, lemma, upos, _, _, _, relation, _, _ = row.columns
    return Word(form, upos, head, relation, span, lemma, row.misc.get("Sense", ""))


def _mentions(rows: Sequence[_Row], words: Sequence[Word], parts: tuple[str, ...]) -> tuple[Mention, ...]:
    """What `Entity=(e1-person-1-…)` opens and `e1)` closes."""
    where = {part: index for index, part in enumerate(parts)}
    opened: dict[str, list[tuple[int, int]]] = {}
    found: list[Mention] = []
    for place, row in enumerate(rows):
        for match in _ENTITY.finditer(row.misc.get("Entity", "")):
            start, end = match.groups()
            if start is not None:
                values = start.split("-")
                entity = values[where.get("eid", 0)]
                head = values[where["head"]] if where.get("head", len(values)) < len(values) else ""
                opened.setdefault(entity, []).append((place, int(head) if head.isdigit() else 0))
                if match.group().endswith(")"):
                    found.append(_mention(words, entity, *opened[entity].pop(), place + 1))
            elif opened.get(end):
                found.append(_mention(words, end, *opened[end].pop(), place + 1))
    return tuple(sorted(found, key=lambda mention: (mention.head, mention.start)))


def _mention(words: Sequence[Word], entity: str, start: int, head: int, end: int) -> Mention:
    inside = range(start, end)
    outside = [place for place in inside if words[place].head not in inside]
    main = start + head - 1 if 0 < head <= end - start else (outside or [start])[0]
    kind = {"PRON": "pronoun", "PROPN": "proper"}.get(words[main].upos, "nominal")
    return Mention(start, end, main, entity, kind)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"


def _wrong(name: str, number: int, what: str, expected: str, instead: str = "") -> TaskError:
    return TaskError(f"{name}, line {number}: {what};", expected, instead)
