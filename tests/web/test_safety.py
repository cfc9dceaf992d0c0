"""Each attack, tried on a real server."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cutaway.core.errors import CutawayError
from cutaway.web.safety import POLICY, PROTECTIONS
from cutaway.web.settings import Settings, is_loopback, refuse_bad_token, refuse_open_door

Server = Any  # see conftest
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Server]) -> Iterator[Server]:
    """A server that listens on all addresses, with a token."""
    running = start(tmp_path_factory.mktemp("locked") / "store", "--host", "0.0.0.0", "--token", TOKEN)
    yield running
    running.stop()


# --- where it listens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_listening_beyond_this_machine_needs_a_token(host: str) -> None:
    with pytest.raises(CutawayError, match="without a token") as refused:
        refuse_open_door(Settings(host=host))
    assert "127.0.0.1" in refused.value.expected
    offered = re.search(r"--token (\S+),", refused.value.instead)
    assert offered
    assert len(offered[1]) >= 20
    refuse_open_door(Settings(host=host, token="x"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.8.8"])
def test_loopback_needs_none(host: str) -> None:
    assert is_loopback(host)
    refuse_open_door(Settings(host=host))


def test_the_command_refuses_in_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cutaway", "serve", "--no-browser", "--host", "0.0.0.0", "--store", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "without a token" in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not list(tmp_path.iterdir()), "nothing is made before it is refused"


def test_a_token_that_cannot_stand_in_a_link_is_refused() -> None:
    with pytest.raises(CutawayError, match="cannot stand in a link"):
        refuse_bad_token("a b&c")


def test_a_port_that_is_taken_is_a_sentence(server: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cutaway", "serve", "--no-browser", "--port", str(server.port)]
    done = subprocess.run([*command, "--store", str(tmp_path / "s")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{server.port}" in done.stderr


# --- other sites -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "192.168.0.7:{port}",
        "[::ffff:8.8.8.8]:{port}",
        "",
        "127.0.0.1:{port}, evil.example",
        "127.0.0.1:{port}/evil",
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/health", "/openapi.json", "/assets/x.js"])
def test_a_name_of_another_site_is_refused(server: Server, host: str, path: str) -> None:
    """DNS rebinding: the page of the attacker has a name that points here."""
    answer = server.send("GET", path, headers={"Host": host.format(port=server.port)})
    assert answer.status == 403
    assert "not this server" in answer.error["what"]


def test_two_host_headers_are_refused(server: Server) -> None:
    request = f"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nHost: evil.example\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request.encode())
        status = connection.recv(64).split()[1]
    assert status in (b"400", b"403")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}", "localhost:9"]
)
def test_names_of_this_machine_are_served(server: Server, host: str) -> None:
    """On any port: a forwarded one is another than ours."""
    assert server.send("GET", "/api/health", headers={"Host": host.format(port=server.port)}).status == 200


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://127.0.0.1:{other}"},
    {"Origin": "http://localhost:{port}"},  # another origin than the 127.0.0.1 that was asked
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:{port}.evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "cross-site"},
]


def filled(server: Server, headers: dict[str, str]) -> dict[str, str]:
    return {name: value.format(port=server.port, other=server.port + 1) for name, value in headers.items()}


@pytest.mark.parametrize("headers", FOREIGN, ids=lambda headers: " ".join(headers.values()))
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/models/close"),
        ("POST", "/api/jobs"),
        ("DELETE", f"/api/results/{'0' * 64}"),
        ("PATCH", f"/api/results/{'0' * 64}"),
        ("GET", "/api/results"),
    ],
)
def test_pages_of_other_sites_may_not_ask(server: Server, headers: dict[str, str], method: str, path: str) -> None:
    body = None if method in ("GET", "DELETE") else {}
    answer = server.send(method, path, body, filled(server, headers))
    assert answer.status == 403
    assert "another site" in answer.error["what"]
    assert "access-control-allow-origin" not in answer.headers


def test_our_own_pages_may(server: Server) -> None:
    own = {"Origin": f"http://127.0.0.1:{server.port}", "Sec-Fetch-Site": "same-origin"}
    assert server.send("POST", "/api/models/close", {"model": "smollm2"}, own).status in (204, 422)
    assert server.send("GET", "/api/health", headers={"Sec-Fetch-Site": "none"}).status == 200


def test_no_answer_allows_other_origins(server: Server) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = server.send("OPTIONS", "/api/jobs", headers=headers)
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_a_form_of_another_site_is_no_request(server: Server, kind: str) -> None:
    body = b'{"kind": "explain", "model": "smollm2", "prompt": "x y"}'
    answer = server.send("POST", "/api/jobs", body, {"Content-Type": kind})
    assert answer.status == 415


# --- the token -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/results", "/api/health", "/api/results", "/openapi.json", "/theme.js"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Cookie": f"cutaway_0={TOKEN}"},
        {"Authorization": "Bearer \xff\xfe"},
    ],
    ids=str,
)
def test_nothing_is_shown_without_the_token(locked: Server, path: str, headers: dict[str, str]) -> None:
    answer = locked.send("GET", path, headers=headers)
    assert answer.status == 401
    assert TOKEN.encode() not in answer.body


def test_the_cookie_cannot_be_the_token_itself(locked: Server) -> None:
    assert locked.send("GET", "/api/health", headers={"Cookie": f"cutaway_{locked.port}={TOKEN}"}).status == 401


def test_the_token_is_taken_as_a_bearer(locked: Server) -> None:
    assert locked.send("GET", "/api/health", headers={"Authorization": f"Bearer {TOKEN}"}).json["loopback"] is False


def test_a_visit_with_the_token_leaves_a_cookie(locked: Server) -> None:
    answer = locked.send("GET", f"/explain?model=smollm2&token={TOKEN}&prompt=a+b")
    assert answer.status == 303
    assert answer.headers["location"] == "/explain?model=smollm2&prompt=a+b", "the token leaves the address"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert TOKEN not in cookie
    told = {"Cookie": f"other=1; {cookie.partition(';')[0]}"}
    assert locked.send("GET", "/api/health", headers=told).status == 200
    assert locked.send("GET", "/", headers=told).status == 200


def test_the_way_in_leads_nowhere_else(locked: Server) -> None:
    for path in ("//evil.example/", "/\\evil.example", "///evil.example"):
        answer = locked.send("GET", f"{path}?token={TOKEN}")
        assert re.match(r"/[^/\\]", answer.headers["location"]), answer.headers["location"]


def test_the_api_is_not_entered_by_link(locked: Server) -> None:
    assert locked.send("GET", f"/api/health?token={TOKEN}").status == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "192.168.0.7:1"])
def test_the_token_does_not_excuse_a_strange_host(locked: Server, host: str) -> None:
    headers = {"Host": host.format(port=locked.port), "Authorization": f"Bearer {TOKEN}"}
    assert locked.send("GET", "/api/health", headers=headers).status == 403


def test_an_address_of_this_machine_is_served(locked: Server) -> None:
    """Numbers cannot be rebound; which of them are ours, the network decides."""
    headers = {"Host": f"192.168.0.7:{locked.port}", "Authorization": f"Bearer {TOKEN}"}
    assert locked.send("GET", "/api/health", headers=headers).status == 200


def test_the_address_that_is_printed_holds_the_token(locked: Server) -> None:
    assert locked.url == f"http://{socket.gethostname()}:{locked.port}/?token={TOKEN}"


# --- sizes and time --------------------------------------------------------------------------------------------------


def test_a_large_body_is_refused_before_it_is_read(server: Server) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": str(10**12), "Transfer-Encoding": "identity"}
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    with connection:
        head = f"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        head += "".join(f"{n}: {v}\r\n" for n, v in headers.items() if n != "Transfer-Encoding")
        connection.sendall(head.encode() + b"\r\n{")
        assert connection.recv(64).split()[1] == b"413"


def test_a_large_body_without_a_length_is_cut_off(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = f"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        try:
            for _ in range(40):
                connection.sendall(chunk)
        except OSError:
            pass  # it hung up on us, as it should
        assert connection.recv(64).split()[1] == b"413"


@pytest.mark.parametrize("field", ["text", "prompt"])
def test_a_long_text_is_refused(server: Server, field: str) -> None:
    long = "word " * 10_000
    path, body = (
        ("/api/tokenize", {"text": long}) if field == "text" else ("/api/jobs", {"kind": "explain", "prompt": long})
    )
    answer = server.post(path, {"model": server.model, **body})
    assert answer.status == 422
    assert "at most 20000 characters" in answer.error["expected"]


def test_deep_json_is_refused(server: Server) -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    answer = server.send("POST", "/api/jobs", deep, {"Content-Type": "application/json"})
    assert 400 <= answer.status < 500


def test_a_request_that_cannot_be_read_is_refused(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: " + b"a" * 100_000 + b"\r\n\r\n")
        said = connection.recv(4096)
    assert said.split()[1] in (b"400", b"403", b"431")
    assert b"a" * 100 not in said


@pytest.mark.parametrize(
    "raw", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n"]
)
def test_what_is_no_http_is_refused_with_the_protections(server: Server, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(raw)
        said = b""
        while part := connection.recv(4096):
            said += part
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    for name, value in PROTECTIONS.items():
        assert f"{name}: {value}".encode() in head.lower().replace(value.lower().encode(), value.encode())
    assert json.loads(body)["error"]["what"] == "the request cannot be read as HTTP."


def test_a_huge_job_can_be_stopped(server: Server) -> None:
    """A number without a bound makes a task that would be built for hours: it is ended with its worker."""
    answer = server.post(
        "/api/jobs",
        {
            "kind": "method",
            "method": "logit_lens",
            "model": server.model,
            "task": "ioi",
            "task_parameters": {"n": 10**9},
            "parameters": {},
        },
    )
    if answer.status == 422:
        return  # refused at once, which is as good
    assert answer.status == 202, answer.body
    server.wait(answer.json["id"], "running", "failed")
    server.post(f"/api/jobs/{answer.json['id']}/cancel")
    assert server.wait(answer.json["id"], seconds=40)["state"] in ("cancelled", "failed")
    answer = server.post("/api/tokenize", {"model": server.model, "text": "It works again"})
    assert answer.status == 200


# --- paths -----------------------------------------------------------------------------------------------------------

ESCAPES = [
    "/../../../../etc/passwd",
    "/..%2f..%2f..%2fetc%2fpasswd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/assets/../../app.py",
    "/assets/..%2f..%2fapp.py",
    "/assets/%2e%2e/%2e%2e/settings.py",
    "//etc/passwd",
    "/assets//etc/passwd",
    "/..\\..\\etc\\passwd",
    "/etc/passwd%00.html",
    "/file:///etc/passwd",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_leads_out_of_the_pages(server: Server, path: str) -> None:
    answer = server.send("GET", path)
    assert b"root:" not in answer.body
    assert b"import" not in answer.body.split(b"<")[0]
    assert answer.status in (200, 400, 404)
    if answer.status == 200:
        assert b"<!doctype html>" in answer.body.lower()


@pytest.mark.parametrize(
    "id", ["..%2f..%2findex.sqlite", "%2e%2e", "....", "index.sqlite", "0" * 3, "0" * 65, "A" * 64, "0000%00", "*"]
)
@pytest.mark.parametrize("tail", ["", "/python", "/export?format=nc", "/array/x"])
def test_an_id_is_hexadecimal_digits(server: Server, id: str, tail: str) -> None:
    answer = server.send("GET", f"/api/results/{id}{tail}")
    assert answer.status in (404, 422)
    assert b"SQLite" not in answer.body


@pytest.mark.parametrize("name", ["..%2f..%2fx", "%2Fetc%2Fpasswd", "cutaway_id", "__class__"])
def test_a_name_of_an_array_is_one_of_the_result(server: Server, kept: dict[str, Any], name: str) -> None:
    answer = server.send("GET", f"/api/results/{kept['results'][0]}/array/{name}")
    assert answer.status == 404


@pytest.mark.parametrize("path", ["/etc", "../..", "~", "./", "C:\\", "evil/repository", "/dev/stdin", "a.gguf", ""])
def test_a_model_is_not_opened_by_path(server: Server, path: str) -> None:
    """Not even a folder that is one, unless the server was started with it."""
    for method, target, body in (
        ("POST", "/api/models/open", {"model": path}),
        ("POST", "/api/tokenize", {"model": path, "text": "a b"}),
        ("POST", "/api/jobs", {"kind": "explain", "model": path, "prompt": "a b"}),
    ):
        answer = server.send(method, target, body)
        assert answer.status == 422
        assert "to open here" in answer.error["what"] or "model is ''" in answer.error["what"]


def test_another_models_folder_is_not_opened(server: Server, tmp_path: Path, model_folder: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(model_folder)
    assert server.post("/api/models/open", {"model": str(link)}).status == 422


def test_a_method_is_not_a_module(server: Server) -> None:
    for name in ("os", "../method", "cutaway.cli.main", "__import__('os')"):
        body = {"kind": "method", "method": name, "model": server.model, "task": "ioi", "parameters": {}}
        answer = server.post("/api/jobs", body)
        assert answer.status == 422
        assert "there is no method" in answer.error["what"]


# --- what is sent back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {}),
        ("GET", "/explain?prompt=x", {}),
        ("GET", "/assets/nothing.js", {}),
        ("GET", "/api/health", {}),
        ("GET", "/api/nothing", {}),
        ("GET", "/api/results?limit=-1", {}),
        ("PUT", "/api/results", {}),
        ("POST", "/api/jobs", {"Content-Type": "text/plain"}),
        ("GET", "/", {"Host": "evil.example"}),
        ("GET", "/api/health", {"Origin": "https://evil.example"}),
        ("GET", "/openapi.json", {}),
    ],
)
def test_every_answer_carries_the_protections(server: Server, method: str, path: str, headers: dict[str, str]) -> None:
    body = b"x" if method == "POST" else None
    answer = server.send(method, path, body, headers)
    for name, value in PROTECTIONS.items():
        assert answer.headers[name] == value
    assert "server" not in answer.headers


def test_the_policy_is_the_strict_one() -> None:
    assert POLICY.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe-eval" not in POLICY
    assert "script-src 'self' " not in POLICY
    assert "http" not in POLICY
    for part in ("base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'", "connect-src 'self'"):
        assert part in POLICY


HTML = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_user_text_is_never_html(server: Server) -> None:
    """Whatever comes back with it is JSON, a download, or has it escaped."""
    job = server.run(kind="method", method="logit_lens", prompts={"prompts": [HTML]}, parameters={"top": 2})
    assert job["state"] == "done", job["error"]
    id = job["results"][0]
    server.send("PATCH", f"/api/results/{id}", {"title": HTML, "note": HTML, "tags": [HTML]})
    for path in (f"/api/results/{id}", "/api/results", f"/api/jobs/{job['id']}", f"/api/results/{id}/python"):
        assert server.get(path).headers["content-type"] == "application/json"
    for format in ("svg", "html", "csv", "json"):
        answer = server.get(f"/api/results/{id}/export", format=format)
        assert answer.status == 200
        assert answer.headers["content-disposition"].startswith("attachment")
        if format in ("svg", "html"):
            assert b"<script>alert" not in answer.body
            assert b"<img" not in answer.body
    wrong = server.post("/api/tokenize", {"model": HTML, "text": "a"})
    assert wrong.headers["content-type"] == "application/json"
    page = server.get("/" + HTML.replace("<", "%3C").replace(">", "%3E").replace(" ", "%20"))
    assert b"alert(1)" not in page.body


def test_a_name_does_not_split_a_header(server: Server, kept: dict[str, Any]) -> None:
    for path in (f"/api/results/{kept['results'][0]}/export?format=svg%0d%0aX-Evil:1", "/x%0d%0aX-Evil:%201"):
        assert "x-evil" not in server.send("GET", path).headers


def test_no_traceback_is_shown(server: Server) -> None:
    for path, body in (("/api/jobs", {"kind": "method"}), ("/api/jobs", []), ("/api/next", {"model": 3})):
        answer = server.post(path, body)
        assert 400 <= answer.status < 500
        assert set(answer.error) >= {"what", "expected", "instead"}
        assert b"Traceback" not in answer.body
        assert b".py" not in answer.body


# --- slow visitors ---------------------------------------------------------------------------------------------------


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    """In this process, since the limit of a running server is many seconds."""
    import asyncio

    from cutaway.web.safety import Door

    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it was passed on")

    async def silence() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    sent: list[dict[str, Any]] = []

    async def note(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/jobs",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"5")],
    }
    started = time.monotonic()
    asyncio.run(Door(never, Settings(body_seconds=0.2))(scope, silence, note))
    assert time.monotonic() - started < 5
    assert sent[0]["status"] == 408
