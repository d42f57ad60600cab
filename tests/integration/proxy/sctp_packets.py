"""SCTP without a kernel that speaks it: associations begun and answered by hand, over raw sockets.

What netfilter translates and lets through are packets: an INIT that gets its INIT ACK, from the address that it was
sent to, has passed both ways.

Source: RFC 9260 (3.1 common header, 3.3.2 INIT, 3.3.3 INIT ACK, appendix A checksum).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
from collections.abc import Iterator
from functools import partial

from proxy_hosts import PODS, PORT, Answer, Hosts

_INIT, _INIT_ACK, _COOKIE = 1, 2, 7
_HEADER, _CHUNK, _INIT_BODY = struct.Struct(">HHI"), struct.Struct(">BBH"), struct.Struct(">IIHHI")
_CHECKSUM_BYTES = 4
_WINDOW_BYTES, _STREAMS = 65535, 10
_IP_RECVERR = 11


def _crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC = [_crc_of_byte(byte) for byte in range(256)]


def _checksum(data: bytes) -> bytes:
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return struct.pack("<I", value ^ 0xFFFFFFFF)


def _packet(ports: tuple[int, int], tag: int, kind: int, own_tag: int, cookie: bytes = b"") -> bytes:
    body = _INIT_BODY.pack(own_tag, _WINDOW_BYTES, _STREAMS, _STREAMS, own_tag)
    if cookie:
        body += struct.pack(">HH", _COOKIE, 4 + len(cookie)) + cookie + b"\0" * (-len(cookie) % 4)
    chunk = _CHUNK.pack(kind, 0, _CHUNK.size + len(body)) + body
    head = _HEADER.pack(*ports, tag)
    return head + _checksum(head + b"\0" * _CHECKSUM_BYTES + chunk) + chunk


class _Received:
    """A packet as a raw IPv4 socket gives it."""

    def __init__(self, data: bytes) -> None:
        self.source = socket.inet_ntoa(data[12:16])
        sctp = data[(data[0] & 0xF) * 4 :]
        self.ports: tuple[int, int] = struct.unpack_from(">HH", sctp)
        self.tag = struct.unpack_from(">I", sctp, 4)[0]
        start = _HEADER.size + _CHECKSUM_BYTES
        self.intact = sctp[_HEADER.size : start] == _checksum(sctp[: _HEADER.size] + b"\0" * 4 + sctp[start:])
        self.kind = sctp[start]
        body = sctp[start + _CHUNK.size :]
        self.own_tag = struct.unpack_from(">I", body)[0]
        self.cookie = b""
        if len(body) > _INIT_BODY.size:
            length = struct.unpack_from(">H", body, _INIT_BODY.size + 2)[0]
            self.cookie = body[_INIT_BODY.size + 4 : _INIT_BODY.size + length]


def _raw(hosts: Hosts, host: str) -> socket.socket:
    made = hosts.spaces.call(host, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP))
    made.setblocking(False)
    return made


def _answer(name: str, server: socket.socket) -> None:
    received = _Received(server.recv(2000))
    if received.kind == _INIT and received.ports[1] == PORT and received.intact:
        said = f"{name} {received.source}".encode()
        reply = _packet((PORT, received.ports[0]), received.own_tag, _INIT_ACK, secrets.randbelow(1 << 31) + 1, said)
        server.sendto(reply, (received.source, 0))


@contextlib.contextmanager
def sctp_servers(hosts: Hosts) -> Iterator[None]:
    """In every pod somebody who accepts associations, and tells its name and whom it saw."""
    loop = asyncio.get_running_loop()
    servers = {name: _raw(hosts, name) for name in PODS}
    for name, server in servers.items():
        loop.add_reader(server, partial(_answer, name, server))
    try:
        yield
    finally:
        for server in servers.values():
            loop.remove_reader(server)
            server.close()


async def ask_sctp(hosts: Hosts, source: str, ip: str, port: int, timeout_seconds: float = 2.0) -> Answer:
    """Begin an association from a host. Raises TimeoutError, ConnectionRefusedError (for ICMP's unreachable)."""
    loop = asyncio.get_running_loop()
    own_port, tag = secrets.randbelow(20_000) + 40_000, secrets.randbelow(1 << 31) + 1
    with contextlib.closing(_raw(hosts, source)) as client:
        client.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        async with asyncio.timeout(timeout_seconds):
            await loop.sock_sendto(client, _packet((own_port, port), 0, _INIT, tag), (ip, 0))
            while True:
                received = _Received(await loop.sock_recv(client, 2000))
                if (received.ports, received.kind, received.tag) == ((port, own_port), _INIT_ACK, tag):
                    assert received.source == ip
                    assert received.intact
                    server, _, seen = received.cookie.decode().partition(" ")
                    return Answer(server, seen)
