"""`cutaway store`: what is kept, whether it is whole, and how it gets to another machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cutaway.core.result import Result
from cutaway.store.index import Store

Cutaway = Callable[..., Any]


def result(number: int = 0) -> Result:
    data = xr.Dataset({"value": (("layer",), np.arange(3.0) + number)})
    provenance = {"method": "logit_lens", "model": {"name": "tiny"}, "task": {"name": "ioi"}}
    return Result(data, {"gap": float("nan")}, provenance=provenance)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CUTAWAY_STORE", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def item(folder: Path) -> str:
    with Store.open(folder) as store:
        item = store.add_result(result(), title="Where it is decided")
        store.update_result(item, tags=["paper"])
    return item


def test_an_empty_store_says_how_to_fill_it(cutaway: Cutaway, folder: Path) -> None:
    said = cutaway("store list")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("0 results, 0 artifacts")
    assert "store.add_result(result) keeps one" in said.out
    assert (folder / "index.sqlite").is_file()


def test_what_is_kept_is_listed(cutaway: Cutaway, item: str) -> None:
    out = " ".join(cutaway("store list").out.split())
    assert out.startswith("1 result, 0 artifacts")
    for word in (item[:12], "logit_lens ·", "tiny", "kB", "Where it is", "#paper"):
        assert word in out
    assert item[:12] in cutaway("store list DECIDED paper").out
    assert item[:12] not in cutaway("store list undecided").out


def test_the_list_is_json_for_programs(cutaway: Cutaway, item: str) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is no JSON")

    listed = json.loads(cutaway("store list --json").out, parse_constant=refuse)
    assert listed["results"]["total"] == 1
    (found,) = listed["results"]["items"]
    assert (found["id"], found["tags"], found["metrics"]) == (item, ["paper"], {"gap": "NaN"})
    assert listed["artifacts"] == {"total": 0, "items": []}


def test_a_sound_store_is_sound(cutaway: Cutaway, item: str) -> None:
    said = cutaway("store check")
    assert said.status == 0
    assert said.out.startswith("1 result, ")
    assert said.out.rstrip().endswith("sound")
    report = json.loads(cutaway("store check --json").out)
    assert (report["sound"], report["results"], report["faults"]) == (True, 1, [])


def test_damage_is_told_and_cleared(cutaway: Cutaway, item: str, folder: Path) -> None:
    with Store.open(folder) as store:
        path = store.path(item)
        gone = store.add_result(result(1))
        store.path(gone).unlink()
    path.write_bytes(b"damaged")
    said = cutaway("store check")
    assert said.status == 1
    out = " ".join(said.out.split())
    assert "not sound" in out
    assert f"damaged {item[:12]} It has 7 bytes" in out
    assert f"missing {gone[:12]} The index knows of it, but the file is gone." in out
    assert "cutaway store gc --damaged" in out
    report = json.loads(cutaway("store check --json").out)
    assert {(fault["kind"], fault["id"]) for fault in report["faults"]} == {("damaged", item), ("missing", gone)}
    assert cutaway("store gc").out == "Deleted 0 files (0 kB) and 1 entries of the index.\n"
    assert path.exists()
    assert json.loads(cutaway("store gc --damaged --json").out) == {"files": 1, "rows": 1, "bytes": 7}
    assert cutaway("store check").status == 0


def test_a_file_that_was_forgotten_is_taken_in(cutaway: Cutaway, item: str, folder: Path) -> None:
    with Store.open(folder) as store:
        path = store.path(item)
    hidden = path.read_bytes()
    cutaway("store check")
    path.unlink()
    cutaway("store gc")
    path.write_bytes(hidden)
    said = cutaway("store", "path", item)
    assert (said.status, said.err) == (0, "")
    assert said.out.strip() == str(path)  # opening the store took it in


def test_results_go_over_in_a_zip(cutaway: Cutaway, item: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "all.zip"
    assert cutaway("store", "export", target).out == f"Wrote 1 result to {target}.\n"
    other = ("--store", tmp_path / "other")
    assert cutaway("store", "import", target, *other).out == f"Took in 1 result from {target}.\n"
    assert cutaway("store", "import", target, *other).out == f"Took in nothing from {target}; 1 known already.\n"
    assert "#paper" in cutaway("store", "list", *other).out
    done = json.loads(cutaway("store", "export", tmp_path / "one.zip", item[:8], "--json").out)
    assert done == {"results": 1, "artifacts": 0, "jobs": 0, "known": 0, "path": str(tmp_path / "one.zip")}
    saved = result(2).save(tmp_path / "r.nc")
    assert cutaway("store", "import", saved).out == f"Took in 1 result from {saved}.\n"
    assert json.loads(cutaway("store list --json").out)["results"]["total"] == 2


def test_the_place_is_said(cutaway: Cutaway, item: str, folder: Path) -> None:
    assert cutaway("store path").out == f"{folder}\n"
    assert json.loads(cutaway("store path --json").out) == {"store": str(folder), "files": str(folder)}
    path = Path(cutaway("store", "path", item[:6]).out.strip())
    assert Result.load(path) == result()
    assert cutaway("show", path).status == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("store chek", "There is no action 'chek'; did you mean 'check'?"),
        ("store export", "No file is named; an export is one zip. Write cutaway store export results.zip"),
        ("store export results", "Write cutaway store export results.zip"),
        ("store export x.zip abcd", "The store has nothing with the id 'abcd'."),
        ("store import", "No file is named;"),
        ("store import nothing.zip", "nothing.zip does not exist."),
        ("store path abcd1234", "The store has no result 'abcd1234'. `cutaway store list` shows what it has."),
        ("store path ../../x", "'../../x' is not the id of a result;"),
        ("store check abcd", "Check was given 'abcd'; it takes no words"),
        ("store list --repair", "--repair is of no use to list; it belongs to check."),
        ("store check --damaged", "--damaged is of no use to check; it belongs to gc."),
        ("store list --store mysql://me:pw@host/db", "A store cannot be kept at a mysql:// address;"),
    ],
)
def test_mistakes_get_sentences(
    cutaway: Cutaway, words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cutaway(words)
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert not list(tmp_path.glob("*.zip"))


def test_the_help_names_every_action(cutaway: Cutaway) -> None:
    from cutaway.cli.store import ACTIONS

    out = cutaway("store --help").out
    assert all(action in out for action in ACTIONS)
    assert "Keep and share" in cutaway("--help").out
