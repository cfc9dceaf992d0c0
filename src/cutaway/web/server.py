"""How is the workbench run? One process that listens, says where, and ends cleanly with its worker.

Limits: one server for each port, without TLS: over a network, forward a port or put a proxy in front.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cutaway.core.errors import CutawayError
from cutaway.store.index import Store
from cutaway.web.app import create_app
from cutaway.web.safety import PROTECTIONS
from cutaway.web.settings import Settings, refuse_bad_token, refuse_open_door


def run(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until ctrl-C.

    Args:
        settings: how it is set up.
        announce: is told the address once it answers.

    Raises:
        CutawayError: it may not listen there, cannot, or the store cannot be opened.
    """
    refuse_bad_token(settings.token)
    refuse_open_door(settings)
    store = Store.open(settings.store)
    with _listening(settings) as listener:
        bound = replace(settings, port=listener.getsockname()[1])
        app = create_app(bound, store)
        server = _Server(_config(app), lambda: announce(address(bound)))
        app.state.leaving = lambda: server.should_exit
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            return  # uvicorn hands ctrl-C on when all is closed


def address(settings: Settings) -> str:
    """What to open in a browser."""
    host = socket.gethostname() if settings.host in ("0.0.0.0", "::", "") else settings.host.strip("[]")
    place = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    return f"{place}/?token={settings.token}" if settings.token else place


class _Protocol(H11Protocol):
    """Answers with the same protections where a request cannot even be read."""

    def send_400_response(self, msg: str) -> None:
        """Refuse, and hang up."""
        text = b'{"error": {"what": "the request cannot be read as HTTP.", "expected": "", "instead": ""}}'
        headers = [(name.encode(), value.encode()) for name, value in PROTECTIONS.items()]
        headers += [(b"content-type", b"application/json"), (b"connection", b"close")]
        headers.append((b"content-length", str(len(text)).encode()))
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=text), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class _Server(uvicorn.Server):
    """Says when it answers."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._say = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer."""
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self._say()


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whoever sends X-Forwarded-For is not believed
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=3,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=32 * 1024,
        backlog=512,
    )


def _listening(settings: Settings) -> socket.socket:
    host = settings.host.strip("[]")
    try:
        family, _, _, _, place = socket.getaddrinfo(host or None, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except (OSError, OverflowError) as error:
        raise CutawayError(
            f"the workbench cannot listen on {host}:{settings.port} ({error}).",
            "Another program may have the port, or this machine does not have the address.",
            "Write --port 0 for a free port, or leave --host out.",
        ) from error
    return listener
