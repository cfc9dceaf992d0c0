"""Progress and cancellation: who watches is told, and who wants to stop is heard."""

from __future__ import annotations

import pytest

from cutaway.core.errors import Cancelled
from cutaway.core.progress import reporting, stop_if_cancelled, track, tracking


class Diary:
    """Writes down what it is told, and asks to stop after `patience` steps."""

    def __init__(self, patience: int = 10**9) -> None:
        self.told: list[object] = []
        self.steps, self.patience = 0, patience

    def start(self, what: str, total: int | None) -> None:
        self.told.append((what, total))

    def advance(self, n: int) -> None:
        self.steps += n
        self.told.append(n)

    def done(self) -> None:
        self.told.append("done")

    def cancelled(self) -> bool:
        return self.steps >= self.patience


def test_without_a_reporter_a_loop_is_a_loop() -> None:
    assert list(track("abc", "spelling")) == ["a", "b", "c"]


def test_a_reporter_is_told_of_every_step() -> None:
    with reporting(Diary()) as diary:
        assert list(track(range(2), "counting")) == [0, 1]
    assert diary.told == [("counting", 2), 1, 1, "done"]


def test_the_length_of_a_generator_is_unknown_unless_given() -> None:
    with reporting(Diary()) as diary:
        list(track(iter("ab"), "reading"))
        list(track(iter("ab"), "reading", total=2))
    assert [entry for entry in diary.told if isinstance(entry, tuple)] == [("reading", None), ("reading", 2)]


def test_pieces_of_work_nest() -> None:
    with reporting(Diary()) as diary:
        for _ in track(range(1), "outer"):
            with tracking("inner", total=8) as advance:
                advance(8)
    assert diary.told == [("outer", 1), ("inner", 8), 8, "done", 1, "done"]


def test_cancelled_work_stops_at_its_step_and_is_reported_as_over() -> None:
    seen: list[int] = []
    with reporting(Diary(patience=2)) as diary, pytest.raises(Cancelled, match="Cancelled while counting"):
        seen.extend(track(range(9), "counting"))
    assert seen == [0, 1]
    assert diary.told[-1] == "done"


def test_cancelled_work_does_not_start() -> None:
    with reporting(Diary(patience=0)) as diary, pytest.raises(Cancelled):
        list(track(range(9), "counting"))
    assert diary.told == []


def test_an_error_inside_ends_the_piece() -> None:
    with reporting(Diary()) as diary, pytest.raises(ZeroDivisionError), tracking("dividing"):
        _ = 1 / 0
    assert diary.told[-1] == "done"


def test_the_reporter_is_gone_afterwards() -> None:
    with reporting(Diary(patience=0)) as diary:
        pass
    list(track(range(3), "counting"))
    stop_if_cancelled()
    assert diary.told == []
