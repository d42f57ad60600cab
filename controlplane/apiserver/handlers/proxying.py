"""Passing a request on to another HTTP server, and its answer back: streamed, or upgraded to another protocol.

Source: k8s.io/apimachinery/pkg/util/proxy (UpgradeAwareHandler); RFC 9110, "Intermediaries".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from multidict import CIMultiDict
from yarl import URL

from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.hijack import Peer, Refused, request_head, splice
from controlplane.apiserver.http.request import Answered
from machinery.errors import BadRequest, ServiceUnavailable, StatusError
from machinery.imports import deferred

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = deferred("aiohttp")

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


def _forwarded(exchange: Exchange) -> CIMultiDict[str]:
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


def _authority(peer: Peer) -> str:
    return f"[{peer.host}]:{peer.port}" if ":" in peer.host else f"{peer.host}:{peer.port}"


async def forward(
    exchange: Exchange,
    peer: Peer,
    path: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    failure: Callable[[int, str], StatusError] | None = None,
) -> Answer | Answered:
    """Pass the request on to `path` (encoded, with its query) of the peer; `headers` are added.

    With `failure`, an answer outside 200..206 is not passed on: what `failure` makes of its status and text is raised.

    Raises:
        ServiceUnavailable: the peer can't be reached.
    """
    if is_upgrade(exchange):
        return await _upgrade(exchange, peer, path, headers)
    return await _plain(exchange, peer, path, headers, failure)


async def _upgrade(exchange: Exchange, peer: Peer, path: str, headers: Iterable[tuple[str, str]]) -> Answer | Answered:
    sent = [("Host", _authority(peer)), ("Connection", "Upgrade"), ("Upgrade", exchange.headers["Upgrade"])]
    sent += [*_forwarded(exchange).items(), *headers]
    if exchange.method in ("POST", "PUT", "PATCH"):
        sent.append(("Content-Length", "0"))
    try:
        head = request_head(exchange.method, path, sent)
    except ValueError as exc:
        raise BadRequest(str(exc)) from exc
    found = await splice(exchange, peer, head)
    if not isinstance(found, Refused):
        return found
    kind = next((v for k, v in found.headers if k.lower() == "content-type"), "text/plain")
    return Answer(found.body, kind, found.status)


async def _plain(
    exchange: Exchange,
    peer: Peer,
    path: str,
    headers: Iterable[tuple[str, str]],
    failure: Callable[[int, str], StatusError] | None,
) -> Answered:
    scheme = "https" if peer.tls is not None else "http"
    url = URL(f"{scheme}://{_authority(peer)}{path}", encoded=True)
    sent = _forwarded(exchange)
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
            raise ServiceUnavailable(f"error trying to reach service: {exc}") from exc
        async with answer:
            if failure is not None and not 200 <= answer.status <= 206:
                raise failure(answer.status, (await answer.content.read(_FAILURE_BYTES)).decode("utf-8", "replace"))
            return await _relay(exchange, answer)


async def _relay(exchange: Exchange, answer: aiohttp.ClientResponse) -> Answered:
    """Send an answer on, as it comes."""
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in answer.headers.items():
        if name.lower() not in _HOP_BY_HOP and name.lower() not in _OUR_OWN:
            headers.add(name, value)
    for name, value in exchange.answer_headers.items():
        headers.setdefault(name, value)
    length = answer.headers.get("Content-Length")
    known = int(length) if length is not None and length.isdigit() else None
    stream = exchange.raw.start(answer.status, headers.items(), known)
    try:
        async for chunk in answer.content.iter_any():
            stream.write(chunk)
            await stream.drain()
    except aiohttp.ClientError:
        stream.abort()  # the answer broke off: so must ours, or the client takes what it got for the whole
        return stream
    stream.end()
    return stream
