"""What is wrong with a store is found, what can be mended is mended, and nothing that can be used is deleted."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sqlalchemy import delete, insert, update

from cutaway.core.errors import StoreError
from cutaway.core.result import Result
from cutaway.store import checking
from cutaway.store.index import Report, Store
from cutaway.store.tables import artifacts, results, tags

Make = Callable[..., Result]


def kinds(report: Report) -> list[tuple[str, str]]:
    return [(fault.kind, fault.id) for fault in report.faults]


def lose_row(store: Store, item: str) -> None:
    with store.ground.writing() as connection:
        connection.execute(delete(results).where(results.c.id == item))


def test_a_store_in_order_has_no_faults(store: Store, make_result: Make, kept: ModuleType) -> None:
    items = [store.add_result(make_result(n)) for n in range(3)]
    artifact = store.add_artifact(kept.artifact())
    store.add_job({})
    report = store.check()
    size = sum(store.path(item).stat().st_size for item in items) + store.artifact_path(artifact).stat().st_size
    assert report == Report(results=3, artifacts=1, jobs=1, bytes=size, faults=(), repaired=())
    assert report.sound


def test_a_file_without_a_row_is_found_and_taken_in(store: Store, make_result: Make) -> None:
    result = make_result(4)
    item = store.add_result(result)
    written = store.summary(item)
    lose_row(store, item)
    assert store.results().total == 0
    report = store.check()
    assert kinds(report) == [("unlisted", item)]
    assert not report.sound
    mended = store.check(repair=True)
    assert (mended.faults, [fault.id for fault in mended.repaired], mended.sound) == ((), [item], True)
    assert mended.results == 1
    again = store.summary(item)
    assert {**again.record(), "created": ""} == {**written.record(), "created": "", "metrics": again.metrics}
    assert store.result(item) == result
    assert store.check().faults == ()


def test_opening_takes_in_what_a_killed_process_finished(place: str, make_result: Make, kept: ModuleType) -> None:
    with Store.open(place) as store:
        item, artifact = store.add_result(make_result()), store.add_artifact(kept.artifact())
        lose_row(store, item)
        with store.ground.writing() as connection:
            connection.execute(delete(artifacts))
        assert sorted(kinds(store.check())) == sorted([("unlisted", item), ("unlisted", artifact)])
    with Store.open(place) as store:
        assert store.result(item) == make_result()
        assert store.artifact(artifact) == kept.artifact()
        assert dict(store.artifact_summary(artifact).about) == dict(kept.artifact().about)
        assert store.check().faults == ()


def test_a_deletion_that_was_broken_off_is_finished(place: str, make_result: Make) -> None:
    with Store.open(place) as store:
        item, other = store.add_result(make_result(0)), store.add_result(make_result(1))
        path = store.path(item)
        with store.ground.writing() as connection:
            connection.execute(insert(tags).values(item=item, tag="x", place=0))
            connection.execute(update(results).where(results.c.id == item).values(leaving=True))
        assert [found.id for found in store.results().items] == [other]
        assert path.exists()
    with Store.open(place) as store:
        assert not path.exists()
        assert store.results().total == 1
        assert store.results(tag="x").total == 0
        assert store.check().faults == ()


def test_what_is_being_deleted_can_be_kept_anew(store: Store, make_result: Make) -> None:
    item = store.add_result(make_result(), title="old")
    with store.ground.writing() as connection:
        connection.execute(update(results).values(leaving=True))
    assert store.add_result(make_result(), title="new") == item
    assert store.summary(item).title == "new"
    assert store.check().faults == ()


def test_a_lost_index_is_made_again_from_the_files(tmp_path: Path, make_result: Make) -> None:
    with Store.open(tmp_path) as store:
        items = {store.add_result(make_result(n)) for n in range(5)}
    for file in tmp_path.glob("index.sqlite*"):
        file.unlink()
    with Store.open(tmp_path) as store:
        assert {found.id for found in store.results().items} == items
        assert store.check().faults == ()


def test_opening_does_not_take_in_thousands(tmp_path: Path, make_result: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(tmp_path) as store:
        for n in range(5):
            lose_row(store, store.add_result(make_result(n)))
    monkeypatch.setattr(checking, "AT_OPENING", 2)
    with pytest.warns(UserWarning, match=r"The store has 5 files that are not in its index. `cutaway store check"):
        store = Store.open(tmp_path)
    with store:
        assert store.results().total == 2
        assert len(store.check(repair=True).repaired) == 3
        assert store.results().total == 5


def test_a_row_without_a_file_is_found_and_dropped(store: Store, make_result: Make) -> None:
    item, other = store.add_result(make_result(0)), store.add_result(make_result(1))
    store.path(item).unlink()
    report = store.check(repair=True)
    assert kinds(report) == [("missing", item)]
    assert report.faults[0].how == "The index knows of it, but the file is gone."
    assert not report.sound
    freed = store.gc()
    assert (freed.rows, freed.files) == (1, 0)
    assert [found.id for found in store.results().items] == [other]
    assert store.check().faults == ()


def test_a_damaged_file_is_found_by_its_digest(store: Store, make_result: Make) -> None:
    item, short = store.add_result(make_result(0)), store.add_result(make_result(1))
    path, content = store.path(item), store.path(item).read_bytes()
    at = content.index(np.array([1.0, 2.0, 3.0]).tobytes())
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    store.path(short).write_bytes(store.path(short).read_bytes()[:-10])
    report = store.check(repair=True)
    assert sorted(kinds(report)) == sorted([("damaged", item), ("damaged", short)])
    hows = {fault.id: fault.how for fault in report.faults}
    assert hows[item] == "Its contents are not those that were written."
    assert "bytes, and was written with" in hows[short]
    assert store.gc().rows == 0
    assert path.exists()
    freed = store.gc(damaged=True)
    assert (freed.rows, freed.files) == (2, 2)
    assert freed.bytes > 0
    assert not path.exists()
    assert store.check().faults == ()
    assert store.results().total == 0


def test_the_same_result_in_other_bytes_is_no_loss(store: Store, make_result: Make) -> None:
    item = store.add_result(make_result())
    other = Result(*(getattr(make_result(), name) for name in ("data", "metrics", "views", "checks", "notes")))
    assert other.id == item
    other.save(store.path(item))
    assert kinds(store.check()) == [("damaged", item)]
    assert [fault.id for fault in store.check(repair=True).repaired] == [item]
    assert store.check().faults == ()


def test_a_damaged_file_that_nobody_knows_is_left_until_asked(place: str, make_result: Make) -> None:
    with Store.open(place) as store:
        item = store.add_result(make_result())
        path = store.path(item)
        lose_row(store, item)
        path.write_bytes(path.read_bytes()[:100])
    with Store.open(place) as store:
        assert kinds(store.check(repair=True)) == [("damaged", item)]
        assert store.gc().files == 0
        freed = store.gc(damaged=True)
        assert (freed.files, freed.rows, freed.bytes) == (1, 0, 100)
        assert not path.exists()
        assert store.check().faults == ()


def test_a_file_under_another_name_is_not_taken_in(store: Store, make_result: Make) -> None:
    item = store.add_result(make_result())
    false = "ab" * 32
    path = store.ground.objects.path(false, ".nc")
    path.parent.mkdir(exist_ok=True)
    shutil.copy(store.path(item), path)
    report = store.check(repair=True)
    assert kinds(report) == [("damaged", false)]
    assert report.faults[0].how == "It holds another result than its name says."
    assert store.results().total == 1


def test_unfinished_files_go_when_they_are_old(store: Store, make_result: Make) -> None:
    store.add_result(make_result())
    old, young = (store.files / "incoming" / name for name in ("old.nc", "young.nc"))
    for path in (old, young):
        path.write_bytes(b"half of it")
    os.utime(old, (time.time() - 7200,) * 2)
    report = store.check()
    assert [fault.kind for fault in report.faults] == ["leftover", "leftover"]
    assert report.sound
    freed = store.gc()
    assert (freed.files, freed.bytes, freed.rows) == (1, 10, 0)
    assert (old.exists(), young.exists()) == (False, True)
    store.gc(older_than=0)
    assert not young.exists()
    assert store.results().total == 1


def test_an_index_is_not_emptied_because_a_disk_is_not_there(store: Store, make_result: Make) -> None:
    for n in range(11):
        store.add_result(make_result(n))
    (store.files / "objects").rename(store.files / "elsewhere")
    (store.files / "objects").mkdir()
    for damaged in (False, True):
        with pytest.raises(StoreError, match="the index knows 11 files, and .* has none of them; nothing was dropped"):
            store.gc(damaged=damaged)
    (store.files / "objects").rmdir()
    (store.files / "elsewhere").rename(store.files / "objects")
    assert store.check() == store.check(repair=True)
    assert store.results().total == 11


def test_files_of_others_are_told_and_left(store: Store, make_result: Make) -> None:
    store.add_result(make_result())
    strange = [store.files / "objects" / name for name in ("notes.txt", "zz/x.nc", "ab/short.nc")]
    for path in strange:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    report = store.check(repair=True)
    assert {(fault.kind, fault.path) for fault in report.faults} == {("strange", str(path)) for path in strange}
    assert report.sound
    store.gc(older_than=0, damaged=True)
    assert all(path.exists() for path in strange)


def test_a_full_or_locked_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"the store cannot use .*file.*Name another with --store"):
        Store.open(tmp_path / "file" / "store")
