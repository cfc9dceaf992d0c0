"""Does the widget get what it needs, and does the front end make the same pictures of it?"""

from __future__ import annotations

import base64
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cutaway.core import registry
from cutaway.core import view as views
from cutaway.core.errors import CutawayError
from cutaway.core.result import Result
from cutaway.core.view import KINDS, view_record
from cutaway.drawing import palette, panels, widget, words
from cutaway.drawing.framing import panel
from cutaway.drawing.notebook import notebook
from cutaway.drawing.shapes.axes import labelled, span, ticks

AGREEMENT = Path(__file__).parents[2] / "frontend/src/views/fixtures/agreement.json"
MIME = "application/vnd.jupyter.widget-view+json"
NUMBERS = [0.0, 1.0, -1.0, 7.0, 0.5, 2.5, 0.125, 0.12345, 12345.6, -3.14159, 999.5, 1234.5, 1e-5, -2.2e-7, 1e7]
NUMBERS += [6.02e23, 0.00012, 99.95, 0.0995, 1e6, 123456.789, math.nan, math.inf, -math.inf, 1.005, 0.045, 2.675]
TOKENS = [
    " Mary",
    "Mary",
    "\n",
    " to\n\x00",
    "head 23.3",
    "9  John",
    " ",
    "",
    "  a b ",
    "\t",
    "é\u202eb",
    "日本",
    "\u00a0x",
]
TOKENS += ["\ufffe", "🙂", "a\u200db", "\ue000"]


def _agreement(results: list[Result]) -> dict[str, Any]:
    """All cases and what Python makes of them, as values of strict JSON."""
    scales = [
        [0, 1],
        [-1, 2],
        [3, 4],
        [2, 2],
        [0, 0],
        [-2, -1],
        [-3, -3],
        [],
        [math.nan, 1, math.inf],
        [1, 10],
        [6, 10],
    ]
    columns = [[12.345, 0.5, -3.0], [12.0, 3.0], [1e-9, 1.0], [1e8, 2.5], [0.0, math.nan, 0.25], [123456.0, 0.001]]
    spans = [[0, 11], [-0.4, 2.1], [0.001, 0.0035], [5, 5], [-1e-9, 3e-9], [0, 2500000], [-7, -1], [0.37, 0.93]]
    return _plain(
        {
            "numbers": [
                {"value": v, "number": words.number(v), "signed": words.signed(v), "label": words.label(v)} for v in NUMBERS
            ]
            + [{"value": v, "tick": words.tick(v)} for v in (0.0, 3.0, -12000.0, 0.5, math.inf)],
            "tokens": [{"text": t, "visible": words.visible(t), "readable": words.readable(t), "label": words.label(t)} for t in TOKENS],
            "columns": [{"values": values, "said": words.column(values)} for values in columns],
            "colours": {f"{name} {theme}": [palette.hexadecimal(rgb) for rgb in palette.steps(name, theme)] for name in ("diverging", "sequential") for theme in ("light", "dark")},
            "inks": [{"ground": list(rgb), "ink": list(palette.ink_on(rgb))} for name in ("diverging", "sequential") for rgb in palette.steps(name, "dark")],
            "scales": [_scale(values, wanted) for values in scales for wanted in ("auto", "diverging", "sequential")],
            "axes": [
                {
                    "values": values,
                    "span": span(np.array(values, dtype=float)),
                    "ticks": ticks(*span(np.array(values, dtype=float))),
                    "labelled": labelled(ticks(*span(np.array(values, dtype=float)))),
                }
                for values in spans
            ],
            "results": [_result(each) for each in results],
            "widget": _sent_to_widget(results[0]),
        }
    )  # fmt: skip


def _awkward() -> Result:
    """Padding, labels as places, dimensions in other orders, numbers as words, and missing values."""
    draw = np.random.default_rng(1)
    word = np.array([[" a", " b", "", ""], [" c", " d", " e", ""], [" f", " g", " h", " i"]], dtype=object)
    value = np.where(word == "", np.nan, draw.normal(0, 1, word.shape))
    data = xr.Dataset(
        {
            "value": (("prompt", "position"), value, {"long_name": "how_much it matters", "units": "nats"}),
            "word": (("prompt", "position"), word),
            "grid": (("position", "layer", "prompt"), draw.normal(0, 1, (4, 3, 3)).astype(np.float32)),
            "flag": (("layer",), np.array([True, False, True])),
            "count": (("layer",), np.array([10, 2_000_000, -3])),
            "name": (("layer",), np.array(["one", "two", "three"], dtype=object)),
            "cross": (("key_position", "position"), draw.uniform(0, 1, (2, 4))),
            "key_word": (("key_position",), np.array([" x", " y"], dtype=object)),
            "start": (("edge",), np.array([0, 1, 1, -1])),
            "end": (("edge",), np.array([1, 2, 2, 0])),
            "weight": (("edge",), np.array([0.5, -1.0, 0.25, np.nan])),
            "title": ((), np.array("A title", dtype=object)),
            "percent": (("layer",), np.array([10.0, 50.0, 90.0])),
        },
        coords={"layer": np.array([4, 8, 12])},
    )
    kinds = (
        views.tokens(value="value", token="word", at={"prompt": 0}, scale="diverging"),
        views.tokens(value="value", token="word", at={"prompt": -1}),
        views.heatmap(value="grid", x="layer", y="position", at={"prompt": 1}),
        views.heatmap(value="grid", x="position", y="layer", at={"prompt": 2}, scale="sequential"),
        views.heatmap(value="value", x="position", y="prompt", text="word"),
        views.attention(value="cross", query="position", key="key_position", key_token="key_word", token="word", at={"prompt": 2}),
        views.curves(value="grid", x="layer", series="position", at={"prompt": 0}),
        views.curves(value="grid", x="name", at={"prompt": 0, "position": 3}),
        views.bars(value="grid", label="name", group="position", at={"prompt": 0}),
        views.bars(value="percent", label="layer", group="flag"),
        views.bars(value="grid", label="position", at={"layer": 8, "prompt": 0}),
        views.bars(value="grid", label="position", at={"layer": "three", "prompt": 0}),
        views.scatter(x="grid", y="grid", label="name", value="count", at={"prompt": 0}),
        views.histogram(value="value", group="prompt", bins=7),
        views.histogram(value="grid", bins=4),
        views.graph(source="start", target="end", weight="weight", node="name"),
        views.graph(source="start", target="end"),
        views.graph(source="start", target="end", node="name", position="name", heading="name"),
        views.table(columns=["layer", "name", "flag", "count", "percent"]),
        views.table(columns=["grid", "position"], at={"layer": 12, "prompt": 0}),
        views.text(value="title"),
        views.text(value="name"),
        views.text(value="percent"),
    )  # fmt: skip
    return Result(data, {"a": 1.5}, kinds)


def _result(result: Result) -> dict[str, Any]:
    """What the widget is given for a result, its numbers in full, and the panels that Python frames of it."""
    record, _ = widget.shown(result)
    values = {name: variable.values.ravel().tolist() for name, variable in result.data.variables.items()}
    framed = [{"view": view_record(view), "panel": _panel(panel(result, view))} for view in result.views]
    return {"id": result.id[:8], "dims": record["dims"], "arrays": record["arrays"], "values": values, "framed": framed}


def _sent_to_widget(result: Result) -> dict[str, Any]:
    """What the kernel sends for a result of which only the smallest arrays travel along, byte for byte."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(widget, "LARGEST_HELD", 1500)
        record, held = widget.shown(result)
    asked = {"kind": "slice", "request": 1, "name": "pattern", "selection": {"block": 1, "head": 2}}
    answer, buffers = widget.answered(result.data, asked)
    return {
        "record": record,
        "buffers": {name: base64.b64encode(content).decode() for name, content in held.items()},
        "answer": answer,
        "slice": base64.b64encode(buffers[0]).decode(),
        "failure": widget.answered(result.data, {"request": 1, "name": "patern"})[0],
    }


def _panel(content: panels.Panel) -> dict[str, Any]:
    match content:
        case panels.Points() | panels.Lines():
            told = {k: v for k, v in vars(content).items() if k != "left_out"}
            if isinstance(content, panels.Lines):
                told["lines"] = [vars(line) for line in content.lines]
            return told
        case _:
            return dict(vars(content))


def _scale(values: list[float], wanted: str) -> dict[str, Any]:
    scale = palette.scale_of(np.array(values, dtype=float), wanted)
    places = [*values, 0.5, -0.7, 100.0]
    return {"values": values, "wanted": wanted, "scale": vars(scale), "places": places} | {
        "bins": [scale.bin(float(v)) for v in places],
        "colours": [palette.hexadecimal(palette.colour(scale, float(v))) for v in places],
    }


def _plain(value: Any) -> Any:
    """The value with arrays as lists, and numbers that JSON does not know as text."""
    match value:
        case dict():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case np.ndarray():
            return _plain(value.tolist())
        case palette.Scale():
            return _plain(vars(value))
        case float() if math.isnan(value):
            return "NaN"
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case float():
            return float(f"{value:.9g}")
    return value


@pytest.fixture
def large() -> Result:
    """A result whose main array is too large to travel with the widget."""
    pattern = np.arange(4 * 8 * 64 * 64, dtype=np.float32).reshape(4, 8, 64, 64)
    data = xr.Dataset({"pattern": (("layer", "head", "query", "key"), pattern), "small": (("layer",), np.arange(4))})
    return Result(data, {}, (views.attention(value="pattern", at={"layer": 1, "head": 2}),))


def test_small_arrays_travel_whole_and_large_ones_by_slices(large):
    record, held = widget.shown(large)
    assert set(record["held"]) == set(held) == {"small"}
    assert np.frombuffer(held["small"], "<i4").tolist() == [0, 1, 2, 3]
    asked = {"kind": "slice", "request": 7, "name": "pattern", "selection": {"layer": 1, "head": 2, "key": [0, 10, 3]}}
    answer, [content] = widget.answered(large.data, asked)
    wanted = large.data["pattern"].isel(layer=1, head=2, key=slice(0, 10, 3))
    assert answer == {
        "kind": "slice",
        "request": 7,
        "name": "pattern",
        "dtype": "float32",
        "words": None,
        "dims": ["query", "key"],
        "shape": [64, 4],
    }
    assert np.array_equal(np.frombuffer(content, "<f4").reshape(64, 4), wanted.values)


def test_the_room_for_held_arrays_is_kept():
    many = {f"v{i}": (("x",), np.zeros(30_000)) for i in range(30)}
    record, held = widget.shown(Result(xr.Dataset(many)))
    assert sum(map(len, held.values())) <= widget.MOST_HELD < 30 * 240_000
    assert 0 < len(record["held"]) < 30


@pytest.mark.parametrize(
    ("values", "dtype", "read"),
    [
        (np.array([True, False]), "bool", "u1"),
        (np.array([1, -(2**31)]), "int32", "<i4"),
        (np.array([1, 2**40]), "float64", "<f8"),
        (np.array([1, 2], dtype=np.uint8), "int32", "<i4"),
        (np.array([0.5, np.nan], dtype=">f8"), "float64", "<f8"),
        (np.array([0.5, np.inf], dtype=np.float32), "float32", "<f4"),
        (np.array([], dtype=np.int64), "int32", "<i4"),
    ],
)
def test_every_type_of_number_travels_exactly(values, dtype, read):
    _, held = widget.shown(Result(xr.Dataset({"v": (("x",), values)})))
    answer, [content] = widget.answered(xr.Dataset({"v": (("x",), values)}), {"request": 1, "name": "v"})
    assert answer["dtype"] == dtype
    assert content == held["v"]
    assert np.array_equal(np.frombuffer(content, read).astype(float), values.astype(float), equal_nan=True)


def test_text_travels_as_a_list_and_whole_numbers_of_any_size_as_digits():
    words_ = np.array(["a\nb", "<b>", "\ud800 half"], dtype=object)
    data = Result(xr.Dataset({"w": (("x",), words_), "n": (("y",), np.array([2**60, 1]))})).data
    answer, _ = widget.answered(data, {"request": 1, "name": "w"})
    assert answer["words"][:2] == ["a\nb", "<b>"]
    json.dumps(answer).encode()
    assert answer["words"][2].encode("utf-8").endswith(b" half")
    assert widget.answered(data, {"request": 1, "name": "n"})[0]["words"] == [str(2**60), "1"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"request": 1, "name": "smal"}, "did you mean 'small'"),
        ({"request": 1, "name": "small", "selection": {"layer": 4}}, "layer has no place 4; it has the indices 0 to 3"),
        ({"request": 1, "name": "small", "selection": {"layer": [-1, 2]}}, "layer has no place [-1, 2]"),
        ({"request": 1, "name": "small", "selection": {"layer": "x"}}, "layer has no place 'x'"),
        ({"request": 1, "name": "small", "selection": 3}, "3 is no selection"),
        ({"request": 1, "name": ["small"]}, "no array ['small']"),
        ("nonsense", "no array None"),
    ],
)
def test_a_wrong_question_gets_a_sentence(large, asked, said):
    answer, content = widget.answered(large.data, asked)
    assert answer["kind"] == "failed"
    assert said in answer["error"]
    assert content == []


def test_a_slice_that_is_too_large_is_refused(large, monkeypatch):
    monkeypatch.setattr(widget, "LARGEST_SLICE", 1000)
    answer, _ = widget.answered(large.data, {"request": 1, "name": "pattern"})
    assert "524,288 bytes is too large" in answer["error"]


def test_a_notebook_without_a_kernel_shows_the_static_picture(result):
    assert set(notebook(result)) == {"text/html", "text/plain"}


def test_no_package_no_widget(result, monkeypatch):
    monkeypatch.setattr(widget.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CutawayError, match=r"anywidget is not installed; .* pip install 'cutaway\[notebook\]'"):
        widget.widget(result)
    monkeypatch.setattr(widget, "_in_jupyter", lambda: True)
    assert set(notebook(result)) == {"text/html", "text/plain"}


def test_marimo_gets_an_object_that_it_can_show(result, monkeypatch, tmp_path):
    static = registry.get("renderer", "marimo")
    monkeypatch.setattr(widget, "_bundle", lambda name: tmp_path / name)
    assert static(result)._repr_html_() == notebook(result)["text/html"]
    pytest.importorskip("anywidget", reason="the extra `notebook` is not installed")
    (tmp_path / "widget.js").write_text("export default { render() {} }")
    (tmp_path / "widget.css").write_text("")
    monkeypatch.setattr(widget, "_widget_class", widget._widget_class.__wrapped__)
    shown = static(result, 1)
    assert [view["title"] for view in shown.record["views"]] == ["What it would say at each layer"]
    monkeypatch.setenv("CUTAWAY_NOTEBOOK", "static")
    assert static(result)._repr_html_().startswith("<style>")


def test_no_front_end_no_widget(result, monkeypatch, tmp_path):
    pytest.importorskip("anywidget", reason="the extra `notebook` is not installed")
    monkeypatch.setattr(widget, "_bundle", lambda name: tmp_path / name)
    with pytest.raises(CutawayError, match="front end is not built"):
        widget.widget(result)
    monkeypatch.setattr(widget, "_in_jupyter", lambda: True)
    assert set(notebook(result)) == {"text/html", "text/plain"}


CELL = """
import pathlib
import numpy as np, xarray as xr
import cutaway.core.view as views
from cutaway.core.result import Result
from cutaway.drawing import widget
folder = pathlib.Path({folder!r})
widget._bundle = lambda name: folder / name
pattern = np.arange(4 * 8 * 64 * 64, dtype=np.float32).reshape(4, 8, 64, 64)
data = xr.Dataset({{"pattern": (("layer", "head", "query", "key"), pattern), "small": (("layer",), np.arange(4))}})
Result(data, {{}}, (views.attention(value="pattern", at={{"layer": 1, "head": 2}}),))
"""


@pytest.fixture
def kernel():
    """A real Jupyter kernel, on sockets in the loopback."""
    manager = pytest.importorskip("jupyter_client", reason="a kernel needs ipykernel and anywidget").KernelManager()
    pytest.importorskip("ipykernel", reason="a kernel needs ipykernel and anywidget")
    pytest.importorskip("anywidget", reason="a kernel needs ipykernel and anywidget")
    manager.kernel_spec.argv[0] = sys.executable
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def _heard(client: Any, request: str) -> list[dict[str, Any]]:
    """All that a kernel says because of a request, until it is idle again."""
    heard: list[dict[str, Any]] = []
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return heard
        heard.append(message)


def test_a_running_notebook_gets_the_widget_beside_the_static_picture(kernel, tmp_path):
    (tmp_path / "widget.js").write_text("export default { render() {} }")
    (tmp_path / "widget.css").write_text(".cv {}")
    heard = _heard(kernel, kernel.execute(CELL.format(folder=str(tmp_path))))
    assert not [each["content"]["evalue"] for each in heard if each["msg_type"] == "error"]
    [output] = [each["content"]["data"] for each in heard if each["msg_type"] == "execute_result"]
    assert set(output) == {MIME, "text/html", "text/plain"}
    assert 'src="data:image/svg+xml;base64,' in output["text/html"] and "<svg" not in output["text/html"]
    assert "pattern" in output["text/plain"]
    assert not [each for each in heard if each["msg_type"] in ("display_data", "stream")], "shown once, and only once"
    opened = {each["content"]["comm_id"]: each for each in heard if each["msg_type"] == "comm_open"}
    widget_message = opened[output[MIME]["model_id"]]
    state = widget_message["content"]["data"]["state"]
    assert state["_esm"] == "export default { render() {} }"
    assert state["_css"] == ".cv {}"
    assert state["record"]["views"][0]["kind"] == "attention"
    assert widget_message["content"]["data"]["buffer_paths"] == [["held", "small"]]
    assert np.frombuffer(widget_message["buffers"][0], "<i4").tolist() == [0, 1, 2, 3]

    question = {"kind": "slice", "request": 5, "name": "pattern", "selection": {"layer": 3, "head": 7}}
    content = {"comm_id": output[MIME]["model_id"], "data": {"method": "custom", "content": question}}
    message = kernel.session.msg("comm_msg", content)
    kernel.shell_channel.send(message)
    [answer] = [each for each in _heard(kernel, message["header"]["msg_id"]) if each["msg_type"] == "comm_msg"]
    assert answer["content"]["data"]["content"]["shape"] == [64, 64]
    numbers = np.frombuffer(answer["buffers"][0], "<f4")
    assert numbers.tolist() == [float((3 * 8 + 7) * 64 * 64 + i) for i in range(64 * 64)]


def test_a_notebook_can_ask_for_static_pictures(kernel, tmp_path):
    (tmp_path / "widget.js").write_text("")
    (tmp_path / "widget.css").write_text("")
    before = "import os; os.environ['CUTAWAY_NOTEBOOK'] = 'static'"
    heard = _heard(kernel, kernel.execute(before + CELL.format(folder=str(tmp_path))))
    [output] = [each["content"]["data"] for each in heard if each["msg_type"] == "execute_result"]
    assert set(output) == {"text/html", "text/plain"}


def test_the_front_end_is_tested_against_these_pictures(result, make, variants):
    """`frontend/src/views/agreement.test.ts` compares the front end's numbers, words, colours and panels with these.

    CUTAWAY_DOCS=write writes the file anew.
    """
    if not AGREEMENT.parents[1].is_dir():
        pytest.skip("the sources of the front end are not here, as in an sdist")
    edges = [make(kind, *variants[name]) for kind in KINDS for name in ("missing", "single", "all zero", "empty")]
    text = json.dumps(_agreement([result, _awkward(), *edges]), separators=(",", ":"), sort_keys=True) + "\n"
    if os.environ.get("CUTAWAY_DOCS") == "write":
        AGREEMENT.parent.mkdir(parents=True, exist_ok=True)
        AGREEMENT.write_text(text, encoding="ascii")
    assert AGREEMENT.read_text(encoding="ascii") == text, "run this test with CUTAWAY_DOCS=write, then the front end's"
