"""What the kept files hold, places for stores, and a real PostgreSQL server for those tests that ask for one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import xarray as xr

from cutaway.core import view as views
from cutaway.core.result import Check, Result
from cutaway.store.index import Store

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def kept() -> ModuleType:
    """What the files in `data` hold, as the script that wrote them says."""
    spec = importlib.util.spec_from_file_location("make_data", HERE / "make_data.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def data() -> Path:
    return HERE / "data"


@pytest.fixture(scope="session")
def make_result() -> Callable[..., Result]:
    """A small result; another number gives another result."""

    def made(number: int = 0, *, method: str = "logit_lens", model: str = "tiny", command: str = "") -> Result:
        values = np.arange(6.0).reshape(2, 3) + number
        token = np.array(["<s>", " Mary\n", " gave"], dtype=object)
        dataset = xr.Dataset({"value": (("layer", "position"), values)}, {"token": ("position", token)})
        held = Check("It matters.", "It was removed.", 2.0, 0.1, (0.0, 0.3), 20, True)
        missed = Check("So does this.", "It was removed.", 0.2, 0.1, (0.0, 0.3), 20, False)
        provenance = {
            "method": method,
            "model": {"name": model},
            "task": {"name": "ioi"},
            "seconds": 0.5 + number,
            "command": command or f"cutaway run {method} --prompt 'When Mary and John {number}'",
        }
        pictures = (views.heatmap(value="value", x="token", y="layer", title=f"Effect {number}"),)
        return Result(dataset, {"gap": 1.5, "odd": float("nan")}, pictures, (held, missed), (), provenance)

    return made


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[Path], str]]:
    """A server of its own, on a socket in a private folder; the value makes a database and says its URL."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="cutaway-pg-", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    cluster, port = folder / "data", 50_000 + os.getpid() % 10_000
    _as_owner(programs / "initdb", "-D", cluster, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8")
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c port={port} -c fsync=off"
    log = folder / "log"
    _as_owner(programs / "pg_ctl", "-D", cluster, "-l", log, "-w", "-o", options, "start")

    def database(files: Path) -> str:
        name = f"t{uuid.uuid4().hex[:12]}"
        _as_owner(programs / "createdb", "-h", folder, "-p", port, "-U", "postgres", name)
        return f"postgresql+psycopg://postgres@/{name}?host={folder}&port={port}&files={files}"

    try:
        yield database
    finally:
        _as_owner(programs / "pg_ctl", "-D", cluster, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


def _programs() -> Path:
    """Where Debian's package puts them; it is installed where that may be done."""
    for attempt in range(2):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        if found:
            return found[-1].parent
        if attempt or os.geteuid() or not shutil.which("apt-get"):
            break
        subprocess.run(["apt-get", "install", "-y", "-q", "postgresql"], check=True, capture_output=True)
    pytest.skip("PostgreSQL is not installed: apt-get install postgresql")


def _as_owner(*words: object) -> None:
    """Run a program of PostgreSQL, which refuses to run as root."""
    command = [str(word) for word in words]
    if os.geteuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    with tempfile.TemporaryFile("w+") as out:  # a pipe would stay open for as long as the server runs
        done = subprocess.run(command, stdout=out, stderr=out, cwd="/")
        out.seek(0)
        assert done.returncode == 0, out.read()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.all)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a store that is empty: a folder, and in the long tests a PostgreSQL database too."""
    if request.param == "sqlite":
        return str(tmp_path / "store")
    pytest.importorskip("psycopg")
    database: Callable[[Path], str] = request.getfixturevalue("postgresql")
    return database(tmp_path / "store")


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with Store.open(place) as opened:
        yield opened
