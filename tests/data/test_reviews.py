"""What a table of reviews says, and the line of what is wrong in it."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.core.errors import TaskError
from cutaway.data.reviews import MADE, Review, parse_reviews, read_reviews, reviews, reviews_path

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)


@given(st.lists(st.tuples(st.booleans(), st.lists(_TEXT, min_size=1, max_size=4)), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_read(rows: list[tuple[bool, list[str]]]) -> None:
    written = [Review(" ".join(words), positive) for positive, words in rows]
    file = io.StringIO(newline="")
    table = csv.writer(file)
    table.writerow(["sentence", "more", "label"])
    table.writerows([each.text, "x", int(each.positive)] for each in written)
    file.seek(0)
    read = parse_reviews(file)
    assert list(read) == written
    assert [each.words for each in read] == [tuple(words) for _, words in rows]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["text,label", "a,1"], r"the table has no column 'sentence'; it has 'text', 'label'.*Write label,sentence"),
        ([], r"the table has no column 'label'; it has none"),
        (["label,sentence"], r"the table has no reviews"),
        (["label,sentence", "1,good", "2,bad"], r"line 3: the label is '2' and the sentence 'bad'; a label is 1"),
        (["label,sentence", "1,"], r"line 2: the label is '1' and the sentence ''.*sentence has words"),
        (["label,sentence", "1"], r"line 2: the label is '1' and the sentence ''"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(lines: list[str], said: str) -> None:
    with pytest.raises(TaskError, match=said):
        parse_reviews(lines)


def test_reviews_are_made_or_found_by_their_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dev_some.csv"
    rows = [f'{n % 2},"word, {n}{" more" * n}"' for n in range(9)]
    path.write_text("\n".join(["label,sentence", *rows]), encoding="utf-8")
    assert read_reviews(path)[1] == Review("word, 1 more", True)
    some = reviews(str(path), 4, seed=1)
    assert len(some) == 4 and some == reviews(str(tmp_path), 4, seed=1)
    assert some != reviews(str(path), 4, seed=2)
    assert {len(each.words) for each in reviews(str(path), None, shortest=3, longest=5)} == {3, 4, 5}
    monkeypatch.setenv("CUTAWAY_SST", str(tmp_path))
    assert reviews_path("sst") == path
    (tmp_path / "train_some.csv").write_text("label,sentence\n1,a\n")
    assert reviews_path("sst") == path
    path.rename(tmp_path / "other.csv")
    with pytest.raises(TaskError, match=r"has 2 \.csv files; one of them is meant.*other\.csv"):
        reviews_path("sst")
    monkeypatch.delenv("CUTAWAY_SST")
    with pytest.raises(TaskError, match=r"CUTAWAY_SST does not say where they are.*Fetch https.*'made'"):
        reviews("sst", 4)
    with pytest.raises(TaskError, match=r"there are no reviews 'nowhere'; .* Write 'made'"):
        reviews("nowhere", 4)
    with pytest.raises(TaskError, match=r"none of the 16 reviews of 'made' has 90 to 99 words; they have 6 to 11"):
        reviews("made", 4, shortest=90, longest=99)
    with pytest.raises(TaskError, match="cannot be read"):
        read_reviews(tmp_path)
    (tmp_path / "latin.csv").write_bytes(b"label,sentence\n1,caf\xe9\n")
    with pytest.raises(TaskError, match="it is not UTF-8"):
        read_reviews(tmp_path / "latin.csv")


def test_made_reviews_are_as_often_for_as_against() -> None:
    assert reviews("made", None) == MADE and len({each.text for each in MADE}) == len(MADE)
    assert sum(each.positive for each in MADE) * 2 == len(MADE)


@pytest.mark.all
@pytest.mark.skipif(not os.environ.get("CUTAWAY_SST"), reason="CUTAWAY_SST does not say where the reviews are")
def test_the_stanford_sentences_are_read() -> None:
    found = read_reviews(reviews_path("sst"))
    assert len(found) == 872 and sum(each.positive for each in found) == 444
