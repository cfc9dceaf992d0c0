"""A store goes to another machine as one zip, and a zip from a stranger does no harm."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cutaway.core.errors import StoreError
from cutaway.core.result import Result
from cutaway.store.index import NotKept, Store, Transferred

Make = Callable[..., Result]


@pytest.fixture
def other(tmp_path: Path) -> Any:
    with Store.open(tmp_path / "other") as opened:
        yield opened


@pytest.fixture
def exported(store: Store, make_result: Make, tmp_path: Path) -> Path:
    store.add_result(make_result(), title="Mine")
    store.export(tmp_path / "mine.zip")
    return tmp_path / "mine.zip"


def changed(path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> Path:
    """The zip with its list and its members changed."""
    with zipfile.ZipFile(path) as zipped:
        members = {name: zipped.read(name) for name in zipped.namelist()}
    manifest = json.loads(members.pop("store.json"))
    change(manifest, members)
    target = path.with_name("changed.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("store.json", json.dumps(manifest))
        for name, content in members.items():
            zipped.writestr(name, content)
    return target


def test_everything_goes_over(store: Store, other: Store, make_result: Make, kept: ModuleType, tmp_path: Path) -> None:
    job = store.add_job({"method": "logit_lens", "prompt": "\x00"})
    store.update_job(job.id, state="running")
    items = [store.add_result(make_result(n), title=f"number {n}", job=job.id) for n in range(3)]
    store.update_job(job.id, state="done", report={"a": 1}, done=3, total=3)
    waiting = store.add_job({"kind": "explain"})
    artifact = store.add_artifact(kept.artifact(), title="direction")
    store.update_result(items[1], tags=["b", "a"], note="A note.")
    written = store.export(tmp_path / "all.zip")
    assert written == Transferred(results=3, artifacts=1, jobs=2)
    assert other.import_(tmp_path / "all.zip") == written
    for item in items:
        assert other.result(item) == store.result(item)
        assert str(other.summary(item)) == str(store.summary(item))  # NaN is not equal to itself
    assert other.results(tag="b", text="note number").items[0].tags == ("b", "a")
    assert other.artifact_summary(artifact) == store.artifact_summary(artifact)
    assert other.job(job.id) == store.job(job.id)
    assert (other.job(waiting.id).state, other.job(waiting.id).kind) == ("interrupted", "explain")
    assert other.check().faults == ()
    other.update_result(items[0], title="changed here")
    assert other.import_(tmp_path / "all.zip") == Transferred(known=6)
    assert other.summary(items[0]).title == "changed here"


def test_a_part_goes_over(store: Store, other: Store, make_result: Make, kept: ModuleType, tmp_path: Path) -> None:
    items = [store.add_result(make_result(n)) for n in range(3)]
    artifact = store.add_artifact(kept.artifact())
    store.add_job({})
    done = store.export(tmp_path / "part.zip", [items[2][:12], artifact])
    assert done == Transferred(results=1, artifacts=1, jobs=0)
    other.import_(tmp_path / "part.zip")
    assert [found.id for found in other.results().items] == [items[2]]
    assert other.artifact(artifact) == kept.artifact()
    with pytest.raises(NotKept, match="nothing with the id 'ffffffffffff'"):
        store.export(tmp_path / "none.zip", [items[0], "f" * 12])
    with pytest.raises(NotKept, match="nothing with the id ''"):
        store.export(tmp_path / "none.zip", [""])
    assert not (tmp_path / "none.zip").exists()
    assert store.export(tmp_path / "empty.zip", []) == Transferred()


def test_single_files_are_taken_in(store: Store, make_result: Make, kept: ModuleType, tmp_path: Path) -> None:
    result, artifact = make_result(), kept.artifact()
    assert store.import_(result.save(tmp_path / "r.nc")) == Transferred(results=1)
    assert store.import_(artifact.save(tmp_path / "a.safetensors")) == Transferred(artifacts=1)
    assert store.import_(tmp_path / "r.nc") == Transferred(known=1)
    assert store.result(result.id) == result
    assert store.artifact(artifact.id) == artifact
    assert store.check().faults == ()
    (tmp_path / "half.nc").write_bytes((tmp_path / "r.nc").read_bytes()[:50])
    with pytest.raises(StoreError, match="cannot be read as a result"):
        store.import_(tmp_path / "half.nc")


def test_what_is_damaged_is_not_exported(store: Store, make_result: Make, tmp_path: Path) -> None:
    item = store.add_result(make_result())
    store.path(item).write_bytes(b"x")
    with pytest.raises(StoreError, match="is gone or damaged. Only what is whole is exported"):
        store.export(tmp_path / "x.zip")
    assert list(tmp_path.glob("*.zip")) == []
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be unpacked"),
        (b"no zip at all", "cannot be unpacked"),
        (None, "does not exist"),
    ],
)
def test_what_is_no_zip_is_refused(store: Store, tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "x.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=said):
        store.import_(path)


def test_a_zip_of_something_else_is_refused(store: Store, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as zipped:
        zipped.writestr("readme.txt", "hello")
    with pytest.raises(StoreError, match="is no exported store.*no item named 'store.json'"):
        store.import_(tmp_path / "x.zip")


def _version(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    manifest["cutaway_store"] = 2


def _no_list(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    manifest["results"] = {"a": 1}


def _path_as_id(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    manifest["results"][0]["id"] = "../../../../escaped"
    members["objects/../../../../../escaped.nc"] = b"x"


def _another_id(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    (name,) = members
    manifest["results"][0]["id"] = "ab" * 32
    members["objects/ab/" + "ab" * 31 + ".nc"] = members.pop(name)


def _damaged(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    (name,) = members
    members[name] = members[name][:-1] + b"?"


def _bomb(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    (name,) = members
    members[name] = bytes(50_000_000)


def _too_large(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    manifest["results"][0]["bytes"] = 1 << 60


def _absent(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    members.clear()


def _title(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    manifest["results"][0]["title"] = ["not", "text"]


def _long_title(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    manifest["results"][0]["title"] = "x" * 10_000


def _tags(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    manifest["results"][0]["tags"] = [{}]


def _created(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    manifest["results"][0]["created"] = "yesterday"


def _job_of_result(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    manifest["results"][0]["job"] = "../x"


def _not_a_record(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    manifest["results"][0] = "text"


def _job(manifest: dict[str, Any], members: dict[str, bytes]) -> None:
    manifest["jobs"] = [{"id": "x"}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_version, r"by a newer cutaway \(version 2\).*-U cutaway"),
        (_no_list, "its list is not one of a store"),
        (_path_as_id, "is not an id; an id is 64 hexadecimal digits"),
        (_another_id, "its contents are not those announced"),
        (_damaged, "its contents are not those announced"),
        (_bomb, "is larger than announced"),
        (_too_large, "and the disk of the store has"),
        (_absent, "is missing. The zip names it"),
        (_title, "title is no text"),
        (_long_title, "the title has 10,000 characters"),
        (_tags, "the tag has dict"),
        (_created, "an entry of its list cannot be read"),
        (_job_of_result, "is not the id of a job"),
        (_not_a_record, "an entry of its list cannot be read"),
        (_job, "a job of its list cannot be read"),
    ],
)
def test_a_zip_that_lies_is_refused(
    exported: Path, other: Store, tmp_path: Path, change: Callable[..., None], said: str
) -> None:
    path = changed(exported, change)
    with pytest.raises(StoreError, match=said):
        other.import_(path)
    assert other.results().total == int(change is _job)
    assert other.jobs() == ()
    assert not list(tmp_path.parent.rglob("escaped*"))
    assert [*(other.files / "incoming").iterdir()] == []
    assert other.check().faults == ()


def test_a_damaged_stream_is_refused(exported: Path, other: Store) -> None:
    content = bytearray(exported.read_bytes())
    at = content.index(b".nc") + 200
    content[at : at + 40] = bytes(40)
    exported.write_bytes(content)
    with pytest.raises(StoreError, match=r"is damaged|cannot be unpacked"):
        other.import_(exported)
    assert other.results().total == 0
    assert [*(other.files / "incoming").iterdir()] == []
