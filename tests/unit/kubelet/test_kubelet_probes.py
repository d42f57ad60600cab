"""Probes and hooks over the network: what is asked, and what the answers mean."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubelet_values import container, pod

from agent.cri.client import CriClient
from agent.kubelet.probes.handlers import FAILURE, SUCCESS, UNKNOWN, WARNING, Handlers, Outcome, Target
from agent.kubelet.probes.tls import ResumingContext
from machinery.api.meta import Object
from machinery.serving import self_signed_tls


class Answering:
    """A server that keeps the headers of what it is asked."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.host = "127.0.0.1"
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        status = int(request.match_info.get("status") or 200)
        headers = {}
        if "to" in request.query:
            headers["Location"] = request.query["to"].replace("PORT", str(self.port))
        return web.Response(status=status, text=None if status == 304 else f"answer {status}", headers=headers)


@pytest.fixture
async def server() -> AsyncIterator[Answering]:
    made = Answering()
    app = web.Application()
    app.router.add_get("/", made.answer)
    app.router.add_get("/{status}", made.answer)
    async with TestServer(app, host=made.host) as running:
        made.port = running.port or 0
        yield made


@pytest.fixture
async def handlers() -> AsyncIterator[Handlers]:
    async with contextlib.AsyncExitStack() as stack:
        cri = CriClient("unix:///nowhere.sock")
        stack.push_async_callback(cri.close)
        made = Handlers(cri)
        stack.push_async_callback(made.close)
        yield made


def test_a_handshake_cut_short_is_no_hindrance_to_the_next_one() -> None:
    """Its session is half of one, which OpenSSL can't put into words (`i2d() failed`)."""
    context, server = ResumingContext(ssl.PROTOCOL_TLS_CLIENT), self_signed_tls()

    def connect(bytes_read: int | None) -> ssl.SSLObject:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        answers, answering = ssl.MemoryBIO(), server.wrap_bio(to_server, to_client, server_side=True)
        client = context.wrap_bio(answers, to_server)
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
                return client
            with contextlib.suppress(ssl.SSLWantReadError):
                answering.do_handshake()
            answers.write(to_client.read()[:bytes_read])
            if bytes_read is not None:
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                return client

    for length in (0, 100, 130, 200, 400):
        connect(length)
    assert connect(None).version() == "TLSv1.3"


def target(port: int) -> Target:
    own = container("c") | {"ports": [{"name": "web", "containerPort": port}]}
    return Target(pod(own), own, "id", "127.0.0.1")


async def probe(handlers: Handlers, port: int, **action: Any) -> Outcome:
    return await handlers.run({"httpGet": {"port": port, **action}}, target(port), 5.0)


@pytest.mark.parametrize(
    ("path", "result", "output"),
    [
        ("/200", SUCCESS, "answer 200"),
        ("299", SUCCESS, "answer 299"),
        ("/304", WARNING, "Probe terminated redirects, Response body: "),
        ("/302?to=/200", SUCCESS, "answer 200"),
        ("/307?to=/500", FAILURE, "HTTP probe failed with statuscode: 500"),
        ("/301?to=http://127.0.0.2:PORT/200", WARNING, "Probe terminated redirects, Response body: answer 301"),
        ("/400", FAILURE, "HTTP probe failed with statuscode: 400"),
        ("/503", FAILURE, "HTTP probe failed with statuscode: 503"),
    ],
)
async def test_what_an_http_probe_makes_of_an_answer(
    handlers: Handlers, server: Answering, path: str, result: str, output: str
) -> None:
    assert await probe(handlers, server.port, path=path) == Outcome(result, output)


async def test_redirects_in_a_circle_end(handlers: Handlers, server: Answering) -> None:
    found = await probe(handlers, server.port, path="/302?to=/302?to=/302")
    assert found.result in (FAILURE, WARNING)
    assert len(server.headers) <= 10


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([], {"User-Agent": "kube-probe/1.36", "Accept": "*/*"}),
        ([{"name": "user-agent", "value": "foo/1.0"}], {"User-Agent": "foo/1.0", "Accept": "*/*"}),
        ([{"name": "User-Agent", "value": ""}, {"name": "Accept", "value": ""}], {}),
        (
            [{"name": "Host", "value": "example.org"}, {"name": "X-Muffins", "value": "or-cupcakes"}],
            {"Host": "example.org", "X-Muffins": "or-cupcakes", "User-Agent": "kube-probe/1.36", "Accept": "*/*"},
        ),
    ],
)
async def test_the_headers_of_a_probe(
    handlers: Handlers, server: Answering, given: list[Object], sent: dict[str, str]
) -> None:
    await probe(handlers, server.port, path="/", httpHeaders=given)
    assert server.headers == [{"Host": f"127.0.0.1:{server.port}", "Connection": "close"} | sent]


async def test_nobody_there_and_no_such_port(handlers: Handlers) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        where = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
        assert await probe(handlers, port) == Outcome(FAILURE, f'Get "http://127.0.0.1:{port}/": {where}')
        tcp = await handlers.run({"tcpSocket": {"port": "web"}}, target(port), 5.0)
        assert tcp == Outcome(FAILURE, where)
    unknown = await handlers.run({"tcpSocket": {"port": "none"}}, target(port), 5.0)
    assert unknown == Outcome(UNKNOWN, "couldn't find port: none")
    assert await handlers.run({}, target(port), 5.0) == Outcome(UNKNOWN, "missing probe handler")


async def test_a_hook_is_well_with_any_answer(handlers: Handlers, server: Answering) -> None:
    for path in ("/200", "/500", "/404"):
        assert await handlers.http_hook({"port": server.port, "path": path}, target(server.port)) == (None, False)
    assert {headers["User-Agent"] for headers in server.headers} == {"kube-lifecycle/1.36"}


async def test_a_hook_by_https_is_told_by_http_where_nobody_speaks_tls(handlers: Handlers, server: Answering) -> None:
    secret = [{"name": "Authorization", "value": "Basic x"}, {"name": "X-Kept", "value": "y"}]
    action = {"port": server.port, "scheme": "HTTPS", "httpHeaders": secret}
    assert await handlers.http_hook(action, target(server.port)) == (None, True)
    assert ("Authorization" in server.headers[0], server.headers[0]["X-Kept"]) == (False, "y")


async def test_a_hook_that_nobody_hears_has_failed(handlers: Handlers) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        failure, _ = await handlers.http_hook({"port": port}, target(port))
    assert failure == f'Get "http://127.0.0.1:{port}/": dial tcp 127.0.0.1:{port}: connect: connection refused'


async def test_a_server_that_is_probed_again_need_not_show_its_certificate_again(handlers: Handlers) -> None:
    reused: list[bool] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        reused.append(request.transport.get_extra_info("ssl_object").session_reused)
        return web.Response(text="well")

    async with contextlib.AsyncExitStack() as stack:
        ports = []
        for _ in range(2):
            app = web.Application()
            app.router.add_get("/", answer)
            server = await stack.enter_async_context(_serving(app))
            ports.append(server.port or 0)
        for port in (*ports, *ports):
            assert await probe(handlers, port, path="/", scheme="HTTPS") == Outcome(SUCCESS, "well")
    assert reused == [False, False, True, True], "one session for each server"


@contextlib.asynccontextmanager
async def _serving(app: web.Application) -> AsyncIterator[TestServer]:
    server = TestServer(app, host="127.0.0.1")
    await server.start_server(ssl=self_signed_tls())
    try:
        yield server
    finally:
        await server.close()
