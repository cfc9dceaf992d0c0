"""Work spread over worker processes: real ones, with work that is simple enough to know what must come of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from cutaway.core.errors import Cancelled
from cutaway.core.progress import reporting
from cutaway.runtime.requests import WorkerError, WorkerLost
from cutaway.runtime.spread import Answer, spread

WORKER = """
import os, time
from cutaway.core.errors import ModelError, TaskError
from cutaway.core.progress import track
from cutaway.runtime.frames import Frame
from cutaway.runtime.worker import serve

def prepare(message, line):
    if message.get("die"):
        os._exit(3)
    if message.get("refuse"):
        raise ModelError("there is no model 'x';", "there is 'y'.", "Write 'y'.")
    return Frame({"answer": {}})

def do(message, line):
    if message.get("die"):
        os._exit(3)
    if message.get("fail"):
        raise TaskError("the prompt is empty.", "It has a word.", "Write one.")
    for step in track(range(message.get("steps", 1)), "stepping"):
        time.sleep(0.05)
    return Frame({"answer": {"text": message["text"], "pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}})

serve({"prepare": prepare, "do": do})
"""


class Watcher:
    """Hears of progress, and cancels after some steps."""

    def __init__(self, until: int = 10**9) -> None:
        self.until, self.steps, self.total = until, 0, None

    def start(self, what: str, total: int | None) -> None:
        self.total = total

    def advance(self, n: int) -> None:
        self.steps += n

    def done(self) -> None:
        """Nothing more."""

    def cancelled(self) -> bool:
        return self.steps >= self.until


@pytest.fixture
def work(tmp_path: Path) -> Callable[..., list[Any]]:
    """Spread messages over workers; the answers by index, and None where there was none."""
    program = tmp_path / "worker.py"
    program.write_text(WORKER, encoding="utf-8")

    def run(messages: list[dict[str, Any]], jobs: int = 2, answers: list[Any] | None = None, **prepare: Any) -> Any:
        found: list[Any] = answers if answers is not None else []
        found += [None] * len(messages)

        def answered(index: int, answer: Answer) -> None:
            assert found[index] is None, "answered twice"
            found[index] = answer

        command = [sys.executable, str(program)]
        asked = [{"do": "do", **message} for message in messages]
        spread(command, {"do": "prepare", **prepare}, asked, answered, jobs=jobs, what="texts")
        return found

    return run


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def test_every_message_is_answered_once_by_several_workers(work: Callable[..., Any]) -> None:
    watcher, before = Watcher(), children()
    with reporting(watcher):
        found = work([{"text": str(n), "steps": 4} for n in range(6)])
    assert [each["text"] for each in found] == [str(n) for n in range(6)]
    assert len({each["pid"] for each in found}) == 2
    assert (watcher.steps, watcher.total) == (6, 6)
    assert children() <= before


def test_no_more_workers_than_messages_and_none_for_none(work: Callable[..., Any]) -> None:
    assert len({each["pid"] for each in work([{"text": "a"}], jobs=4)}) == 1
    assert work([], jobs=4) == []


def test_one_that_fails_or_dies_does_not_lose_the_others(work: Callable[..., Any]) -> None:
    messages = [{"text": "a"}, {"fail": True}, {"die": True}, {"text": "d"}, {"die": True}, {"text": "f"}]
    found = work(messages, jobs=1)
    assert [found[n]["text"] for n in (0, 3, 5)] == ["a", "d", "f"]
    assert isinstance(found[1], WorkerError) and str(found[1]) == "the prompt is empty. It has a word. Write one."
    assert isinstance(found[2], WorkerLost) and "exit status 3" in str(found[2])
    assert isinstance(found[4], WorkerLost)


def test_workers_that_cannot_prepare_themselves_end_the_work(work: Callable[..., Any]) -> None:
    before = children()
    with pytest.raises(WorkerError, match="there is no model 'x'; there is 'y'") as caught:
        work([{"text": "a"}], refuse=True)
    assert caught.value.kind == "ModelError"
    with pytest.raises(WorkerLost, match="exit status 3"):
        work([{"text": "a"}], die=True)
    assert children() <= before


def test_cancelling_keeps_what_is_done_and_stops_the_rest(work: Callable[..., Any]) -> None:
    answers: list[Any] = []
    before, start = children(), time.monotonic()
    with reporting(Watcher(until=2)), pytest.raises(Cancelled):
        work([{"text": "a"}, {"text": "b"}, *[{"text": "c", "steps": 2000}] * 4], answers=answers)
    assert [each and each["text"] for each in answers] == ["a", "b", None, None, None, None]
    assert children() <= before
    assert time.monotonic() - start < 30


def test_workers_share_the_cores_unless_told(work: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert work([{"text": "a"}])[0]["threads"] == "7"
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    assert work([{"text": "a"}], jobs=2)[0]["threads"] == "3"
