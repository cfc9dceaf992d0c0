"""The public API and the dependencies are what is written down: a change to either is made on purpose."""

from __future__ import annotations

import ast
import tomllib
from importlib import metadata
from pathlib import Path

import cutaway
from cutaway.core import registry

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
API, DEPENDENCIES = HERE / "api.txt", HERE / "dependencies.txt"


def written(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def project() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_public_names_are_those_written_down() -> None:
    assert sorted(cutaway.__all__) == written(API), f"if it is meant, write the new list to {API.name}"


def test_every_public_name_can_be_had() -> None:
    missing = [name for name in cutaway.__all__ if getattr(cutaway, name, None) is None]
    assert not missing


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(cutaway.__file__).read_bytes())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen: set[str] = set()
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            seen |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            seen |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    assert seen - {"Namespace"} == set(cutaway.__all__)


def test_the_api_fits_on_one_screen() -> None:
    assert len(Path(cutaway.__file__).read_text(encoding="utf-8").splitlines()) <= 110


def test_methods_are_reached_by_their_names() -> None:
    assert set(cutaway.__all__) <= set(dir(cutaway))
    assert {entry.name for entry in registry.entries("method") if "/" not in entry.name} <= set(dir(cutaway))


def test_an_unknown_name_gets_the_nearest() -> None:
    try:
        cutaway.logit_lenz
    except AttributeError as error:
        assert "module 'cutaway' has no attribute 'logit_lenz'" in str(error)
        assert "did you mean 'logit_lens'?" in str(error)
    else:
        raise AssertionError("cutaway.logit_lenz exists")


def test_the_version_is_said_once() -> None:
    assert cutaway.__version__ == metadata.version("cutaway") == project()["version"]


def test_the_dependencies_are_those_written_down() -> None:
    declared = project()
    lines = sorted(declared["dependencies"])
    for extra, needs in sorted(declared.get("optional-dependencies", {}).items()):
        lines += [f"{extra}: {need}" for need in sorted(needs)]
    assert lines == written(DEPENDENCIES), f"if it is meant, write the new list to {DEPENDENCIES.name}"


def test_every_dependency_has_its_reason_beside_it() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.partition("dependencies = [")[2].partition("\n]")[0]
    bare = [line.strip() for line in block.splitlines() if line.strip().startswith('"') and "# " not in line]
    assert not bare
