"""What goes wrong, said in three parts: what happened (with the values), what is allowed, what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CutawayError(Exception):
    """An error with a sentence for the person who caused it.

    Args:
        what: what happened, with the values.
        expected: what is allowed.
        instead: what to write instead.
    """

    def __init__(self, what: str, expected: str = "", instead: str = "") -> None:
        self.what, self.expected, self.instead = what, expected, instead
        super().__init__(" ".join(part.strip() for part in (what, expected, instead) if part))


class SiteError(CutawayError):
    """An address that does not parse, or that this model does not have."""


class ModelError(CutawayError):
    """A model that cannot be opened, or that lacks a part that was asked for."""


class TaskError(CutawayError):
    """Prompts, contrasts or answers that do not fit together."""


class MethodError(CutawayError):
    """A method that is unknown, or that cannot be run on this model or task."""


class ParameterError(CutawayError):
    """A parameter with a wrong name or a wrong value."""


class PlanError(CutawayError):
    """Reads, edits and metrics that cannot be carried out together."""


class StoreError(CutawayError):
    """A file that cannot be read or written."""


class Cancelled(Exception):  # noqa: N818 - not an error: the person asked for it
    """The work was cancelled by the person who started it."""


def nearest(name: str, options: Iterable[str], shown: int = 12) -> str:
    """A phrase with the nearest options to `name`, or with the options themselves.

    >>> nearest("resid_pst", ["resid_post", "resid_pre", "z"])
    "did you mean 'resid_post'?"
    """
    known = sorted(options)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = ", ".join(known[:shown]) + (f", … ({len(known)} in all)" if len(known) > shown else "")
    return f"known: {listed or 'none'}."
