"""The queue and its worker: a real process, with work that is simple enough to know what must come of it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cutaway.core.errors import StoreError
from cutaway.runtime.jobs import FINAL, Jobs
from cutaway.runtime.limits import Limits
from cutaway.runtime.requests import Busy, TooSlow, WorkerError, WorkerLost
from cutaway.store.index import Job, Store

WORKER = """
import os, sys, time
from cutaway.core.errors import TaskError
from cutaway.core.progress import track
from cutaway.runtime.frames import Frame
from cutaway.runtime.worker import serve

def job(message, line):
    spec = message["spec"]
    print("a library that prints", spec)
    if spec.get("die"):
        os.kill(os.getpid(), spec["die"])
    if spec.get("fail"):
        raise TaskError("the prompt is empty.", "It has a word.", "Write one.")
    if spec.get("bug"):
        raise ValueError("nobody expected this")
    if spec.get("hang"):
        time.sleep(60)
    for step in track(range(spec.get("steps", 0)), "stepping"):
        time.sleep(spec.get("seconds", 0.05))
    return Frame({"answer": {"results": ["0" * 64], "report": {"pid": os.getpid()}}})

def echo(message, line):
    time.sleep(message.get("seconds", 0))
    if message.get("die"):
        os._exit(3)
    return Frame({"answer": message["text"]}, message["text"].encode() if message.get("raw") else b"")

serve({"job": job, "echo": echo}, {"light": echo})
"""
LIMITS = Limits(patience=0.6, answer=3, light=3, grace=0.8, job=30, queue=3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def make(store: Store, tmp_path: Path) -> Iterator[Callable[..., Jobs]]:
    """Makes queues; they are closed in the end."""
    made: list[Jobs] = []

    def jobs(limits: Limits = LIMITS, worker: str = WORKER, **more: Any) -> Jobs:
        program = tmp_path / f"worker{len(made)}.py"
        program.write_text(worker, encoding="utf-8")
        made.append(Jobs(store, [sys.executable, str(program)], limits=limits, **more))
        return made[-1]

    yield jobs
    for each in made:
        each.close()


@pytest.fixture
def jobs(make: Callable[..., Jobs]) -> Jobs:
    return make()


def spec(**more: Any) -> dict[str, Any]:
    return {"kind": "method", **more}


def ended(jobs: Jobs, id: str, seconds: float = 30) -> Job:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = jobs.job(id)
        if job.state in FINAL:
            return job
        time.sleep(0.02)
    raise AssertionError(f"still {jobs.job(id).state}")


def running(jobs: Jobs, id: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while jobs.job(id).state == "queued" and time.monotonic() < end:
        time.sleep(0.02)
    assert jobs.job(id).state == "running"


def test_a_job_runs_and_is_kept(jobs: Jobs, store: Store) -> None:
    job = ended(jobs, jobs.submit(spec(steps=2)).id)
    assert job.state == "done"
    assert job.error == ""
    assert job.results == ("0" * 64,)
    assert job.fraction == 1.0
    assert job.started
    assert job.finished
    kept = store.job(job.id)
    assert (kept.state, kept.results, kept.report) == ("done", job.results, job.report)


def test_jobs_run_one_after_the_other_in_their_order(jobs: Jobs) -> None:
    ids = [jobs.submit(spec(steps=3)).id for _ in range(3)]
    done = [ended(jobs, id) for id in ids]
    for first, second in zip(done, done[1:]):
        assert first.finished <= second.started  # type: ignore[operator]


def test_what_is_submitted_is_in_the_store_before_it_runs(jobs: Jobs, store: Store) -> None:
    job = jobs.submit(spec(steps=50))
    assert store.job(job.id).state in ("queued", "running")


def test_progress_is_told_step_by_step(jobs: Jobs) -> None:
    job = jobs.submit(spec(steps=5, seconds=0.15))
    told = list(jobs.events(job.id))
    assert told[-1][0] == "state"
    assert told[-1][1].state == "done"
    steps = [each for name, each in told if name == "progress"]
    assert [each.done for each in steps] == sorted(each.done for each in steps)
    assert {each.what for each in steps} == {"stepping"}
    assert {each.total for each in steps} == {5}
    fractions = [each.fraction for each in steps]
    assert fractions == sorted(fractions)
    assert len(steps) >= 4


def test_events_of_a_finished_job_are_its_last_state(jobs: Jobs) -> None:
    job = ended(jobs, jobs.submit(spec()).id)
    assert [(name, each.state) for name, each in jobs.events(job.id)] == [("state", "done")]


def test_a_running_job_stops_at_its_next_step(jobs: Jobs) -> None:
    job = jobs.submit(spec(steps=1000))
    running(jobs, job.id)
    worker = jobs.worker_pid
    jobs.cancel(job.id)
    done = ended(jobs, job.id)
    assert (done.state, done.error) == ("cancelled", "")
    assert jobs.worker_pid == worker, "it was not ended for it"
    assert jobs.ask({"do": "echo", "text": "still here"}).header["answer"] == "still here"


def test_a_waiting_job_is_cancelled_at_once(jobs: Jobs) -> None:
    first, second = jobs.submit(spec(steps=20)), jobs.submit(spec())
    assert jobs.cancel(second.id).state == "cancelled"
    assert ended(jobs, first.id).state == "done"
    assert jobs.job(second.id).started is None


def test_a_job_that_does_not_stop_is_ended_with_its_worker(jobs: Jobs) -> None:
    job = jobs.submit(spec(hang=True))
    running(jobs, job.id)
    worker = jobs.worker_pid
    jobs.cancel(job.id)
    assert ended(jobs, job.id, 10).state == "cancelled"
    assert ended(jobs, jobs.submit(spec()).id).state == "done"
    assert jobs.worker_pid != worker


def test_a_job_over_stays_as_it_is(jobs: Jobs) -> None:
    job = ended(jobs, jobs.submit(spec()).id)
    assert jobs.cancel(job.id).state == "done"


def test_a_job_takes_no_longer_than_it_may(make: Callable[..., Jobs]) -> None:
    jobs = make(Limits(job=0.5, grace=0.5))
    job = ended(jobs, jobs.submit(spec(steps=1000)).id)
    assert job.state == "failed"
    assert "longer than" in job.error


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_worker_that_dies_fails_its_job_and_is_started_anew(jobs: Jobs, signal_number: int) -> None:
    bad, good = jobs.submit(spec(die=int(signal_number))), jobs.submit(spec())
    failed = ended(jobs, bad.id)
    assert failed.state == "failed"
    assert "the worker process ended while it was at work" in failed.error
    assert signal.Signals(signal_number).name in failed.error
    assert ended(jobs, good.id).state == "done"


def test_a_worker_that_is_killed_from_outside_is_started_anew(jobs: Jobs) -> None:
    job = jobs.submit(spec(steps=1000))
    running(jobs, job.id)
    assert jobs.worker_pid
    os.kill(jobs.worker_pid, signal.SIGKILL)
    assert ended(jobs, job.id).state == "failed"
    assert jobs.ask({"do": "echo", "text": "anew"}).header["answer"] == "anew"


def test_an_error_is_its_sentence(jobs: Jobs) -> None:
    job = ended(jobs, jobs.submit(spec(fail=True)).id)
    assert (job.state, job.error) == ("failed", "the prompt is empty. It has a word. Write one.")


def test_a_bug_is_a_sentence_too(jobs: Jobs) -> None:
    job = ended(jobs, jobs.submit(spec(bug=True)).id)
    assert job.state == "failed"
    assert "ValueError: nobody expected this" in job.error
    assert ended(jobs, jobs.submit(spec()).id).state == "done"


def test_quick_requests_go_before_waiting_jobs(jobs: Jobs) -> None:
    first, second = jobs.submit(spec(steps=4)), jobs.submit(spec(steps=1))
    running(jobs, first.id)
    assert jobs.ask({"do": "echo", "text": "now"}).header["answer"] == "now"
    assert jobs.job(first.id).state == "done"
    assert jobs.job(second.id).state == "queued" or jobs.job(second.id).started > jobs.job(first.id).finished  # type: ignore[operator]


def test_a_quick_request_is_refused_while_a_job_runs_on(jobs: Jobs) -> None:
    job = jobs.submit(spec(steps=1000))
    running(jobs, job.id)
    started = time.monotonic()
    with pytest.raises(Busy, match=f"busy: {job.id}") as refused:
        jobs.ask({"do": "echo", "text": "now"})
    assert refused.value.job == job.id
    assert LIMITS.patience <= time.monotonic() - started < LIMITS.patience + 3


def test_a_light_request_is_answered_while_a_job_runs(jobs: Jobs) -> None:
    job = jobs.submit(spec(steps=1000))
    running(jobs, job.id)
    assert jobs.ask({"do": "light", "text": "beside"}, light=True).header["answer"] == "beside"
    assert jobs.job(job.id).state == "running"


def test_raw_bytes_come_whole(jobs: Jobs) -> None:
    text = "ä\n\0" * 100_000
    assert jobs.ask({"do": "echo", "text": text, "raw": True}).body == text.encode()


def test_a_slow_answer_is_not_waited_for(make: Callable[..., Jobs]) -> None:
    jobs = make(Limits(answer=0.4, grace=0.4))
    jobs.ask({"do": "echo", "text": "warm"}, seconds=30)
    worker = jobs.worker_pid
    with pytest.raises(TooSlow, match="no answer within"):
        jobs.ask({"do": "echo", "text": "late", "seconds": 60})
    assert jobs.ask({"do": "echo", "text": "next"}, seconds=30).header["answer"] == "next"
    assert jobs.worker_pid != worker


def test_an_unknown_request_and_a_bad_one_are_sentences(jobs: Jobs) -> None:
    with pytest.raises(WorkerError, match="does not know how to do 'dance'"):
        jobs.ask({"do": "dance"})
    with pytest.raises(WorkerError, match="unexpectedly") as refused:
        jobs.ask({"do": "echo"})
    assert refused.value.kind == "unexpected"


def test_a_request_whose_worker_dies_is_told(jobs: Jobs) -> None:
    with pytest.raises(WorkerLost, match="exit status 3"):
        jobs.ask({"do": "echo", "die": True})
    assert jobs.ask({"do": "echo", "text": "anew"}).header["answer"] == "anew"


def test_a_withdrawn_request_is_not_done(jobs: Jobs) -> None:
    slow = jobs.post({"do": "echo", "text": "slow", "seconds": 0.5})
    withdrawn = jobs.post({"do": "echo", "text": "", "die": True})
    assert withdrawn.cancel()
    assert slow.result(20).header["answer"] == "slow"
    assert jobs.ask({"do": "echo", "text": "alive"}).header["answer"] == "alive"


def test_the_queue_has_an_end(jobs: Jobs) -> None:
    first = jobs.submit(spec(steps=1000))
    running(jobs, first.id)
    for _ in range(LIMITS.queue):
        jobs.submit(spec())
    time.sleep(0.5)
    with pytest.raises(Busy, match="no more are taken"):
        jobs.submit(spec())


def test_a_worker_that_cannot_start_fails_those_who_wait(make: Callable[..., Jobs]) -> None:
    jobs = make(worker="raise SystemExit(7)")
    job = jobs.submit(spec())
    failed = ended(jobs, job.id)
    assert failed.state == "failed"
    assert "cannot be started (exit status 7)" in failed.error


def test_an_unknown_job_is_a_sentence(jobs: Jobs) -> None:
    with pytest.raises(StoreError, match="the store has no job"):
        jobs.job("0" * 32)
    with pytest.raises(StoreError, match="is not the id of a job"):
        jobs.cancel("../x")


def test_the_list_has_the_newest_first_and_live_states(jobs: Jobs) -> None:
    first, second = jobs.submit(spec(steps=1000)), jobs.submit(spec())
    running(jobs, first.id)
    assert [job.id for job in jobs.jobs()] == [second.id, first.id]
    assert [job.id for job in jobs.jobs(state="running")] == [first.id]


def test_closing_ends_the_worker_and_says_what_became_of_jobs(make: Callable[..., Jobs], store: Store) -> None:
    jobs = make()
    first, second = jobs.submit(spec(steps=1000)), jobs.submit(spec())
    running(jobs, first.id)
    worker = jobs.worker_pid
    jobs.close()
    assert worker
    assert not psutil.pid_exists(worker)
    assert store.job(first.id).state == "interrupted"
    assert store.job(second.id).state == "cancelled"
    with pytest.raises(WorkerLost):
        jobs.ask({"do": "echo", "text": "late"})


def test_a_worker_ends_by_itself_when_its_server_is_gone(tmp_path: Path) -> None:
    """The server is killed in the middle of a job."""
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER, encoding="utf-8")
    server = f"""
import sys, time
from cutaway.runtime.jobs import Jobs
from cutaway.store.index import Store
jobs = Jobs(Store.open({str(tmp_path / "store")!r}), [sys.executable, {str(worker)!r}])
job = jobs.submit({{"kind": "method", "hang": True}})
while jobs.job(job.id).state != "running":
    time.sleep(0.02)
waiting = jobs.submit({{"kind": "method"}})
print(jobs.worker_pid, job.id, waiting.id, flush=True)
time.sleep(60)
"""
    import subprocess

    with subprocess.Popen([sys.executable, "-c", server], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        worker_pid, running_job, waiting_job = process.stdout.readline().split()
        process.kill()
    end = time.monotonic() + 20
    while psutil.pid_exists(int(worker_pid)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(worker_pid))
    with Store.open(tmp_path / "store") as store:
        assert store.job(running_job).state == "interrupted"
        jobs = Jobs(store, [sys.executable, str(worker)])
        try:
            end = time.monotonic() + 10
            while store.job(waiting_job).state == "queued" and time.monotonic() < end:
                time.sleep(0.05)
            found = store.job(waiting_job)
            assert (found.state, found.error) == ("interrupted", "The server ended before it was begun.")
        finally:
            jobs.close()


def test_many_threads_may_ask_at_once(jobs: Jobs) -> None:
    answers: list[str] = []

    def ask(number: int) -> None:
        answers.append(jobs.ask({"do": "echo", "text": f"{number}"}, seconds=30).header["answer"])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers, key=int) == [f"{number}" for number in range(30)]


def test_a_store_that_cannot_be_written_does_not_end_the_queue(
    make: Callable[..., Jobs], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = make()
    first = jobs.submit(spec(steps=10))
    running(jobs, first.id)

    def full(self: Store, *args: Any, **fields: Any) -> None:
        raise StoreError("no room is left.")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "update_job", full)
        assert ended(jobs, first.id).state == "done", "known here, if not there"
    assert store.job(first.id).state == "running"
    assert ended(jobs, jobs.submit(spec()).id).state == "done"


def test_states_are_told_to_who_runs_the_queue(make: Callable[..., Jobs]) -> None:
    told: list[Any] = []
    jobs = make(happened=told.append)
    job = ended(jobs, jobs.submit(spec()).id)
    assert [event["state"] for event in told if event.get("job") == job.id] == ["running", "done"]
