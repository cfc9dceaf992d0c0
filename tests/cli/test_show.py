from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
import xarray as xr
from typer.testing import CliRunner

from cutaway.cli.show import show
from cutaway.core import view as views
from cutaway.core.errors import ParameterError, StoreError
from cutaway.core.result import Result

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(show)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    pattern = np.zeros((2, 3, 2, 2))
    pattern[1, 2] = [[1.0, 0.0], [0.25, 0.75]]
    data = xr.Dataset(
        {"pattern": (("layer", "head", "query", "key"), pattern), "v": (("layer",), np.array([0.5, -0.5]))},
        coords={"token": ("query", np.array(["<s>", " hi\n"], dtype=object))},
    )
    kinds = (
        views.attention(value="pattern", token="token", at={"layer": 0, "head": 0}, title="Attention"),
        views.bars(value="v", label="layer", title="Values"),
    )
    return Result(data, {"n": 3}, kinds).save(tmp_path / "r.nc")


def run(*words: object) -> str:
    outcome = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "80"}, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


def test_a_saved_result_is_printed(file: Path) -> None:
    out = run(file)
    assert "Attention  (layer 0, head 0)" in out
    assert "Values" in out
    assert "·hi↵" in out
    assert "\x1b" not in out


def test_one_view_is_printed(file: Path) -> None:
    out = run(file, 1)
    assert "Values" in out
    assert "Attention" not in out


def test_a_picture_stands_elsewhere_when_asked(file: Path) -> None:
    out = run(file, 0, "--at", "layer=1", "--at", "head=2")
    assert "Attention  (layer 1, head 2)" in out
    assert "0.750" in out


def test_files_are_written(file: Path, tmp_path: Path) -> None:
    names = {option: tmp_path / f"picture.{option}" for option in ("html", "svg", "png", "csv", "json")}
    out = run(file, *(word for option, path in names.items() for word in (f"--{option}", path)))
    assert [line for line in out.splitlines() if line.startswith("wrote ")] == [
        f"wrote {path}" for path in names.values()
    ]
    assert names["html"].read_text().startswith("<!doctype html>")
    assert names["svg"].read_text().startswith("<svg ")
    assert names["png"].read_bytes().startswith(b"\x89PNG")
    assert names["csv"].read_text().startswith("variable,")
    assert json.loads(names["json"].read_text())["metrics"] == {"n": 3}
    assert "Attention" not in out


def test_one_view_is_written_whatever_the_file_is_called(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "picture.xml"
    run(file, 1, "--svg", target)
    assert "Values" in target.read_text()
    assert "Attention" not in target.read_text()


def test_mistakes_get_sentences(file: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"does not exist.*did you mean 'r\.nc'"):
        run(tmp_path / "rr.nc")
    with pytest.raises(ParameterError, match=r"there is no view 7; the result has 0: Attention \(attention\)"):
        run(file, 7, "--svg", tmp_path / "a.svg")
    with pytest.raises(ParameterError, match=r"no view of this result stands at a place in 'hed'.*head, layer"):
        run(file, "--at", "hed=1")
    with pytest.raises(ParameterError, match=r"'layer' is not a place.*Write --at layer=3"):
        run(file, "--at", "layer")
    with pytest.raises(ParameterError, match="has the indices 0 to 1"):
        run(file, "--at", "layer=9")
