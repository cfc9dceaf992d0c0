"""Prompts of one's own, from a file: CSV, TSV or JSON lines.

    prompt,contrast,answer,wrong
    "The capital of France is","The capital of Italy is"," Paris"," Rome"

Columns: `prompt` (needed), `contrast`, `answer`, `wrong`, `template` (a label, for means by group),
`positions` and `contrast_positions`. A column is filled in every row or in none. Several answers are a list:
in JSON lines a JSON list, in CSV a cell that holds one (`[" 45", " 46"]`). Positions are a JSON object from a
name to `[start, end]` characters, or to the word itself where it occurs once: `{"subject": "France"}`. Other
columns are left alone.
Limits: UTF-8 only, and the whole file is read at once.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cutaway.core.errors import TaskError, nearest

COLUMNS = ("prompt", "contrast", "answer", "wrong", "template", "positions", "contrast_positions")
_TEXT_COLUMNS = ("prompt", "contrast", "template")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
_EXAMPLE = '{"prompt": "The capital of France is", "answer": " Paris", "wrong": " Rome"}'


@dataclass(frozen=True)
class Row:
    """One prompt of a file, with the line that it stands on."""

    line: int
    prompt: str
    contrast: str = ""
    answer: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    template: str = ""
    positions: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    contrast_positions: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def read_rows(path: Path) -> list[Row]:
    """The prompts of a file.

    Raises:
        TaskError: a file that is absent, empty, not text, or a line of it that does not fit, with its number.
    """
    text = _text_of(path)
    if path.suffix in _JSON_LINES:
        records = list(_json_records(path, text))
    else:
        records = list(_csv_records(path, text, _DELIMITERS[path.suffix]))
    if not records:
        raise TaskError(
            f"{path.name} has no prompts.", "One prompt a line is needed.", f"Write lines such as {_EXAMPLE}"
        )
    rows = [_row(path, line, record) for line, record in records]
    _require_even(path, rows)
    return rows


def span_of(text: str, word: str) -> tuple[int, int]:
    """The character span of `word` in `text`, where it occurs exactly once.

    >>> span_of("The capital of France is", "France")
    (15, 21)
    """
    count = text.count(word) if word else 0
    if count == 1:
        start = text.index(word)
        return start, start + len(word)
    raise TaskError(
        f"{word!r} occurs {count} times in {text!r};",
        "a word names a position only where it occurs once.",
        "Write the position as [start, end] in characters.",
    )


def _text_of(path: Path) -> str:
    known = (*_DELIMITERS, *_JSON_LINES)
    if path.suffix not in known:
        raise TaskError(
            f"{path.name} is of a kind that is not known ({path.suffix or 'no suffix'}).",
            f"Prompts are read from {' '.join(known)}.",
            "Save them as CSV with a column `prompt`, or as JSON lines.",
        )
    try:
        return path.read_bytes().decode("utf-8-sig")  # as it is: line ends inside a prompt are part of it
    except FileNotFoundError:
        beside = [p.name for p in path.parent.glob("*") if p.suffix in known] if path.parent.is_dir() else []
        raise TaskError(f"there is no file {str(path)!r};", nearest(path.name, beside)) from None
    except UnicodeDecodeError as error:
        raise TaskError(
            f"{path.name} is not UTF-8 text (byte {error.start} cannot be read).",
            "Prompts are read as UTF-8.",
            "Save the file with the encoding UTF-8.",
        ) from None
    except OSError as error:
        raise TaskError(f"{path.name} cannot be read: {error.strerror or error}.") from None


def _csv_records(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start = 1
    header: list[str] | None = None
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not any(cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                _require_columns(path, line, header)
                continue
            if len(cells) != len(header):
                raise _at(
                    path,
                    line,
                    f"has {len(cells)} cells",
                    f"The header has {len(header)}: {', '.join(header)}.",
                    "Put a text that holds commas or line ends in double quotes.",
                )
            yield line, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise _at(path, reader.line_num, f"is not CSV ({error})", "", "Check its quotes.") from None


def _json_records(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not `splitlines`: it also breaks at characters that JSON allows inside a string.
    for line, written in enumerate(text.split("\n"), start=1):
        if not written.strip():
            continue
        try:
            record = json.loads(written)
        except json.JSONDecodeError as error:
            problem = f"is not JSON ({error.msg}, column {error.colno})"
            raise _at(path, line, problem, "Every line is a JSON object.", f"Write {_EXAMPLE}") from None
        if not isinstance(record, dict):
            problem = f"is a JSON {type(record).__name__}"
            raise _at(path, line, problem, "Every line is a JSON object.", f"Write {_EXAMPLE}")
        _require_columns(path, line, list(record))
        yield line, record


def _require_columns(path: Path, line: int, names: Sequence[str]) -> None:
    for name in names:
        guess = nearest(name, set(COLUMNS) - set(names))
        if name not in COLUMNS and guess.startswith("did"):
            raise _at(path, line, f"has a column {name!r}", guess, f"Columns: {', '.join(COLUMNS)}.")
        if name in COLUMNS and list(names).count(name) > 1:
            raise _at(path, line, f"has the column {name!r} twice", "Each column comes once.")
    if "prompt" not in names:
        found = f"has no column 'prompt' (found: {', '.join(names)})"
        raise _at(path, line, found, "The column `prompt` is needed.", f"Columns: {', '.join(COLUMNS)}.")


def _row(path: Path, line: int, record: Mapping[str, Any]) -> Row:
    prompt, contrast, template = (_string(path, line, record, name) for name in _TEXT_COLUMNS)
    if not prompt:
        raise _at(path, line, "has an empty prompt", "A prompt is a text.", "Write one, or take the line out.")
    answer, wrong = (_answers(path, line, record, name) for name in ("answer", "wrong"))
    positions = _positions(path, line, record, "positions", prompt)
    contrast_positions = _positions(path, line, record, "contrast_positions", contrast)
    return Row(line, prompt, contrast, answer, wrong, template, positions, contrast_positions)


def _string(path: Path, line: int, record: Mapping[str, Any], column: str) -> str:
    value = record.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        shown = json.dumps(value, ensure_ascii=False)
        raise _at(path, line, f"has {column} = {shown}", "It is a text.", f'Write "{column}": "…".')
    return value


def _answers(path: Path, line: int, record: Mapping[str, Any], column: str) -> tuple[str, ...]:
    value = record.get(column)
    if isinstance(value, str) and value.startswith("["):
        value = _list_or_text(value)
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value and all(isinstance(item, str) and item for item in value):
        return tuple(value)
    shown = json.dumps(value, ensure_ascii=False)
    raise _at(
        path,
        line,
        f"has {column} = {shown}",
        "It is a text or a list of texts.",
        f'Write "{column}": " Paris" or "{column}": [" Paris", " Lyon"].',
    )


def _list_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _positions(path: Path, line: int, record: Mapping[str, Any], column: str, text: str) -> dict[str, tuple[int, int]]:
    value = record.get(column)
    if isinstance(value, str) and value:
        value = _list_or_text(value)
    if not value:
        return {}
    try:
        if isinstance(value, dict):
            return {str(name): _span(text, place) for name, place in value.items()}
    except TaskError as error:
        raise _at(path, line, f"has {column} that do not fit ({error.what.rstrip(';')})", error.expected) from None
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    raise _at(
        path,
        line,
        f"has {column} = {shown}",
        "They are a JSON object from names to [start, end] or to a word.",
        'Write {"subject": [15, 21]} or {"subject": "France"}.',
    )


def _span(text: str, place: Any) -> tuple[int, int]:
    if isinstance(place, str):
        return span_of(text, place)
    match place:
        case [int(start), int(end)] if 0 <= start < end <= len(text):
            return start, end
    raise TaskError(f"{json.dumps(place)};", f"[start, end] with 0 <= start < end <= {len(text)}.")


def _require_even(path: Path, rows: Sequence[Row]) -> None:
    """A column is filled in every row or in none; positions have the same names in every row."""
    for column in ("contrast", "answer", "wrong"):
        full = [row for row in rows if getattr(row, column)]
        if 0 < len(full) < len(rows):
            bare = next(row for row in rows if not getattr(row, column))
            expected = f"Line {full[0].line} has one; a column is filled in every row or in none."
            raise _at(path, bare.line, f"has no {column}", expected, "Fill it in, or take the line out.")
    for column in ("positions", "contrast_positions"):
        names = set(getattr(rows[0], column))
        for row in rows:
            if set(getattr(row, column)) != names:
                found = ", ".join(sorted(getattr(row, column))) or "none"
                expected = f"Line {rows[0].line} names {', '.join(sorted(names)) or 'none'}."
                raise _at(path, row.line, f"names the {column} {found}", expected, "Name the same in every row.")


def _at(path: Path, line: int, problem: str, expected: str = "", instead: str = "") -> TaskError:
    return TaskError(f"{path.name}, line {line}, {problem}.", expected, instead)
