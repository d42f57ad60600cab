"""From a query's bytes to the answer's: who may ask what, the cluster's zones first, then the resolvers outside.

Answers from the cluster's zones are kept as bytes, each under the bytes that asked for it, until what they were made
from changes: a question that was asked before is answered by one look into a dict.

Source: RFC 1035, RFC 2308, RFC 6891 (EDNS); CoreDNS, plugin/pkg/dnsutil.
"""

from __future__ import annotations

import itertools
import struct
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import dnslib
from dnslib import (
    AAAA,
    CNAME,
    EDNS0,
    NS,
    OPCODE,
    PTR,
    QTYPE,
    RCODE,
    RR,
    SOA,
    SRV,
    TXT,
    A,
    DNSError,
    DNSHeader,
    DNSRecord,
)

from agent.dns import metrics
from agent.dns.errors import ResolveError
from agent.dns.resolver import UDP_BYTES, Resolved, Resolver
from agent.dns.zone import Answer, ClusterZones, Record
from machinery.log import get_logger

log = get_logger(__name__)

PLAIN_UDP_BYTES = 512
TCP_BYTES = 65535
_KEPT_ANSWERS = 20_000
_ROTATIONS = 4  # orders in which the addresses of a name are told, by turns
_LONGEST_NAME = 255
_LONGEST_CHAIN = 8  # of aliases
_TRANSFERS = (QTYPE.AXFR, QTYPE.IXFR)
_INTERNET = 1
_DNSSEC_OK = 0x8000
_HEADER = struct.Struct(">HHHHHH")
_RESPONSE = 0x8000
_BADVERS_HIGH = 1  # BADVERS is 16: the upper bits are in the OPT record

_CODE_AT = 3  # the byte of a message whose lower half is the code
_COUNTERS = [metrics.RESPONSES.labels(RCODE.get(code, str(code))) for code in range(16)]

_SOA_TIMES = (7200, 1800, 86400)  # refresh, retry, expire


@dataclass(slots=True)
class _Draft:
    """An answer on its way to being bytes."""

    code: int
    authoritative: bool = False
    authentic: bool = False
    answers: list[RR] = field(default_factory=list)
    authority: list[RR] = field(default_factory=list)
    extra: list[RR] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Query:
    """A query that can be answered; `udp_bytes` is how much the client takes in one datagram."""

    record: DNSRecord
    name: str
    kind: int
    edns: bool
    dnssec: bool
    udp_bytes: int


class Responder:
    """Answers messages. `forget` must be told of every change of what the zones are made from."""

    def __init__(self, zones: ClusterZones | None, resolver: Resolver, ttl_seconds: int) -> None:
        self._zones = zones
        self._resolver = resolver
        self._ttl = ttl_seconds
        self._kept: dict[bytes, Iterator[bytes]] = {}
        self._kept_for: defaultdict[str, set[bytes]] = defaultdict(set)

    def forget(self, service: str) -> None:
        """Something about this Service has changed, or with "" about anything else."""
        for key in self._kept_for.pop(service, ()):
            self._kept.pop(key, None)
        if service:
            self.forget("")  # names that were not there, or depend on several Services

    def kept(self, message: bytes) -> bytes | None:
        """The answer to a datagram that was answered before, with nothing changed since."""
        answers = self._kept.get(message[2:])
        if answers is None:
            return None
        answer = next(answers)
        _COUNTERS[answer[_CODE_AT] & 0xF].inc()
        return message[:2] + answer[2:]

    def at_once(self, message: bytes, *, tcp: bool) -> bytes | Later | None:
        """The answer; None where silence is right; or, if others must be asked, an answer to be waited for."""
        query = _read(message)
        if query is None or isinstance(query, bytes):
            return query
        draft = _refusal(query)
        if draft is None:
            found = self._cluster(query)
            if isinstance(found, Answer):
                return self._of_cluster(message, query, found, tcp=tcp)
            remembered = self._resolver.remembered(query.name, query.kind, query.dnssec) if found is None else None
            if remembered is None:
                return Later(self, query, found, tcp)
            metrics.CACHE_HITS.inc()
            draft = _of_upstream(remembered)
        return self._finish(query, draft, tcp=tcp)

    # -- the cluster's names -----------------------------------------------------------------------------------------

    def _cluster(self, query: _Query) -> Answer | list[RR] | None:
        """An Answer that is complete, the aliases that lead out of what is known here, or None: not ours."""
        if self._zones is None:
            return None
        name, chain = query.name, list[RR]()
        found: Answer | None = None
        for _ in range(_LONGEST_CHAIN):
            zone = self._zones.zone_of(name)
            if zone is None:
                return chain or None
            answer = self._zones.lookup(name, query.kind, zone)
            if answer.upstream and self._resolver.knows(name):
                return chain or None
            if found is not None:
                answer = replace(answer, records=(*found.records, *answer.records), service="")
            if not answer.alias:
                return answer
            found = answer
            chain = self._records(answer.records, query)
            name = answer.alias
        return Answer(found.zone if found else "", RCODE.SERVFAIL)

    def _of_cluster(self, message: bytes, query: _Query, answer: Answer, *, tcp: bool) -> bytes:
        records = self._records(answer.records, query)
        draft = _Draft(answer.code, True, answers=records, extra=self._records(answer.extra, query))
        if not records:
            draft.authority.append(self._soa(answer.zone))
        made = self._finish(query, draft, tcp=tcp)
        if not tcp and len(message) <= _longest_plain(query):
            rotations = [made]
            for turn in range(1, min(len(records), _ROTATIONS) if not answer.alias and _same_kind(records) else 1):
                draft.answers = records[turn:] + records[:turn]
                rotations.append(self._finish(query, draft, tcp=False, count=False))
            self._keep(message[2:], rotations, answer.service)
        return made

    def _keep(self, key: bytes, rotations: Sequence[bytes], service: str) -> None:
        if len(self._kept) >= _KEPT_ANSWERS:
            self._kept.clear()
            self._kept_for.clear()
        self._kept[key] = itertools.cycle(rotations)
        self._kept_for[service].add(key)

    def _records(self, records: Sequence[Record], query: _Query) -> list[RR]:
        made = []
        for record in records:
            # A client that spells a name in a way of its own expects to see it so again.
            name = query.record.q.qname if record.name == query.name else record.name or "."
            made.append(RR(name, record.kind, ttl=record.seconds or self._ttl, rdata=self._data(record)))
        return made

    def _data(self, record: Record) -> dnslib.RD:
        data = record.data
        if isinstance(data, tuple):
            priority, weight, port, target = data
            return SRV(priority, weight, port, target)
        if record.kind == QTYPE.SOA:
            return self._soa(record.name).rdata
        make = {
            QTYPE.A: A,
            QTYPE.AAAA: AAAA,
            QTYPE.CNAME: CNAME,
            QTYPE.NS: NS,
            QTYPE.PTR: PTR,
            QTYPE.TXT: TXT,
        }
        return make[record.kind](data)

    def _soa(self, zone: str) -> RR:
        within = f".{zone}" if zone else ""
        times = (metrics.SERIAL, *_SOA_TIMES, self._ttl)
        return RR(zone or ".", QTYPE.SOA, ttl=self._ttl, rdata=SOA(f"ns.dns{within}", f"hostmaster{within}", times))

    # -- the rest of the world ---------------------------------------------------------------------------------------

    async def upstream(self, query: _Query, chain: list[RR] | None, *, tcp: bool) -> bytes:
        """The answer from outside, behind the aliases that led there."""
        name = str(chain[-1].rdata.label).rstrip(".").lower() if chain else query.name
        if not self._resolver.knows(name):
            # An alias alone is a whole answer: its end can be asked for elsewhere.
            draft = _Draft(RCODE.NOERROR, True, answers=list(chain)) if chain else _Draft(RCODE.REFUSED)
            return self._finish(query, draft, tcp=tcp)
        try:
            draft = _of_upstream(await self._resolver.resolve(name, query.kind, query.dnssec))
        except ResolveError as error:
            log.warning("no answer from upstream", error=error)
            draft = _Draft(RCODE.NOERROR if chain else RCODE.SERVFAIL)
        draft.answers[:0] = chain or ()
        draft.authoritative = bool(chain)
        return self._finish(query, draft, tcp=tcp)

    # -- bytes -------------------------------------------------------------------------------------------------------

    def _finish(self, query: _Query, draft: _Draft, *, tcp: bool, count: bool = True) -> bytes:
        """The answer's bytes; `count` it unless it is kept for later."""
        if count:
            metrics.RESPONSES.labels(RCODE.get(draft.code, str(draft.code))).inc()
        header = DNSHeader(
            id=query.record.header.id,
            qr=1,
            opcode=query.record.header.opcode,
            aa=int(draft.authoritative),
            rd=query.record.header.rd,
            ra=1,
            rcode=draft.code & 0xF,
        )
        header.ad = int(draft.authentic and query.dnssec)
        made = DNSRecord(header, questions=query.record.questions[:1], rr=draft.answers, auth=draft.authority)
        made.ar = [*draft.extra, *self._edns(query, draft.code)]
        packed = bytes(made.pack())
        if not tcp and len(packed) > query.udp_bytes:  # the glue first, then the client must come by TCP
            made.ar = self._edns(query, draft.code)
            packed = bytes(made.pack())
        longest = TCP_BYTES if tcp else query.udp_bytes
        return packed if len(packed) <= longest else _cut(made, longest)

    @staticmethod
    def _edns(query: _Query, code: int) -> list[RR]:
        if not query.edns:
            return []
        return [EDNS0(udp_len=UDP_BYTES, ext_rcode=code >> 4, flags="do" if query.dnssec else "")]


@dataclass(frozen=True, slots=True)
class Later:
    """An answer for which others must be asked."""

    responder: Responder
    query: _Query
    chain: list[RR] | None
    tcp: bool

    async def message(self) -> bytes:
        """The answer."""
        return await self.responder.upstream(self.query, self.chain, tcp=self.tcp)


def _read(message: bytes) -> _Query | bytes | None:
    """The query; or the answer to what can't be read; or None for what must not be answered."""
    if len(message) < _HEADER.size:
        return None
    number, flags, questions, *_ = _HEADER.unpack_from(message)
    if flags & _RESPONSE:
        return None
    opcode = flags >> 11 & 0xF
    broken = _HEADER.pack(number, _RESPONSE | flags & 0x7900 | RCODE.FORMERR, 0, 0, 0, 0)
    if opcode != OPCODE.QUERY:
        return _HEADER.pack(number, _RESPONSE | flags & 0x7900 | RCODE.NOTIMP, 0, 0, 0, 0)
    if questions != 1:
        return broken
    try:
        record = DNSRecord.parse(message)
        labels = [bytes(label).decode("latin-1").lower() for label in record.q.qname.label]
    except (DNSError, ValueError, IndexError, TypeError, struct.error):
        return broken
    options = [rr for rr in record.ar if rr.rtype == QTYPE.OPT]
    if len(options) > 1 or sum(len(label) + 1 for label in labels) >= _LONGEST_NAME:
        return broken
    edns = bool(options)
    asked_bytes = min(UDP_BYTES, max(PLAIN_UDP_BYTES, options[0].rclass)) if edns else PLAIN_UDP_BYTES
    dnssec = edns and bool(options[0].ttl & _DNSSEC_OK)
    return _Query(record, ".".join(labels), record.q.qtype, edns, dnssec, asked_bytes)


def _refusal(query: _Query) -> _Draft | None:
    """What nobody is told, whatever the name."""
    options = [rr for rr in query.record.ar if rr.rtype == QTYPE.OPT]
    if options and options[0].ttl >> 16 & 0xFF:
        return _Draft(_BADVERS_HIGH << 4)
    if query.kind in _TRANSFERS or query.record.q.qclass != _INTERNET:
        return _Draft(RCODE.REFUSED)
    return None


def _of_upstream(found: Resolved) -> _Draft:
    return _Draft(found.code, False, found.authentic, list(found.answers), list(found.authority), list(found.extra))


def _cut(made: DNSRecord, longest: int) -> bytes:
    """As many of the answers as fit, and the word that there are more: not every client comes again by TCP."""
    answers = made.rr
    made.auth, made.header.tc = [], 1

    def packed(count: int) -> bytes:
        made.rr = answers[:count]
        return bytes(made.pack())

    most = bisect_right(range(1, len(answers)), longest, key=lambda count: len(packed(count)))
    return packed(most)


def _longest_plain(query: _Query) -> int:
    """How long a query is that has no EDNS options: others (cookies) hardly ever come twice."""
    return (
        _HEADER.size + len(query.record.q.qname.label) + sum(map(len, query.record.q.qname.label)) + 5 + 11 * query.edns
    )


def _same_kind(records: list[RR]) -> bool:
    return len({rr.rtype for rr in records}) == 1
