"""Asking resolvers outside the cluster, and remembering what they said.

A query has a port and a number of its own, and only an answer to exactly that question is taken; what was cut short is
asked again over TCP.

Source: RFC 1035 (messages, TCP), RFC 2308 (negative answers), RFC 5452 (forged answers), RFC 6891 (EDNS).
"""

from __future__ import annotations

import asyncio
import random
import secrets
import struct
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dnslib import EDNS0, QTYPE, RCODE, RR, DNSError, DNSHeader, DNSQuestion, DNSRecord

from agent.dns.configuration import Address, Caching
from agent.dns.errors import ResolveError
from machinery.clock import Clock

UDP_BYTES = 1232  # what fits through every path without fragments: DNS flag day 2020
TRY_SECONDS = 2.0
ROUNDS = 2
_FAILURE_SECONDS = 5.0
_DNSSEC_OK = 0x8000


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a resolver said, without its EDNS record; times to live count from when it was said."""

    code: int
    answers: tuple[RR, ...] = ()
    authority: tuple[RR, ...] = ()
    extra: tuple[RR, ...] = ()
    authentic: bool = False

    @property
    def seconds(self) -> int | None:
        """How long it may be kept, or None if it does not say."""
        if self.answers:
            return min(int(rr.ttl) for rr in self.answers)
        limits = [min(int(rr.ttl), int(rr.rdata.times[4])) for rr in self.authority if rr.rtype == QTYPE.SOA]
        return min(limits, default=None)


@dataclass(frozen=True, slots=True)
class _Kept:
    found: Resolved
    at: float
    until: float


_Question = tuple[str, int, bool]  # name, type, whether DNSSEC's records are wanted


class Resolver:
    """Resolves names of other zones through the resolvers of the longest zone that they are in."""

    def __init__(self, upstreams: Mapping[str, Sequence[Address]], caching: Caching | None, clock: Clock) -> None:
        self._upstreams = upstreams
        self._caching = caching
        self._clock = clock
        self._kept: OrderedDict[_Question, _Kept] = OrderedDict()
        self._asking: dict[_Question, asyncio.Task[Resolved]] = {}

    def knows(self, name: str) -> bool:
        """Whether there is anybody to ask."""
        return bool(self._servers(name))

    def remembered(self, name: str, kind: int, dnssec: bool) -> Resolved | None:
        """What is known without asking, its times to live reduced."""
        question = (name, kind, dnssec)
        kept = self._kept.get(question)
        now = self._clock.monotonic()
        if kept is None or kept.until <= now:
            self._kept.pop(question, None)
            return None
        self._kept.move_to_end(question)
        return _aged(kept.found, int(now - kept.at))

    async def resolve(self, name: str, kind: int, dnssec: bool) -> Resolved:
        """Ask, together with whoever else wants to know the same. Raises ResolveError."""
        question = (name, kind, dnssec)
        found = self.remembered(*question)
        if found is not None:
            return found
        task = self._asking.get(question)
        if task is None:
            task = self._asking[question] = asyncio.ensure_future(self._ask_around(question))
            task.add_done_callback(lambda done: self._asked(question, done))
        return await asyncio.shield(task)

    def _asked(self, question: _Question, done: asyncio.Task[Resolved]) -> None:
        self._asking.pop(question, None)
        if not done.cancelled():
            done.exception()  # whoever waited has been told

    def _servers(self, name: str) -> Sequence[Address]:
        zones = [z for z in self._upstreams if name == z or name.endswith(f".{z}") or not z]
        return self._upstreams[max(zones, key=len)] if zones else ()

    async def _ask_around(self, question: _Question) -> Resolved:
        servers = list(self._servers(question[0]))
        if not servers:
            raise ResolveError(f"{question[0]}: there is no resolver to ask")
        random.shuffle(servers)
        reasons: dict[Address, str] = {}
        refused: Resolved | None = None
        for server in servers * ROUNDS:
            try:
                found = await _ask(server, question)
            except (OSError, TimeoutError, ResolveError) as error:
                reasons[server] = str(error) or "no answer"
                continue
            if found.code in (RCODE.NOERROR, RCODE.NXDOMAIN):
                return self._keep(question, found)
            refused = found
        if refused is not None:
            return self._keep(question, refused)
        told = "; ".join(f"{host}: {reason}" for (host, _), reason in reasons.items())
        raise ResolveError(f"{question[0]}: {told}")

    def _keep(self, question: _Question, found: Resolved) -> Resolved:
        limits = self._caching
        seconds: float | None = found.seconds
        if limits is None or seconds is None:
            return found
        if found.code not in (RCODE.NOERROR, RCODE.NXDOMAIN):
            seconds = min(seconds, _FAILURE_SECONDS)
        seconds = min(seconds, limits.success_seconds if found.answers else limits.denial_seconds)
        if seconds > 0:
            now = self._clock.monotonic()
            self._kept[question] = _Kept(found, now, now + seconds)
            while len(self._kept) > limits.entries:
                self._kept.popitem(last=False)
        return found


def _aged(found: Resolved, seconds: int) -> Resolved:
    def aged(records: tuple[RR, ...]) -> tuple[RR, ...]:
        return tuple(RR(r.rname, r.rtype, r.rclass, max(0, r.ttl - seconds), r.rdata) for r in records)

    return Resolved(found.code, aged(found.answers), aged(found.authority), aged(found.extra), found.authentic)


async def _ask(server: Address, question: _Question) -> Resolved:
    name, kind, dnssec = question
    asked = DNSQuestion(name or ".", kind)
    query = DNSRecord(DNSHeader(id=secrets.randbelow(1 << 16), rd=1), q=asked)
    query.add_ar(EDNS0(udp_len=UDP_BYTES, flags="do" if dnssec else ""))
    message = bytes(query.pack())
    async with asyncio.timeout(TRY_SECONDS):
        answer = _read(await _by_udp(server, message), query)
        if answer.header.tc:
            answer = _read(await _by_tcp(server, message), query)
    extra = tuple(rr for rr in answer.ar if rr.rtype != QTYPE.OPT)
    return Resolved(answer.header.rcode, tuple(answer.rr), tuple(answer.auth), extra, bool(answer.header.ad))


def _read(message: bytes, query: DNSRecord) -> DNSRecord:
    try:
        answer = DNSRecord.parse(message)
    except (DNSError, ValueError, IndexError, struct.error) as error:
        raise ResolveError(f"the answer can't be read: {error}") from error
    if not _answers(answer, query):
        raise ResolveError("the answer is to another question")
    return answer


def _answers(answer: DNSRecord, query: DNSRecord) -> bool:
    if answer.header.id != query.header.id or not answer.header.qr or len(answer.questions) != 1:
        return False
    return bool(answer.q.qname == query.q.qname and answer.q.qtype == query.q.qtype)


class _OneAnswer(asyncio.DatagramProtocol):
    def __init__(self, number: bytes) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._number = number

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if data[:2] == self._number and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


async def _by_udp(server: Address, message: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: _OneAnswer(message[:2]), remote_addr=server)
    try:
        transport.sendto(message)
        return await protocol.answer
    finally:
        transport.close()


async def _by_tcp(server: Address, message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(struct.pack(">H", len(message)) + message)
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise ResolveError("the connection was closed too soon") from error
    finally:
        writer.close()
