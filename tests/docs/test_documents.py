"""Pages are read as they are meant: blocks with their comments and outputs, and outputs compared with care."""

from __future__ import annotations

import pytest

from cutaway.testing.documents import anchors_of, blocks_of, difference, links_of, needs_of, with_output

PAGE = """# A page

Text with a [link](other.md#part) and `[no](link)`.

<!-- needs: smollm2 -->
```python
print(1)
```

<!-- output -->
```text
1
```

<!-- file: a.csv -->
```csv
prompt
[not](a link)
```

```console
$ cutaway run x --prompt "a b" \\
    top=3
```
"""


def test_blocks_have_their_comments_and_outputs() -> None:
    python, csv, console = blocks_of(PAGE)
    assert (python.language, python.text, python.line, python.output) == ("python", "print(1)\n", 7, "1\n")
    assert csv.said == {"file": "a.csv"}
    assert console.commands == [["cutaway", "run", "x", "--prompt", "a b", "top=3"]]
    assert needs_of([python, csv, console]) == {"smollm2"}


def test_a_comment_belongs_to_the_block_below_it() -> None:
    (block,) = blocks_of("<!-- raises: TaskError -->\n\ntext between\n\n```python\n1\n```\n")
    assert block.said == {}


def test_links_in_code_are_no_links() -> None:
    assert links_of(PAGE) == ["other.md#part"]
    assert anchors_of("# A page\n## Run: it, now\n") == {"a-page", "run-it-now"}


def test_an_output_can_be_written_anew() -> None:
    text = with_output(PAGE, blocks_of(PAGE)[0], "2\n3\n")
    assert blocks_of(text)[0].output == "2\n3\n"
    assert blocks_of(text)[1:] != [] and blocks_of(text)[2].commands == blocks_of(PAGE)[2].commands


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a  b\n", "a b\n"),
        ("p = 0.412\n", "p = 0.413\n"),
        ("took … s\n", "took 3.2 s\n"),
        ("a\n…\nz\n", "a\nb\nc\nz\n"),
        ("a\n…\n", "a\nb\n"),
        ("x −1.50\n", "x -1.51\n"),
        (" 0 ▐███▌  0.50\n", " 0 ████  0.50\n"),
        ("0 ├──┼─┤···● 4.38\n", "0 ├─┼──┤····● 4.39\n"),
    ],
)
def test_what_is_near_enough_is_the_same(shown: str, printed: str) -> None:
    assert difference(shown, printed) == ""


@pytest.mark.parametrize(
    ("shown", "printed", "says"),
    [
        ("layer 12\n", "layer 13\n", "'layer 12' is shown, 'layer 13' is printed"),
        ("p = 0.41\n", "p = 0.51\n", "is shown"),
        ("a\n", "a\nb\n", "'b' is printed too"),
        ("a\nb\n", "a\n", "'b' is not printed"),
        ("a\n…\nz\n", "a\nb\n", "'z' is not printed after line 1"),
        ("“ Mary”\n", "“ John”\n", "is shown"),
    ],
)
def test_what_differs_is_said(shown: str, printed: str, says: str) -> None:
    assert says in difference(shown, printed)
