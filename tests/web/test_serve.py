"""`cutaway serve` as a process: how it starts, ends, is killed, and what a plug-in adds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cutaway.store.index import Store

Server = Any  # see conftest
Start = Callable[..., Any]
PROMPT = "The capital of France is"
MARGIN = Path(__file__).parents[1] / "plugin_package" / "src" / "cutaway_margin" / "margin.py"


def test_it_says_where_it_is_in_one_line_and_ends_cleanly(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "store")
    assert server.url == f"http://127.0.0.1:{server.port}"
    assert server.port > 0
    worker = server.worker()
    assert server.stop() == 0
    assert server.process.stdout.read() == ""
    assert server.gone(worker, 1), "it is ended before the server is"


def test_it_ends_while_a_job_runs_and_somebody_listens(start: Start, tmp_path: Path, model_folder: Path) -> None:
    server = start(tmp_path / "store", "--model", str(model_folder))
    server.model = str(model_folder)
    job = long_job(server)
    server.wait(job, "running")
    listening = subprocess.Popen(
        [sys.executable, "-c", f"import urllib.request as u; u.urlopen('{server.url}/api/jobs/{job}/events').read()"]
    )
    time.sleep(1)
    worker = server.worker()
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 12
    assert server.gone(worker, 1)
    assert listening.wait(10) == 0, "the stream was ended, not torn"
    with Store.open(tmp_path / "store") as store:
        assert store.job(job).state == "interrupted"


@pytest.mark.parametrize("times", [1, pytest.param(6, marks=pytest.mark.all)])
def test_a_second_server_begins_where_the_first_was_killed(
    start: Start, tmp_path: Path, model_folder: Path, times: int
) -> None:
    """Killed at any moment: no finished result is lost, nothing is half written, and no worker is left."""
    place, done = tmp_path / "store", set()
    chance = random.Random(0)
    for _ in range(times):
        server = start(place, "--model", str(model_folder))
        server.model = str(model_folder)
        server.get("/api/anatomy", model=server.model)
        worker = server.worker()
        jobs = [small_job(server, seed) for seed in range(4)]
        server.wait(jobs[0], "done", "failed")
        time.sleep(chance.uniform(0, 0.5))
        for job in jobs:
            record = server.get(f"/api/jobs/{job}").json
            if record["state"] == "done":
                done |= set(record["results"])
        server.process.kill()
        server.process.wait()
        assert server.gone(worker)
        with Store.open(place) as store:
            assert store.check().sound
            kept = {item.id for item in store.results(limit=500).items}
            assert done <= kept
            assert not store.jobs(state="running")
            for id in kept:
                assert store.result(id).id == id
    assert done
    again = start(place)
    assert {item["id"] for item in again.get("/api/results", limit=500).json["items"]} >= done
    again.stop()


def test_a_worker_that_is_killed_is_started_anew(start: Start, tmp_path: Path, model_folder: Path) -> None:
    server = start(tmp_path / "store", "--model", str(model_folder))
    server.model = str(model_folder)
    job = long_job(server)
    server.wait(job, "running")
    os.kill(server.worker(), signal.SIGKILL)
    failed = server.wait(job)
    assert failed["state"] == "failed"
    assert "SIGKILL" in failed["error"]
    assert server.post("/api/next", {"model": server.model, "text": PROMPT}).status == 200
    assert server.stop() == 0


def test_a_method_of_a_plug_in_appears_by_itself(start: Start, tmp_path: Path, model_folder: Path) -> None:
    server = start(tmp_path / "store", "--model", str(model_folder), plugins=(str(MARGIN),))
    server.model = str(model_folder)
    (margin,) = [each for each in server.get("/api/methods").json if each["name"] == "margin/margin"]
    assert margin["asks"] == "By how much does the favourite lead?"
    assert margin["package"] == margin["group"] == "margin.py"
    assert "runner_up" in margin["schema"]["properties"]
    job = server.run(kind="method", method="margin/margin", prompts={"prompts": [PROMPT]}, parameters={"runner_up": 3})
    assert job["state"] == "done", job["error"]
    text = server.get(f"/api/results/{job['results'][0]}/python").json["text"]
    assert f"registry.load_file('{MARGIN}')" in text
    assert server.stop() == 0


def test_a_model_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cutaway", "serve", "--no-browser", "--store", str(tmp_path / "s")]
    done = subprocess.run([*command, "--model", "./nothing"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "There is no folder './nothing'" in done.stderr


def test_a_store_that_cannot_be_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    command = [sys.executable, "-m", "cutaway", "serve", "--no-browser", "--store", str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_schemas_are_made_once(start: Start, tmp_path: Path) -> None:
    """The second server finds them: its methods are listed before its worker can have loaded torch."""
    first = start(tmp_path / "store")
    listed = first.get("/api/methods").json
    first.stop()
    (kept,) = (tmp_path / "cache" / "web").glob("schemas-*.json")
    second = start(tmp_path / "store")
    before = kept.stat().st_mtime_ns
    os.kill(second.worker(), signal.SIGSTOP)
    try:
        assert second.get("/api/methods").json == listed
    finally:
        os.kill(second.worker(), signal.SIGCONT)
    assert kept.stat().st_mtime_ns == before
    second.stop()


def small_job(server: Server, seed: int) -> str:
    body = {"kind": "method", "method": "logit_lens", "model": server.model, "parameters": {"top": seed + 1}}
    id: str = server.post("/api/jobs", {**body, "prompts": {"prompts": [PROMPT]}}).json["id"]
    return id


def long_job(server: Server) -> str:
    body = {"kind": "method", "method": "patching", "model": server.model, "task": "ioi", "parameters": {}}
    answer = server.post("/api/jobs", {**body, "task_parameters": {"n": 2000}})
    assert answer.status == 202, answer.body
    id: str = answer.json["id"]
    return id


def test_the_browser_is_opened_where_the_server_is(tmp_path: Path) -> None:
    script, seen = tmp_path / "browser.py", tmp_path / "seen"
    script.write_text(f"import pathlib, sys; pathlib.Path({str(seen)!r}).write_text(sys.argv[1])", encoding="utf-8")
    command = [sys.executable, "-m", "cutaway", "serve", "--store", str(tmp_path / "store"), "--token", "abcdefgh"]
    env = {**os.environ, "BROWSER": f"{sys.executable} {script} %s"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        end = time.monotonic() + 20
        while not seen.exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    assert url.endswith("/?token=abcdefgh")
    assert seen.read_text(encoding="utf-8") == url
