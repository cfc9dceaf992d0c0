"""Bars on standard error, and ctrl-C between steps."""

from __future__ import annotations

import io
import signal
import threading

import pytest
from rich.console import Console

from cutaway.core.errors import Cancelled
from cutaway.core.progress import track, tracking
from cutaway.runtime.progress import watched


def terminal() -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, force_terminal=True, width=100), screen


def test_a_terminal_shows_what_is_done_how_far_it_is_and_the_time_left() -> None:
    console, screen = terminal()
    with watched(console), tracking("patching heads", total=4) as advance:
        advance(3)
        with tracking("inner", total=2):
            pass
    shown = screen.getvalue()
    assert "patching heads" in shown
    assert "3/4" in shown
    assert "left" in shown


def test_nothing_is_left_on_the_screen_of_a_file() -> None:
    screen = io.StringIO()
    with watched(Console(file=screen, force_terminal=False)):
        assert list(track(range(3), "counting")) == [0, 1, 2]
    assert screen.getvalue() == ""


def test_ctrl_c_stops_at_the_next_step() -> None:
    console, screen = terminal()
    finished = []
    with pytest.raises(Cancelled, match="Cancelled while counting"), watched(console):
        for number in track(range(9), "counting"):
            if number == 2:
                signal.raise_signal(signal.SIGINT)
            finished.append(number)
    assert finished == [0, 1, 2]
    assert "Stopping after this step; press ctrl-C again to stop at once." in screen.getvalue()


def test_ctrl_c_twice_stops_at_once() -> None:
    finished = []
    with pytest.raises(KeyboardInterrupt), watched(terminal()[0]):
        for number in track(range(9), "counting"):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            finished.append(number)
    assert finished == []


def test_ctrl_c_outside_any_piece_of_work_stops_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), watched(terminal()[0]):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_is_as_it_was_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), watched(terminal()[0]):
        assert signal.getsignal(signal.SIGINT) is not before
        _ = 1 / 0
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_can_be_watched_too() -> None:
    seen: list[int] = []

    def work() -> None:
        with watched(terminal()[0]):
            seen.extend(track(range(3), "counting"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0, 1, 2]
