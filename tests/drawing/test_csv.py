from __future__ import annotations

import csv as tables
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cutaway.core import view as views
from cutaway.core.errors import StoreError
from cutaway.core.result import Result
from cutaway.drawing import csv


def rows(result: Result, view: int | None = None) -> list[dict[str, str]]:
    return list(tables.DictReader(io.StringIO(csv.csv(result, view))))


@pytest.fixture
def odd() -> Result:
    words = np.array(["a,b", 'say "hi"\n', " x"], dtype=object)
    data = xr.Dataset(
        {
            "v": (("layer", "position"), np.array([[0.1, 1 / 3, np.nan], [1e-300, -2.0, np.inf]])),
            "n": ((), 7),
        },
        coords={"token": ("position", words), "layer": [4, 8]},
    )
    return Result(data, views=(views.heatmap(value="v", x="token", y="layer"), views.text(value="token")))


def test_every_number_is_a_row_with_its_place(odd: Result) -> None:
    table = rows(odd)
    assert list(table[0]) == ["variable", "layer", "position", "token", "value"]
    assert len(table) == 7
    assert table[1] == {
        "variable": "v",
        "layer": "4",
        "position": "1",
        "token": 'say "hi"\n',
        "value": repr(1 / 3),
    }
    assert table[6] == {"variable": "n", "layer": "", "position": "", "token": "", "value": "7"}


def test_numbers_come_back_exactly(odd: Result) -> None:
    back = np.array([float(row["value"]) for row in rows(odd) if row["variable"] == "v"]).reshape(2, 3)
    assert np.array_equal(back, odd.data["v"].values, equal_nan=True)


def test_a_view_gives_only_its_numbers(odd: Result, result: Result) -> None:
    assert {row["variable"] for row in rows(odd, 0)} == {"v"}
    assert [row["value"] for row in rows(odd, 1)] == ["a,b", 'say "hi"\n', " x"]
    attention = rows(result, 3)
    assert len(attention) == 15 * 15
    assert {row["variable"] for row in attention} == {"pattern"}


def test_other_programs_read_the_file(odd: Result, tmp_path: Path) -> None:
    frame = pd.read_csv(odd.save(tmp_path / "r.csv"))
    assert frame["token"].dropna().unique().tolist() == ["a,b", 'say "hi"\n', " x"]
    assert np.allclose(frame["value"][:2], [0.1, 1 / 3])


def test_half_a_character_does_not_stop_the_file(tmp_path: Path) -> None:
    result = Result(xr.Dataset({"w": ("x", np.array(["\ud83d", "b"], dtype=object))}))
    assert "\\ud83d" in result.save(tmp_path / "r.csv").read_text(encoding="utf-8")


def test_too_many_rows_are_refused_in_words() -> None:
    result = Result(xr.Dataset({"v": (("x", "y"), np.zeros((2001, 1000), dtype=np.int8))}))
    with pytest.raises(StoreError, match=r"would have 2,001,000 rows.*2,000,000 rows at most.*\.nc"):
        csv.csv(result)
