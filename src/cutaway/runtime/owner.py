"""Whose queue is a waiting job in? The server writes itself down beside what was asked for.

A job that waits for a server that has ended would wait for ever.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from cutaway.store.index import Job

OWNER = "server"  # key in a job's spec
_CLOCK = 10.0  # seconds by which a process may seem to have started at another time


def asked(job: Job) -> dict[str, Any]:
    """What a job was asked for, without what we wrote beside it."""
    return {key: value for key, value in job.spec.items() if key != OWNER}


def me() -> str:
    """This server, as a job says whose it is."""
    this = psutil.Process()
    return f"{platform.node()} {this.pid} {this.create_time():.0f}"


def is_gone(owner: Any) -> bool:
    """Whether a server of this machine has ended; of one elsewhere, or none, nothing is known."""
    node, pid, started = [*str(owner).rsplit(" ", 2), "", ""][:3]
    if node != platform.node() or not pid.isdigit():
        return False
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) > _CLOCK
    except psutil.Error:
        return True
