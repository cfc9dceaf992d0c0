"""A process that writes into a store and is killed: run by the tests, as `python writing.py ACTION PLACE ...`.

Writers are forked from a process that has imported everything, so that many can be killed in little time. The
process that forks has no store open at that moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import alembic.command  # noqa: F401 - imported before a writer is forked, or it is killed while it imports
import numpy as np
import xarray as xr

import cutaway.store
import cutaway.store.netcdf
from cutaway.core.result import Result
from cutaway.store.index import Store

with contextlib.suppress(ImportError):
    import psycopg  # noqa: F401

SOURCE = str(Path(cutaway.store.__file__).parent)


def result(*numbers: int) -> Result:
    data = xr.Dataset({"value": (("n",), np.array(numbers, dtype=float)), "more": (("m",), np.zeros(2000))})
    return Result(data, {"first": numbers[0]}, provenance={"method": "written", "model": {"name": str(numbers[0])}})


def forked(work: Callable[[], None]) -> int:
    """Do it in a child, which ends there; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:  # noqa: BLE001 - a child must not go on as its parent
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def kills(place: str, reported: str, times: int, seed: int) -> None:
    """Kill a writer again and again, at a random moment, while it reports each result that is kept."""
    chance = random.Random(seed)
    for n in range(times):

        def write_on(n: int = n) -> None:
            out = os.open(reported, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            with Store.open(place) as store:
                k = 0
                while True:
                    item = store.add_result(result(n, k))
                    os.write(out, f"{item}\n".encode())
                    k += 1

        before = _size(reported)
        child = forked(write_on)
        wanted, end = chance.choice((0, 1, 2, 3)), time.monotonic() + 60
        while _size(reported) < before + wanted * 65 and time.monotonic() < end:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05 if wanted else 0.3))  # while it writes, or while it opens the store
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the writer ended by itself"


def _size(path: str) -> int:
    return Path(path).stat().st_size if Path(path).exists() else 0


def lines(place: str, action: str, step: int) -> None:
    """Kill a process at each line (each `step`-th one) of the code of the store, and look at what is left."""
    with Store.open(place) as store:
        store.add_result(result(-1))
    at, killed, seen = 1, 0, {"there": 0, "gone": 0}
    while True:
        one = result(at)
        if action != "add":
            with Store.open(place) as store:
                store.add_result(one)
        child = forked(lambda at=at, one=one: _killed_at(at, place, action, one))  # type: ignore[misc]
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the writer failed when killed at line {at}"
        seen[_look(place, action, one, ended=not os.WIFSIGNALED(status))] += 1
        if not os.WIFSIGNALED(status):
            break
        killed += 1
        at += step
    print(json.dumps({"killed": killed, **seen}))


def _killed_at(at: int, place: str, action: str, one: Result) -> None:
    left = at

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(SOURCE):
            return None
        if event == "line":
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    store = Store.open(place)
    sys.settrace(trace)
    if action == "add":
        store.add_result(one)
    else:
        store.delete_result(one.id)
    sys.settrace(None)
    store.close()


def _look(place: str, action: str, one: Result, *, ended: bool) -> str:
    """Open the store that a killed process left, and see that it is whole."""
    files = Path(place.partition("files=")[2] or place)
    named = (files / "objects" / one.id[:2] / f"{one.id[2:]}.nc").exists()
    with Store.open(place) as store:
        report = store.check()
        assert report.sound, report.faults
        assert {fault.kind for fault in report.faults} <= {"leftover"}, report.faults
        assert store.result(result(-1).id) == result(-1)
        there = any(item.id == one.id for item in store.results(limit=10_000).items)
        assert there == (files / "objects" / one.id[:2] / f"{one.id[2:]}.nc").exists()
        if action == "add":
            assert there or not (named or ended), "a finished file was lost"
            assert store.add_result(one) == one.id
            assert store.result(one.id) == one
        else:
            assert not (there and ended), "it was not deleted"
            assert not there or store.result(one.id) == one
            if there:
                store.delete_result(one.id)
        store.gc(older_than=0)
        assert not store.check().faults
    return "there" if there else "gone"


def write(place: str, start: int, count: int) -> None:
    """Write results, some of which others write too, and change what is said about one of them."""
    with Store.open(place) as store:
        for n in range(start, start + count):
            item = store.add_result(result(n), title=f"from {start}")
            store.update_result(item, tags=[f"tag {n % 3}", f"start {start}"], note=f"note {start}")
            job = store.add_job({"n": n})
            store.update_job(job.id, state="running")
            store.update_job(job.id, state="done", results=[item])


def run(place: str) -> None:
    """Begin a job, say so, and wait to be killed."""
    store = Store.open(place)
    job = store.add_job({"kind": "explain"})
    store.update_job(job.id, state="running", what="thinking", done=1, total=4)
    print(job.id, flush=True)
    time.sleep(600)


if __name__ == "__main__":
    actions: dict[str, Callable[..., None]] = {"kills": kills, "lines": lines, "write": write, "run": run}
    action, *words = sys.argv[1:]
    actions[action](*(int(word) if word.lstrip("-").isdigit() else word for word in words))
