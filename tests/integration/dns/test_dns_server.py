"""The DNS server on real sockets: what clients see, and what it asks resolvers outside."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from dnslib import QTYPE, RCODE, RR, SOA, A, DNSRecord
from outside_resolver import Outside, outside

from agent.dns import assembly
from agent.dns.configuration import Caching
from agent.dns.resolver import Resolver
from agent.dns.responding import Responder
from agent.dns.server import DnsServer
from controlplane.apiserver.settings import Settings
from controlplane.apiserver.testing import running_apiserver
from machinery.api.catalogue import ENDPOINTSLICES, SERVICES
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.clock import SystemClock
from machinery.errors import SettingsError
from machinery.testing.clock import FakeClock


async def by_udp(port: int, name: str, kind: str = "A") -> DNSRecord:
    loop = asyncio.get_running_loop()
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.setblocking(False)
        client.connect(("127.0.0.1", port))
        query = DNSRecord.question(name, kind)
        await loop.sock_sendall(client, bytes(query.pack()))
        async with asyncio.timeout(20):
            answer = DNSRecord.parse(await loop.sock_recv(client, 65535))
    assert answer.header.id == query.header.id
    return answer


async def by_tcp(port: int, *questions: DNSRecord) -> list[DNSRecord]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for query in questions:
        packed = bytes(query.pack())
        writer.write(struct.pack(">H", len(packed)) + packed)
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        answers.append(DNSRecord.parse(await reader.readexactly(length)))
    writer.close()
    return answers


def small(query: DNSRecord) -> DNSRecord | None:
    """One address for every name but some."""
    reply = query.reply()
    name = str(query.q.qname)
    if name == "none.example.":
        reply.header.rcode = RCODE.NXDOMAIN
        reply.add_auth(RR("example", QTYPE.SOA, ttl=60, rdata=SOA("ns.example", "admin.example", (1, 2, 3, 4, 20))))
    elif name == "silent.example.":
        return None
    elif name == "big.example.":
        reply.add_answer(*(RR(name, QTYPE.A, ttl=60, rdata=A(f"192.0.2.{n}")) for n in range(200)))
    else:
        reply.add_answer(RR(name, QTYPE.A, ttl=60, rdata=A("192.0.2.80")))
    return reply


@asynccontextmanager
async def forwarding(*upstreams: Outside, clock: FakeClock | None = None) -> AsyncIterator[int]:
    servers = [("127.0.0.1", one.port) for one in upstreams]
    resolver = Resolver({"": servers}, Caching(), clock or SystemClock())
    async with DnsServer(Responder(None, resolver, 30), ["127.0.0.1"], 0) as server:
        yield server.port


async def test_other_names_are_asked_once_and_then_remembered_for_as_long_as_they_live() -> None:
    clock = FakeClock()
    async with outside(small) as far, forwarding(far, clock=clock) as port:
        first = await by_udp(port, "www.example")
        assert [(str(rr.rdata), rr.ttl) for rr in first.rr] == [("192.0.2.80", 60)]
        assert (first.header.aa, first.header.ra) == (0, 1)
        await clock.advance(40)
        assert [rr.ttl for rr in (await by_udp(port, "WWW.example")).rr] == [20]
        assert far.asked == [("udp", "www.example.", "A")]
        await clock.advance(20)
        await by_udp(port, "www.example")
        assert len(far.asked) == 2


async def test_absence_is_remembered_as_long_as_the_zone_says() -> None:
    clock = FakeClock()
    async with outside(small) as far, forwarding(far, clock=clock) as port:
        for _ in range(2):
            answer = await by_udp(port, "none.example")
            assert (answer.header.rcode, answer.auth[0].rtype) == (RCODE.NXDOMAIN, QTYPE.SOA)
        assert len(far.asked) == 1
        await clock.advance(21)
        await by_udp(port, "none.example")
        assert len(far.asked) == 2


async def test_what_many_want_to_know_is_asked_once() -> None:
    async with outside(small) as far, forwarding(far) as port:
        answers = await asyncio.gather(*(by_udp(port, "www.example") for _ in range(20)))
        assert {str(answer.rr[0].rdata) for answer in answers} == {"192.0.2.80"}
        assert len(far.asked) == 1


async def test_what_was_cut_short_is_fetched_by_tcp() -> None:
    async with outside(small) as far, forwarding(far) as port:
        assert (await by_udp(port, "big.example")).header.tc == 1
        assert [protocol for protocol, _, _ in far.asked] == ["udp", "tcp"]
        [whole] = await by_tcp(port, DNSRecord.question("big.example"))
        assert len(whole.rr) == 200
        assert len(far.asked) == 2


async def test_a_second_resolver_answers_for_one_that_is_gone() -> None:
    async with outside(small) as gone:
        pass
    async with outside(small) as far, forwarding(gone, far) as port:
        for number in range(6):
            assert (await by_udp(port, f"w{number}.example")).rr


async def test_nobody_answering_is_a_failure_and_no_denial() -> None:
    async with outside(small) as far:
        pass
    async with forwarding(far) as port:
        assert (await by_udp(port, "www.example")).header.rcode == RCODE.SERVFAIL


async def test_an_answer_to_another_question_is_not_taken() -> None:
    def forger(query: DNSRecord) -> DNSRecord:
        reply = DNSRecord.question("evil.example").reply()
        reply.header.id = query.header.id
        reply.add_answer(RR("evil.example", QTYPE.A, ttl=60, rdata=A("203.0.113.1")))
        return reply

    async with outside(forger) as far, forwarding(far) as port:
        assert (await by_udp(port, "www.example")).header.rcode == RCODE.SERVFAIL


async def test_one_connection_takes_many_questions_and_gives_no_zone_away() -> None:
    async with outside(small) as far, forwarding(far) as port:
        first, transfer, last = await by_tcp(
            port,
            DNSRecord.question("www.example"),
            DNSRecord.question("example", "AXFR"),
            DNSRecord.question("other.example"),
        )
        assert (str(first.rr[0].rdata), transfer.header.rcode, len(last.rr)) == ("192.0.2.80", RCODE.REFUSED, 1)


async def test_a_port_that_is_taken_is_told() -> None:
    async with forwarding() as port:
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1 port {port}: .*in use"):
            async with DnsServer(Responder(None, Resolver({}, None, SystemClock()), 30), ["127.0.0.1"], port):
                pass


COREFILE = """
.:{port} {{
    health 127.0.0.1:{health}
    ready 127.0.0.1:{ready}
    prometheus 127.0.0.1:{metrics}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
    }}
    forward . 127.0.0.1:{upstream}
    reload 50ms
}}
"""


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


async def eventually(port: int, name: str, expected: str) -> None:
    async with asyncio.timeout(15):
        while True:
            # A datagram that comes while the server starts anew is lost: clients ask again.
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(0.5):
                    answer = await by_udp(port, name)
                if expected in [str(rr.rdata) for rr in answer.rr]:
                    return
            await asyncio.sleep(0.01)


async def test_the_whole_server_follows_the_api_server_and_its_corefile(tmp_path: Path) -> None:
    port, health, ready, metrics = free_ports(4)
    corefile, kubeconfig = tmp_path / "Corefile", tmp_path / "kubeconfig"
    async with outside(small) as far, running_apiserver(Settings(service_cluster_ip_ranges=("10.96.0.0/16",))) as api:
        cluster = {"server": api.url, "certificate-authority-data": base64.b64encode(api.ca).decode()}
        context = {"name": "test", "context": {"cluster": "test", "user": "test"}}
        user = {"name": "test", "user": {"token": api.token}}
        named = {"clusters": [{"name": "test", "cluster": cluster}], "contexts": [context], "users": [user]}
        kubeconfig.write_text(json.dumps({"current-context": "test", **named}))
        ports = {"port": port, "health": health, "ready": ready, "metrics": metrics}
        corefile.write_text(COREFILE.format(upstream=far.port, **ports))
        options = assembly.parse([f"-conf={corefile}", f"--kubeconfig={kubeconfig}", "--bind-address=127.0.0.1"])
        running = asyncio.ensure_future(assembly.run(options))
        try:
            async with Client(ClientConfig.from_kubeconfig(kubeconfig), user_agent="test") as client:
                spec = {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}
                await client.create(SERVICES, {"metadata": {"name": "db"}, "spec": spec}, "default")
                piece = {
                    "metadata": {"name": "db-x", "labels": {"kubernetes.io/service-name": "db"}},
                    "addressType": "IPv4",
                    "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
                    "endpoints": [{"addresses": ["10.244.0.9"], "hostname": "db-0", "conditions": {"ready": True}}],
                }
                await client.create(ENDPOINTSLICES, piece, "default")
                await eventually(port, "db-0.db.default.svc.cluster.local", "10.244.0.9")
                assert [str(rr.rdata) for rr in (await by_udp(port, "www.example")).rr] == ["192.0.2.80"]
                assert str((await by_udp(port, "9.0.244.10.in-addr.arpa", "PTR")).rr[0].rdata).startswith("db-0.db.")
                assert (await by_udp(port, "8.8.8.8.in-addr.arpa", "A")).rr  # asked outside
            async with aiohttp.ClientSession() as session:
                for where, path, text in (
                    (health, "health", "OK"),
                    (ready, "ready", "OK"),
                    (metrics, "metrics", "dns"),
                ):
                    async with session.get(f"http://127.0.0.1:{where}/{path}") as response:
                        assert (response.status, text in await response.text()) == (200, True)
            corefile.write_text("this makes no sense\n")
            corefile.write_text(COREFILE.format(upstream=far.port, **ports).replace("cluster.local", "other.test"))
            await eventually(port, "db.default.svc.other.test", "10.244.0.9")
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
