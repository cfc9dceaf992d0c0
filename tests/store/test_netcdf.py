from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cutaway.core.errors import StoreError
from cutaway.core.result import Result
from cutaway.store import netcdf, records

odd = st.text(st.one_of(st.characters(), st.sampled_from("\x00\n\r\\\ud800\udfff\u2028🙂é")), max_size=6)
values = st.one_of(st.floats(), st.integers(-(2**53), 2**53), odd.filter(lambda text: text not in records._NAMES))
kinds = st.sampled_from(["<f8", "<f4", "<i8", "<i4", "<u1", "?", "text"])


@st.composite
def variables(draw: st.DrawFn) -> tuple[tuple[str, ...], Any]:
    dims = draw(st.sampled_from([(), ("x",), ("y",), ("x", "y"), ("empty",), ("y", "empty")]))
    sizes = {"x": 2, "y": 3, "empty": 0}
    shape = tuple(sizes[dim] for dim in dims)
    kind = draw(kinds)
    if kind != "text":
        return dims, draw(arrays.arrays(np.dtype(kind), shape))
    count = math.prod(shape)
    words = np.empty(shape, dtype=object)
    words[...] = np.array([*draw(st.lists(odd, min_size=count, max_size=count)), None], dtype=object)[:-1].reshape(
        shape
    )
    return dims, words


@st.composite
def results(draw: st.DrawFn) -> Result:
    names = draw(st.lists(st.sampled_from(["a", "b-c", "d.e", "ü", "x", "_f"]), unique=True, max_size=4))
    made = {name: draw(variables()) for name in names}
    # xarray itself refuses an array that is called like a dimension, unless it lies along that one alone
    made = {name: value for name, value in made.items() if name != "x" or value[0] == ("x",)}
    coords = {name for name in made if draw(st.booleans()) or name in made[name][0]}
    data = xr.Dataset(
        {name: value for name, value in made.items() if name not in coords},
        coords={name: value for name, value in made.items() if name in coords},
        attrs=draw(st.dictionaries(odd, odd, max_size=2)),
    )
    metrics = draw(st.dictionaries(odd, values, max_size=3))
    notes = tuple(draw(st.lists(odd, max_size=2)))
    return Result(data, metrics, notes=notes, provenance=draw(st.dictionaries(odd, odd, max_size=2)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(result=results())
@pytest.mark.parametrize("suffix", [".nc", ".json"])
def test_what_is_read_is_what_was_written(tmp_path: Path, suffix: str, result: Result) -> None:
    path = result.save(tmp_path / f"result{suffix}")
    back = Result.load(path)
    assert back == result
    assert back.id == result.id
    assert back.data.identical(result.data)
    assert {n: v.dtype for n, v in back.data.variables.items()} == {
        n: v.dtype for n, v in result.data.variables.items()
    }
    assert repr(dict(back.metrics)) == repr(dict(result.metrics))
    assert back.notes == result.notes
    assert back.provenance == result.provenance
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["result_v1.nc", "result_v1.json"])
def test_a_file_of_version_1_still_opens(data: Path, kept: ModuleType, name: str) -> None:
    back, expected = Result.load(data / name), kept.result()
    assert back.data.identical(expected.data)
    assert back.data["token"].values.tolist() == kept.WORDS
    assert back.metrics == expected.metrics
    assert back.views == expected.views
    assert back.checks == expected.checks
    assert back.notes == expected.notes
    assert back.provenance == expected.provenance


def test_plain_xarray_opens_the_file_and_reads_every_array(data: Path, kept: ModuleType) -> None:
    code = (
        "import sys, json, xarray as xr\n"
        "data = xr.open_dataset(sys.argv[1]).load()\n"
        "value, token, metrics = data['value'], data['token'], json.loads(data.attrs['metrics'])\n"
        "print(json.dumps([sorted(data.data_vars), sorted(data.coords), value.values.tolist(),\n"
        "                  token.values.tolist(), value.attrs, metrics]))\n"
        "assert 'cutaway' not in sys.modules"
    )
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(data / "result_v1.nc")],
        capture_output=True,
        text=True,
        check=True,
    )
    names, coords, numbers, words, attributes, metrics = json.loads(out.stdout)
    expected = kept.result()
    assert names == sorted(expected.data.data_vars)
    assert coords == ["layer", "token"]
    assert numbers == expected.data["value"].values.tolist()
    # one of the words cannot be held, so all of them are escaped
    assert words == ["<s>", " Mary\n", "\\u0000", "\\ud83d", "🙂", "", "back\\\\slash \\\\u0041"]
    assert attributes == {"units": "logits"}
    assert metrics["top"] == " Mary"


def test_words_that_can_be_held_are_written_as_they_are(tmp_path: Path) -> None:
    words = np.array([" a\\b", "c\n", "🙂", ""], dtype=object)
    path = Result(xr.Dataset({"token": ("x", words)})).save(tmp_path / "r.nc")
    with xr.open_dataset(path) as plain:
        assert plain["token"].values.tolist() == words.tolist()


def test_large_arrays_are_compressed_and_exact(tmp_path: Path) -> None:
    zeros = np.zeros((200, 400))
    zeros[3, 4] = 1e-300
    path = Result(xr.Dataset({"v": (("a", "b"), zeros)})).save(tmp_path / "r.nc")
    assert path.stat().st_size < zeros.nbytes / 10
    assert np.array_equal(Result.load(path).data["v"].values, zeros)


def test_very_long_notes_and_provenance_fit(tmp_path: Path) -> None:
    result = Result(xr.Dataset(), provenance={"prompts": ["word " * 1000] * 100}, notes=("x" * 100_000,))
    assert Result.load(result.save(tmp_path / "r.nc")).provenance == result.provenance


def test_an_absent_file_gets_the_nearest_name(tmp_path: Path, kept: ModuleType) -> None:
    kept.result().save(tmp_path / "lens.nc")
    with pytest.raises(StoreError, match=r"lense\.nc does not exist.*did you mean 'lens\.nc'\?"):
        Result.load(tmp_path / "lense.nc")
    with pytest.raises(StoreError, match="does not exist"):
        Result.load(tmp_path / "nowhere" / "lens.json")


@pytest.mark.parametrize("suffix", [".nc", ".json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "text"])
def test_a_damaged_file_gets_the_sentence(tmp_path: Path, kept: ModuleType, suffix: str, damage: str) -> None:
    path = kept.result().save(tmp_path / f"r{suffix}")
    whole = path.read_bytes()
    noise = np.random.default_rng(0).bytes(len(whole))
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "noise": noise, "text": b"hello"}[damage])
    with pytest.raises(StoreError, match=r"cannot be read as a result.*Make it again, or take another copy\."):
        Result.load(path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of half-opened h5netcdf files
def test_every_flipped_byte_is_noticed_or_harmless(tmp_path: Path, kept: ModuleType) -> None:
    original = kept.result()
    path = original.save(tmp_path / "r.nc")
    whole = path.read_bytes()
    for at in np.random.default_rng(1).integers(0, len(whole), 60).tolist():
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(bytes(damaged))
        try:
            back = Result.load(path)
        except StoreError:
            continue
        assert back.data.identical(original.data)


def test_changed_numbers_are_noticed(tmp_path: Path, kept: ModuleType) -> None:
    path = kept.result().save(tmp_path / "r.nc")
    with xr.open_dataset(path, mask_and_scale=False) as opened:
        changed = opened.load()
    changed["value"][0, 0] = 5.0
    changed.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(StoreError, match=r"its contents and its id differ.*xarray\.open_dataset"):
        Result.load(path)


def test_a_file_of_another_program_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "weather.nc"
    xr.Dataset({"rain": ("day", [1.0, 2.0])}).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(StoreError, match=r"is a NetCDF file, but no result of cutaway.*xarray\.open_dataset"):
        Result.load(path)


def test_a_newer_file_asks_for_a_newer_cutaway(tmp_path: Path, kept: ModuleType) -> None:
    path = kept.result().save(tmp_path / "r.nc")
    with xr.open_dataset(path, mask_and_scale=False) as opened:
        newer = opened.load().assign_attrs(cutaway_format=netcdf.VERSION + 1)
    newer.to_netcdf(path, engine="h5netcdf")
    with pytest.raises(StoreError, match=r"written in format 2.*pip install -U cutaway"):
        Result.load(path)


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "r.nc"
    Result(xr.Dataset({"v": ("x", np.zeros(200_000))})).save(path)
    code = (
        "import sys, numpy as np, xarray as xr; from cutaway.core.result import Result\n"
        "result = Result(xr.Dataset({'v': ('x', np.random.default_rng(0).normal(size=200_000))}))\n"
        "print('ready', flush=True)\n"
        "while True: result.save(sys.argv[1])"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == "ready\n"
        for wait in (0.11, 0.05, 0.03, 0.02):
            time.sleep(wait)
            assert Result.load(path).data["v"].size == 200_000
        os.kill(writer.pid, signal.SIGKILL)
    assert Result.load(path).data["v"].size == 200_000


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path, kept: ModuleType) -> None:
    with pytest.raises(StoreError, match=r"there is no folder.*mkdir -p"):
        kept.result().save(tmp_path / "new" / "r.nc")


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path: Path, kept: ModuleType) -> None:
    (tmp_path / "r.nc").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        kept.result().save(tmp_path / "r.nc")
    assert [file.name for file in tmp_path.iterdir()] == ["r.nc"]


def test_json_is_strict(tmp_path: Path) -> None:
    result = Result(xr.Dataset({"v": ("x", [1.0, math.nan, math.inf, -math.inf])}), {"gap": math.nan})
    path = result.save(tmp_path / "r.json")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    record = json.loads(path.read_text(), parse_constant=refuse)
    assert record["arrays"]["v"]["values"] == [1.0, "NaN", "Infinity", "-Infinity"]
    assert Result.load(path) == result


def test_json_of_a_huge_result_is_refused_in_words(tmp_path: Path) -> None:
    result = Result(xr.Dataset({"v": ("x", np.zeros(records._MOST_NUMBERS + 1, dtype=np.int8))}))
    with pytest.raises(StoreError, match=r'5,000,001 numbers, too many to write as JSON.*Write "result\.nc"'):
        result.save(tmp_path / "r.json")
