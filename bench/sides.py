"""Who takes part? Sides: living processes, each with its own interpreter, library and opened model.

A side is started once, says when its model is open and what that cost, does one work after another when asked, and
ends with the `with` block. What its library prints is kept back and shown only when the side fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from bench.peers import PEERS

ROOT = Path(__file__).resolve().parent.parent
OWN_SIDES = ("ours", "plain")


@dataclass(frozen=True)
class Answer:
    """What one timed call took, held and gave."""

    seconds: float
    before: int | None
    peak: int | None
    values: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def grown(self) -> int | None:
        """Bytes that the call held at its peak beyond what was held before."""
        return None if self.peak is None or self.before is None else self.peak - self.before


@dataclass(frozen=True)
class Opened:
    """What a side said when it was ready."""

    seconds: float
    before: int | None
    peak: int | None
    after: int | None
    versions: Mapping[str, str]
    works: tuple[str, ...]


class Side:
    """A living worker: a process that holds one library and one opened model."""

    def __init__(self, name: str, process: subprocess.Popen[str], opened: Opened, complaints: IO[str]) -> None:
        self.name, self.process, self.opened, self.complaints = name, process, opened, complaints

    def ask(self, work: str, *, values: bool = False, memory: bool = False, **arguments: Any) -> Answer:
        """Have one work done, and wait for it.

        Args:
            work: its name in the side's table.
            values: bring back the arrays that it gives.
            memory: start from memory that was given back, so that the peak is the work's own.
            arguments: the work's.

        Raises:
            RuntimeError: the side could not do it; the message ends with the side's own traceback.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "values.npz" if values else None
            command = {
                "work": work,
                "arguments": arguments,
                "values": None if path is None else str(path),
                "memory": memory,
            }
            said = converse(self.process, self.name, command, self.complaints)
            found = {} if path is None or not path.exists() else dict(np.load(path))
        return Answer(said["seconds"], said["before"], said["peak"], found)


def converse(
    process: subprocess.Popen[str], name: str, command: Mapping[str, Any] | None, complaints: IO[str]
) -> dict[str, Any]:
    """Send a command, if any, and read the next answer; `complaints` is where the side's standard error goes."""
    assert process.stdin is not None and process.stdout is not None
    line = ""
    with suppress(BrokenPipeError):  # it has ended: said below
        if command is not None:
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
    if not line:
        status = process.wait()
        raise RuntimeError(f"The side '{name}' ended (exit status {status}) without an answer.\n{tail(complaints)}")
    said: dict[str, Any] = json.loads(line)
    if "error" in said:
        raise RuntimeError(f"The side '{name}' failed:\n{said['error']}")
    return said


def tail(complaints: IO[str]) -> str:
    """The end of what a side wrote to standard error."""
    complaints.seek(0)
    return complaints.read()[-4000:]


def interpreter(name: str) -> Path:
    """The Python of a side: ours for cutaway and plain transformers, its own for a peer.

    Raises:
        FileNotFoundError: the peer's environment is not there, with the command that makes it.
    """
    if name in OWN_SIDES:
        return Path(sys.executable)
    peer = PEERS[name]
    if not peer.ready:
        raise FileNotFoundError(f"No complete environment for '{name}'. Make it: python -m bench.peers {name}")
    return peer.python


def environment(threads: int) -> dict[str, str]:
    """The environment of a side: its threads, no network, no progress bars."""
    count = str(threads)
    return dict(
        os.environ,
        OMP_NUM_THREADS=count,
        MKL_NUM_THREADS=count,
        TOKENIZERS_PARALLELISM="false",
        HF_HUB_OFFLINE="1",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        TQDM_DISABLE="1",
        TRANSFORMERS_VERBOSITY="error",
    )


@contextmanager
def side(
    name: str,
    model: str,
    threads: int,
    *,
    architecture: str = "",
    variables: Mapping[str, str] | None = None,
) -> Iterator[Side]:
    """Start a side, wait until its model is open, and end it afterwards.

    Args:
        name: `ours`, `plain`, or a peer.
        model: the model's folder, or for ours also an alias.
        threads: number of threads that it computes with.
        architecture: the model's class in transformers, imported before opening is timed.
        variables: further environment variables.
    """
    command = [
        *(str(interpreter(name)), "-m", f"bench.side.{name}"),
        *("--model", model, "--threads", str(threads), "--architecture", architecture),
    ]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            cwd=ROOT,
            env={**environment(threads), **(variables or {})},
        )
        try:
            said = converse(process, name, None, complaints)
            opened = Opened(**{key: said[key] for key in Opened.__dataclass_fields__})
            yield Side(name, process, opened, complaints)
        finally:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    """End a side: it stops when its input ends, or is stopped."""
    try:
        process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
