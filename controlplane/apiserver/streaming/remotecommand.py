"""exec and attach for WebSocket clients of v5.channel.k8s.io: channels are streams of a SPDY connection to the kubelet.

Runtimes speak WebSocket too, but not this version of the protocol, the only one that can tell a command that its input
has ended; so the API server translates. The client is accepted first, and is told on its error channel of whatever
goes wrong from then on.

Source: k8s.io/apiserver/pkg/util/proxy/{streamtranslator,websocket}.go; k8s.io/client-go/tools/remotecommand/v4.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from controlplane.apiserver.dialing import DialError
from controlplane.apiserver.handlers.exchange import Exchange
from controlplane.apiserver.handlers.hijack import Peer, Refused, upgrade
from controlplane.apiserver.handlers.proxying import authority, upgrade_head
from controlplane.apiserver.http import websocket
from controlplane.apiserver.http.request import Answered
from controlplane.apiserver.streaming.connection import ClientSocket, SpdyClient, Upstream

PROTOCOL = "v5.channel.k8s.io"
_PROTOCOL_HEADER = (("X-Stream-Protocol-Version", "v4.channel.k8s.io"),)
_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE, _CLOSE = 0, 1, 2, 3, 4, 255
_STATUS_BYTES = 1 << 20
_LEAVING_SECONDS = 15 * 60.0
"""How long a client may take to read what is left, and to close. Source: websocket.go, finishTimeout."""
_SUCCESS = {"metadata": {}, "status": "Success"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams the client asks for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


def is_wanted(exchange: Exchange) -> bool:
    """Whether the client speaks the version that is translated."""
    return PROTOCOL in websocket.offered(exchange.raw)


async def translate(exchange: Exchange, peer: Peer, path: str, wanted: Wanted) -> Answered:
    """Accept the client, and join its channels to the streams of the kubelet. Raises BadRequest."""
    client = ClientSocket()
    websocket.accept(exchange.raw, (PROTOCOL,), exchange.answer_headers.items(), client)
    try:
        lowest = _STDOUT if wanted.stdout else _STDERR if wanted.stderr else _ERROR
        client.send(bytes((lowest,)), binary=True)  # the client takes this for the sign that it is connected
        status = await _run(client, peer, path, wanted)
        client.send(bytes((_ERROR,)) + orjson.dumps(status), binary=True)
        client.end()
        client.serve(_ignore)
        try:
            async with asyncio.timeout(_LEAVING_SECONDS):
                await client.closed.wait()
        except TimeoutError:
            client.transport.abort()
    finally:
        client.transport.close()
        exchange.raw.release()
    return Answered(101)


async def _run(client: ClientSocket, peer: Peer, path: str, wanted: Wanted) -> dict[str, Any]:
    """Run the command to its end; what the client is told of it."""
    try:
        found = await upgrade(peer, upgrade_head("POST", peer, path, "SPDY/3.1", _PROTOCOL_HEADER))
    except DialError as exc:
        return _failure(f'error sending request: Post "https://{authority(peer)}{path}": {exc.why}')
    if isinstance(found, Refused):
        return _refusal(found.body)
    spdy = SpdyClient(found.transport)
    session = _Session(client, spdy, wanted)
    upstream = Upstream(found, client, spdy.data_received)
    try:
        client.serve(session.message)
        ending = asyncio.ensure_future(upstream.ended())
        finished = asyncio.ensure_future(session.finished.wait())
        await asyncio.wait([ending, finished], return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        finished.cancel()
    finally:
        client.source = None
        found.transport.close()
    if not session.finished.is_set():
        return _failure("error reading from error stream: connection to the kubelet was lost")
    return outcome(bytes(session.status))


class _Session:
    """One command: its channels and streams."""

    def __init__(self, client: ClientSocket, spdy: SpdyClient, wanted: Wanted) -> None:
        self.status = bytearray()
        """What the kubelet says on the error stream."""
        self.finished = asyncio.Event()
        """Set when all output and the status have come."""
        self._client = client
        self._spdy = spdy
        self._open = 0
        self._inputs: dict[int, int] = {}
        # in the order in which upstream opens them
        self._begin("error", self._more_status)
        if wanted.stdin:
            self._inputs[_STDIN] = self._begin("stdin", _ignore, counts=False)
        if wanted.stdout:
            self._begin("stdout", self._output(_STDOUT))
        if wanted.stderr and not wanted.tty:
            self._begin("stderr", self._output(_STDERR))
        if wanted.tty:
            self._inputs[_RESIZE] = self._begin("resize", _ignore, counts=False)

    def _begin(self, kind: str, receive: Callable[[bytes], None], *, counts: bool = True) -> int:
        self._open += counts
        return self._spdy.open({"streamType": kind}, receive, self._ended if counts else _nothing)

    def _ended(self) -> None:
        self._open -= 1
        if not self._open:
            self.finished.set()

    def _more_status(self, data: bytes) -> None:
        if len(self.status) + len(data) <= _STATUS_BYTES:
            self.status += data

    def _output(self, channel: int) -> Callable[[bytes], None]:
        prefix = bytes((channel,))

        def receive(data: bytes) -> None:
            self._client.send(prefix + data, binary=True)

        return receive

    def message(self, message: bytes) -> None:
        """A message of the client's: for a stream, or that the client has no more for it."""
        if not message:
            return
        if message[0] == _CLOSE and len(message) == 2:
            stream = self._inputs.pop(message[1], None)
            if stream is not None:
                self._spdy.send(stream, b"", fin=True)
        elif (stream := self._inputs.get(message[0])) is not None:
            self._spdy.send(stream, message[1:])


def _ignore(data: bytes) -> None:
    """Of no interest."""


def _nothing() -> None:
    """Of no interest."""


def _failure(told: str) -> dict[str, Any]:
    message = f"Internal error occurred: {told}"
    details = {"causes": [{"message": told}]}
    reason = {"reason": "InternalError", "details": details, "code": 500}
    return {"metadata": {}, "status": "Failure", "message": message, **reason}


def _refusal(body: bytes) -> dict[str, Any]:
    """What the client is told of an answer that did not change protocols."""
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return {"metadata": {}, **{key: value for key, value in status.items() if key not in ("kind", "apiVersion")}}
    return _failure(f"unable to upgrade connection: {body.decode('utf-8', 'replace').strip()}")


def outcome(text: bytes) -> dict[str, Any]:
    """The Status for the client, from what came on the kubelet's error stream."""
    if not text:
        return _SUCCESS
    shown = orjson.dumps(text.decode("utf-8", "replace")).decode()
    try:
        status = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        return _failure(f"error stream protocol error: {exc} in {shown}")
    found = status.get("status") if isinstance(status, dict) else None
    if found == "Success":
        return _SUCCESS
    if found != "Failure":
        return _failure("error stream protocol error: unknown error")
    if status.get("reason") != "NonZeroExitCode":
        return _failure(str(status.get("message") or ""))
    details = status.get("details")
    if not isinstance(details, dict):
        return _failure("error stream protocol error: details must be set")
    code = next((c.get("message") for c in details.get("causes") or () if c.get("reason") == "ExitCode"), None)
    if code is None:
        return _failure("error stream protocol error: no ExitCode cause given")
    if not str(code).isdigit() or int(code) > 255:
        return _failure(f'error stream protocol error: invalid exit code value "{code}"')
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: command terminated with exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
