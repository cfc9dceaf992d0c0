"""Every architecture keeps every law for what it serves, and `docs/architectures.md` says what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cutaway.testing import matrix
from cutaway.testing.architectures import Family

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"
# One of each make: fused and plain projections, parallel layers, post-norms, multipliers, sinks, experts, latent
# attention, linear attention, no attention at all, attention outside of the registry, two stacks, both directions.
FEW: list[tuple[str, Family]] = [
    ("llama", "causal"),
    ("gpt2", "causal"),
    ("gpt_neox", "causal"),
    ("gemma2", "causal"),
    ("olmo2", "causal"),
    ("granite", "causal"),
    ("gpt_oss", "causal"),
    ("mixtral", "causal"),
    ("deepseek_v3", "causal"),
    ("bloom", "causal"),
    ("falcon", "causal"),
    ("mamba", "causal"),
    ("hrm_text", "causal"),
    ("bert", "encoder"),
    ("t5", "encoder_decoder"),
]
EVERY = [entry for entry in matrix.types() if entry not in FEW]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def written(model_type: str, family: Family) -> str:
    section = PAGE.read_text(encoding="utf-8").split(f"## {matrix.TITLES[family]}\n")[1].split("\n## ")[0]
    return next((line for line in section.splitlines() if line.startswith(f"| {model_type} |")), "missing")


@pytest.mark.parametrize(("model_type", "family"), FEW)
def test_the_laws_hold_and_the_page_says_what_is_measured(model_type: str, family: Family) -> None:
    line = matrix.line(model_type, family)
    assert "✓" in line
    assert "✗" not in line
    assert line == written(model_type, family)


@pytest.mark.all
@pytest.mark.parametrize(("model_type", "family"), EVERY)
def test_the_page_says_what_is_measured_on_every_type(model_type: str, family: Family) -> None:
    assert matrix.line(model_type, family) == written(model_type, family)


def test_the_page_lists_every_type_once() -> None:
    for model_type, family in matrix.types():
        assert written(model_type, family) != "missing", model_type
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(rows) == len(matrix.types()) + len(matrix.TITLES)


def test_most_causal_types_keep_every_law_for_what_they_serve() -> None:
    lines = [written(name, family) for name, family in matrix.types() if family == "causal"]
    assert sum("✗" not in line for line in lines) >= 175


def test_a_law_that_fails_is_shown_in_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from cutaway.models import laws

    def broken(bench: laws.Bench) -> laws.Finding:
        return laws.Finding("idle", 1.0, 0.0, 1, broken="it differs")

    monkeypatch.setattr("cutaway.models.check.LAWS", (broken,))
    assert "| gpt2 | ✗ idle | ✗ idle |" in matrix.line("gpt2", "causal")
