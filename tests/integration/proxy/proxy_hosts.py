"""A node, its pods, another node and an outside host, as network namespaces with servers in them.

pod1 pod2 pod3            far (a pod of another node)
   \\   |   /                |
    bridge ─ node ── eth0 ─ switch ─ eth0 ─ other
                              |
                           outside
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, cast

import pytest

T = TypeVar("T")

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000

PORT = 8080
NODE_IP, OTHER_IP, OUTSIDE_IP = "10.78.0.1", "10.78.0.2", "10.78.0.9"
PODS = {"pod1": "10.244.0.11", "pod2": "10.244.0.12", "pod3": "10.244.0.13", "far": "10.244.1.21"}
PODS6 = {"pod1": "fd00:244::11", "pod2": "fd00:244::12", "pod3": "fd00:244::13"}
POD_RANGE, POD_RANGE6 = "10.244.0.0/16", "fd00:244::/64"
SERVICE_RANGE, SERVICE_RANGE6 = "10.96.0.0/16", "fd00:96::/112"
BRIDGE_IP = "10.244.0.1"


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until it is so, or fail."""
    deadline = asyncio.get_running_loop().time() + 15
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"never came true: {what}")
        await asyncio.sleep(0.01)


class Namespaces:
    """Network namespaces with names of our own, and what runs in them."""

    def __init__(self) -> None:
        self._prefix = f"nv-proxy-{os.getpid()}-{secrets.token_hex(2)}-"
        self._made: list[str] = []

    def add(self, name: str) -> None:
        """Make a namespace with its loopback up."""
        self.run_plain("ip", "netns", "add", self._prefix + name)
        self._made.append(name)
        self.run(name, "ip", "link", "set", "lo", "up")

    def close(self) -> None:
        """Remove all of them, with every link and rule that is in them."""
        for name in self._made:
            self.run_plain("ip", "netns", "del", self._prefix + name)
        self._made.clear()

    def path(self, name: str) -> str:
        """The file that stands for a namespace."""
        return f"/var/run/netns/{self._prefix}{name}"

    def full_name(self, name: str) -> str:
        """What `ip netns` calls it."""
        return self._prefix + name

    def run(self, name: str, *argv: str, check: bool = True) -> str:
        """Run a program in a namespace; its output."""
        return self.run_plain("nsenter", f"--net={self.path(name)}", *argv, check=check)

    @staticmethod
    def run_plain(*argv: str, check: bool = True) -> str:
        """Run a program here; its output."""
        result = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        if check and result.returncode:
            raise RuntimeError(f"{' '.join(argv)}: {result.stderr}")
        return result.stdout

    def call(self, name: str, function: Callable[[], T]) -> T:
        """Call a function in a thread that has entered the namespace."""
        results: list[T] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                self._enter(self.path(name))
                results.append(function())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def socket(self, name: str, kind: int, family: int = socket.AF_INET) -> socket.socket:
        """A non-blocking socket that belongs to a namespace."""
        made = self.call(name, lambda: socket.socket(family, kind))
        made.setblocking(False)
        return made

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """This thread, and the programs that it starts, in a namespace."""
        with open("/proc/thread-self/ns/net", "rb") as before:
            self._enter(self.path(name))
            try:
                yield
            finally:
                self._set(before.fileno())

    def _enter(self, path: str) -> None:
        with open(path, "rb") as file:
            self._set(file.fileno())

    @staticmethod
    def _set(descriptor: int) -> None:
        if _LIBC.setns(descriptor, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


@dataclass
class Answer:
    """What a server said: who it is, and whom it saw."""

    server: str
    client: str


@dataclass
class Hosts:
    """The topology above, with a TCP and a UDP server in every pod that tell their name and their client's address."""

    spaces: Namespaces = field(default_factory=Namespaces)
    _servers: list[asyncio.AbstractServer | asyncio.DatagramTransport] = field(default_factory=list)

    def build(self) -> None:
        """Make namespaces, links, addresses and routes."""
        spaces = self.spaces
        for name in ("switch", "node", "other", "outside", *PODS):
            spaces.add(name)
        spaces.run("switch", "ip", "link", "add", "br0", "type", "bridge")
        spaces.run("switch", "ip", "link", "set", "br0", "up")
        for name, ip in (("node", NODE_IP), ("other", OTHER_IP), ("outside", OUTSIDE_IP)):
            self._connect(name, "switch", "br0", f"{ip}/24", "")
        self._make_router("node")
        self._make_router("other")
        bridge = ("ip", "link", "add", "cni0", "type", "bridge")
        spaces.run("node", *bridge)
        spaces.run("node", "ip", "addr", "add", f"{BRIDGE_IP}/24", "dev", "cni0")
        spaces.run("node", "ip", "addr", "add", "fd00:244::1/64", "dev", "cni0", "nodad")
        spaces.run("node", "ip", "link", "set", "cni0", "up")
        for name in ("pod1", "pod2", "pod3"):
            self._connect(name, "node", "cni0", f"{PODS[name]}/24", BRIDGE_IP)
            spaces.run(name, "ip", "addr", "add", f"{PODS6[name]}/64", "dev", "eth0", "nodad")
            spaces.run(name, "ip", "route", "add", "default", "via", "fd00:244::1")
            spaces.run("node", "ip", "link", "set", f"to-{name}", "type", "bridge_slave", "hairpin", "on")
        spaces.run("other", "ip", "link", "add", "cni0", "type", "bridge")
        spaces.run("other", "ip", "addr", "add", "10.244.1.1/24", "dev", "cni0")
        spaces.run("other", "ip", "link", "set", "cni0", "up")
        self._connect("far", "other", "cni0", f"{PODS['far']}/24", "10.244.1.1")
        spaces.run("node", "ip", "route", "add", "10.244.1.0/24", "via", OTHER_IP)
        spaces.run("node", "ip", "route", "add", "default", "via", OUTSIDE_IP)
        spaces.run("other", "ip", "route", "add", "10.244.0.0/24", "via", NODE_IP)
        spaces.run("outside", "ip", "route", "add", "default", "via", NODE_IP)
        for name, ip in (("node", "fd00:78::1"), ("outside", "fd00:78::9")):
            spaces.run(name, "ip", "addr", "add", f"{ip}/64", "dev", "eth0", "nodad")
        spaces.run("node", "ip", "route", "add", "default", "via", "fd00:78::9")

    def _connect(self, name: str, to: str, bridge: str, address: str, gateway: str) -> None:
        spaces = self.spaces
        peer = f"to-{name}"
        spaces.run(to, "ip", "link", "add", peer, "type", "veth", "peer", "eth0", "netns", spaces.full_name(name))
        spaces.run(to, "ip", "link", "set", peer, "master", bridge, "up")
        spaces.run(name, "ip", "addr", "add", address, "dev", "eth0")
        spaces.run(name, "ip", "link", "set", "eth0", "up")
        if gateway:
            spaces.run(name, "ip", "route", "add", "default", "via", gateway)

    def _make_router(self, name: str) -> None:
        settings = (
            "ipv4/ip_forward=1 ipv6/conf/all/forwarding=1 bridge/bridge-nf-call-iptables=1 "
            "bridge/bridge-nf-call-ip6tables=1 ipv4/conf/all/route_localnet=1 "
            # Redirects are taken from the same budget as ICMP's refusals, which tests wait for.
            "ipv4/conf/all/send_redirects=0 ipv4/conf/eth0/send_redirects=0"
        )
        for setting in settings.split():
            file, _, value = setting.partition("=")
            self.spaces.run(name, "sh", "-c", f"echo {value} > /proc/sys/net/{file}")

    async def serve(self) -> None:
        """Start the servers."""
        loop = asyncio.get_running_loop()
        for name in PODS:
            families = [socket.AF_INET] + ([socket.AF_INET6] if name in PODS6 else [])
            for family in families:
                everywhere = "0.0.0.0" if family == socket.AF_INET else "::"
                listener = self.spaces.socket(name, socket.SOCK_STREAM, family)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.bind((everywhere, PORT))
                self._servers.append(await asyncio.start_server(_tcp_server(name), sock=listener))
            datagrams = self.spaces.socket(name, socket.SOCK_DGRAM)
            datagrams.bind(("0.0.0.0", PORT))
            transport, _ = await loop.create_datagram_endpoint(partial(_UdpServer, name), sock=datagrams)
            self._servers.append(transport)

    async def close_servers(self) -> None:
        """Stop the servers."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        await asyncio.sleep(0)

    async def ask(self, source: str, ip: str, port: int, timeout_seconds: float = 2.0) -> Answer:
        """Connect by TCP from a host. Raises TimeoutError, ConnectionRefusedError."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        with contextlib.closing(self.spaces.socket(source, socket.SOCK_STREAM, family)) as client:
            async with asyncio.timeout(timeout_seconds):
                await loop.sock_connect(client, (ip, port))
                said = (await loop.sock_recv(client, 200)).decode()
        server, _, seen = said.partition(" ")
        return Answer(server, seen)

    async def servers(self, source: str, ip: str, port: int, count: int = 24) -> Counter[str]:
        """Which servers `count` connections reach."""
        return Counter([(await self.ask(source, ip, port)).server for _ in range(count)])

    async def ask_udp(self, client: socket.socket, ip: str, port: int, timeout_seconds: float = 1.0) -> Answer:
        """Send a datagram on a connected-or-not socket and wait for the answer."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_seconds):
            await loop.sock_sendto(client, b"hello", (ip, port))
            said = (await loop.sock_recv(client, 200)).decode()
        server, _, seen = said.partition(" ")
        return Answer(server, seen)


def _tcp_server(name: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(f"{name} {writer.get_extra_info('peername')[0]}".encode())
            await writer.drain()
        writer.close()

    return serve


class _UdpServer(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self._name = name
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        self._transport.sendto(f"{self._name} {addr[0]}".encode(), addr)
