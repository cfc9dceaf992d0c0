"""What is put into a store comes out again, is found, named and deleted; the same in SQLite and in PostgreSQL."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pytest

from cutaway.core.errors import ParameterError, StoreError
from cutaway.core.result import Result
from cutaway.store.index import NotKept, ResultSummary, Store

Make = Callable[..., Result]


def test_what_is_put_in_comes_out(store: Store, kept: ModuleType) -> None:
    result = kept.result()
    item = store.add_result(result, title="Two layers")
    assert item == result.id
    back = store.result(item)
    assert back == result
    assert dict(back.provenance) == dict(result.provenance)
    assert store.path(item) == store.files / "objects" / item[:2] / f"{item[2:]}.nc"
    assert Result.load(store.path(item)) == result


def test_the_summary_says_what_a_list_needs(store: Store, make_result: Make) -> None:
    before = datetime.now(UTC)
    result = make_result(3)
    found = store.summary(store.add_result(result, title="Third"))
    assert (found.id, found.method, found.task, found.model) == (result.id, "logit_lens", "ioi", "tiny")
    assert (found.title, found.seconds, found.tags, found.note, found.job) == ("Third", 3.5, (), "", None)
    assert (found.checks, found.checks_passed) == (2, 1)
    assert found.metrics["gap"] == 1.5
    assert found.metrics["odd"] != found.metrics["odd"]
    assert found.views[0]["title"] == "Effect 3"
    assert found.views[0]["roles"] == {"value": "value", "x": "token", "y": "layer"}
    assert found.command.startswith("cutaway run logit_lens")
    assert found.bytes == store.path(result.id).stat().st_size
    assert before <= datetime.fromisoformat(found.created) <= datetime.now(UTC)
    assert found.created.endswith("+00:00")
    assert json.loads(json.dumps(found.record()))["views"][0]["title"] == "Effect 3"


def test_a_result_is_kept_once(store: Store, make_result: Make) -> None:
    item = store.add_result(make_result(), title="first")
    written = store.path(item).stat()
    assert store.add_result(make_result(), title="second") == item
    assert store.summary(item).title == "first"
    assert store.path(item).stat().st_mtime_ns == written.st_mtime_ns
    assert store.results().total == 1
    store.update_result(item, title="")
    store.add_result(make_result(), title="third")
    assert store.summary(item).title == "third"


def test_a_file_that_was_lost_is_written_again(store: Store, make_result: Make) -> None:
    item = store.add_result(make_result(), title="kept")
    store.path(item).unlink()
    with pytest.raises(StoreError, match="is gone: .*store gc"):
        store.result(item)
    assert store.add_result(make_result()) == item
    assert store.result(item) == make_result()
    assert store.summary(item).title == "kept"
    store.path(item).write_bytes(b"half")
    store.add_result(make_result())
    assert store.result(item) == make_result()
    assert store.check().faults == ()


def test_the_beginning_of_an_id_is_enough(store: Store, make_result: Make) -> None:
    item = store.add_result(make_result())
    assert store.result(item[:4]).id == item
    assert store.summary(item[:9]).id == item
    ids = [store.add_result(make_result(n)) for n in range(1, 400) if n < 3]
    assert len({item, *ids}) == 3


def test_an_id_that_several_begin_with_is_refused(store: Store, make_result: Make) -> None:
    seen: dict[str, Result] = {}
    for n in range(2000):
        result = make_result(n)
        other = seen.setdefault(result.id[:4], result)
        if other != result:
            break
    else:
        raise AssertionError("no two ids begin alike")
    store.add_result(other)
    store.add_result(result)
    with pytest.raises(StoreError, match=f"several results have an id that begins with '{result.id[:4]}'.*Write more"):
        store.result(result.id[:4])
    assert store.result(result.id) == result


@pytest.mark.parametrize(
    "wrong",
    ["", "abc", "../../../etc/passwd", "..%2f..", "ABCDEF12", "0123456789abcdefg", "%", "____", "a" * 65, "0" * 9999],
)
def test_what_is_no_id_reaches_neither_disk_nor_database(store: Store, wrong: str) -> None:
    for ask in (store.result, store.path, store.summary, store.delete_result, store.artifact, store.artifact_path):
        with pytest.raises(NotKept, match="is not the id of"):
            ask(wrong)
    with pytest.raises(NotKept, match="is not the id of a job"):
        store.job(wrong)
    with pytest.raises(NotKept, match="is not the id of a result"):
        store.update_result(wrong, title="x")


def test_what_is_not_there_is_said(store: Store) -> None:
    with pytest.raises(NotKept, match="the store has no result 'abcd1234'"):
        store.result("abcd1234")
    with pytest.raises(NotKept, match="the store has no artifact"):
        store.artifact("abcd1234")
    with pytest.raises(NotKept, match="the store has no job"):
        store.job("0" * 32)


def test_the_list_is_filtered(store: Store, make_result: Make) -> None:
    a = store.add_result(make_result(0), title="Größe of the Effect")
    b = store.add_result(make_result(1, method="patching"))
    c = store.add_result(make_result(2, model="other", command="cutaway run logit_lens --prompt '100%_sure'"))
    store.update_result(b, tags=["paper", "to do"], note="Compare with figure 3.")

    def ids(**asked: object) -> list[str]:
        page = store.results(order="created", **asked)  # type: ignore[arg-type]
        assert page.total == len(page.items)
        return [item.id for item in page.items]

    assert ids() == [a, b, c]
    assert ids(method="patching") == [b]
    assert ids(model="other") == [c]
    assert ids(task="ioi") == [a, b, c]
    assert ids(task="io") == []
    assert ids(tag="to do") == [b]
    assert ids(tag="to") == []
    assert ids(text="grösse") == [a]  # as ß is folded
    assert ids(text="EFFECT größe") == [a]
    assert ids(text="figure") == [b]
    assert ids(text="paper") == [b]
    assert ids(text="mary 1") == [b]
    assert ids(text="%") == [c]
    assert ids(text="0%_s") == [c]
    assert ids(text="_") == [a, c]
    assert ids(text="nothing has this") == []
    assert ids(text="patching", model="other") == []


def test_any_text_may_be_looked_for(store: Store, make_result: Make) -> None:
    store.add_result(make_result())
    for text in ("\x00", "\ud800", "'; DROP TABLE results; --", "x" * 100_000, "q9 " * 5000, "\\"):
        for asked in ({"text": text}, {"tag": text}, {"method": text}, {"model": text}, {"task": text}):
            assert store.results(**asked).items == ()
            assert store.artifacts(text=text, kind=text, tag=text).items == ()
    assert store.results().total == 1


def test_the_list_is_ordered_and_cut(store: Store, make_result: Make) -> None:
    ids = [store.add_result(make_result(n), title=title) for n, title in enumerate("bdac")]
    assert [item.id for item in store.results().items] == ids[::-1]
    assert [item.title for item in store.results(order="title").items] == list("abcd")
    assert [item.title for item in store.results(order="-title").items] == list("dcba")
    assert [item.id for item in store.results(order="-seconds").items] == ids[::-1]
    page = store.results(order="created", limit=2, offset=1)
    assert ([item.id for item in page.items], page.total) == (ids[1:3], 4)
    assert store.results(offset=10).items == ()
    with pytest.raises(ParameterError, match=r"ordered by 'creatd'; did you mean 'created'\?"):
        store.results(order="creatd")
    with pytest.raises(ParameterError, match="cannot be ordered by 'search'"):
        store.results(order="search")
    for window in ({"limit": 0}, {"limit": 10_001}, {"offset": -1}, {"offset": 1 << 40}):
        with pytest.raises(ParameterError, match="a limit is 1 to 10,000"):
            store.results(**window)  # type: ignore[arg-type]


def test_what_a_person_says_is_kept(store: Store, make_result: Make) -> None:
    item = store.add_result(make_result())
    said = store.update_result(item[:8], title="A <b>title</b>", tags=[" b ", "a", "b", ""], note="line\nline")
    assert (said.title, said.tags, said.note) == ("A <b>title</b>", ("b", "a"), "line\nline")
    assert store.update_result(item, title="new") == store.summary(item)
    assert store.summary(item).tags == ("b", "a")
    assert store.update_result(item, tags=[]).tags == ()
    assert store.results(tag="b").total == 0
    assert store.results(text="line").total == 1
    assert store.update_result(item, note="").note == ""
    assert store.results(text="line").total == 0


def test_what_no_database_holds_is_replaced(store: Store, make_result: Make) -> None:
    item = store.add_result(make_result(command="a\x00b"), title="a\x00b\ud83d")
    assert store.summary(item).title == "a\ufffdb\ufffd"
    said = store.update_result(item, tags=["\x00", "\ufffd", "\ud83d🙂"], note="\udfff")
    assert (said.tags, said.note) == (("\ufffd", "\ufffd🙂"), "\ufffd")
    job = store.add_job({"prompt": "\x00\ud83d🙂", "scale": float("inf")})
    assert dict(store.job(job.id).spec) == {"prompt": "\x00\ud83d🙂", "scale": float("inf")}


def test_what_is_too_long_is_refused(store: Store, make_result: Make) -> None:
    item = store.add_result(make_result())
    with pytest.raises(ParameterError, match="the title has 501 characters; it is a text of 500"):
        store.update_result(item, title="x" * 501)
    with pytest.raises(ParameterError, match="the title has 501 characters"):
        store.add_result(make_result(1), title="x" * 501)
    assert store.results().total == 1
    with pytest.raises(ParameterError, match="the note has 100,001 characters"):
        store.update_result(item, note="x" * 100_001)
    with pytest.raises(ParameterError, match="the tag has 101 characters"):
        store.update_result(item, tags=["x" * 101])
    with pytest.raises(ParameterError, match="the tag has int"):
        store.update_result(item, tags=[3])  # type: ignore[list-item]
    with pytest.raises(ParameterError, match="51 tags were given; 50 is the most"):
        store.update_result(item, tags=[str(n) for n in range(51)])
    with pytest.raises(ParameterError, match=r"""they are a list of words. Write \["paper"\]"""):
        store.update_result(item, tags="paper")


def test_provenance_of_others_is_listed_as_far_as_it_goes(store: Store, make_result: Make) -> None:
    data = make_result().data
    odd = [
        {},
        {"method": 3, "model": "gpt", "task": None, "seconds": "long", "command": ["x"]},
        {"method": "x" * 5000, "model": {"name": None}, "seconds": float("nan")},
        {"seconds": 10**400},
    ]
    for n, provenance in enumerate(odd):
        item = store.add_result(Result(data, {"n": n}, provenance=provenance))
        assert store.summary(item).seconds == 0
        assert store.result(item).metrics["n"] == n
    found = store.results(order="created").items
    assert [len(item.method) for item in found] == [0, 0, 400, 0]
    assert found[1].model == "gpt"


def test_a_result_is_deleted_whole(store: Store, make_result: Make) -> None:
    job = store.add_job({})
    item, other = store.add_result(make_result(), job=job.id), store.add_result(make_result(1), job=job.id)
    store.update_result(item, tags=["gone"])
    path = store.path(item)
    store.delete_result(item[:10])
    assert not path.exists()
    assert [found.id for found in store.results().items] == [other]
    assert store.results(tag="gone").total == 0
    assert store.job(job.id).results == (other,)
    with pytest.raises(NotKept):
        store.delete_result(item)
    assert store.add_result(make_result()) == item
    assert store.summary(item).tags == ()


def test_artifacts_are_kept_too(store: Store, kept: ModuleType) -> None:
    artifact = kept.artifact()
    item = store.add_artifact(artifact, title="A direction")
    assert store.add_artifact(artifact) == item == artifact.id
    assert store.artifact(item[:6]) == artifact
    assert store.artifact_path(item).suffix == ".safetensors"
    found = store.artifact_summary(item)
    assert (found.kind, found.title, dict(found.about)) == ("direction", "A direction", {"site": "resid_post[3]"})
    assert dict(found.provenance) == {"seed": 0}
    assert store.update_artifact(item, tags=["mine"]).tags == ("mine",)
    assert [each.id for each in store.artifacts(text="resid_post", tag="mine", kind="direction").items] == [item]
    assert store.artifacts(kind="probe").items == ()
    assert store.results().total == 0
    with pytest.raises(NotKept, match="no result"):
        store.result(item)
    assert json.loads(json.dumps(found.record()))["about"] == {"site": "resid_post[3]"}
    store.delete_artifact(item)
    assert store.artifacts().total == 0


def test_a_job_goes_from_queued_to_done(store: Store, make_result: Make) -> None:
    spec = {"kind": "method", "method": "logit_lens", "parameters": {"top": 3}}
    job = store.add_job(spec)
    assert re.fullmatch("[0-9a-f]{32}", job.id)
    assert (job.kind, dict(job.spec), job.state, job.fraction) == ("method", spec, "queued", None)
    assert (job.started, job.finished, job.results, job.report, job.ended) == (None, None, (), None, False)
    running = store.update_job(job.id, state="running", what="patching", done=3, total=12)
    assert (running.state, running.what, running.fraction) == ("running", "patching", 0.25)
    assert running.started is not None
    assert running.started >= running.created
    assert store.update_job(job.id, done=5, total=None).fraction is None
    item = store.add_result(make_result(), job=job.id)
    assert store.summary(item).job == job.id
    ended = store.update_job(job.id, state="done", report={"answer": " Mary"})
    assert (ended.state, ended.fraction, ended.results, ended.ended) == ("done", 1.0, (item,), True)
    assert ended.report == {"answer": " Mary"}
    assert ended.started == running.started
    assert ended.finished is not None
    assert json.loads(json.dumps(ended.record()))["results"] == [item]
    again = store.add_job(spec)
    store.add_result(make_result(), job=again.id)
    assert store.job(again.id).results == (item,)
    assert store.summary(item).job == job.id


def test_jobs_are_listed(store: Store) -> None:
    jobs = [store.add_job({"kind": kind}) for kind in ("explain", "method", "method")]
    store.update_job(jobs[0].id, state="failed", error="The model has no such layer.")
    assert [job.id for job in store.jobs()] == [job.id for job in reversed(jobs)]
    assert [job.error for job in store.jobs("failed")] == ["The model has no such layer."]
    assert len(store.jobs(limit=2)) == 2
    with pytest.raises(ParameterError, match=r"no state 'runing'; did you mean 'running'\?"):
        store.jobs("runing")


def test_what_a_job_cannot_be_is_refused(store: Store, make_result: Make) -> None:
    with pytest.raises(ParameterError, match="no kind of job 'train'"):
        store.add_job({"kind": "train"})
    with pytest.raises(ParameterError, match="cannot be written as JSON"):
        store.add_job({"model": object()})
    job = store.add_job({}).id
    with pytest.raises(ParameterError, match=r"no field 'stat' that changes; did you mean 'state'\?"):
        store.update_job(job, stat="done")
    with pytest.raises(ParameterError, match="no state 'over'"):
        store.update_job(job, state="over")
    store.update_job(job, state="cancelled")
    with pytest.raises(ParameterError, match="is cancelled and cannot become done; a job that has ended stays"):
        store.update_job(job, state="done")
    assert store.update_job(job, report={"so": "far"}).state == "cancelled"
    with pytest.raises(NotKept, match="the store has no job"):
        store.update_job("0" * 32, state="done")
    with pytest.raises(NotKept, match="is not the id of a job"):
        store.add_result(make_result(), job="../x")
    assert store.results().total == 0
    store.add_result(make_result(), job="f" * 32)  # of another store


def test_threads_share_a_store(store: Store, make_result: Make) -> None:
    from concurrent.futures import ThreadPoolExecutor

    item = store.add_result(make_result())

    def work(n: int) -> ResultSummary:
        store.add_job({"n": n})
        store.results(text="effect")
        return store.update_result(item, tags=[f"t{n}"], note=str(n))

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(work, range(40)))
    assert len(done) == 40
    assert len(store.jobs(limit=100)) == 40
    last = store.summary(item)
    assert last.tags == (f"t{last.note}",)


def test_it_is_there_when_opened_again(place: str, make_result: Make) -> None:
    with Store.open(place) as store:
        item = store.add_result(make_result(), title="Mine")
    with Store.open(place) as store:
        assert store.summary(item).title == "Mine"
        assert store.result(item) == make_result()


def test_opening_and_listing_need_no_torch(place: str, kept: ModuleType) -> None:
    with Store.open(place) as store:
        store.add_result(kept.result())
        artifact = store.add_artifact(kept.artifact())
    code = (
        "import sys; from cutaway.store.index import Store\n"
        f"with Store.open({place!r}) as s: s.results(), s.artifacts(), s.jobs(), s.check(); s.artifact_summary('{artifact}')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_command_that_keeps_nothing_imports_no_database() -> None:
    code = (
        "import sys, cutaway; from cutaway.cli.main import run_words\n"
        "assert run_words(['list']) == 0; assert run_words(['--help']) == 0\n"
        "loaded = [m for m in ('sqlalchemy', 'alembic', 'psycopg') if m in sys.modules]; assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_an_opened_store_of_today_needs_no_migration(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    code = f"import sys; from cutaway.store.index import Store; Store.open({str(tmp_path)!r}).close()\nassert 'alembic' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
