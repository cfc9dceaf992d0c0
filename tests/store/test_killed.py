"""Whatever moment a process is killed at, and however many write at once: what was kept is there, and whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cutaway.core.result import Result
from cutaway.store.index import Store

SCRIPT = Path(__file__).parent / "writing.py"
ALONE = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*words: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *(str(word) for word in words)]
    return subprocess.Popen(command, env=ALONE, text=True, **options)


def test_a_writer_is_killed_many_times(place: str, tmp_path: Path) -> None:
    reported = tmp_path / "reported"
    times = 25
    assert start("kills", place, reported, times, 7).wait(timeout=300) == 0
    finished = reported.read_text().split()
    assert len(finished) > times, "the writers were killed before they wrote"
    assert len(set(finished)) == len(finished)
    with Store.open(place) as store:
        objects = [path for path in (store.files / "objects").rglob("*") if path.is_file()]
        ids = {path.parent.name + path.stem for path in objects}
        assert all(Result.load(path).id == path.parent.name + path.stem for path in objects)
        listed = {item.id for item in store.results(limit=10_000).items}
        assert set(finished) <= listed
        assert listed == ids
        report = store.check()
        assert report.sound
        assert report.results == len(listed)
        assert {fault.kind for fault in report.faults} <= {"leftover"}
        assert store.gc(older_than=0).rows == 0
        assert not store.check().faults
        assert [*(store.files / "incoming").iterdir()] == []


@pytest.mark.parametrize("action", ["add", "delete"])
def test_a_process_is_killed_at_every_few_lines(action: str, tmp_path: Path) -> None:
    seen = killed_at_lines(str(tmp_path / "store"), action, step=9)
    assert seen["there"] > 1
    assert seen["gone"] > 1


@pytest.mark.all
@pytest.mark.parametrize("action", ["add", "delete"])
def test_a_process_is_killed_at_every_line(action: str, place: str) -> None:
    seen = killed_at_lines(place, action, step=4 if "://" in place else 1)
    assert seen["there"] > 4
    assert seen["gone"] > 4


def killed_at_lines(place: str, action: str, step: int) -> dict[str, int]:
    process = start("lines", place, action, step, stdout=subprocess.PIPE)
    out, _ = process.communicate(timeout=500)
    assert process.returncode == 0
    seen: dict[str, int] = json.loads(out)
    return seen


def test_processes_write_at_once(place: str) -> None:
    """Each makes the store if it is the first, and half of what it writes another writes too."""
    writers = [start("write", place, first, 12) for first in (0, 6, 12)]
    assert [writer.wait(timeout=300) for writer in writers] == [0, 0, 0]
    with Store.open(place) as store:
        page = store.results(limit=100)
        assert page.total == 24
        assert sorted(int(item.metrics["first"]) for item in page.items) == list(range(24))
        for item in page.items:
            n = int(item.metrics["first"])
            assert item.tags[0] == f"tag {n % 3}"
            assert item.tags[1].removeprefix("start ") == item.note.removeprefix("note ")
            assert f"{item.title}" in ("from 0", "from 6", "from 12")
        assert store.results(tag="tag 1").total == 8
        assert len(store.jobs("done", limit=100)) == 36
        report = store.check()
        assert report.faults == ()
        assert (report.results, report.jobs) == (24, 36)


def test_a_job_whose_process_is_gone_is_interrupted(place: str) -> None:
    process = start("run", place, stdout=subprocess.PIPE)
    assert process.stdout
    job = process.stdout.readline().strip()
    with Store.open(place) as store:
        assert store.job(job).state == "running"
    process.kill()  # and not yet waited for: a zombie does no work
    while process.poll() is None:
        pass
    process.stdout.close()
    with Store.open(place) as store:
        after = store.job(job)
        assert (after.state, after.fraction) == ("interrupted", 0.25)
        assert after.error == "The process that ran it ended before it did."
        assert after.started is not None
        assert after.finished is not None
        assert after.finished >= after.started
