"""The built pages on a real server with SmolLM2, and a real browser whose every request and complaint is noted."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from filelock import FileLock
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Response, sync_playwright

import cutaway as ca

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "src" / "cutaway" / "web" / "static"
PROMPT = "When Mary and John went to the store, John gave a drink to"
CONTRAST = "When Mary and John went to the store, Mary gave a drink to"
OPTIONS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
FLAT = [option for option in OPTIONS if "gl" not in option and "swiftshader" not in option]
OVER = ("done", "failed", "cancelled", "interrupted")
# A model that works on a job answers quick questions with this until it is done; the pages ask again.
BUSY = 409
# The browser's own word for an answer that is an error: the answer itself is judged instead.
_NO_ANSWER = "Failed to load resource"
_NOTE_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@dataclass
class Site:
    """A running `cutaway serve`."""

    url: str
    process: subprocess.Popen[str]

    def ask(self, path: str, body: Any = None) -> Any:
        """What the server answers, as JSON; a busy model is asked again."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api{path}", data, {"Content-Type": "application/json"})
        end = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    return json.loads(answer.read())
            except urllib.error.HTTPError as error:
                with error:
                    said = error.read().decode()
                if error.code != BUSY or time.monotonic() > end:
                    raise AssertionError(f"{path} was answered with {error.code}: {said}") from None
                time.sleep(0.5)

    def wait(self, job: str, seconds: float = 240) -> dict[str, Any]:
        """The job once it is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            record: dict[str, Any] = self.ask(f"/jobs/{job}")
            if record["state"] in OVER:
                return record
            time.sleep(0.2)
        raise AssertionError(f"job {job} is still {record['state']}: {record['what']}")

    def run(self, **spec: Any) -> str:
        """Id of the first result of a job that ends well."""
        job = self.wait(self.ask("/jobs", {"model": "smollm2", **spec})["id"])
        assert job["state"] == "done", job["error"]
        first: str = job["results"][0]
        return first

    def address(self, path: str, **query: Any) -> str:
        return f"{self.url}{path}?{urlencode(query)}" if query else f"{self.url}{path}"


@dataclass
class Watch:
    """What a browser asked for, and what it complained of."""

    url: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    allowed: set[int] = field(default_factory=lambda: {BUSY})

    def over(self, context: BrowserContext) -> None:
        context.add_init_script(_NOTE_VIOLATIONS)
        context.on("request", lambda request: self.asked.append(request.url))
        context.on("response", self._answer)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.complaints.append(f"uncaught: {error.error}"))
        context.on("page", lambda page: page.on("websocket", lambda socket: self.asked.append(socket.url)))

    def _answer(self, response: Response) -> None:
        if response.status >= 400:
            self.refused.append((response.status, response.url))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and _NO_ANSWER not in message.text:
            self.complaints.append(message.text)

    def look(self, page: Page) -> None:
        """Note what the pages' policy kept from happening."""
        with contextlib.suppress(Exception):  # a page that is closed or was never opened has nothing to tell
            self.complaints += [f"policy: {each}" for each in page.evaluate("window.violations ?? []")]

    def strangers(self) -> list[str]:
        """Addresses that are not the server's."""
        own = urlsplit(self.url).netloc
        return [
            url for url in self.asked if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != own
        ]

    def problems(self) -> list[str]:
        refused = [f"{status} {url}" for status, url in self.refused if status not in self.allowed]
        return [*(f"left the machine: {url}" for url in self.strangers()), *self.complaints, *refused]


class Visitor:
    """Opens pages, each in a browser that remembers nothing."""

    def __init__(self, browser: Browser, site: Site) -> None:
        self.site = site
        self.watch = Watch(site.url)
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    def __call__(self, path: str = "/", *, width: int = 1280, height: int = 900, **options: Any) -> Page:
        context = self._browser.new_context(viewport={"width": width, "height": height}, **options)
        self._contexts.append(context)
        context.set_default_timeout(60_000)
        self.watch.over(context)
        page = context.new_page()
        page.goto(path if path.startswith("http") else self.site.url + path)
        return page

    def close(self) -> None:
        for context in self._contexts:
            for page in context.pages:
                self.watch.look(page)
            context.close()
        self._contexts.clear()


@contextlib.contextmanager
def visiting(browser: Browser, site: Site) -> Iterator[Visitor]:
    """A visitor, whose watch must have nothing to tell in the end."""
    visitor = Visitor(browser, site)
    try:
        yield visitor
    finally:
        visitor.close()
    assert visitor.watch.problems() == []


@contextlib.contextmanager
def serving(store: Path, *before: str) -> Iterator[Site]:
    """A server with SmolLM2 on a port of its own."""
    command = [sys.executable, "-m", "cutaway", *before, "serve", "--port", "0", "--no-browser"]
    command += ["--store", str(store), "--model", "smollm2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=store.parent) as process:
        try:
            line = _first_line(process, 60)
            assert line.startswith("http://127.0.0.1:"), f"it said {line!r} and ended with {process.poll()}"
            yield Site(line, process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _first_line(process: subprocess.Popen[str], seconds: float) -> str:
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: lines.put(process.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
    try:
        return lines.get(timeout=seconds).strip()
    except queue.Empty:
        return ""


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built if their sources are newer."""
    with FileLock(tmp_path_factory.getbasetemp().parent / "pages.lock"):
        if shutil.which("npm"):
            done = subprocess.run(["make", "web"], cwd=ROOT, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stdout + done.stderr
    built = STATIC / "index.html"
    assert built.exists(), "The pages are not built, and npm, which builds them, is not here: install Node 20 or newer."
    return built


@pytest.fixture(scope="session")
def chromium() -> str:
    """Where Chromium is; Debian's is installed when it is nowhere and that is allowed."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=False, timeout=300)
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=False, timeout=600)
        found = shutil.which("chromium")
    assert found, "These tests need Chromium, and only root can install it: apt-get install chromium."
    return found


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def launch(playwright: Playwright, chromium: str) -> Iterator[Callable[[Sequence[str]], Browser]]:
    """Starts a browser with these options of the command line."""
    started: list[Browser] = []

    def start(options: Sequence[str]) -> Browser:
        started.append(playwright.chromium.launch(executable_path=chromium, args=list(options)))
        return started[-1]

    yield start
    for browser in started:
        browser.close()


@pytest.fixture(scope="session")
def browser(launch: Callable[[Sequence[str]], Browser]) -> Browser:
    return launch(OPTIONS)


@pytest.fixture(scope="session")
def flat_browser(launch: Callable[[Sequence[str]], Browser]) -> Browser:
    """A browser without WebGL."""
    return launch([*FLAT, "--disable-gpu", "--disable-3d-apis"])


@pytest.fixture(scope="session")
def site(pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    assert pages.exists()
    with serving(tmp_path_factory.mktemp("served") / "store") as running:
        yield running


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visitor]:
    """Opens pages: `visit("/methods")`. Fails the test when a page complains or asks another machine."""
    with visiting(browser, site) as visitor:
        yield visitor


@pytest.fixture
def visit_flat(flat_browser: Browser, site: Site) -> Iterator[Visitor]:
    """The same, in a browser without WebGL."""
    with visiting(flat_browser, site) as visitor:
        yield visitor


@pytest.fixture(scope="session")
def model() -> ca.Model:
    """The same model, opened here: what the pages show is compared with it."""
    return ca.open("smollm2")


@pytest.fixture(scope="session")
def explained(browser: Browser, site: Site) -> dict[str, Any]:
    """A prompt explained in the browser: the address of its report, and the job."""
    with visiting(browser, site) as visit:
        page = visit("/")
        page.get_by_label("Prompt", exact=True).fill(PROMPT)
        page.get_by_label("Contrast").fill(CONTRAST)
        page.get_by_role("list", name="Likeliest next tokens").get_by_text("·Mary").wait_for()
        page.get_by_role("button", name="Explain", exact=True).click()
        page.get_by_role("progressbar", name="Progress").wait_for()
        page.get_by_role("heading", name="In short").wait_for(timeout=300_000)
        address = page.url
    job = address.split("job=")[1].split("&")[0]
    return {"address": address, "job": site.ask(f"/jobs/{job}")}


@pytest.fixture(scope="session")
def lenses(site: Site) -> tuple[str, str]:
    """Results of the logit lens on the prompt and on its contrast."""
    spec = {"kind": "method", "method": "logit_lens", "parameters": {"top": 3, "controls": 5, "tested": 1}}
    first, second = (site.run(**spec, prompts={"prompts": [text]}) for text in (PROMPT, CONTRAST))
    return first, second


KEPT: dict[str, dict[str, Any]] = {
    "map": {
        "method": "saliency",
        "prompts": {"prompts": ["The unbelievable capital of France is"]},
        "parameters": {"continuation": " Paris, of course.", "controls": 5},
    },
    "contrast": {
        "method": "contrast_attributions",
        "prompts": {"prompts": ["The unbelievable capital of France is"]},
        "parameters": {"other": "The old capital of Italy is", "continuation": " Paris,", "controls": 5},
    },
    "circuit": {
        "method": "edge_attribution",
        "task": "ioi",
        "task_parameters": {"n": 2},
        "parameters": {"controls": 5, "sample": 5},
    },
    "circuit at positions": {
        "method": "edge_attribution",
        "task": "ioi",
        "task_parameters": {"n": 2},
        "parameters": {"positions": "named", "controls": 0},
    },
    "spelling": {
        "method": "spelling",
        "prompts": {"prompts": ["a"]},
        "parameters": {"token": " river", "cutoff": 0.02, "depth": 3, "tokens": 2, "controls": 0},
    },
}


@pytest.fixture(scope="session")
def kept(site: Site) -> Callable[[str], str]:
    """The id of a result of one of `KEPT`, made when it is first asked for."""
    found: dict[str, str] = {}

    def made(name: str) -> str:
        if name not in found:
            found[name] = site.run(kind="method", **KEPT[name])
        return found[name]

    return made


def _until(page: Page, condition: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"it did not become true: {condition}"
        page.wait_for_timeout(50)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Waits until something is true in a page. (Playwright's own way needs `eval`, which the pages' policy forbids.)"""
    return _until


@pytest.fixture(scope="session")
def drawn() -> Callable[[Page], None]:
    """Waits until the pictures of a page are drawn."""

    def wait(page: Page) -> None:
        page.locator("figure .cv").first.wait_for()
        _until(page, "document.querySelectorAll('.cv[aria-busy=true]').length === 0")

    return wait


@pytest.fixture(scope="session")
def serving_site() -> Callable[..., contextlib.AbstractContextManager[Site]]:
    """Starts further servers: `with serving_site(store, "--plugin", FILE) as site`."""
    return serving


@pytest.fixture(scope="session")
def visiting_site() -> Callable[..., contextlib.AbstractContextManager[Visitor]]:
    """Visitors of such servers: `with visiting_site(browser, site) as visit`."""
    return visiting
