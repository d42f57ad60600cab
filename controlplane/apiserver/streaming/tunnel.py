"""port-forward for WebSocket clients: the kubelet's SPDY connection, byte for byte in the messages of a WebSocket.

Source: k8s.io/apiserver/pkg/util/proxy/streamtunnel.go (KEP-4006).
"""

from __future__ import annotations

from controlplane.apiserver.handlers.exchange import Answer, Exchange
from controlplane.apiserver.handlers.hijack import Peer, Refused, upgrade
from controlplane.apiserver.handlers.proxying import forwarded, refused, upgrade_head
from controlplane.apiserver.http import websocket
from controlplane.apiserver.http.request import Answered
from controlplane.apiserver.streaming.connection import ClientSocket, Upstream

_PREFIX, _SUFFIX = "SPDY/3.1+", ".k8s.io"
_VERSION = "X-Stream-Protocol-Version"


def is_wanted(exchange: Exchange) -> bool:
    """Whether the client would speak SPDY in a WebSocket."""
    return bool(_inner(exchange))


def _inner(exchange: Exchange) -> list[str]:
    """The protocols it would speak there."""
    offered = websocket.offered(exchange.raw)
    return [p.removeprefix(_PREFIX) for p in offered if p.startswith(_PREFIX) and p.endswith(_SUFFIX)]


async def tunnel(exchange: Exchange, peer: Peer, path: str) -> Answer | Answered:
    """Join the client's WebSocket to a SPDY connection to `path` of the peer, if the peer agrees.

    Raises:
        BadRequest: this is no handshake.
        ServiceUnavailable: the peer can't be reached.
    """
    headers = [(name, value) for name, value in forwarded(exchange).items() if not name.lower().startswith("sec-")]
    headers += [(_VERSION, protocol) for protocol in _inner(exchange)]
    found = await upgrade(peer, upgrade_head("POST", peer, path, "SPDY/3.1", headers))
    if isinstance(found, Refused):
        return refused(found)
    chosen = next((value for name, value in found.headers if name.lower() == _VERSION.lower()), "")
    client = ClientSocket()
    try:
        websocket.accept(exchange.raw, (_PREFIX + chosen,), exchange.answer_headers.items(), client)
        upstream = Upstream(found, client, lambda data: _tell(client, data))
        client.serve(found.transport.write)
        await upstream.ended()
        client.close()
        await client.closed.wait()
    finally:
        found.transport.close()
        exchange.raw.release()
    return Answered(101)


def _tell(client: ClientSocket, data: bytes) -> None:
    client.send(data, binary=True)
