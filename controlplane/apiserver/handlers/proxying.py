"""Passing a request on to another HTTP server, and its answer back: streamed, or upgraded to another protocol.

Source: k8s.io/apimachinery/pkg/util/proxy (UpgradeAwareHandler); RFC 9110, "Intermediaries".
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict
from yarl import URL

from controlplane.apiserver.dialing import Unreachable, bracketed, why
from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.hijack import Peer, Refused, request_head, splice
from controlplane.apiserver.handlers.rewriting import LARGEST_PAGE_BYTES, Rewriting
from controlplane.apiserver.handlers.wirestream import SUBPROTOCOLS
from controlplane.apiserver.http import websocket
from controlplane.apiserver.http.request import Answered
from machinery.errors import BadRequest, StatusError
from machinery.imports import deferred

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = deferred("aiohttp")

Receive = Callable[[Exchange, "aiohttp.ClientResponse"], Awaitable[Answer | Answered]]
"""What becomes of an answer."""

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OUR_OWN = frozenset({"content-length", "date"})  # headers that this server writes itself
_KEPT_BACK = frozenset({"authorization", "host", "content-length"})
_CONNECT_SECONDS = 30.0
_FAILURE_BYTES = 50_000


def is_upgrade(exchange: Exchange) -> bool:
    """Whether the client asks for another protocol."""
    connection = exchange.headers.get("Connection", "").lower()
    return "upgrade" in (part.strip() for part in connection.split(",")) and "Upgrade" in exchange.headers


def is_websocket(exchange: Exchange) -> bool:
    """Whether that is WebSocket."""
    return exchange.headers.get("Upgrade", "").lower() == "websocket"


def forwarded(exchange: Exchange) -> CIMultiDict[str]:
    """The client's headers, but for those between it and this server, and those that prove who it is."""
    dropped = {part.strip().lower() for part in exchange.headers.get("Connection", "").split(",")}
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in exchange.headers.items():
        low = name.lower()
        if low in _HOP_BY_HOP or low in _KEPT_BACK or low in dropped or low.startswith(("impersonate-", "x-remote-")):
            continue
        headers.add(name, value)
    forwarded = exchange.headers.get("X-Forwarded-For", "")
    headers["X-Forwarded-For"] = f"{forwarded}, {exchange.raw.remote}" if forwarded else str(exchange.raw.remote)
    return headers


def authority(peer: Peer) -> str:
    """Host and port as a URL has them."""
    return f"{bracketed(peer.host)}:{peer.port}"


async def forward(
    exchange: Exchange,
    peer: Peer,
    path: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    receive: Receive | None = None,
) -> Answer | Answered:
    """Pass the request on to `path` (encoded, with its query) of the peer; `headers` are added.

    `receive` says what becomes of the answer: by default it is passed on as it is.

    Raises:
        ServiceUnavailable: the peer can't be reached.
    """
    if is_upgrade(exchange):
        return await _upgrade(exchange, peer, path, headers)
    return await fetch(exchange, peer, path, headers, receive or relay)


def upgrade_head(method: str, peer: Peer, path: str, protocol: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a request to the peer for another protocol. Raises BadRequest."""
    sent = [("Host", authority(peer)), ("Connection", "Upgrade"), ("Upgrade", protocol), *headers]
    if method in ("POST", "PUT", "PATCH"):
        sent.append(("Content-Length", "0"))
    try:
        return request_head(method, path, sent)
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc


async def _upgrade(exchange: Exchange, peer: Peer, path: str, headers: Iterable[tuple[str, str]]) -> Answer | Answered:
    sent = [*forwarded(exchange).items(), *headers]
    head = upgrade_head(exchange.method, peer, path, exchange.headers["Upgrade"], sent)
    found = await splice(exchange, peer, head)
    return refused(found) if isinstance(found, Refused) else found


def refused(found: Refused) -> Answer:
    """The answer of a peer that did not change protocols, for the client."""
    kind = next((v for k, v in found.headers if k.lower() == "content-type"), "text/plain")
    return Answer(found.body, kind, found.status)


async def fetch(
    exchange: Exchange, peer: Peer, path: str, headers: Iterable[tuple[str, str]], receive: Receive
) -> Answer | Answered:
    """As `forward`, where the client's wish for another protocol is not the peer's business."""
    scheme = "https" if peer.tls is not None else "http"
    url = URL(f"{scheme}://{authority(peer)}{path}", encoded=True)
    sent = forwarded(exchange)
    sent.extend(headers)
    body: Any = None
    if exchange.raw.has_body:
        body = exchange.raw.body.parts()
        length = exchange.headers.get("Content-Length")
        if length is not None:
            sent["Content-Length"] = length
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
    connector = aiohttp.TCPConnector(ssl=peer.tls if peer.tls is not None else False, force_close=True)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False, skip_auto_headers=("User-Agent", "Accept-Encoding")
    ) as session:
        try:
            answer = await session.request(
                exchange.method,
                url,
                headers=sent,
                data=body,
                allow_redirects=False,
                server_hostname=peer.server_name,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise Unreachable(why(exc)) from exc
        async with answer:
            return await receive(exchange, answer)


def refusing(failure: Callable[[int, str], StatusError], receive: Receive) -> Receive:
    """Leaves what succeeds (200..206) to `receive`; what `failure` makes of the rest's status and text is raised."""

    async def check(exchange: Exchange, answer: aiohttp.ClientResponse) -> Answer | Answered:
        if not 200 <= answer.status <= 206:
            raise failure(answer.status, (await answer.content.read(_FAILURE_BYTES)).decode("utf-8", "replace"))
        return await receive(exchange, answer)

    return check


async def messages(exchange: Exchange, answer: aiohttp.ClientResponse) -> Answered:
    """Sends the body on as messages of a WebSocket: of bytes, or (by subprotocol) of their base64.

    Source: k8s.io/apiserver/pkg/util/wsstream (Reader): the first message is empty.
    """
    socket = websocket.accept(exchange.raw, SUBPROTOCOLS, exchange.answer_headers.items())
    as_text = socket.subprotocol.startswith("base64.")
    try:
        socket.send(b"", binary=not as_text)
        async for chunk in answer.content.iter_any():
            if socket.send(base64.b64encode(chunk) if as_text else chunk, binary=not as_text) < 0:
                break
            await socket.drain()
    except aiohttp.ClientError:
        socket.transport.abort()  # the answer broke off: so must ours
    finally:
        socket.close()
        exchange.raw.release()
    return Answered(101)


def rewriting(links: Rewriting) -> Receive:
    """Has links and redirections lead through the proxy again; what the server lets other sites do is not passed on."""

    async def receive(exchange: Exchange, answer: aiohttp.ClientResponse) -> Answer | Answered:
        headers = _passed_on(exchange, answer)
        for name in [name for name in headers if name.lower().startswith("access-control-allow-")]:
            headers.popall(name, None)
        if location := headers.get("Location", ""):
            headers["Location"] = links.url(location)
        elif headers.get("Content-Type", "").partition(";")[0].strip() == "text/html" and exchange.method != "HEAD":
            page, whole = await _page(answer)
            if not whole:
                return await relay(exchange, answer, headers, page)
            page = links.body(page, headers.get("Content-Encoding", "").lower())
            stream = exchange.raw.start(answer.status, headers.items(), len(page))
            stream.write(page)
            await stream.drain()
            stream.end()
            return stream
        return await relay(exchange, answer, headers)

    return receive


async def _page(answer: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The body, and whether that is all of it: more than is rewritten is left unread. Raises ServiceUnavailable."""
    data = bytearray()
    try:
        async for chunk in answer.content.iter_any():
            data += chunk
            if len(data) > LARGEST_PAGE_BYTES:
                return bytes(data), False
    except aiohttp.ClientError as exc:
        raise Unreachable(why(exc)) from exc
    return bytes(data), True


def _passed_on(exchange: Exchange, answer: aiohttp.ClientResponse) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in answer.headers.items():
        if name.lower() not in _HOP_BY_HOP and name.lower() not in _OUR_OWN:
            headers.add(name, value)
    for name, value in exchange.answer_headers.items():
        headers.setdefault(name, value)
    return headers


async def relay(
    exchange: Exchange,
    answer: aiohttp.ClientResponse,
    headers: CIMultiDict[str] | None = None,
    begun: bytes = b"",
) -> Answered:
    """Send an answer on, as it comes, after what has been read of it; `headers` instead of its own."""
    headers = _passed_on(exchange, answer) if headers is None else headers
    length = answer.headers.get("Content-Length")
    known = int(length) if length is not None and length.isdigit() else None
    stream = exchange.raw.start(answer.status, headers.items(), known)
    try:
        if begun:
            stream.write(begun)
        async for chunk in answer.content.iter_any():
            stream.write(chunk)
            await stream.drain()
    except aiohttp.ClientError:
        stream.abort()  # the answer broke off: so must ours, or the client takes what it got for the whole
        return stream
    stream.end()
    return stream
