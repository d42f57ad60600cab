"""exec, attach and port-forward for WebSocket clients: what they say becomes SPDY for the kubelet, and back."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from played_kubelet import cluster_with

from controlplane.apiserver.authz.contract import Decision
from controlplane.apiserver.handlers.contract import Authorize, Extensions, Loopback
from controlplane.apiserver.reader import Reader
from controlplane.apiserver.request import RequestInfo, User
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.streaming import frames
from controlplane.apiserver.streaming.remotecommand import outcome

EXEC = "/api/v1/namespaces/default/pods/web/exec?command=cat&stdin=true&stdout=true&stderr=true"
FORWARD = "/api/v1/namespaces/default/pods/web/portforward"
TUNNEL = "SPDY/3.1+portforward.k8s.io"
EXIT = {"reason": "NonZeroExitCode", "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}
FAILED = json.dumps({"status": "Failure", **EXIT}).encode()


@dataclass
class SpdyKubelet:
    """Runs `cat`: says on stdout what comes on stdin, and when that has ended, a word on stderr and its exit status."""

    status: bytes = FAILED
    heads: list[str] = field(default_factory=list)
    streams: dict[str, int] = field(default_factory=dict)
    got: dict[str, bytes] = field(default_factory=dict)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    writer: asyncio.StreamWriter = field(init=False)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.heads = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        version = next(line for line in self.heads if line.startswith("X-Stream-Protocol-Version: "))
        lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: SPDY/3.1", version, "", ""]
        writer.write("\r\n".join(lines).encode())
        unpack = zlib.decompressobj(zdict=frames.DICTIONARY)
        buffer = bytearray()
        try:
            while data := await reader.read(1 << 16):
                buffer += data
                for frame in frames.parse(buffer):
                    self._take(frame, unpack)
                await writer.drain()
        except ConnectionError:
            pass
        self.gone.set()
        writer.close()

    def _take(self, frame: frames.Frame, unpack: Any) -> None:
        names = {number: name for name, number in self.streams.items()}
        if frame.kind == frames.SYN_STREAM:
            block = unpack.decompress(frame.payload[10:])
            _, name_size = struct.unpack_from("!II", block)
            assert block[8 : 8 + name_size] == b"streamtype"
            self.streams[block[12 + name_size :].decode()] = frame.stream
            self.writer.write(frames.control(frames.SYN_REPLY, struct.pack("!I", frame.stream)))
        elif frame.kind == frames.DATA:
            name = names[frame.stream]
            self.got[name] = self.got.get(name, b"") + frame.payload
            if name == "stdin":
                self.writer.write(frames.data(self.streams["stdout"], frame.payload))
                if frame.flags & frames.FIN:
                    self._exit()

    def _exit(self) -> None:
        for name, last in (("stderr", b"bye"), ("stdout", b""), ("error", self.status)):
            self.writer.write(frames.data(self.streams[name], last, fin=True))


async def channels(socket: aiohttp.ClientWebSocketResponse) -> dict[int, bytes]:
    """All that comes until the server says that nothing more will."""
    got: dict[int, bytes] = {}
    async for message in socket:
        got[message.data[0]] = got.get(message.data[0], b"") + message.data[1:]
    return got


async def test_input_output_and_exit_status_of_a_command() -> None:
    kubelet = SpdyKubelet()
    async with cluster_with(kubelet.serve) as (_, client), asyncio.timeout(30):
        async with client.ws_connect(
            EXEC, protocols=["v4.channel.k8s.io", "v5.channel.k8s.io"], max_msg_size=0
        ) as socket:
            assert socket.protocol == "v5.channel.k8s.io"
            assert (await socket.receive_bytes()) == b"\x01"
            text = bytes(range(256)) * 4096
            for _ in range(8):
                await socket.send_bytes(b"\x00" + text)
            await socket.send_bytes(b"\xff\x00")
            got = await channels(socket)
        assert got[1] == text * 8
        assert got[2] == b"bye"
        assert json.loads(got[3]) == {
            "metadata": {},
            "status": "Failure",
            "message": "command terminated with non-zero exit code: command terminated with exit code 7",
            **EXIT,
        }
        assert kubelet.heads[0] == "POST /exec/default/web/c?input=1&output=1&error=1&command=cat HTTP/1.1"
        assert list(kubelet.streams) == ["error", "stdin", "stdout", "stderr"]


async def test_a_terminal_has_one_output_and_tells_its_size() -> None:
    kubelet = SpdyKubelet()
    async with cluster_with(kubelet.serve) as (_, client), asyncio.timeout(30):
        async with client.ws_connect(f"{EXEC}&tty=true", protocols=["v5.channel.k8s.io"]) as socket:
            await socket.receive_bytes()
            await socket.send_bytes(b'\x04{"Width":80,"Height":24}')
            await socket.send_bytes(b"\x00x")
            assert await socket.receive_bytes() == b"\x01x"
        await kubelet.gone.wait()
        assert list(kubelet.streams) == ["error", "stdin", "stdout", "resize"]
        assert kubelet.got["resize"] == b'{"Width":80,"Height":24}'


async def test_a_command_ends_with_its_client_and_a_client_with_its_kubelet() -> None:
    kubelet = SpdyKubelet()
    async with cluster_with(kubelet.serve) as (_, client), asyncio.timeout(30):
        async with client.ws_connect(EXEC, protocols=["v5.channel.k8s.io"]) as socket:
            await socket.receive_bytes()
        await kubelet.gone.wait()
        async with client.ws_connect(EXEC, protocols=["v5.channel.k8s.io"]) as socket:
            await socket.receive_bytes()
            await socket.send_bytes(b"\x00x")
            await socket.receive_bytes()
            kubelet.writer.transport.abort()
            status = json.loads((await channels(socket))[3])
        assert status["status"] == "Failure"
        assert "connection to the kubelet was lost" in status["message"]


async def test_what_the_kubelet_says_against_it_is_told_on_the_error_channel() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 404 Not Found\r\nContent-Length: 25\r\n\r\ncontainer not found ("c")')
        writer.close()

    async with cluster_with(refuse) as (_, client), asyncio.timeout(30):
        async with client.ws_connect(EXEC, protocols=["v5.channel.k8s.io"]) as socket:
            status = json.loads((await channels(socket))[3])
        told = 'unable to upgrade connection: container not found ("c")'
        assert status == {
            "metadata": {},
            "status": "Failure",
            "message": f"Internal error occurred: {told}",
            "reason": "InternalError",
            "details": {"causes": [{"message": told}]},
            "code": 500,
        }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", ""),
        (b'{"status":"Success"}', ""),
        (b'{"status":"Failure","message":"no such file"}', "no such file"),
        (b'{"status":"Failure","reason":"NonZeroExitCode"}', "error stream protocol error: details must be set"),
        (b'{"status":"Unheard"}', "error stream protocol error: unknown error"),
        (b"[1]", "error stream protocol error: unknown error"),
        (b"no JSON", "error stream protocol error: "),
    ],
)
def test_what_the_error_stream_says_becomes_a_status(text: bytes, told: str) -> None:
    status = outcome(text)
    assert status["status"] == ("Failure" if told else "Success")
    assert status.get("message", "").startswith(f"Internal error occurred: {told}" if told else "")


async def test_port_forward_is_spdy_in_a_websocket() -> None:
    kubelet = SpdyKubelet()
    async with cluster_with(kubelet.serve) as (_, client), asyncio.timeout(30):
        async with client.ws_connect(FORWARD, protocols=[TUNNEL]) as socket:
            assert socket.protocol == TUNNEL
            opening = frames.Headers().syn_stream(1, {"streamType": "data"})
            await socket.send_bytes(opening[:5])
            await socket.send_bytes(opening[5:])
            assert await socket.receive_bytes() == frames.control(frames.SYN_REPLY, struct.pack("!I", 1))
        await kubelet.gone.wait()
        assert kubelet.heads[0] == "POST /portForward/default/web HTTP/1.1"
        assert "X-Stream-Protocol-Version: portforward.k8s.io" in kubelet.heads
        assert not any(line.lower().startswith(("sec-websocket", "authorization")) for line in kubelet.heads)


class NoCreating:
    """Everything but to create a subresource of a pod is allowed."""

    async def authorize(self, user: User, request: RequestInfo) -> tuple[Decision, str]:
        refused = request.verb == "create" and request.subresource
        return (Decision.DENY, "only to look") if refused else (Decision.ALLOW, "")


def only_looking(settings: Settings, reader: Reader, loopback: Loopback, authorize: Authorize) -> Extensions:
    return Extensions(authorizers=(NoCreating(),))


@pytest.mark.parametrize("path", [EXEC, FORWARD, EXEC.replace("exec", "attach")])
async def test_who_may_only_get_may_not_stream(path: str) -> None:
    kubelet = SpdyKubelet()
    async with cluster_with(kubelet.serve, only_looking) as (_, client), asyncio.timeout(30):
        headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
        async with client.get(path, headers=headers) as answer:
            status = await answer.json()
    assert (status["code"], status["message"]) == (403, 'pods "web" is forbidden: only to look')
    assert not kubelet.heads
