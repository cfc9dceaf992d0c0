"""Who may ask what? Every request passes here first, and every answer leaves with the same protections.

- The Host header must name this server: a page of another site that makes its own name point here (DNS
  rebinding) is refused. A server on the loopback interface answers to loopback names, on any port, since
  ports are forwarded; another one also to the address it was given and to addresses written as numbers,
  which cannot be rebound.
- What a browser sends from pages of another origin is refused (Origin, Sec-Fetch-Site), reading included.
- With a token, everything needs it: as a bearer, or as the cookie that a visit to `/?token=T` leaves.
- Bodies are JSON, limited in size and in the time that they may take.
- Nothing that is shown may load, run or be framed by anything from elsewhere (Content-Security-Policy).
Limits: this is one door for one person or a group that shares a token; there are no accounts. Over a network
the token can be read by who reads the network: put TLS in front, or forward a port.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cutaway.web.answers import Refusal, refusal
from cutaway.web.settings import LOOPBACK_NAMES, Settings

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self'"
)
PROTECTIONS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_RAW_PROTECTIONS = [(name.encode(), value.encode()) for name, value in PROTECTIONS.items()]
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_NO_TOKEN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Cutaway</title>
<h1>This workbench needs its token</h1>
<p>Open the link that <code>cutaway serve</code> printed when it was started; it ends in <code>?token=…</code>.</p>
"""


class Door:
    """Stands before an application; see the module."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._cookie = f"cutaway_{settings.port}"
        self._secret = hashlib.sha256(b"cutaway " + settings.token.encode()).hexdigest()
        self._names = _own_names(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        send = _protected(send, api=scope["path"].startswith("/api"))
        try:
            headers = Headers(scope=scope)
            self._refuse_host(headers)
            self._refuse_other_sites(scope, headers)
            welcome = self._welcome(scope, headers)
            if welcome is not None:
                await welcome(scope, receive, send)
                return
            if self._has_body(scope, headers):
                receive = await self._whole(receive)
        except Refusal as error:
            await refusal(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refuse_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        name = found["name"].strip("[]").lower().rstrip(".") if found else ""
        if name and self._is_ours(name, int(found["port"] or 80) if found else 0):
            return
        raise Refusal(
            403,
            f"the request was sent to {(hosts or [''])[0][:80]!r}, which is not this server;",
            f"it answers to {', '.join(self._names)}.",
            f"Open http://{_written(self._names[0])}:{self._settings.port}.",
        )

    def _is_ours(self, name: str, port: int) -> bool:
        if name in LOOPBACK_NAMES:
            return True
        right_port = port == self._settings.port or not self._settings.port
        return not self._settings.loopback and right_port and (name in self._names or _is_address(name))

    def _refuse_other_sites(self, scope: Scope, headers: Headers) -> None:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if scope["method"] in _READING and not scope["path"].startswith("/api"):
            return  # a link from elsewhere to a page is no harm: pages hold no data, and answers cannot be read
        own = {f"{scheme}://{headers.get('host', '')}".lower() for scheme in ("http", "https")}
        foreign = (origin is not None and origin.lower() not in own) or (site or "none") not in ("same-origin", "none")
        if foreign:
            raise Refusal(
                403,
                f"the request comes from another site ({(origin or site or '')[:80]});",
                "only pages of this server may ask it.",
                "Open the workbench itself, or ask from a program that sends no Origin.",
            )

    def _welcome(self, scope: Scope, headers: Headers) -> Response | None:
        """None for who may come in; otherwise the cookie for who shows the token, or the way to it."""
        if not self._settings.token:
            return None
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(shown.strip(), self._settings.token):
            return None
        if _same(_cookies(headers).get(self._cookie, ""), self._secret):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        token = dict(query).get("token", "")
        if scope["method"] == "GET" and not scope["path"].startswith("/api") and _same(token, self._settings.token):
            return self._let_in(scope["path"], [pair for pair in query if pair[0] != "token"])
        if scope["path"].startswith("/api"):
            raise Refusal(
                401,
                "this workbench needs its token;",
                "none, or a wrong one, was sent.",
                "Send Authorization: Bearer TOKEN.",
            )
        return HTMLResponse(_NO_TOKEN, 401)

    def _let_in(self, path: str, query: list[tuple[str, str]]) -> Response:
        """The same page without the token in its address, and a cookie."""
        place = "/" + path.lstrip("/\\")  # never `//elsewhere`
        response = RedirectResponse(f"{place}?{urlencode(query)}" if query else place, 303)
        response.set_cookie(self._cookie, self._secret, httponly=True, samesite="lax", path="/", max_age=30 * 86400)
        return response

    def _has_body(self, scope: Scope, headers: Headers) -> bool:
        """Whether a body comes that is to be read; it is refused when it is too large or no JSON."""
        length = headers.get("content-length", "0")
        size = int(length) if length.isascii() and length.isdigit() else 0
        if size > self._settings.largest_body:
            raise self._too_large()
        if scope["method"] in _READING or not (size or "transfer-encoding" in headers):
            return False
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            expected = "it is JSON."
            raise Refusal(415, f"the body is of type {kind[:60]!r};", expected, "Send Content-Type: application/json.")
        return True

    def _too_large(self) -> Refusal:
        largest = self._settings.largest_body
        return Refusal(
            413, f"the request has more than {largest:,} bytes,", "which is the limit.", "Ask for less at once."
        )

    async def _whole(self, receive: Receive) -> Receive:
        """The same body, read to its end: an error when it grows too large or takes too long."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                more = True
                while more:
                    message = await receive()
                    part = message.get("body", b"")
                    parts.append(part)
                    size += len(part)
                    more = message.get("more_body", False)
                    if size > self._settings.largest_body:
                        raise self._too_large()
        except TimeoutError:
            seconds = self._settings.body_seconds
            raise Refusal(408, f"the body did not arrive within {seconds:.0f} seconds.") from None
        body: list[Message] = [{"type": "http.request", "body": b"".join(parts), "more_body": False}]

        async def again() -> Message:
            return body.pop() if body else await receive()  # after the body comes word that the visitor has gone

        return again


def _protected(send: Send, *, api: bool) -> Send:
    """Add the protections to whatever is sent; answers of the API are not kept unless they say so."""

    async def protected(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ())) + _RAW_PROTECTIONS
            if api and not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await send(message)

    return protected


def _own_names(host: str) -> tuple[str, ...]:
    name = host.strip("[]").lower()
    unspecified = name in ("0.0.0.0", "::", "")
    names = (*LOOPBACK_NAMES, socket.gethostname().lower()) if unspecified else (name, *LOOPBACK_NAMES)
    return tuple(dict.fromkeys(names))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _written(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _same(shown: str, secret: str) -> bool:
    """Compared in a time that does not tell how much of it is right."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), secret.encode())


def _cookies(headers: Headers) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in ";".join(headers.getlist("cookie")).split(";"))
    return {name: value for name, _, value in pairs}
