"""How long may work take, and how much of it may wait?"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How long things may take, in seconds, and how many may wait.

    Attributes:
        patience: a quick request waits so long for a job under way.
        answer: a quick request may take so long.
        light: so may a light one.
        grace: a cancelled job has so long to stop by itself.
        job: a job may take so long.
        queue: so many jobs may wait.
        requests: so many quick requests may wait.
        kept: of so many finished jobs the last state is kept in memory.
    """

    patience: float = 15.0
    answer: float = 120.0
    light: float = 60.0
    grace: float = 6.0
    job: float = 4 * 3600.0
    queue: int = 100
    requests: int = 200
    kept: int = 50
