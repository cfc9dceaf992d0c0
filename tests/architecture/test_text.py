"""What is written in the files: citations that exist, and nothing that only one machine knows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cutaway.testing.citations import keys_of

ROOT = Path(__file__).parents[2]
KEPT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".bib",
    ".csv",
    ".json",
    ".jsonl",
    ".cff",
    ".yml",
    ".yaml",
    ".cfg",
    ".ini",
    "",
}


def tracked() -> list[Path]:
    """Files that belong to the project: those that git knows or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.suffix in KEPT and path.is_file()]


def lines_with(pattern: str) -> list[str]:
    found = []
    for path in tracked():
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if re.search(pattern, line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    return found


def test_no_file_knows_a_path_of_one_machine() -> None:
    assert not lines_with(r"(^|[\s\"'(=:])(/work/|/home/\w|/root/|/Users/\w|[A-Z]:\\\\Users)")


def test_no_file_knows_a_private_address() -> None:
    assert not lines_with(
        r"https?://(localhost|127\.0\.0\.1|10\.\d+\.\d+|192\.168)[^\s\"')]*/(simple|pypi|artifactory)"
    )


def test_every_citation_has_its_entry() -> None:
    keys = keys_of(ROOT / "docs" / "references.bib")
    cited: dict[str, str] = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for key in re.findall(r"\[@([a-z]+\d{4}\w*)", path.read_text(encoding="utf-8")):
            cited[key] = path.name
    assert not {key: name for key, name in cited.items() if key not in keys}


def test_every_reference_has_a_title_an_author_and_a_year() -> None:
    text = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    entries = re.split(r"^@", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(keys_of(ROOT / "docs" / "references.bib"))
    for entry in entries:
        for field in ("title", "author", "year"):
            assert re.search(rf"^\s*{field}\s*=\s*\{{.+\}}", entry, re.MULTILINE), entry.partition("\n")[0]


def test_random_state_is_never_global() -> None:
    pattern = r"(torch\.manual_seed|np\.random\.(seed|rand|randn|randint|choice|normal)|^\s*random\.seed)\("
    ours = [line for line in lines_with(pattern) if line.startswith("src/")]
    assert not ours
