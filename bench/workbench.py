"""How fast is the workbench? Its pages in a real browser, and a hundred readers while a job runs.

Every figure stands against a static file that the same server sends in the same way: a page against its icon
opened in the same browser, readers against as many readers of one of its scripts. A page is drawn when all its
pictures are, and the browser has painted them. Limits: browser and readers share the processors with the server.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import numpy as np

from bench.harness import Bench, Facts, Row, compare, pairs_of, rounds
from bench.prompts import CONTRAST, SENTENCE, ids_of
from bench.sides import ROOT, Answer, Side, environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

STATIC = ROOT / "src" / "cutaway" / "web" / "static"
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
READERS = 100
SECONDS = 8.0  # that readers read in a round
JOB_PROMPTS = 60  # of the job beside them, which must outlast all rounds
TOKENS = 512
FILE = "/icon.svg"  # what a page stands against
SCRIPT = "/theme.js"  # what readers stand against

# Each is true once the page shows what was asked for. A picture reads its numbers first, and is busy meanwhile.
FIRST_PAGE = """document.querySelector('h1') && document.querySelector('#prompt')
  && document.querySelector('select option:not([value=""])')"""
PICTURES = """(all => all.length >= COUNT && all.every(one => one.getAttribute('aria-busy') === 'false'
  && one.querySelector('.cv-picture')))([...document.querySelectorAll('.cv')])"""
PAINTED = """(one => one && one.width > 0
  && new Uint32Array(one.getContext('2d').getImageData(0, 0, one.width, one.height).data.buffer).some(ink => ink))
  (document.querySelector('.attention-frame canvas'))"""
SETTLED = PAINTED + " && !document.querySelector('.attention-tools .spinner')"
ICON = "document.documentElement.localName === 'svg'"
# Milliseconds since the navigation (or since `from`) until the frame after the one in which the page was complete.
DRAWN = """from => new Promise((done, fail) => {
  const look = () => {
    const said = document.querySelector('[role=alert], .cv-failed');
    if (said) fail(new Error('The page says: ' + said.textContent));
    else if (READY) requestAnimationFrame(() => done(performance.now() - from));
    else if (performance.now() - from > 60000) fail(new Error('The page is not drawn after a minute.'));
    else requestAnimationFrame(look);
  };
  look();
})"""


@dataclass(frozen=True)
class Server:
    """A running `cutaway serve`; `seconds` is what it took until it said its address."""

    url: str
    seconds: float
    model: str

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON of an answer.

        Raises:
            RuntimeError: the server refuses it.
        """
        asked = urllib.request.Request(self.url + path)
        if body is not None:
            asked.data = json.dumps(body).encode()
            asked.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(asked, timeout=600) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            raise RuntimeError(f"{path} was refused: {refusal.read().decode()[:400]}") from refusal

    def start(self, **spec: Any) -> str:
        """Start a job."""
        return str(self.ask("/api/jobs", {"model": self.model, **spec})["id"])

    def wait(self, job: str, *states: str) -> dict[str, Any]:
        """The job once it is in one of these states.

        Raises:
            RuntimeError: it ended in another one.
        """
        while True:
            found: dict[str, Any] = self.ask(f"/api/jobs/{job}")
            if found["state"] in states:
                return found
            if found["state"] in ("done", "failed", "cancelled", "interrupted"):
                raise RuntimeError(f"The job is {found['state']}: {found['error']}")
            time.sleep(0.1)


@contextmanager
def serving(bench: Bench, store: Path, *, opened: bool = True) -> Iterator[Server]:
    """Start `cutaway serve`, with the model open where it is asked for, and stop it afterwards."""
    model = bench.alias or str(bench.folder)
    command = [sys.executable, "-m", "cutaway", "serve", "--no-browser", "--port", "0", "--store", str(store)]
    command += ["--model", model] if opened else []
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(bench.threads), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        seconds = time.perf_counter() - start
        if not line.startswith("http://"):
            raise RuntimeError(f"`cutaway serve` ended with {process.wait()} and without an address.")
        server = Server(line, seconds, model)
        if opened:
            server.ask("/api/models/open", {"model": model})
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()


@contextmanager
def browsing() -> Iterator[Browser]:
    """A headless Chromium.

    Raises:
        RuntimeError: the pages, Playwright or Chromium are not there, or a page is not drawn.
    """
    if not (STATIC / "index.html").is_file():
        raise RuntimeError("The pages of the workbench are not built. Write: make web")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ModuleNotFoundError:
        raise RuntimeError("Playwright drives the browser and is not here. Write: pip install playwright") from None
    if not CHROMIUM.exists():
        raise RuntimeError(f"There is no {CHROMIUM}. Install it: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        try:
            yield browser
        except Error as error:
            raise RuntimeError(f"The browser: {error}") from error
        finally:
            browser.close()


def drawn(ready: str) -> str:
    """The program that waits in the page until this is true."""
    return DRAWN.replace("READY", ready)


def visited(page: Page, url: str, ready: str) -> Answer:
    """Go to an address, and wait until it is drawn; by the browser's own clock, from the navigation on."""
    page.goto(url, wait_until="commit")
    return Answer(float(page.evaluate(drawn(ready), 0)) / 1000, None, None)


def clicked(page: Page, url: str, link: str, ready: str) -> Answer:
    """Follow a link within the workbench, and wait until what it leads to is drawn."""
    page.goto(url, wait_until="networkidle")
    page.wait_for_selector(link, timeout=60_000)
    start = page.evaluate(
        "link => { const now = performance.now(); document.querySelector(link).click(); return now }", link
    )
    return Answer(float(page.evaluate(drawn(ready), start)) / 1000, None, None)


def limited(
    work: str, ours: str, against: str, pairs: Sequence[tuple[float, float]], limit: float | None, facts: Facts
) -> Row:
    """A row whose median also stands against a limit in seconds."""
    median = float(np.median([mine for mine, _ in pairs]))
    told: dict[str, float | int | str | None] = {"our seconds": round(median, 4)}
    if limit is not None:
        told |= {"may take, seconds": limit, "within": "yes" if median <= limit else "no"}
    return compare(work, ours, against, "cost", pairs, facts={**told, **facts})


# --- the first page ---------------------------------------------------------------------------------------------------


def first_pages(bench: Bench, browser: Browser) -> list[Row]:
    """A server is started anew, and the first page opened in a browser that has nothing of it yet."""
    named: list[Answer] = []

    def first(path: str, ready: str) -> Answer:
        with tempfile.TemporaryDirectory() as folder, serving(bench, Path(folder), opened=False) as server:
            said = time.perf_counter()
            named.append(Answer(server.seconds, None, None))
            context = browser.new_context()
            page = context.new_page()
            page.goto(server.url + path, wait_until="commit")
            page.evaluate(drawn(ready), 0)
            seconds = time.perf_counter() - said
            context.close()
        return Answer(seconds, None, None)

    bench.say("  starting the server, and opening its first page")
    found = rounds({"ours": lambda: first("/", FIRST_PAGE), "theirs": lambda: first(FILE, ICON)}, bench.count(10))
    imports = [sys.executable, "-c", "import fastapi, sqlalchemy, uvicorn"]
    floor: list[Answer] = []
    for _ in named:
        start = time.perf_counter()
        subprocess.run(imports, check=True, cwd=ROOT)
        floor.append(Answer(time.perf_counter() - start, None, None))
    pairs = pairs_of(found["ours"], found["theirs"])
    return [
        limited(
            "start the server until it says its address",
            "cutaway serve",
            "importing what it is made of",
            pairs_of(named, floor),
            None,
            {},
        ),
        limited(
            "first page drawn, after the server said its address",
            "the page",
            "its icon",
            pairs,
            1.0,
            {"browser": f"Chromium {browser.version}"},
        ),
    ]


# --- results and attention --------------------------------------------------------------------------------------------


def results(bench: Bench, server: Server) -> list[dict[str, Any]]:
    """Two kept results: one small, with several pictures, and a tensor of attention that is read by slices."""
    bench.say("  keeping results to open")
    prompts = {"prompts": [SENTENCE], "contrasts": [CONTRAST]}
    story = {"prompts": [bench.pair(32 if bench.quick else 256).source]}
    jobs = [
        server.start(kind="method", method="logit_lens", prompts=prompts, parameters={"controls": 0}),
        server.start(kind="method", method="attention", prompts=story, parameters={"controls": 0}),
    ]
    kept = [server.wait(job, "done")["results"][0] for job in jobs]
    return [server.ask(f"/api/results/{id}") for id in kept]


def result_rows(bench: Bench, server: Server, context: BrowserContext, kept: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Results opened by their address, and from the list."""
    rows = []
    for result in kept:
        bench.say(f"  opening the result of {result['method']}")
        page, ready = context.new_page(), PICTURES.replace("COUNT", str(len(result["views"])))
        address = f"{server.url}/results/{result['id']}"
        calls: dict[str, Callable[[], Answer]] = {
            "address": lambda page=page, ready=ready, address=address: visited(page, address, ready),
            "list": lambda page=page, ready=ready, id=result["id"]: clicked(
                page, f"{server.url}/results", f"a[href*='{id}']", ready
            ),
            "icon": lambda page=page: visited(page, server.url + FILE, ICON),
        }
        found = rounds(calls, bench.count(20), warm=2)
        facts = {"pictures": len(result["views"]), "KiB of the result": round(int(result["bytes"]) / 1024)}
        for way, said in (("list", "from the list"), ("address", "by its address")):
            pairs = pairs_of(found[way], found["icon"])
            rows.append(
                limited(
                    f"open a result of {result['method']}, {said}", "all pictures drawn", "its icon", pairs, 0.3, facts
                )
            )
        page.close()
    return rows


def attention_rows(bench: Bench, server: Server, context: BrowserContext) -> list[Row]:
    """The attention page of long prompts that the server has not seen; each differs in its first token."""
    length, numbers = (64 if bench.quick else TOKENS), iter(range(10_000))
    # What a page shows first has a limit; what costs a pass over every layer's patterns is asked for with a button.
    ways = (
        ("one head of a layer", "heads", PAINTED, 1.0),
        ("one head of a layer, and the scores of all", "heads", SETTLED, None),
        ("all heads of all layers", "model", SETTLED, None),
    )
    rows = []
    for ours, mode, ready, limit in ways:
        bench.say(f"  opening the attention page, {ours}")
        page = context.new_page()

        def opened(page: Page = page, mode: str = mode, ready: str = ready) -> Answer:
            query = {"model": server.model, "text": unseen(bench, next(numbers), length), "mode": mode}
            return visited(page, f"{server.url}/attention?{urlencode(query)}", ready)

        calls = {"ours": opened, "icon": lambda page=page: visited(page, server.url + FILE, ICON)}
        found = rounds(calls, bench.count(10))
        pairs = pairs_of(found["ours"], found["icon"])
        rows.append(limited(f"attention page, {length} tokens", ours, "its icon", pairs, limit, {}))
        page.close()
    return rows


def unseen(bench: Bench, number: int, length: int) -> str:
    """A text of this many tokens, or one fewer, that begins with a number."""
    words = bench.pair(length).source.split(" ")
    while len(ids_of(bench.tokenizer, f"{number} {' '.join(words)}")) > length:
        words = words[1:]
    return f"{number} {' '.join(words)}"


# --- readers ----------------------------------------------------------------------------------------------------------


def paths_of(kept: Sequence[Mapping[str, Any]]) -> list[str]:
    """What readers read: lists, records, and slices of every large array at every place."""
    paths = ["/api/results", "/api/results?order=title&limit=10", "/api/methods", "/api/jobs"]
    for result in kept:
        base = f"/api/results/{result['id']}"
        paths += [base, f"{base}/python"]
        for array in result["arrays"]:
            fixed = array["dims"][:-2] if len(array["dims"]) > 2 else []
            sizes = [int(result["dims"][dim]) for dim in fixed]
            for place in range(min(60, int(np.prod(sizes, dtype=int)))):
                at = np.unravel_index(place, sizes) if sizes else ()
                query = urlencode({dim: int(index) for dim, index in zip(fixed, at, strict=True)})
                paths.append(f"{base}/array/{array['name']}" + (f"?{query}" if query else ""))
    return paths


@dataclass(frozen=True)
class Reading:
    """How long each request of a round took, in seconds, and how many answers were refusals."""

    seconds: np.ndarray
    refused: int
    took: float

    @property
    def late(self) -> float:
        """The 99th percentile."""
        return float(np.quantile(self.seconds, 0.99))


def reading(url: str, paths: Sequence[str], readers: int, seconds: float) -> Reading:
    """So many readers, each with a connection of its own, ask one thing after another without a pause."""
    return asyncio.run(_reading(urlsplit(url).netloc, paths, readers, seconds))


async def _reading(netloc: str, paths: Sequence[str], readers: int, seconds: float) -> Reading:
    host, port = netloc.split(":")
    found: list[float] = []
    refused = 0
    start = time.perf_counter()

    async def one(number: int) -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection(host, int(port))
        place = number * 7
        while time.perf_counter() - start < seconds:
            asked = time.perf_counter()
            writer.write(f"GET {paths[place % len(paths)]} HTTP/1.1\r\nHost: {netloc}\r\n\r\n".encode())
            status = await _answered(reader)
            found.append(time.perf_counter() - asked)
            refused += status != 200
            place += 1
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    await asyncio.gather(*(one(number) for number in range(readers)))
    return Reading(np.array(found), refused, time.perf_counter() - start)


async def _answered(reader: asyncio.StreamReader) -> int:
    """Read an answer to its end; its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    if "transfer-encoding: chunked" in head:
        while size := int((await reader.readline()).strip() or b"0", 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    else:
        await reader.readexactly(int(head.split("content-length:")[1].split("\r\n")[0]))
    return int(head.split(" ", 2)[1])


def reader_rows(bench: Bench, server: Server, kept: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Readers of results while a job runs, in turns with as many readers of a script.

    Raises:
        RuntimeError: the job ended meanwhile, or an answer was refused.
    """
    bench.say(f"  {READERS} readers while a job runs")
    prompts = {"prompts": [bench.pair(64 if bench.quick else 256, from_start=True).source] * JOB_PROMPTS}
    job = server.start(
        kind="method",
        method="ablate",
        prompts={**prompts, "answers": [[" Mary"]] * JOB_PROMPTS, "wrong": [[" John"]] * JOB_PROMPTS},
    )
    server.wait(job, "running")
    seconds = 1.0 if bench.quick else SECONDS
    read: dict[str, list[Reading]] = {"ours": [], "script": []}

    def one(name: str, paths: Sequence[str]) -> Answer:
        read[name].append(reading(server.url, paths, READERS, seconds))
        return Answer(read[name][-1].late, None, None)

    calls = {"ours": lambda: one("ours", paths_of(kept)), "script": lambda: one("script", [SCRIPT])}
    found = rounds(calls, bench.count(5))
    if (state := server.ask(f"/api/jobs/{job}")["state"]) != "running":
        raise RuntimeError(f"The job that should run beside the readers is {state}.")
    server.ask(f"/api/jobs/{job}/cancel", {})
    if refused := sum(each.refused for way in read.values() for each in way):
        raise RuntimeError(f"{refused} answers to the readers were refused.")
    ours = read["ours"][1:]
    facts: dict[str, float | int | str | None] = {
        "readers": READERS,
        "median, ms": round(float(np.median(np.concatenate([each.seconds for each in ours]))) * 1e3, 1),
        "longest, ms": round(max(float(each.seconds.max()) for each in ours) * 1e3, 1),
        "answers a second": round(sum(len(each.seconds) for each in ours) / sum(each.took for each in ours)),
        "a second of the script": round(float(np.median([len(each.seconds) / each.took for each in read["script"]]))),
    }
    work = f"{READERS} readers while a job runs, 99th percentile"
    return [
        limited(work, "lists, records and slices", "a script", pairs_of(found["ours"], found["script"]), 0.25, facts)
    ]


def measure(bench: Bench) -> tuple[list[Row], list[Side]]:
    """All rows; no side takes part."""
    with tempfile.TemporaryDirectory() as folder:
        with browsing() as browser:
            rows = first_pages(bench, browser)
            with serving(bench, Path(folder)) as server:
                context = browser.new_context(viewport={"width": 1280, "height": 900})
                kept = results(bench, server)
                rows += result_rows(bench, server, context, kept)
                rows += attention_rows(bench, server, context)
        with serving(bench, Path(folder)) as server:
            rows += reader_rows(bench, server, kept)
    return rows, []
