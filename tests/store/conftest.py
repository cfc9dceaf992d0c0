from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def kept() -> ModuleType:
    """What the files in `data` hold, as the script that wrote them says."""
    spec = importlib.util.spec_from_file_location("make_data", Path(__file__).parent / "make_data.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def data() -> Path:
    return Path(__file__).parent / "data"
