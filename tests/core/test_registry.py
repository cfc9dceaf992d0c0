"""Named functions are found without importing, got by name, and strangers can neither crash nor shadow."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cutaway.core import catalog, registry
from cutaway.core.errors import CutawayError, MethodError, TaskError

Installed = Callable[..., Path]

LENS = '''
    """A module."""
    from typing import Annotated, Literal
    from pydantic import Field
    from cutaway.core.method import method

    @method(asks="What is seen?", cites="someone2020", needs=("unembedding", "contrast"))
    def my_lens(model, task, *, top: Annotated[int, Field(ge=1, description="how many")] = 5,
                how: Literal["a", "b"] = "a", must: str):
        """First line of
        the docstring.

        More.
        """
        return 1
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Lay a distribution with an entry point on the path, as pip would."""

    def install(distribution: str, files: dict[str, str], points: dict[str, str]) -> Path:
        site = tmp_path / "site"
        for name, text in files.items():
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(textwrap.dedent(text))
        info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        written = "".join(f"{key} = {value}\n" for key, value in points.items())
        (info / "entry_points.txt").write_text(f"[cutaway]\n{written}")
        monkeypatch.syspath_prepend(str(site))
        registry._announced.cache_clear()
        return site

    return install


@pytest.fixture(autouse=True)
def no_loose_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_files", {})


def names(kind: str = "method") -> list[str]:
    return [entry.name for entry in registry.entries(kind)]


def test_a_strangers_method_is_found_with_all_that_is_written_about_it(installed: Installed) -> None:
    installed(
        "strange-lens",
        {"strange_lens/__init__.py": "", "strange_lens/deep/lens.py": LENS},
        {"x": "strange_lens"},
    )
    entry = registry.find("method", "strange-lens/my_lens")
    assert (entry.kind, entry.asks, entry.cites) == ("method", "What is seen?", "someone2020")
    assert entry.needs == ("unembedding", "contrast")
    assert entry.summary == "First line of the docstring."
    assert (entry.module, entry.function) == ("strange_lens.deep.lens", "my_lens")
    assert entry.distribution == "strange-lens"
    top, how, must = entry.parameters
    assert (top.name, top.type, top.default, top.help) == ("top", "int", "5", "how many")
    assert (how.type, how.default) == ("Literal['a', 'b']", "'a'")
    assert must.default is None


def test_finding_imports_nothing(installed: Installed) -> None:
    exploding = "from cutaway import method\nraise RuntimeError('imported')\n@method(asks='?')\ndef f(m, t): ...\n"
    installed(
        "boom",
        {"boom/__init__.py": "raise RuntimeError('imported')\n", "boom/f.py": exploding},
        {"b": "boom"},
    )
    assert "boom/f" in names()
    assert "boom" not in sys.modules


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys\nfrom cutaway.core import registry\n"
        "registry.entries('method'), registry.entries('task')\n"
        "print([m for m in ('torch', 'transformers', 'xarray', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_are_found_bare_and_with_dashes(installed: Installed) -> None:
    installed("strange-lens", {"strange_lens.py": LENS}, {"x": "strange_lens"})
    for name in ("my_lens", "my-lens", "strange-lens/my-lens", "strange_lens/my_lens"):
        assert registry.find("method", name).name == "strange-lens/my_lens"
    assert registry.get("method", "my_lens").asks == "What is seen?"


def test_a_name_that_two_strangers_have_must_be_written_out(installed: Installed) -> None:
    installed("one", {"one.py": LENS}, {"x": "one"})
    installed("two", {"two.py": LENS}, {"x": "two"})
    with pytest.raises(MethodError) as raised:
        registry.find("method", "my_lens")
    assert str(raised.value) == (
        "several plug-ins have a method 'my_lens': one/my_lens, two/my_lens. Write one/my_lens."
    )


def test_an_unknown_name_gets_the_nearest(installed: Installed) -> None:
    installed("strange-lens", {"strange_lens.py": LENS}, {"x": "strange_lens"})
    with pytest.raises(MethodError, match=r"there is no method 'my_lenz'; did you mean 'my_lens'\?.*cutaway list"):
        registry.find("method", "my_lenz")
    with pytest.raises(TaskError, match="there is no task 'io'; did you mean 'ioi'"):
        registry.find("task", "io")
    with pytest.raises(CutawayError, match="there is no kind 'methods'; did you mean 'method'"):
        registry.entries("methods")


def test_a_stranger_does_not_take_the_name_of_a_built_in(installed: Installed) -> None:
    task = "import cutaway as ca\n@ca.task(asks='Mine?')\ndef ioi(*, n: int = 1):\n    '''Mine.'''\n"
    installed("usurper", {"usurper.py": task}, {"x": "usurper"})
    with pytest.warns(registry.PluginWarning, match="usurper has a task 'ioi', a name of cutaway itself"):
        assert registry.find("task", "ioi").distribution == "cutaway"
    with pytest.warns(registry.PluginWarning):
        assert registry.find("task", "usurper/ioi").asks == "Mine?"


def test_a_broken_file_is_left_out_and_its_neighbours_stay(installed: Installed) -> None:
    broken = "from cutaway import method\n@method(asks='?'\ndef broken(m, t): ...\n"
    installed("half", {"half/__init__.py": "", "half/good.py": LENS, "half/bad.py": broken}, {"x": "half"})
    with pytest.warns(registry.PluginWarning, match=r"bad\.py of half cannot be read .* it is left out"):
        assert "half/my_lens" in names()


def test_an_entry_point_to_nowhere_is_a_warning(installed: Installed) -> None:
    installed("ghost", {}, {"x": "no_such_module.at.all"})
    with pytest.warns(registry.PluginWarning, match="ghost announces the module 'no_such_module.at.all', which is not"):
        names()


def test_a_plug_in_that_cannot_be_imported_says_which_one(installed: Installed) -> None:
    text = "from cutaway.core.method import method\nimport no_such_package\n" + textwrap.dedent(LENS)
    installed("needy", {"needy.py": text}, {"x": "needy"})
    with pytest.raises(MethodError) as raised:
        registry.get("method", "my_lens")
    assert str(raised.value) == (
        "the method 'needy/my_lens' of needy could not be loaded (ModuleNotFoundError: "
        "No module named 'no_such_package'). Look at needy.py, line 10, or remove the plug-in."
    )


@pytest.mark.parametrize(
    ("value", "seen"), [(None, True), ("", False), ("other", False), ("other, strange-lens", True)]
)
def test_strangers_can_be_turned_off(
    installed: Installed, monkeypatch: pytest.MonkeyPatch, value: str | None, seen: bool
) -> None:
    installed("strange-lens", {"strange_lens.py": LENS}, {"x": "strange_lens"})
    if value is not None:
        monkeypatch.setenv("CUTAWAY_PLUGINS", value)
    assert ("strange-lens/my_lens" in names()) is seen
    assert "ioi" in names("task")


def test_a_loose_file_is_loaded_on_request(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(textwrap.dedent(LENS))
    assert [entry.name for entry in registry.load_file(file)] == ["mine/my_lens"]
    found = registry.find("method", "my-lens")
    assert (found.loose, found.distribution, found.path) == (True, "mine.py", file)
    assert registry.get("method", "my_lens").name == "my_lens"
    assert registry.loose_files() == [file]


def test_a_loose_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        MethodError, match=r"absent\.py cannot be read: No such file or directory; a plug-in is a Python"
    ):
        registry.load_file(tmp_path / "absent.py")
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(MethodError, match=r"empty\.py holds no method, task, study or renderer; .*@cutaway\.method"):
        registry.load_file(tmp_path / "empty.py")
    (tmp_path / "bad.py").write_text("def (\n")
    with pytest.raises(MethodError, match=r"bad\.py is not valid Python \(line 1: "):
        registry.load_file(tmp_path / "bad.py")


@pytest.mark.parametrize(
    "decorated",
    [
        "import cutaway\n@cutaway.method(asks='A?')\ndef f(m, t): ...",
        "import cutaway as ca\n@ca.method(asks='A?')\ndef f(m, t): ...",
        "import cutaway.core.method\n@cutaway.core.method.method(asks='A?')\ndef f(m, t): ...",
        "from cutaway.core import method as m\n@m.method(asks='A?')\ndef f(model, t): ...",
        "from cutaway.core.method import method as question\n@question(asks='A?')\ndef f(m, t): ...",
        "from cutaway import method\nfrom x import cache\n@cache\n@method(asks='A?')\ndef f(m, t): ...",
    ],
)
def test_decorators_are_known_under_every_name(tmp_path: Path, decorated: str) -> None:
    (tmp_path / "m.py").write_text(decorated)
    (entry,) = catalog.entries_of_file(tmp_path / "m.py", "m")
    assert (entry.kind, entry.function, entry.asks) == ("method", "f", "A?")


@pytest.mark.parametrize(
    "undecorated",
    [
        "from celery import task\nimport cutaway\n@task(asks='A?')\ndef f(): ...",
        "import cutaway, click\n@click.method(asks='A?')\ndef f(m, t): ...",
        "'''\n@method(asks='A?')\ndef f(m, t): ...\n'''\nfrom cutaway import method",
        "from cutaway import method\ndef outer():\n    @method(asks='A?')\n    def f(m, t): ...",
    ],
)
def test_what_only_looks_decorated_is_left_alone(tmp_path: Path, undecorated: str) -> None:
    (tmp_path / "m.py").write_text(undecorated)
    assert catalog.entries_of_file(tmp_path / "m.py", "m") == ()


def test_types_with_a_name_are_looked_up_where_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "sizes.py").write_text(
        "from typing import Annotated\nfrom pydantic import Field\n"
        "Count = Annotated[int, Field(ge=1, description='how many')]\n"
    )
    (tmp_path / "pack" / "t.py").write_text(
        "import cutaway as ca\nfrom pack.sizes import Count\nHow = bool\n"
        "@ca.task(asks='A?')\ndef t(*, n: Count = 3, how: How = True): ...\n"
    )
    (entry,) = catalog.entries_of_file(tmp_path / "pack" / "t.py", "pack.t")
    assert [(p.name, p.type, p.help) for p in entry.parameters] == [
        ("n", "int", "how many"),
        ("how", "bool", ""),
    ]


def test_cutting_a_file_finds_what_reading_all_of_it_finds() -> None:
    import cutaway

    for file in Path(cutaway.__file__).parent.rglob("*.py"):
        whole = catalog._entries.__wrapped__
        cut = whole(file, "m", 0)
        original, catalog.skeleton = catalog.skeleton, lambda text: text
        try:
            assert whole(file, "m", 0) == cut, file
        finally:
            catalog.skeleton = original


def test_sixty_files_are_read_in_a_tenth_of_a_second(tmp_path: Path) -> None:
    body = textwrap.dedent(LENS) + "\n".join(
        f"\ndef part_{i}(x, size={i}):\n    return [(x * size + j) ** 2 for j in range(size) if j % 3]\n"
        for i in range(30)
    )
    for i in range(60):
        (tmp_path / f"m{i}.py").write_text(body)
    files = sorted(tmp_path.glob("*.py"))
    best = float("inf")
    for attempt in range(3):
        start = time.perf_counter()
        found = [entry for file in files for entry in catalog.entries_of_file(file, f"m{attempt}")]
        best = min(best, time.perf_counter() - start)
    assert len(found) == 60
    assert best < 0.1


def test_a_namespace_has_every_task_as_an_attribute() -> None:
    tasks = registry.Namespace("task")
    assert "ioi" in dir(tasks)
    assert len(tasks.ioi(n=3)) == 3
    with pytest.raises(AttributeError, match="there is no task 'ioii'; did you mean 'ioi'"):
        _ = tasks.ioii
    assert repr(tasks).startswith("<cutaway tasks: ")
