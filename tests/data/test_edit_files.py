"""Facts to be written: the public formats, and the project's fact set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cutaway.core.errors import TaskError
from cutaway.data.edit_files import read_edits
from cutaway.data.edit_requests import EditRequest, spaced
from cutaway.data.fact_edits import completed, fact_edits
from cutaway.data.tasks.counterfacts import counterfacts
from cutaway.data.tasks.facts import RELATIONS

COUNTERFACT: dict[str, Any] = {
    "case_id": 0,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Danielle Darrieux",
    },
    "paraphrase_prompts": ["Shayna does this and Yossel goes still and dies. Danielle Darrieux, a native"],
    "neighborhood_prompts": ["The mother tongue of Léon Blum is", "Montesquieu, a native"],
    "attribute_prompts": ["The mother tongue of Douglas Adams is"],
    "generation_prompts": ["Danielle Darrieux's mother tongue is"],
}
ZSRE: dict[str, Any] = {
    "subject": "Watts Humphrey",
    "src": "What university did Watts Humphrey attend?",
    "pred": "Trinity College",
    "rephrase": "What university did Watts Humphrey take part in?",
    "alt": "University of Michigan",
    "answers": ["Illinois Institute of Technology"],
    "loc": "nq question: who played desmond doss father in hacksaw ridge",
    "loc_ans": "Hugo Weaving",
    "cond": "Trinity College >> University of Michigan || What university did Watts Humphrey attend?",
}


def written(folder: Path, records: Any) -> Path:
    file = folder / "edits.json"
    file.write_text(records if isinstance(records, str) else json.dumps(records), encoding="utf-8")
    return file


def test_counterfact_is_read(tmp_path: Path) -> None:
    (fact,) = read_edits(written(tmp_path, [COUNTERFACT]))
    assert fact.prompt == "The mother tongue of Danielle Darrieux is"
    assert fact.prompt[slice(*fact.span)] == "Danielle Darrieux"
    assert (fact.target, fact.true, fact.relation) == (" English", " French", "P103")
    assert fact.neighbours[0] == ("The mother tongue of Léon Blum is", " French")
    assert fact.beginnings == ("Danielle Darrieux's mother tongue is",)


def test_zsre_is_read(tmp_path: Path) -> None:
    (fact,) = read_edits(written(tmp_path, [ZSRE, ZSRE]), limit=1)
    assert fact.prompt == ZSRE["src"]
    assert fact.subject == "Watts Humphrey"
    assert (fact.target, fact.true) == (" University of Michigan", " Illinois Institute of Technology")
    assert fact.neighbours == (("who played desmond doss father in hacksaw ridge?", " Hugo Weaving"),)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ("{nonsense", "edits.json is not JSON"),
        ({}, "is no list of records"),
        ([{"text": "x"}], "the first record of edits.json has text; CounterFact has requested_rewrite"),
        (
            [COUNTERFACT, {**COUNTERFACT, "paraphrase_prompts": [3]}],
            "record 1 of edits.json cannot be read.*3 is no text",
        ),
        ([{"requested_rewrite": {}}], "record 0 of edits.json has no 'paraphrase_prompts'"),
        (
            [{**COUNTERFACT, "requested_rewrite": {**COUNTERFACT["requested_rewrite"], "prompt": "no blank"}}],
            "no single {} for the subject",
        ),
        ([{**ZSRE, "subject": "Nobody"}], "the subject 'Nobody' is not in the question"),
        ([ZSRE, {"src": "x"}], "record 1 of edits.json has no 'subject'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, records: Any, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        read_edits(written(tmp_path, records))


def test_an_absent_file_is_said() -> None:
    with pytest.raises(TaskError, match="there is no file 'absent.json'"):
        read_edits("absent.json")


def test_answers_are_parted_from_their_prompt_by_one_space() -> None:
    assert spaced("is", "Rome") == " Rome"
    assert spaced("is", " Rome") == spaced("is ", " Rome") == " Rome"
    assert spaced("is ", "Rome") == "Rome"


@pytest.mark.parametrize("relation", RELATIONS)
def test_facts_of_the_set_are_false_and_have_their_questions(relation: str) -> None:
    for fact in fact_edits(6, 1, relation):
        known = RELATIONS[relation].answers
        assert fact.target.strip() not in known[fact.subject]
        assert fact.true.strip() in known[fact.subject]
        assert all(fact.subject in text for text in fact.paraphrases)
        assert fact.prompt not in fact.paraphrases
        assert len(fact.neighbours) == 5
        for prompt, answer in fact.neighbours:
            subject = next(one for one in known if prompt == RELATIONS[relation].templates[0].format(subject=one))
            assert answer.strip() in known[subject]
            assert fact.target.strip() not in known[subject]
        assert fact.references
        assert all(fact.target in text for text in fact.references)


def test_neighbours_share_the_true_answer_where_there_are_such() -> None:
    fact = completed(EditRequest("The currency of ", "France", " is the", " yen", " euro"), 0)
    assert {answer for _, answer in fact.neighbours} == {" euro"}
    assert fact.relation == "currency"


def test_a_prompt_from_elsewhere_gets_a_sentence_before_it_and_facts_beside_it() -> None:
    fact = completed(EditRequest("My friend ", "Anna", " lives in", " Rome"), 0)
    (text,) = fact.paraphrases
    assert text.endswith(". My friend Anna lives in")
    assert len(fact.neighbours) == 5
    assert fact.references == ()
    assert completed(fact, 3) == fact, "what is there stays"


def test_the_task_asks_for_the_new_answer() -> None:
    task = counterfacts(n=8, relation="capital")
    for i, prompt in enumerate(task.prompts):
        subject = prompt[slice(*task.positions["subject"][i])]
        assert task.wrong[i][0].strip() in RELATIONS["capital"].answers[subject]
        other = task.contrasts[i][slice(*task.contrast_positions["subject"][i])]
        assert task.answers[i][0].strip() in RELATIONS["capital"].answers[other]
