from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from cutaway.core import view as views
from cutaway.core.result import Check, Result
from cutaway.drawing.characters.ink import Room, digit, fitted
from cutaway.drawing.framing import panel
from cutaway.drawing.notebook import plain
from cutaway.drawing.palette import Scale
from cutaway.drawing.panels import Grid, shrunk
from cutaway.drawing.terminal import renderable, ruler, terminal


def printed(result: Result, view: int | None = None, *, width: int = 80, colours: bool = False) -> str:
    system = "truecolor" if colours else None
    console = Console(file=io.StringIO(), width=width, color_system=system, force_terminal=colours)
    with console.capture() as captured:
        terminal(result, view, console=console)
    return captured.get()


def heat(values: np.ndarray, **more: object) -> Result:
    return Result(
        xr.Dataset({"v": (("layer", "position"), values)}),
        views=(views.heatmap(value="v", x="position", y="layer"),),
    )


@pytest.mark.parametrize("width", [30, 48, 80, 100, 200])
@pytest.mark.parametrize("colours", [False, True])
def test_every_line_fits_the_terminal(result: Result, width: int, colours: bool) -> None:
    console = Console(file=io.StringIO(), width=width, color_system="truecolor" if colours else None)
    for view in result.views:
        for line in console.render_lines(renderable(result, view), pad=False):
            text = "".join(segment.text for segment in line)
            assert cell_len(text.rstrip()) <= width, (view.title, text)


def test_colours_are_left_out_when_asked_or_when_nobody_looks(tmp_path: Path) -> None:
    path = heat(np.array([[-1.0, 2.5]])).save(tmp_path / "r.nc")
    code = f"from cutaway.core.result import Result; Result.load({str(path)!r}).show('terminal')"
    for setting in ({}, {"NO_COLOR": "1", "FORCE_COLOR": "1", "TERM": "xterm-256color"}):
        out = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "COLUMNS": "80", **setting},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert ("\x1b[3" not in out and "\x1b[4" not in out) or setting  # styles such as bold may stay
        assert "38;2" not in out
        assert "48;2" not in out
        assert "-1.000" in out
        assert "2.500" in out


def test_with_colours_the_cells_have_their_colour() -> None:
    out = printed(heat(np.array([[-1.0, 1.0]])), colours=True)
    assert "48;2;159;208;255" in out  # the dark scale's low end
    assert "48;2;255;196;138" in out  # and its high end


def test_a_light_terminal_gets_the_light_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORFGBG", "0;15")
    assert "48;2;11;74;143" in printed(heat(np.array([[-1.0, 1.0]])), colours=True)


def test_a_large_heat_map_fits_says_so_and_keeps_its_peak() -> None:
    values = np.random.default_rng(0).normal(0, 0.01, (100, 1000))
    values[57, 613] = -9.0
    started = time.perf_counter()
    out = printed(heat(values))
    assert time.perf_counter() - started < 3
    assert "100 × 1000 cells are shown as" in out
    assert "each is the value farthest from zero of" in out
    assert out.count("-9") >= 2  # the cell, and the legend
    assert max(map(len, out.splitlines())) <= 80


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_shrinking_keeps_the_farthest_value_and_the_size(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(height, width))
    values[np.random.default_rng(seed).uniform(size=values.shape) < 0.2] = np.nan
    names = tuple(map(str, range(50)))
    grid = Grid(values, names[:height], names[:width], "r", "c", "v", Scale("diverging", -1, 1))
    small = shrunk(grid, rows, columns)
    assert small.values.shape[0] <= rows
    assert small.values.shape[1] <= columns
    assert (len(small.rows), len(small.columns)) == small.values.shape
    if np.isfinite(values).any():
        known = values[np.isfinite(values)]
        assert known[np.argmax(np.abs(known))] in small.values
    assert bool(small.left_out) == (small.values.shape != values.shape)


def test_values_are_readable_without_colours() -> None:
    out = printed(heat(np.array([[0.25, -0.5], [np.nan, 1.0]])))
    assert "0.250 -0.500" in " ".join(out.split())
    assert "× 1.000" in " ".join(out.split())
    assert "× is missing" in out
    assert "v, from -1.00 to 1.00" in out


def test_narrow_cells_hold_digits_with_a_legend() -> None:
    values = np.linspace(0, 1, 30)[None].repeat(2, 0)
    out = printed(heat(values))
    assert "v: 0 is 0, 9 is 1.00" in out
    assert "0 0 1 1 1 2 2 2 2 3" in " ".join(out.split())


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (1.0, "9"), (-1.0, "-9"), (-0.01, "0"), (0.5, "4"), (float("nan"), "×")]
)
def test_digits_of_the_diverging_scale(value: float, shown: str) -> None:
    assert digit(Scale("diverging", -1, 1), value) == shown


@given(st.text(max_size=20), st.integers(1, 12))
def test_fitted_text_has_exactly_the_width(text: str, width: int) -> None:
    clean = "".join(c for c in text if c.isprintable())
    assert cell_len(fitted(clean, width)) == width or cell_len(fitted(clean, width)) == width - 1


def test_words_and_their_values_are_written_without_colours(result: Result) -> None:
    out = " ".join(printed(result, 0).split())
    assert "When[+1.66] ·Mary[+0.400]" in out
    assert "farthest from zero: ·John +2.00" in out


def test_curves_without_colours_have_letters(result: Result) -> None:
    out = printed(result, 4)
    assert "a = smollm2 b = gemma3-270m c = random" in " ".join(out.split())
    assert all(out.count(letter * 2) for letter in "abc")


def test_a_curve_rises_where_its_values_rise() -> None:
    data = xr.Dataset({"v": (("x",), np.arange(20.0))})
    out = printed(Result(data, views=(views.curves(value="v", x="x"),)))
    rows = [line[6:] for line in out.splitlines() if "│" in line or "┤" in line]
    starts = [len(row) - len(row.lstrip(" │┤")) for row in rows]
    assert starts == sorted(starts, reverse=True)


def test_gaps_in_a_curve_stay_gaps() -> None:
    values = np.array([1.0, 1.0, np.nan, np.nan, np.nan, np.nan, 1.0, 1.0, 2.0, 0.0])
    out = printed(Result(xr.Dataset({"v": (("x",), values)}), views=(views.curves(value="v", x="x"),)))
    middle = next(line for line in out.splitlines() if len(line.split("│")[-1].split()) > 1)
    assert "   " * 5 in middle.strip()


def test_bars_stand_on_one_zero_line(result: Result) -> None:
    lines = [line for line in printed(result, 5).splitlines() if "█" in line]
    ups, downs = ([line for line in lines if ("] -" in line or " -0" in line) is down] for down in (False, True))
    assert {line.index("█") for line in ups} == {max(line.rindex("█") for line in downs) + 1}
    longest = max(lines, key=lambda line: line.count("█"))
    assert "1.29 [0.985 to 1.59]" in longest


@pytest.mark.parametrize(
    ("kind", "size", "said"),
    [
        ("tokens", 500, "400 of 500 words are shown."),
        ("bars", 100, "40 of 100 bars are shown: the ones farthest from zero."),
        ("graph", 100, "40 of 100 arrows are shown: the strongest."),
        ("table", 100, "50 of 100 rows are shown."),
        ("text", 100, "50 of 100 texts are shown."),
        ("attention", 100, "100 × 100 cells are shown as"),
        ("curves", 100, "52 of 100 curves are shown."),
    ],
)
def test_what_is_left_out_is_said(make: Callable[..., Result], kind: str, size: int, said: str) -> None:
    assert said in " ".join(printed(make(kind, size, 1.0)).split())


def test_the_ruler_of_a_check_has_the_order_of_the_figures() -> None:
    line = ruler(Check("c", "h", 3.0, 1.0, (0.5, 2.0), 9, True), Room(80, False)).plain
    assert [mark for mark in line if mark in "├┼┤●"] == ["├", "┼", "┤", "●"]
    assert line.startswith("0 ")
    assert line.endswith(" 3.00")
    assert ruler(Check("c", "h", float("inf"), 1.0, (0.5, 2.0), 9, True), Room(80, False)).plain == ""


def test_padding_of_short_prompts_is_not_drawn() -> None:
    words = np.array([["a", "b", "c"], ["d", "e", ""]], dtype=object)
    values = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, np.nan]])
    data = xr.Dataset({"v": (("prompt", "position"), values), "token": (("prompt", "position"), words)})
    shown = [panel(Result(data), views.tokens(value="v", at={"prompt": prompt})) for prompt in (0, 1)]
    assert [len(strip.words) for strip in shown] == [3, 2]  # type: ignore[union-attr]


def test_plain_text_has_no_escape_codes(result: Result) -> None:
    assert "\x1b" not in plain(result)


def test_a_screen_without_unicode_is_no_reason_to_fail(tmp_path: Path) -> None:
    path = heat(np.array([[-1.0, 2.5]])).save(tmp_path / "r.nc")
    out = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from cutaway.core.result import Result; Result.load({str(path)!r}).show('terminal')",
        ],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
    ).stdout
    assert b"-1.000 2.500" in b" ".join(out.split())
    assert b"layer ?  position ?" in out
