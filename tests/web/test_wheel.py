"""The wheel carries the workbench, is refused without it, and serves it where there is no Node."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
STATIC = Path("src", "cutaway", "web", "static")
PACKED = "cutaway/web/static/"
PROMPT, INSTEAD = "The capital of France is", "The capital of Italy is"

pytestmark = pytest.mark.all


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree with its built pages; they are built where they are not there."""
    copy = tmp_path_factory.mktemp("tree")
    with FileLock(tmp_path_factory.getbasetemp().parent / "pages.lock"):
        if not (ROOT / STATIC / "widget" / "widget.js").is_file():
            subprocess.run(["make", "web"], cwd=ROOT, check=True, timeout=600)
        shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("hatch_build.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    (copy / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "references.bib", copy / "docs")
    for path in (copy / STATIC / "assets").iterdir():  # of a build before, where a tree is built again and again
        if path.name not in linked(copy / STATIC):
            path.unlink()
    return copy


def linked(static: Path) -> set[str]:
    """The names of files in assets/ that the page leads to."""
    texts = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in (static / "assets").iterdir()}
    reached, waiting = set[str](), [(static / "index.html").read_text(encoding="utf-8")]
    while waiting:
        text = waiting.pop()
        new = {name for name in texts if name in text} - reached
        reached |= new
        waiting += [texts[name] for name in new]
    return reached


def build(tree: Path, to: Path) -> subprocess.CompletedProcess[str]:
    """Build the wheel where there is neither npm nor a network."""
    return subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(to)],
        cwd=tree,
        env={**os.environ, "PATH": str(to / "nothing")},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = build(tree, folder)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def packed(wheel: Path) -> dict[str, zipfile.ZipInfo]:
    """What is in the wheel, by name."""
    with zipfile.ZipFile(wheel) as opened:
        return {info.filename: info for info in opened.infolist()}


def test_the_wheel_has_the_pages_the_widget_the_migrations_and_the_fonts(
    tree: Path, wheel: Path, packed: dict[str, zipfile.ZipInfo]
) -> None:
    with zipfile.ZipFile(wheel) as opened:
        page = opened.read(f"{PACKED}index.html").decode()
    scripts = re.findall(r'(?:src|href)="/([^"]+)"', page)
    assert any(name.startswith("assets/") and name.endswith(".js") for name in scripts)
    assert {PACKED + name for name in scripts} <= set(packed)
    built = {path.relative_to(tree / "src").as_posix() for path in (tree / STATIC).rglob("*") if path.is_file()}
    assert built <= set(packed)
    assert {f"{PACKED}widget/widget.js", f"{PACKED}widget/widget.css"} <= set(packed)
    assert {f"cutaway/store/migrations/versions/{name}.py" for name in ("r0001_results", "r0002_jobs")} <= set(packed)
    assert {f"cutaway/drawing/fonts/DejaVuSans{kind}.ttf" for kind in ("", "-Bold", "Mono")} <= set(packed)
    assert "cutaway/references.bib" in packed
    strange = [name for name in packed if not name.startswith(("cutaway/", "cutaway-"))]
    assert not strange, "nothing but the package"


def test_the_pages_are_small(packed: dict[str, zipfile.ZipInfo]) -> None:
    pages = [info for name, info in packed.items() if name.startswith(PACKED)]
    assert 100_000 < sum(info.compress_size for info in pages) < 2_000_000


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (".", "index.html, widget/widget.js, widget/widget.css is not in"),
        ("index.html", "index.html is not in"),
        ("widget", "widget/widget.js, widget/widget.css is not in"),
        ("assets", r".*assets/index-[\w-]+\.js.* is not in"),
    ],
)
def test_a_wheel_without_the_workbench_is_refused(tree: Path, tmp_path: Path, lost: str, said: str) -> None:
    other = tmp_path / "tree"
    shutil.copytree(tree, other)
    target = other / STATIC / lost
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    done = build(other, tmp_path / "dist")
    assert done.returncode != 0
    assert not list(tmp_path.glob("dist/*.whl"))
    assert re.search(rf"The wheel would lack the workbench: {said} {STATIC.as_posix()}\.", done.stderr), done.stderr
    assert "Install them, then write: make web" in done.stderr


def test_a_checkout_is_installed_without_pages(tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "tree"
    shutil.copytree(tree, other)
    shutil.rmtree(other / STATIC)
    program = """
from pathlib import Path
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from hatch_build import WorkbenchHook
metadata = ProjectMetadata(".", PluginManager())
hook = WorkbenchHook(str(Path.cwd()), {}, None, metadata, "dist", "wheel")
hook.initialize("editable", {})
try:
    hook.initialize("standard", {})
except RuntimeError:
    print("only where it is packed")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=other,
        env={**os.environ, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "only where it is packed", done.stderr


# --- the wheel in an environment of its own ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a fresh environment with the wheel, which sees the dependencies that are here."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
    python = folder / "bin" / "python"
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)]
    subprocess.run([str(python), *words], check=True, timeout=300)
    inside = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    )
    # A path in a .pth file is not searched for further .pth files, so the checkout installed beside stays out of sight.
    Path(inside.stdout.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin"


@pytest.fixture(scope="module")
def alone(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which there are the fresh commands and nothing else."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    cache = tmp_path_factory.mktemp("cache")
    return {**kept, "PATH": str(installed), "OMP_NUM_THREADS": "1", "CUTAWAY_CACHE": str(cache)}


@pytest.fixture(scope="module")
def url(
    installed: Path, alone: dict[str, str], model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of the installed server."""
    place = tmp_path_factory.mktemp("elsewhere")
    options = ["--port", "0", "--no-browser", "--store", str(place / "store"), "--model", str(model_folder)]
    process = subprocess.Popen(
        [str(installed / "cutaway"), "serve", *options], cwd=place, env=alone, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+", line), f"it said {line!r}"
            yield line
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            process.wait(30)


def fetched(url: str, path: str, body: Any = None) -> tuple[int, str, bytes]:
    """Status, kind and content of an answer."""
    asked = urllib.request.Request(url + path)
    if body is not None:
        asked.data = json.dumps(body).encode()
        asked.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(asked, timeout=90) as answer:
        return answer.status, answer.headers.get_content_type(), answer.read()


def test_what_runs_is_what_the_wheel_brought(installed: Path, alone: dict[str, str], tmp_path: Path) -> None:
    assert shutil.which("node", path=alone["PATH"]) is None
    assert shutil.which("npm", path=alone["PATH"]) is None
    program = "import cutaway; from importlib.metadata import distribution as d; print(cutaway.__file__, d('cutaway').locate_file(''))"
    done = subprocess.run(
        [str(installed / "python"), "-c", program], cwd=tmp_path, env=alone, check=True, capture_output=True, text=True
    )
    assert [Path(place).is_relative_to(installed.parent) for place in done.stdout.split()] == [True, True]


def test_the_installed_server_sends_the_page_and_all_that_it_needs(url: str, tree: Path) -> None:
    status, kind, page = fetched(url, "/")
    assert (status, kind) == (200, "text/html")
    assert page == (tree / STATIC / "index.html").read_bytes()
    assert fetched(url, "/results/abc?view=1")[2] == page
    needed = re.findall(r'(?:src|href)="(/[^"]+)"', page.decode())
    assert len(needed) >= 3
    for path in [*needed, *(f"/assets/{name}" for name in linked(tree / STATIC))]:
        status, _, body = fetched(url, path)
        assert (status, body) == (200, (tree / STATIC / path[1:]).read_bytes())


def test_the_installed_server_explains_a_prompt(url: str, model_folder: Path, installed: Path) -> None:
    assert json.loads(fetched(url, "/api/health")[2])["name"] == "cutaway"
    assert "nostalgebraist2020" in json.loads(fetched(url, "/api/references")[2])
    asked = {"kind": "explain", "model": str(model_folder), "prompt": PROMPT, "instead": INSTEAD}
    status, _, body = fetched(url, "/api/jobs", asked)
    assert status == 202
    job = json.loads(body)
    end = time.monotonic() + 180
    while job["state"] in ("queued", "running") and time.monotonic() < end:
        time.sleep(0.2)
        job = json.loads(fetched(url, f"/api/jobs/{job['id']}")[2])
    assert job["state"] == "done", job["error"]
    assert job["report"]["prompt"] == PROMPT
    assert job["results"]
    for id in job["results"]:
        record = json.loads(fetched(url, f"/api/results/{id}")[2])
        assert record["views"]
        assert b"<svg" in fetched(url, f"/api/results/{id}/export?format=svg&view=0")[2]
