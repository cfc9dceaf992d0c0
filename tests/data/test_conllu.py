"""What a CoNLL-U file says, and the line of what is wrong in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import TaskError
from cutaway.data.conllu import parse_conllu, read_conllu
from cutaway.data.treebank import treebank_path, treebank_sentences


def line(number: object, form: str, head: object = 0, relation: str = "root", misc: str = "_", upos: str = "X") -> str:
    return "\t".join([str(number), form, form.lower(), upos, "_", "_", str(head), relation, "_", misc])


FRENCH = "\n".join(
    [
        "# sent_id = one",
        "# text = Il va au don't parc.",
        line(1, "Il", 2, "nsubj"),
        line(2, "va", 0, "root"),
        line("3-4", "au"),
        line(3, "à", 7, "case"),
        line(4, "le", 7, "det"),
        line("5-6", "don't"),
        line(5, "do", 7, "aux"),
        line(6, "n't", 7, "advmod"),
        line(7, "parc", 2, "obl", "SpaceAfter=No"),
        line("7.1", "vide", "_", "_"),
        line(8, ".", 2, "punct"),
        "",
        "# a comment alone",
        "",
        line(1, "Oui", misc="Sense=oui.yes"),
    ]
)


def test_words_know_their_characters_and_empty_nodes_are_passed_over() -> None:
    first, second = parse_conllu(FRENCH)
    assert first.text == "Il va au don't parc."
    assert first.id == "one"
    assert [first.text[slice(*word.span)] for word in first.words] == ["Il", "va", "au", "au", "do", "n't", "parc", "."]
    assert first.heads == (1, -1, 6, 6, 6, 6, 1, 1)
    assert first.relations[:3] == ("nsubj", "root", "case")
    assert (second.text, second.words[0].sense) == ("Oui", "oui.yes")
    assert parse_conllu(FRENCH, limit=1) == (first,)


@given(st.lists(st.tuples(st.text("abcé", min_size=1, max_size=4), st.booleans()), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_text_and_spans_fit_together(words: list[tuple[str, bool]]) -> None:
    rows = [
        line(place, form, place - 1, "dep", "_" if spaced else "SpaceAfter=No")
        for place, (form, spaced) in enumerate(words, start=1)
    ]
    (sentence,) = parse_conllu("\n".join(rows))
    assert [sentence.text[slice(*word.span)] for word in sentence.words] == [form for form, _ in words]
    assert sentence.text == "".join(form + " " * spaced for form, spaced in words).rstrip(" ")


def test_mentions_are_read_as_corefud_writes_them() -> None:
    text = "\n".join(
        [
            "# global.Entity = eid-etype-head-other",
            line(1, "The", 2, "det", "Entity=(e1-person-2-"),
            line(2, "king", 3, "nsubj", "Entity=e1)", "NOUN"),
            line(3, "saw"),
            line(4, "his", 5, "nmod:poss", "Entity=(e2-thing-2-(e1-person-1-)", "PRON"),
            line(5, "lamp", 3, "obj", "Entity=e2)", "NOUN"),
        ]
    )
    (sentence,) = parse_conllu(text)
    found = [(m.start, m.end, m.head, m.entity, m.kind) for m in sentence.mentions]
    assert found == [(0, 2, 1, "e1", "nominal"), (3, 4, 3, "e1", "pronoun"), (3, 5, 4, "e2", "nominal")]


GOOD = [line(1, "a", 2), line(2, "b", 0)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["1 a b"], r"line 1: 1 columns; there are ten: ID FORM .* tab"),
        ([line("x", "a")], r"line 1: the ID 'x'; it is a number"),
        ([line(1, "a", 2), line(3, "b", 1)], r"line 2: the word 'b' has the ID 3; word 2 was due"),
        ([line(1, "a", 5)], r"line 1: the HEAD '5' of 'a'; it is 0 \(the root\) to 1"),
        ([line(1, "a", 1)], r"line 1: 'a' is its own head"),
        ([line(1, "a", 2), line(2, "b", 1)], r"line 1: the heads go in a circle: 'a' → 'b'"),
        (["# text = a c", *GOOD], r"line 1: the comment says text = 'a c'; the words spell 'a b'"),
        ([line("2-1", "a"), *GOOD], r"line 1: the range 2-1; its first number is the smaller one"),
        ([line("1-3", "ab"), *GOOD], r"line 3: a range that ends at 3; its words follow it"),
        ([line(1, "")], r"line 1: a word without a FORM"),
        (["# nothing"], r"the text has no sentences"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(rows: list[str], said: str) -> None:
    with pytest.raises(TaskError, match=said):
        parse_conllu("\n".join(rows))


def test_a_treebank_is_made_or_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "xx-ud-dev.conllu"
    path.write_text(
        "\n\n".join([FRENCH, *("\n".join([line(1, f"w{n}", 0), line(2, "x", 1), line(3, "y", 1)]) for n in range(9))])
    )
    assert len(read_conllu(path)) == 11
    some = treebank_sentences(str(path), 4, seed=1)
    assert len(some) == 4 and some == treebank_sentences(str(tmp_path), 4, seed=1)
    assert some != treebank_sentences(str(path), 4, seed=2)
    assert len(treebank_sentences(str(path), None)) == 10  # one word is too few
    monkeypatch.setenv("CUTAWAY_UD", str(tmp_path))
    assert treebank_path("ewt") == path
    monkeypatch.delenv("CUTAWAY_UD")
    with pytest.raises(TaskError, match=r"CUTAWAY_UD does not say where it is.*UD_English-EWT.*Fetch https"):
        treebank_sentences("ewt", 4)
    with pytest.raises(TaskError, match=r"there is no treebank 'nowhere'; .* Write treebank=made"):
        treebank_sentences("nowhere", 4)
    (tmp_path / "two.conllu").write_text(FRENCH)
    assert treebank_path(str(tmp_path)) == path
    path.rename(tmp_path / "one.conllu")
    with pytest.raises(TaskError, match=r"has 2 \.conllu files; one of them is meant"):
        treebank_path(str(tmp_path))
    with pytest.raises(TaskError, match="cannot be read"):
        read_conllu(tmp_path)


@pytest.mark.all
@pytest.mark.skipif(not os.environ.get("CUTAWAY_UD"), reason="CUTAWAY_UD does not say where English-EWT is")
def test_the_english_web_treebank_is_read() -> None:
    sentences = read_conllu(treebank_path("ewt"))
    assert len(sentences) == 2001
    assert sum(len(sentence.words) for sentence in sentences) > 25_000
    assert all(s.text[slice(*w.span)] == w.form for s in sentences for w in s.words)
