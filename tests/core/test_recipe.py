from pathlib import Path

import pytest

from cutaway.core.recipe import fingerprint

FILE = '''"""A study."""
TEXT = "what differs"
SIZE = 3


def work(x: int) -> int:
    """Adds."""
    return x + SIZE
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('"what differs"', '("what " "really differs")', True),
        ('"""Adds."""', '"""Adds three."""  # a comment', True),
        ('"""A study."""', '"""Another sentence."""', True),
        ("SIZE = 3", "SIZE = 4", False),
        ("x + SIZE", "x - SIZE", False),
    ],
)
def test_texts_are_no_part_of_what_a_file_does(tmp_path: Path, old: str, new: str, same: bool) -> None:
    before, after = tmp_path / "before.py", tmp_path / "after.py"
    before.write_text(FILE)
    after.write_text(FILE.replace(old, new))
    assert (fingerprint(before) == fingerprint(after)) == same
