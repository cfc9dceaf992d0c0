"""How are the public sets of edits read? CounterFact and zsRE, in the JSON files that they are published as.

CounterFact [@meng2022]: a list of records with `requested_rewrite` (prompt with {}, subject, target_new, target_true),
`paraphrase_prompts`, `neighborhood_prompts` and `generation_prompts`. zsRE [@levy2017], as prepared for evaluation: records
with `subject`, `src`, `alt`, `answers`, `rephrase`, `loc` and `loc_ans`. Which of the two a file is, its first record says.
Every record is checked, and a wrong one is named by its number.
Limits: the texts that CounterFact compares generated text with are a file of their own, and are not read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cutaway.core.errors import TaskError
from cutaway.data.edit_requests import EditRequest, spaced

_COUNTERFACT: tuple[str, ...] = ("requested_rewrite", "paraphrase_prompts", "neighborhood_prompts")
_ZSRE: tuple[str, ...] = ("subject", "src", "alt", "answers", "rephrase", "loc", "loc_ans")


def read_edits(path: str | Path, limit: int | None = None) -> tuple[EditRequest, ...]:
    """The facts of a file in the format of CounterFact or zsRE.

    Args:
        path: a JSON file with a list of records.
        limit: how many records at most, from the first on.

    Raises:
        TaskError: no such file, no such format, or a record that does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise TaskError(f"there is no file {str(path)!r};", "facts are a JSON file as CounterFact or zsRE have them.")
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TaskError(f"{path.name} is not JSON ({error});", "CounterFact and zsRE are JSON lists.") from error
    if not isinstance(records, list) or not records or not isinstance(records[0], dict):
        raise TaskError(f"{path.name} is no list of records;", "CounterFact and zsRE are JSON lists of records.")
    if "requested_rewrite" in records[0]:
        read, needed = _counterfact, _COUNTERFACT
    elif "src" in records[0]:
        read, needed = _zsre, _ZSRE
    else:
        raise TaskError(
            f"the first record of {path.name} has {', '.join(sorted(records[0])[:6])};",
            "CounterFact has requested_rewrite, zsRE has src.",
        )
    found = []
    for number, record in enumerate(records[:limit]):
        missing = [key for key in needed if not isinstance(record, dict) or key not in record]
        if missing:
            raise TaskError(f"record {number} of {path.name} has no {missing[0]!r};", f"it needs {', '.join(needed)}.")
        try:
            found.append(read(record))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise TaskError(
                f"record {number} of {path.name} cannot be read ({error!r});", "its parts are texts."
            ) from error
    return tuple(found)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no text")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(_text(value) for value in values)


def _counterfact(record: Mapping[str, Any]) -> EditRequest:
    asked = record["requested_rewrite"]
    prompt, subject = _text(asked["prompt"]), _text(asked["subject"])
    if prompt.count("{}") != 1:
        raise ValueError(f"the prompt {prompt!r} has no single {{}} for the subject")
    before, after = prompt.split("{}")
    true = spaced("x", _text(asked["target_true"]["str"]))
    return EditRequest(
        before,
        subject,
        after,
        spaced("x", _text(asked["target_new"]["str"])),
        true,
        paraphrases=_texts(record["paraphrase_prompts"]),
        neighbours=tuple((prompt, true) for prompt in _texts(record["neighborhood_prompts"])),
        beginnings=_texts(record.get("generation_prompts", ())),
        relation=str(asked.get("relation_id", "")),
    )


def _zsre(record: Mapping[str, Any]) -> EditRequest:
    question, subject = _text(record["src"]), _text(record["subject"])
    if subject not in question:
        raise ValueError(f"the subject {subject!r} is not in the question {question!r}")
    before, after = question.split(subject, 1)
    answers = _texts(record["answers"])
    unrelated = _text(record["loc"]).removeprefix("nq question: ")
    return EditRequest(
        before,
        subject,
        after,
        spaced("x", _text(record["alt"])),
        spaced("x", answers[0]),
        paraphrases=(_text(record["rephrase"]),),
        neighbours=((f"{unrelated}?", spaced("x", _text(record["loc_ans"]))),),
    )
