"""A result in a real JupyterLab: the widget that can be pointed at, and the picture that is left without the package."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[3]
LAB = ROOT / ".venv-jupyter"
NEEDED = ("jupyterlab>=4.3", "ipykernel>=6.29", "ipywidgets>=8.1", "anywidget>=0.9")
FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TOKEN = "for-the-tests"
WIDGET = "application/vnd.jupyter.widget-view+json"
PROMPT = "The capital of France is"
LENS = """import cutaway as ca
model = ca.open({folder!r})
task = ca.Task.from_prompts([{prompt!r}], answers=[" Paris"], wrong=[" Rome"])
ca.logit_lens(model, task, top=3, controls=5)"""
LARGE = """import numpy as np, xarray as xr
from cutaway import Result
from cutaway.core import view
layer, query, key = np.meshgrid(np.arange(12.0), np.arange(100.0), np.arange(100.0), indexing="ij")
data = xr.Dataset({"score": (("layer", "query", "key"), (layer * 100 + query + key / 100).astype("float32"))})
Result(data, {"layers": 12}, (view.heatmap(value="score", x="key", y="query", at={"layer": 0}, title="A large one"),))"""

pytestmark = pytest.mark.all


@pytest.fixture(scope="module")
def lab_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of JupyterLab's own environment, made once; it sees cutaway and its dependencies through a .pth."""
    python = LAB / "bin" / "python"
    with FileLock(tmp_path_factory.getbasetemp().parent / "jupyter.lock"):
        ready = LAB / ".ready"
        if not ready.is_file() or ready.read_text(encoding="utf-8") != "\n".join(NEEDED):
            subprocess.run([sys.executable, "-m", "venv", str(LAB)], check=True, timeout=300)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *NEEDED], check=True, timeout=900)
            ready.write_text("\n".join(NEEDED), encoding="utf-8")
        inside = LAB / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
        seen = f"{ROOT / 'src'}\n{sysconfig.get_path('purelib')}\n"
        (inside / "cutaway.pth").write_text(seen, encoding="utf-8")
    return python


@pytest.fixture(scope="module")
def widget_is_built(tmp_path_factory: pytest.TempPathFactory) -> None:
    with FileLock(tmp_path_factory.getbasetemp().parent / "pages.lock"):
        if not (ROOT / "src/cutaway/web/static/widget/widget.js").is_file():
            subprocess.run(["make", "web"], cwd=ROOT, check=True, timeout=600)


@dataclass
class Lab:
    """A running JupyterLab."""

    url: str
    folder: Path

    def page(self, browser: Any, name: str) -> Page:
        """A notebook opened in a fresh browser context."""
        opened = Page(browser.new_context(viewport={"width": 1280, "height": 1400}).new_page(), self)
        opened.tab.goto(f"{self.url}/doc/tree/{name}?token={TOKEN}")
        opened.tab.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=120_000)
        opened.tab.locator(".jp-Notebook .jp-Cell").first.wait_for()
        return opened


@dataclass
class Page:
    """A notebook in the browser, with what it asked for and complained of."""

    tab: Any
    lab: Lab
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tab.on("request", lambda request: self.asked(urlsplit(request.url)))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))

    def asked(self, url: SplitResult) -> None:
        if url.scheme not in ("blob", "data"):  # what the page has already
            self.hosts.add(url.netloc)

    def menu(self, name: str, item: str) -> None:
        """Choose from the menu bar."""
        self.tab.get_by_role("menuitem", name=name, exact=True).first.click(timeout=5000)
        self.tab.get_by_role("menuitem", name=re.compile(f"^{item}\\b")).first.click(timeout=5000)

    def output(self, cell: int) -> Any:
        """What stands under a cell."""
        return self.tab.locator(".jp-Notebook .jp-CodeCell").nth(cell).locator(".jp-OutputArea-output")


@contextlib.contextmanager
def lab(python: Path, folder: Path, home: Path, *, widgets: bool) -> Iterator[Lab]:
    """Start JupyterLab in a folder, with settings of its own; without `widgets` it knows no widgets at all."""
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet), encoding="utf-8")
    if not widgets:
        (home / "config" / "labconfig").mkdir(parents=True)
        off = {"disabledExtensions": {"@jupyter-widgets/jupyterlab-manager": True, "anywidget": True}}
        (home / "config" / "labconfig" / "page_config.json").write_text(json.dumps(off), encoding="utf-8")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON"))},
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "OMP_NUM_THREADS": "1",
        "CUTAWAY_CACHE": str(home / "cache"),
    }
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", f"--IdentityProvider.token={TOKEN}"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            [str(python), "-m", "jupyterlab", *options, f"--ServerApp.root_dir={folder}"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            yield Lab(address(process, home), folder)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def address(process: subprocess.Popen[bytes], home: Path, seconds: float = 90) -> str:
    """Where the server says that it is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        for said in (home / "runtime").glob("jpserver-*.json"):
            with contextlib.suppress(json.JSONDecodeError):
                return f"http://127.0.0.1:{json.loads(said.read_text(encoding='utf-8'))['port']}"
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start:\n{(home / 'log').read_text(encoding='utf-8')[-3000:]}")


@pytest.fixture(scope="module")
def browser(playwright: Any, chromium: str) -> Iterator[Any]:
    opened = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a notebook that was never run, and the tiny model that it opens."""
    from cutaway.testing import tiny_folder

    folder = tmp_path_factory.mktemp("book")
    model = tiny_folder(folder / "model", texts=[f"{PROMPT} Paris", "The capital of Italy is Rome"])
    cells = [LENS.format(folder=str(model), prompt=PROMPT), LARGE]
    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{i}",
                "metadata": {},
                "execution_count": None,
                "outputs": [],
                "source": c,
            }
            for i, c in enumerate(cells)
        ],
    }
    (folder / "book.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(
    lab_python: Path, widget_is_built: None, book: Path, browser: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """The notebook in JupyterLab, after its cells were run."""
    with lab(lab_python, book, tmp_path_factory.mktemp("home"), widgets=True) as running:
        page = running.page(browser, "book.ipynb")
        page.menu("Run", "Run All Cells")
        page.tab.locator(".cutaway-widget").nth(1).wait_for(timeout=180_000)
        page.tab.locator(".cutaway-widget .cv[aria-busy=true]").first.wait_for(state="detached", timeout=30_000)
        yield page
        page.tab.context.close()


@pytest.fixture(scope="module")
def saved(run: Page) -> dict[str, Any]:
    """The notebook as JupyterLab saved it after the cells were run."""
    path, end = run.lab.folder / "book.ipynb", time.monotonic() + 20
    run.menu("File", "Save Notebook")
    while time.monotonic() < end:
        with contextlib.suppress(json.JSONDecodeError):
            notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if all(cell["outputs"] for cell in notebook["cells"]):
                return notebook
        time.sleep(0.2)
    raise AssertionError("the outputs were not saved")


def bundle(notebook: dict[str, Any], cell: int) -> dict[str, Any]:
    """What a cell shows, by kind."""
    (output,) = notebook["cells"][cell]["outputs"]
    assert output["output_type"] == "execute_result", output
    found = output["data"]
    return {kind: "".join(said) if isinstance(said, list) else said for kind, said in found.items()}


def written(page: str) -> str:
    """All that a page says, in its pictures too."""
    pictures = re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", page)
    return unescape("".join([page, *(base64.b64decode(picture).decode() for picture in pictures)]))


def hint(widget: Any, picture: int, x: float, y: float) -> list[str]:
    """What a picture says of the place under the pointer."""
    canvas = widget.locator(".cv").nth(picture).locator("canvas").last
    canvas.scroll_into_view_if_needed()
    canvas.hover(position={"x": x, "y": y})
    return str(widget.locator(".cv-hint").inner_text(timeout=5000)).splitlines()


def test_a_result_at_the_end_of_a_cell_can_be_pointed_at(run: Page, saved: dict[str, Any]) -> None:
    widget = run.tab.locator(".cutaway-widget").first
    pictures = bundle(saved, 0)["text/html"].count("<figure")
    assert pictures >= 4
    assert widget.locator(".cv").count() == pictures
    assert widget.locator("[role=alert]").count() == 0
    said = hint(widget, 0, 60, 20)
    assert said[-1].startswith("probability 0.0"), said
    # the static picture beside it says the same of that cell
    assert "\n".join(said) in written(bundle(saved, 0)["text/html"])


def test_what_is_too_large_to_travel_comes_from_the_kernel(run: Page) -> None:
    widget = run.tab.locator(".cutaway-widget").nth(1)
    for layer in (0, 1):
        widget.get_by_text(f"{layer * 100}", exact=True).first.wait_for()  # the legend's lower end
        said = dict(line.rsplit(" ", 1) for line in hint(widget, 0, 300 + layer, 200))
        value = layer * 100 + int(said["query"]) + int(said["key"]) / 100
        assert 20 < int(said["query"]) < 50, "not at the edge"
        assert float(said["score"]) == pytest.approx(value, rel=5e-3)
        widget.get_by_label("layer").focus()
        run.tab.keyboard.press("ArrowRight")
    assert widget.get_by_label("layer").input_value() == "2"
    assert widget.locator("[role=alert]").count() == 0


@pytest.mark.parametrize("cell", [0, 1])
def test_a_saved_notebook_keeps_the_picture_and_the_text(saved: dict[str, Any], cell: int) -> None:
    kinds = bundle(saved, cell)
    assert set(kinds) == {WIDGET, "text/html", "text/plain"}
    assert kinds[WIDGET]["model_id"]
    assert "svg" in kinds["text/html"]
    assert len(kinds["text/plain"]) > 200
    assert "Result(" not in kinds["text/plain"]


@pytest.mark.parametrize("cell", [0, 1])
def test_the_picture_says_nothing_of_how_the_page_around_it_looks(saved: dict[str, Any], cell: int) -> None:
    styles = "".join(re.findall(r"<style>(.*?)</style>", bundle(saved, cell)["text/html"], re.DOTALL))
    selectors = [name.strip() for rule in re.findall(r"([^{}]+)\{", styles) for name in rule.split(",")]
    assert selectors
    assert [name for name in selectors if not name.startswith((".cutaway", "@media"))] == []


def test_nothing_is_asked_of_another_machine(run: Page) -> None:
    assert run.hosts == {urlsplit(run.lab.url).netloc}
    assert not run.complaints


def test_the_picture_stays_where_there_are_no_widgets(
    run: Page,
    saved: dict[str, Any],
    lab_python: Path,
    browser: Any,
    tmp_path: Path,
) -> None:
    """As another person opens it: their JupyterLab knows no widgets, and does not trust the notebook."""
    (tmp_path / "sent").mkdir()
    (tmp_path / "sent" / "book.ipynb").write_text(json.dumps(saved), encoding="utf-8")
    with lab(lab_python, tmp_path / "sent", tmp_path / "home", widgets=False) as other:
        page = other.page(browser, "book.ipynb")
        page.output(1).last.wait_for()
        assert page.tab.locator(".cutaway-widget, .jupyter-widgets").count() == 0
        for cell, title in enumerate(("Likeliest next token if the model stopped here", "A large one")):
            assert page.output(cell).get_by_text(title).first.is_visible()
            pictures = page.output(cell).locator("figure svg, figure img")
            assert pictures.count() == bundle(saved, cell)["text/html"].count("<figure")
            box = pictures.first.bounding_box()
            assert box["width"] > 100
            assert box["height"] > 50
        page.tab.context.close()
