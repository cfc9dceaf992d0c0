"""The bench of the workbench: what readers count, what a row says, and what is asked for when something is missing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _repository_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


class Handler(BaseHTTPRequestHandler):
    """Answers whole, in pieces, late, or not at all."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/late":
            time.sleep(0.3)
        found = self.path != "/nothing"
        self.send_response(200 if found else 404)
        if self.path == "/pieces":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nhello\r\n10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n")
            return
        self.send_header("Content-Length", "2" if found else "0")
        self.end_headers()
        self.wfile.write(b"ok" if found else b"")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_readers_read_one_answer_after_another_to_its_end(url: str) -> None:
    from bench.workbench import reading

    found = reading(url, ["/whole", "/pieces"], readers=4, seconds=0.3)

    assert len(found.seconds) > 20
    assert found.refused == 0
    assert 0.3 <= found.took < 2
    assert (found.seconds > 0).all()


def test_an_answer_that_is_refused_is_counted(url: str) -> None:
    from bench.workbench import reading

    found = reading(url, ["/whole", "/nothing"], readers=1, seconds=0.2)

    assert 0 < found.refused <= len(found.seconds) / 2


def test_few_late_answers_show_in_the_99th_percentile_alone(url: str) -> None:
    from bench.workbench import Reading, reading

    late = reading(url, ["/late"], readers=2, seconds=0.1)
    mixed = Reading(np.array([0.01] * 97 + [0.3] * 3), 0, 1.0)

    assert late.late >= 0.3
    assert (mixed.late, np.median(mixed.seconds)) == (pytest.approx(0.3), 0.01)


def test_readers_read_every_record_and_every_slice_of_large_arrays() -> None:
    from bench.workbench import paths_of

    arrays = [{"name": "pattern", "dims": ["layer", "head", "query", "key"]}, {"name": "entropy", "dims": ["layer"]}]
    dims = {"layer": 2, "head": 3, "query": 9, "key": 9}
    paths = paths_of([{"id": "ab", "arrays": arrays, "dims": dims}])

    slices = {f"/api/results/ab/array/pattern?layer={i}&head={j}" for i in range(2) for j in range(3)}
    assert {path for path in paths if "pattern" in path} == slices
    assert {"/api/results/ab", "/api/results/ab/array/entropy", "/api/results"} <= set(paths)
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize(("seconds", "within"), [(0.2, "yes"), (0.4, "no")])
def test_a_row_says_whether_it_is_within_its_limit(seconds: float, within: str) -> None:
    from bench.workbench import limited

    row = limited("open a result", "drawn", "its icon", [(seconds, 0.1)] * 3, 0.3, {"pictures": 5})

    assert row.facts == {"our seconds": seconds, "may take, seconds": 0.3, "within": within, "pictures": 5}
    assert row.ratio == pytest.approx(seconds / 0.1)
    assert "within" not in limited("start", "serve", "imports", [(1.0, 0.5)], None, {}).facts


def test_without_pages_the_bench_says_how_to_build_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import workbench

    monkeypatch.setattr(workbench, "STATIC", tmp_path)
    with pytest.raises(RuntimeError, match="Write: make web"), workbench.browsing():
        pass
