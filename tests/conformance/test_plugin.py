"""A package from somebody else is installed, found, held to the laws, run, and turned off again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cutaway.core import registry
from cutaway.testing import METHOD_LAWS, STUDY_LAWS, check_method, check_study, tiny

PACKAGE = Path(__file__).parents[1] / "plugin_package"
NAME = "cutaway-margin/margin"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package. Nothing is fetched for it."""
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def on_path(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(site))
    yield
    for module in ("cutaway_margin", "cutaway_margin.margin", "cutaway_margin.lead"):
        sys.modules.pop(module, None)


def listed(site: Path, **environment: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "cutaway", "list", "methods", "--json"]
    env = {**os.environ, "PYTHONPATH": str(site), **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    return {entry["name"]: entry for entry in json.loads(done.stdout)}


def test_an_installed_method_is_listed(site: Path) -> None:
    found = listed(site)
    assert found[NAME]["asks"] == "By how much does the favourite lead?"
    assert found[NAME]["distribution"] == "cutaway-margin"
    assert found[NAME]["needs"] == ["unembedding"]


def test_strangers_can_be_turned_off(site: Path) -> None:
    assert NAME not in listed(site, CUTAWAY_PLUGINS="")
    assert NAME in listed(site, CUTAWAY_PLUGINS="cutaway-margin")


@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize("law", METHOD_LAWS)
def test_it_keeps_the_laws(law: str) -> None:
    check_method(NAME, laws=[law])


@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize("law", STUDY_LAWS)
def test_its_study_keeps_the_laws(law: str) -> None:
    check_study("cutaway-margin/lead", laws=[law])


@pytest.mark.usefixtures("on_path")
def test_its_study_is_in_the_gallery_and_recorded_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from cutaway.runtime.study_records import SHIPPED, place_to_write
    from cutaway.studies.report import standings

    monkeypatch.delenv("CUTAWAY_RECORDS", raising=False)
    names = [standing.study.name for standing in standings({}) if standing.study]
    assert "cutaway-margin/lead" in names
    assert "cutaway-margin/lead" not in [each.study.name for each in standings({}, strangers=False) if each.study]
    assert place_to_write("cutaway-margin/lead") != SHIPPED


@pytest.mark.usefixtures("on_path")
def test_it_is_called_like_a_built_in() -> None:
    import cutaway

    margin = registry.get("method", "margin")
    result = margin(tiny(), "When Mary and John went to the store", runner_up=3)
    assert result.metrics["mean_margin"] > 0
    assert cutaway.margin is margin
    vars(cutaway).pop("margin")


@pytest.mark.usefixtures("on_path")
def test_a_broken_neighbour_is_a_warning_in_the_list(site: Path) -> None:
    broken = site / "cutaway_margin" / "broken.py"
    broken.write_text("import cutaway\n@cutaway.method(asks='Who sees this?'\ndef broken(model, task): ...\n")
    try:
        command = [sys.executable, "-m", "cutaway", "list", "methods"]
        env = {**os.environ, "PYTHONPATH": str(site)}
        done = subprocess.run(command, capture_output=True, text=True, env=env)
    finally:
        broken.unlink()
    assert done.returncode == 0
    assert NAME in done.stdout
    assert done.stderr.startswith("Warning: broken.py of cutaway-margin cannot be read")
    assert "Traceback" not in done.stderr
