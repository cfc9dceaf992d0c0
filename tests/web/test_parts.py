"""The parts of the server by themselves: arrays of all types, the cache, Python lines, pages."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from starlette.requests import Request
from starlette.responses import Response

from cutaway.core.errors import CutawayError, TaskError
from cutaway.core.result import Result
from cutaway.runtime.requests import Busy, TooSlow, WorkerError, WorkerLost
from cutaway.web import answers, arrays
from cutaway.web.answers import NotHere, Refusal
from cutaway.web.cache import Cache
from cutaway.web.pages import Pages
from cutaway.web.python_lines import python_lines

# --- arrays ----------------------------------------------------------------------------------------------------------

VALUES: dict[str, tuple[Any, str, str]] = {
    "float32": (np.array([1.5, np.nan, -np.inf], "f4"), "float32", "<f4"),
    "float64": (np.array([1 / 3, 1e300, -0.0]), "float64", "<f8"),
    "bool": (np.array([True, False, True]), "bool", "u1"),
    "int8": (np.array([-128, 0, 127], "i1"), "int32", "<i4"),
    "int64": (np.array([-(2**31), 0, 2**31 - 1]), "int32", "<i4"),
    "uint32": (np.array([0, 1, 2**32 - 1], "u4"), "float64", "<f8"),
    "wide": (np.array([0, 2**31, -(2**53)]), "float64", "<f8"),
    "empty": (np.zeros((0, 3), "f4"), "float32", "<f4"),
    "scalar": (np.float32(2.5), "float32", "<f4"),
}


def saved(tmp_path: Path, **data: Any) -> Path:
    variables = {
        name: (tuple(f"{name}_{axis}" for axis in range(np.ndim(values))), values) for name, values in data.items()
    }
    return Result(xr.Dataset(variables)).save(tmp_path / "result.nc")


@pytest.mark.parametrize("name", VALUES)
def test_numbers_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    values, dtype, raw = VALUES[name]
    sent = arrays.read_part(saved(tmp_path, x=values), "x", {}, 10**6)
    assert (sent.dtype, sent.shape, sent.media_type) == (dtype, np.shape(values), "application/octet-stream")
    np.testing.assert_array_equal(np.frombuffer(sent.body, raw).reshape(sent.shape), values)


@pytest.mark.parametrize("values", [np.array([2**53 + 1, 0]), np.array([2**64 - 1, 1], "u8")])
def test_a_number_that_no_float_holds_goes_as_text(tmp_path: Path, values: Any) -> None:
    sent = arrays.read_part(saved(tmp_path, x=values), "x", {}, 10**6)
    assert (sent.dtype, sent.media_type) == ("string", "application/json")
    assert [int(text) for text in json.loads(sent.body)] == values.tolist()


def test_text_comes_back_as_it_was(tmp_path: Path) -> None:
    texts = np.array([["a", "\0 \ud800", 'quote " \\u0041'], ["", "日本", "<b>"]], dtype=object)
    sent = arrays.read_part(saved(tmp_path, x=texts), "x", {"x_1": slice(1, 3)}, 10**6)
    assert (sent.dtype, sent.shape, sent.dims) == ("string", (2, 2), ("x_0", "x_1"))
    assert json.loads(sent.body) == texts[:, 1:3].ravel().tolist()


def test_only_the_part_asked_for_is_read(tmp_path: Path) -> None:
    """A tensor far larger than the limit is browsed by slices."""
    path = saved(tmp_path, pattern=np.random.default_rng(0).random((8, 4, 64, 64), dtype="f4"))
    with pytest.raises(Refusal, match="8 × 4 × 64 × 64") as refused:
        arrays.read_part(path, "pattern", {}, 100_000)
    assert refused.value.status == 413
    assert refused.value.instead == "Select a part of it, as in pattern_2=0:100."
    sent = arrays.read_part(path, "pattern", {"pattern_0": 3, "pattern_1": -1}, 100_000)
    assert (sent.shape, len(sent.body)) == ((64, 64), 64 * 64 * 4)
    assert sent.headers == {"x-dims": "pattern_2,pattern_3", "x-shape": "64,64", "x-dtype": "float32"}


def test_a_name_that_is_not_there_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NotHere, match="did you mean 'entropy'"):
        arrays.read_part(saved(tmp_path, entropy=np.zeros(2)), "entropi", {}, 100)


# --- answers ---------------------------------------------------------------------------------------------------------


def test_what_json_does_not_have_becomes_null() -> None:
    assert json.loads(answers.encoded({"a": [float("nan"), float("inf"), 1.5], "b": (True, None, np.float32(2))})) == {
        "a": [None, None, 1.5],
        "b": [True, None, 2.0],
    }


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TaskError("a"), 422),
        (NotHere("a"), 404),
        (Busy("0" * 32, "patching"), 409),
        (TooSlow("a"), 408),
        (WorkerLost("a"), 409),
        (WorkerError("TaskError", "a"), 422),
        (WorkerError("unexpected", "a"), 500),
    ],
)
def test_errors_have_the_status_that_fits(error: CutawayError, status: int) -> None:
    response = answers.refusal(error)
    assert response.status_code == status
    assert set(json.loads(bytes(response.body))["error"]) >= {"what", "expected", "instead"}


# --- the cache -------------------------------------------------------------------------------------------------------


def test_a_thing_asked_for_by_many_is_made_once() -> None:
    made = []

    async def make() -> bytes:
        made.append(1)
        await asyncio.sleep(0.05)
        return b"thing"

    async def ask() -> list[bytes]:
        cache: Cache[bytes] = Cache(100, size=len)
        first = await asyncio.gather(*(cache.get("a", make) for _ in range(50)))
        return [*first, await cache.get("a", make)]

    assert asyncio.run(ask()) == [b"thing"] * 51
    assert len(made) == 1


def test_the_oldest_goes_when_there_is_no_room() -> None:
    made: list[str] = []

    async def ask() -> None:
        cache: Cache[bytes] = Cache(10, size=len)

        async def get(key: str) -> bytes:
            async def make() -> bytes:
                made.append(key)
                return b"12345"

            return await cache.get(key, make)

        for key in ("a", "b", "a", "c", "a", "b"):
            await get(key)
        assert await cache.get("large", lambda: asyncio.sleep(0, b"x" * 50)) == b"x" * 50
        await get("b")

    asyncio.run(ask())
    assert made == ["a", "b", "c", "b"], "b was not asked for longest, and what is too large drives nothing out"


def test_what_is_old_or_forgotten_is_made_anew() -> None:
    made: list[int] = []

    async def make() -> bytes:
        made.append(1)
        return b"x"

    async def ask() -> None:
        cache: Cache[bytes] = Cache(10, 0.05, len)
        await cache.get("a", make)
        await asyncio.sleep(0.1)
        await cache.get("a", make)
        cache.forget(lambda key: key == "b")
        await cache.get("a", make)
        cache.forget()
        await cache.get("a", make)

    asyncio.run(ask())
    assert len(made) == 3


def test_what_was_being_made_when_it_was_forgotten_is_not_kept() -> None:
    async def ask() -> list[bytes]:
        cache: Cache[bytes] = Cache(100, size=len)
        old = asyncio.ensure_future(cache.get("a", lambda: asyncio.sleep(0.05, b"old")))
        await asyncio.sleep(0.01)
        cache.forget()
        return [
            await cache.get("a", lambda: asyncio.sleep(0, b"new")),
            await old,
            await cache.get("a", lambda: asyncio.sleep(0, b"late")),
        ]

    assert asyncio.run(ask()) == [b"new", b"old", b"new"]


def test_what_nobody_waits_for_is_given_up() -> None:
    ended: list[str] = []

    async def make() -> bytes:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            ended.append("given up")
            raise
        return b""

    async def ask() -> None:
        cache: Cache[bytes] = Cache(100, size=len)
        tasks = [asyncio.ensure_future(cache.get("a", make)) for _ in range(2)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        await asyncio.sleep(0.01)
        assert not ended
        tasks[1].cancel()
        await asyncio.sleep(0.01)

    asyncio.run(ask())
    assert ended == ["given up"]


def test_a_failure_is_not_kept() -> None:
    async def ask() -> bytes:
        cache: Cache[bytes] = Cache(100, size=len)

        async def fail() -> bytes:
            raise TaskError("no")

        with pytest.raises(TaskError):
            await cache.get("a", fail)
        return await cache.get("a", lambda: asyncio.sleep(0, b"yes"))

    assert asyncio.run(ask()) == b"yes"


# --- Python lines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        (
            "cutaway run logit_lens --model smollm2 --task ioi task.n=20 top=3",
            ["model = ca.open('smollm2')", "task = ca.tasks.ioi(n=20)", "result = ca.logit_lens(model, task, top=3)"],
        ),
        (
            "cutaway run ablate --model smollm2 --dtype=bfloat16 --prompt 'It'\\''s' --answer ' a| b' --metric rank sites='z[*], mlp_out[3]'",
            [
                "model = ca.open('smollm2', dtype='bfloat16')",
                """task = ca.Task.from_prompts(["It's"], answers=[[' a', ' b']], metric='rank')""",
                "result = ca.ablate(model, task, sites='z[*], mlp_out[3]')",
            ],
        ),
        (
            "cutaway --plugin=my.py run my/margin --model m --file prompts.csv deep=true",
            [
                "from cutaway.core import registry",
                "registry.load_file('my.py')",
                "task = ca.Task.from_file('prompts.csv')",
                "result = registry.get('method', 'my/margin')(model, task, deep=True)",
            ],
        ),
        ("", ["result = Store.open().result('abc')"]),
        (
            "cutaway explain 'The capital'",
            ["# Made with: cutaway explain 'The capital'", "result = Store.open().result('abc')"],
        ),
    ],
)
def test_a_command_becomes_python(command: str, lines: list[str]) -> None:
    text = python_lines(command, {}, "abc")
    compile(text, "lines", "exec")
    for line in lines:
        assert line in text.splitlines()


def test_values_are_those_of_the_record() -> None:
    record = {"parameters": {"tokens": ["a", "b"], "scale": 1.0}}
    text = python_lines(
        "cutaway run steer --model m -- --prompt x tokens=a,b scale=1".replace("-- ", ""), record, "abc"
    )
    assert "tokens=['a', 'b'], scale=1.0" in text


def test_no_command_becomes_code() -> None:
    """Values are written as literals, whatever stands in them."""
    evil = 'cutaway run logit_lens --model "\');import os;(\'" --task ioi top=\'__import__("os")\' "task.n=1);x("'
    tree = compile(python_lines(evil, {}, "abc"), "lines", "exec", flags=0x400)
    names = {node.names[0].name for node in tree.body if type(node).__name__ == "Import"}  # type: ignore[attr-defined]
    assert names == {"cutaway"}


# --- pages -----------------------------------------------------------------------------------------------------------


def ask(pages: Pages, path: str, **headers: str) -> Response:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": raw, "server": ("x", 1)}
    return asyncio.run(pages.answer(Request(scope)))


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>built</title>", encoding="utf-8")
    (folder / "assets" / "index-Ab12Cd34.js").write_text("export const a = 1;\n" * 200, encoding="utf-8")
    (folder / "icon.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", encoding="utf-8")
    return folder


def test_without_a_built_front_end_the_page_says_how_to_build_it(tmp_path: Path) -> None:
    page = ask(Pages(tmp_path / "nothing"), "/explain")
    assert page.status_code == 200
    assert b"make web" in page.body


def test_hashed_files_are_kept_and_the_page_is_asked_for_anew(built: Path) -> None:
    pages = Pages(built)
    script, page, icon = (ask(pages, path) for path in ("/assets/index-Ab12Cd34.js", "/", "/icon.svg"))
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert page.headers["cache-control"] == icon.headers["cache-control"] == "no-cache"
    assert icon.headers["content-type"] == "image/svg+xml"


def test_every_other_path_is_the_page(built: Path) -> None:
    pages = Pages(built)
    assert {bytes(ask(pages, path).body) for path in ("/", "/results/ab12?view=1", "/model", "/a/b/c")} == {
        b"<!doctype html><title>built</title>"
    }
    assert ask(pages, "/assets/old-12345678.js").status_code == 404


def test_text_is_compressed_for_who_takes_it(built: Path) -> None:
    pages = Pages(built)
    packed = ask(pages, "/assets/index-Ab12Cd34.js", accept_encoding="gzip, br")
    plain = ask(pages, "/assets/index-Ab12Cd34.js")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert "content-encoding" not in plain.headers


def test_a_page_that_is_known_is_not_sent_again(built: Path) -> None:
    pages = Pages(built)
    tag = ask(pages, "/").headers["etag"]
    assert ask(pages, "/", if_none_match=tag).status_code == 304
    (built / "index.html").write_text("<!doctype html><title>anew</title>", encoding="utf-8")
    os.utime(built / "index.html", ns=(1, 1))
    assert b"anew" in ask(pages, "/", if_none_match=tag).body


def test_a_link_out_of_the_folder_is_not_followed(built: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret", encoding="utf-8")
    (built / "assets" / "way.txt").symlink_to(secret)
    assert ask(Pages(built), "/assets/way.txt").status_code == 404
