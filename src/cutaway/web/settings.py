"""How is the workbench set up? Where it listens, who may come in, and how much may be asked at once."""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cutaway.core.errors import CutawayError
from cutaway.runtime.limits import Limits

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Settings:
    """The choices of one server.

    Attributes:
        host, port: where it listens; port 0 is a free one.
        token: what visitors must know; empty where only this machine can come.
        store: folder or address of the database; None is the user's own.
        models: opened in the beginning. Folders and files can be opened only when they are named here.
        plugins: loose files with methods, which the worker loads too.
        static: the built pages; None is those of the package.
        largest_body: bytes that a request may have.
        largest_answer: bytes of an array that are sent at once.
        body_seconds: how long the body of a request may take to arrive.
        limits: how long work may take, and how much of it may wait.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str = ""
    store: str | None = None
    models: tuple[str, ...] = ()
    plugins: tuple[Path, ...] = ()
    static: Path | None = None
    largest_body: int = 1024 * 1024
    largest_answer: int = 64 * 1024 * 1024
    body_seconds: float = 20.0
    limits: Limits = field(default_factory=Limits)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def refuse_open_door(settings: Settings) -> None:
    """Refuse to listen beyond this machine without a token.

    Raises:
        CutawayError: with a token to use.
    """
    if settings.loopback or settings.token:
        return
    raise CutawayError(
        f"the workbench was asked to listen on {settings.host}, where others can reach it, without a token;",
        "it runs models and keeps results, so beyond this machine (127.0.0.1) everyone must show a token.",
        f"Write --host {settings.host} --token {secrets.token_urlsafe(18)}, or leave --host out.",
    )


def refuse_bad_token(token: str) -> None:
    """Refuse a token that cannot stand in a header or a link.

    Raises:
        CutawayError: with what it may be made of.
    """
    if token and not all((character.isascii() and character.isalnum()) or character in "-_.~" for character in token):
        raise CutawayError(
            "the token has characters that cannot stand in a link;",
            "it is made of letters, digits, '-', '_', '.' and '~'.",
            f"Write --token {secrets.token_urlsafe(18)}.",
        )
