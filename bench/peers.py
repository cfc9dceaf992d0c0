"""Make the peers' environments: one virtual environment each, because their dependencies exclude one another.

`python -m bench.peers` makes them all under `bench/.peers/NAME`, `python -m bench.peers inseq` makes one. An
environment that is complete is left alone, so the command may be run as often as one likes; one that was cut
off is finished. Torch goes in first and alone, so that every side computes with the same release.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / ".peers"
TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Peer:
    """A library that we are measured against, with what its environment holds."""

    name: str
    packages: tuple[str, ...]
    distribution: str

    @property
    def folder(self) -> Path:
        """The virtual environment."""
        return FOLDER / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        inside = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
        return self.folder / inside

    @property
    def stamp(self) -> str:
        """What a complete environment is stamped with: it changes when the pins change."""
        return hashlib.sha256("\n".join((TORCH, *self.packages)).encode()).hexdigest()

    @property
    def ready(self) -> bool:
        """Whether the environment is complete for these very pins."""
        mark = self.folder / "complete"
        return mark.is_file() and mark.read_text().strip() == self.stamp


PEERS = {
    peer.name: peer
    for peer in (
        Peer("transformer_lens", ("transformer-lens==4.3.0",), "transformer-lens"),
        Peer("nnsight", ("nnsight==0.8.1", "nnterp==1.3.0"), "nnsight"),
        Peer("inseq", ("inseq==0.7.1", "captum==0.9.0"), "inseq"),
        # TransformerLens 2 wants NumPy 1, which later releases of pyarrow refuse without saying so in their metadata.
        Peer("auto_circuit", ("auto-circuit==1.0.1", "transformer-lens==2.18.0", "pyarrow==21.0.0"), "auto-circuit"),
    )
}


def say(text: str) -> None:
    """A line of progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def install(python: Path, packages: Sequence[str]) -> None:
    """Install packages with the pip of an environment."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    subprocess.run(command, check=True)


def make(peer: Peer) -> None:
    """Make the environment of one peer, or finish it, or leave it alone when it is complete."""
    if peer.ready:
        say(f"{peer.name}: complete")
        return
    say(f"{peer.name}: making the environment")
    venv.create(peer.folder, with_pip=True, clear=False)
    say(f"{peer.name}: installing {TORCH}")
    install(peer.python, [TORCH])
    say(f"{peer.name}: installing {' '.join(peer.packages)}")
    install(peer.python, [TORCH, *peer.packages])
    (peer.folder / "complete").write_text(peer.stamp + "\n")
    say(f"{peer.name}: complete")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: all peers, or those named."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="Make the peers' environments.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of: {', '.join(PEERS)}; default all")
    names = parser.parse_args(arguments).names or list(PEERS)
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        parser.error(f"unknown peer {', '.join(map(repr, unknown))}; known: {', '.join(PEERS)}.")
    for name in names:
        make(PEERS[name])


if __name__ == "__main__":
    main()
