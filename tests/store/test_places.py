"""Where a store is, who may open it, and how an index of an earlier cutaway becomes one of today."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from cutaway.core.errors import StoreError
from cutaway.core.result import Result
from cutaway.store import database, tables
from cutaway.store.index import Store

MIGRATIONS = str(resources.files("cutaway.store") / "migrations")
Make = Callable[..., Result]


def script() -> ScriptDirectory:
    return ScriptDirectory(MIGRATIONS)


def at_revision(place: str, revision: str) -> None:
    """An index as a cutaway of that revision left it."""
    url, folder = database.located(place)
    folder.mkdir(parents=True, exist_ok=True)
    engine = database.connected(url)
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    with database.writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_the_revisions_are_those_of_the_migrations() -> None:
    found = [each.revision for each in script().walk_revisions()]
    assert tuple(reversed(found)) == tables.REVISIONS
    assert script().get_heads() == [tables.REVISIONS[-1]]


def test_the_migrations_make_the_tables_that_the_code_uses(store: Store) -> None:
    with store.ground.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": tables.VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, tables.metadata) == []


@pytest.mark.parametrize("revision", tables.REVISIONS)
def test_an_index_of_each_revision_is_brought_up_to_date(place: str, revision: str, make_result: Make) -> None:
    at_revision(place, revision)
    item, row = "ab" * 32, "'x', '', '2026-01-01T00:00:00.000000+00:00', 3, 'cd', 'x', false"
    columns = "id, title, note, created, bytes, sha256, search, leaving"
    further = "method, task, model, seconds, command, metrics, views, checks, checks_passed"
    values = f"'{item}', {row}, 'lens', 'ioi', 'tiny', 1.5, '', '{{\"gap\": NaN}}', '[]', 2, 1"
    url, _ = database.located(place)
    engine = database.connected(url)
    with database.writing(engine) as connection:
        connection.execute(text(f"INSERT INTO results ({columns}, {further}) VALUES ({values})"))
        connection.execute(text(f"INSERT INTO tags (item, tag, place) VALUES ('{item}', 'kept', 0)"))
    engine.dispose()
    with Store.open(place) as store:
        found = store.summary(item)
        assert (found.title, found.method, found.seconds, found.tags, found.job) == ("x", "lens", 1.5, ("kept",), None)
        assert (found.checks, found.checks_passed) == (2, 1)
        new = store.add_result(make_result(), job=store.add_job({}).id)
        assert store.results().total == 2
        assert store.summary(new).job is not None
    with Store.open(place) as store:
        assert store.results(tag="kept").total == 1


def test_a_newer_index_is_refused_and_left_alone(place: str, make_result: Make) -> None:
    with Store.open(place) as store:
        item = store.add_result(make_result())
        with store.ground.writing() as connection:
            connection.execute(text(f"UPDATE {tables.VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"made by a newer cutaway \(its index is of version 9999\).*up to 0002.*-U"):
        Store.open(place)
    url, _ = database.located(place)
    engine = database.connected(url)
    with database.reading(engine) as connection:
        assert connection.scalar(text("SELECT id FROM results")) == item
        assert connection.scalar(text(f"SELECT version_num FROM {tables.VERSION_TABLE}")) == "9999"
    engine.dispose()


def test_a_migration_that_fails_leaves_the_index_as_it_was(tmp_path: Path) -> None:
    at_revision(str(tmp_path), "0001")
    index = sqlite3.connect(tmp_path / "index.sqlite")
    index.execute("CREATE TABLE jobs (id TEXT)")
    index.commit()
    with pytest.raises(StoreError, match="table jobs already exists"):
        Store.open(tmp_path)
    assert index.execute("SELECT version_num FROM cutaway_version").fetchall() == [("0001",)]
    index.execute("DROP TABLE jobs")
    index.commit()
    index.close()
    with Store.open(tmp_path) as store:
        assert store.jobs() == ()


def test_the_index_is_in_wal_mode_and_writes_through(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store, store.ground.reading() as connection:
        said = {name: connection.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")}
        assert said == {"journal_mode": "wal", "synchronous": 2}
        assert connection.scalar(text("PRAGMA busy_timeout")) == 60_000


def test_readers_do_not_wait_for_a_writer(tmp_path: Path, make_result: Make) -> None:
    with Store.open(tmp_path) as store, Store.open(tmp_path) as other:
        item = store.add_result(make_result(), title="before")
        with store.ground.writing() as connection:
            connection.execute(text("UPDATE results SET title = 'after'"))
            assert other.summary(item).title == "before"
        assert other.summary(item).title == "after"


def test_the_place_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTAWAY_STORE", str(tmp_path / "named"))
    with Store.open() as store:
        assert (store.place, store.files) == (str(tmp_path / "named"), tmp_path / "named")
    with Store.open(tmp_path / "said") as store:
        assert store.files == tmp_path / "said"
    monkeypatch.delenv("CUTAWAY_STORE")
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path / "user" / name))
    with Store.open() as store:
        assert store.files == tmp_path / "user" / "cutaway" / "store"
    assert (tmp_path / "user" / "cutaway" / "store" / "index.sqlite").is_file()


def test_folders_with_odd_names_will_do(tmp_path: Path, make_result: Make) -> None:
    folder = tmp_path / "50% über #1 ?x=y & more"
    with Store.open(folder) as store:
        item = store.add_result(make_result())
        assert store.path(item).is_relative_to(folder)
    assert (folder / "index.sqlite").is_file()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (
            "mysql://user:secret@host/db",
            "a store cannot be kept at a mysql:// address; a store is a folder, or a Postgre",
        ),
        ("sqlite:///x.sqlite", "a store cannot be kept at a sqlite:// address"),
        ("https://host/x", "a store cannot be kept at a https:// address"),
        ("://", "is a URL that cannot be read"),
        ("postgresql://me:secret@host:port/db", "is a URL that cannot be read"),
        ("postgresql://me:secret@host/db", r"no folder is named.*me:\*\*\*@host/db\?files=/shared/folder"),
        ("postgresql://me@host/db?sslmode=require", r"sslmode=require&files=/shared/folder"),
        ("postgresql://me@host/db?files=/a&files=/b", "no folder is named"),
    ],
)
def test_places_that_cannot_be_are_refused_in_words(place: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as refused:
        Store.open(place)
    assert "secret" not in str(refused.value)


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    url = f"postgresql://me:secret@/db?host={tmp_path}&files={tmp_path / 'files'}"
    with pytest.raises(StoreError, match="the index of the store at .*cannot be used") as refused:
        Store.open(url)
    assert "secret" not in str(refused.value)


def test_without_psycopg_a_url_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"needs the package psycopg.*pip install 'cutaway\[postgres\]'"):
        Store.open(f"postgresql://me@/db?files={tmp_path}")
    Store.open(tmp_path / "folder").close()


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'index.sqlite'}")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE results (mine TEXT)"))
    with pytest.raises(StoreError, match="holds tables of another program"):
        Store.open(tmp_path)
    assert inspect(engine).get_table_names() == ["results"]
    engine.dispose()


def test_a_broken_index_is_said_with_the_way_out(tmp_path: Path, make_result: Make) -> None:
    with Store.open(tmp_path) as store:
        item = store.add_result(make_result())
    for file in tmp_path.glob("index.sqlite-*"):
        file.unlink()
    (tmp_path / "index.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match=r"file is not a database.*Move index.sqlite away"):
        Store.open(tmp_path)
    (tmp_path / "index.sqlite").rename(tmp_path / "broken")
    with Store.open(tmp_path) as store:
        assert store.result(item) == make_result()
