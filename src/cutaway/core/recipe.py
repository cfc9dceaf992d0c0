"""What does a file of code do? A fingerprint that a comment, a docstring or a paragraph of text does not change."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from pathlib import Path


def fingerprint(path: Path) -> str:
    """Hash of what a Python file does: comments, docstrings and texts that are only named are left out."""
    return _fingerprint(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _fingerprint(path: Path, changed: int) -> str:
    tree = ast.parse(path.read_bytes())
    tree.body = [node for node in tree.body if not _is_text(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    """`NAME = "text"` and a text that stands alone."""
    match node:
        case ast.Assign(value=ast.Constant(value=str())) | ast.Expr(value=ast.Constant(value=str())):
            return True
    return False
