"""Messages: what is refused, cut short, kept, and told again."""

from __future__ import annotations

import struct

import pytest
from dns_cluster import HTTP, ask, cluster, endpoint, piece, responder, service, told
from dnslib import EDNS0, QTYPE, RCODE, DNSHeader, DNSQuestion, DNSRecord

from agent.dns import metrics

WEB = "web.default.svc.cluster.local"


def send(message: bytes, *, tcp: bool = False) -> DNSRecord:
    answer = responder(cluster()).at_once(message, tcp=tcp)
    assert isinstance(answer, bytes)
    return DNSRecord.parse(answer)


def query(name: str, kind: str = "A", **edns: object) -> DNSRecord:
    made = DNSRecord.question(name, kind)
    if edns:
        made.add_ar(EDNS0(**edns))
    return made


@pytest.mark.parametrize("kind", ["AXFR", "IXFR"])
def test_the_zone_is_not_given_away(kind: str) -> None:
    assert send(bytes(query("cluster.local", kind).pack()), tcp=True).header.rcode == RCODE.REFUSED


def test_other_classes_are_refused() -> None:
    assert send(bytes(DNSRecord(q=DNSQuestion("version.bind", QTYPE.TXT, 3)).pack())).header.rcode == RCODE.REFUSED


def test_names_of_others_are_refused_where_nobody_can_be_asked() -> None:
    server = responder(cluster())
    later = server.at_once(bytes(query("example.com").pack()), tcp=False)
    assert later is not None
    assert not isinstance(later, bytes)


async def test_an_alias_is_told_even_if_nobody_knows_where_it_leads() -> None:
    later = responder(cluster()).at_once(bytes(query("elsewhere.default.svc.cluster.local").pack()), tcp=False)
    assert later is not None
    assert not isinstance(later, bytes)
    answer = DNSRecord.parse(await later.message())
    assert (answer.header.rcode, told(answer)) == (RCODE.NOERROR, ["example.com."])
    refused = responder(cluster()).at_once(bytes(query("example.com").pack()), tcp=False)
    assert refused is not None
    assert not isinstance(refused, bytes)
    assert DNSRecord.parse(await refused.message()).header.rcode == RCODE.REFUSED


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0" * 11,
        bytes(DNSRecord(DNSHeader(qr=1), q=DNSQuestion(WEB)).pack()),
    ],
)
def test_what_is_no_query_meets_silence(message: bytes) -> None:
    assert responder(cluster()).at_once(message, tcp=False) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x05we",
        b"\xc0\x0c\x00\x01\x00\x01",
        b"\xff" * 40,
        b"\x03web" * 80 + b"\0\0\x01\0\x01",
    ],
)
def test_rubbish_is_called_so(body: bytes) -> None:
    assert send(struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + body).header.rcode == RCODE.FORMERR


def test_a_message_with_several_questions_is_malformed() -> None:
    message = bytes(DNSRecord(DNSHeader(), questions=[DNSQuestion(WEB), DNSQuestion(WEB)]).pack())
    assert send(message).header.rcode == RCODE.FORMERR


def test_other_operations_are_not_implemented() -> None:
    answer = send(bytes(DNSRecord(DNSHeader(id=9, opcode=5), q=DNSQuestion(WEB)).pack()))
    assert (answer.header.id, answer.header.opcode, answer.header.rcode) == (9, 5, RCODE.NOTIMP)


def test_edns_is_answered_with_edns_and_its_absence_with_none() -> None:
    plain = send(bytes(query(WEB).pack()))
    assert plain.ar == []
    extended = send(bytes(query(WEB, udp_len=4096).pack()))
    assert [(rr.rtype, rr.rclass) for rr in extended.ar] == [(QTYPE.OPT, 1232)]


def test_a_future_version_of_edns_is_told_which_there_is() -> None:
    answer = send(bytes(query(WEB, udp_len=4096, version=1).pack()))
    assert answer.rr == []
    assert answer.header.rcode | (answer.ar[0].ttl >> 24 & 0xFF) << 4 == 16


def test_a_name_is_repeated_as_it_was_spelled() -> None:
    assert (
        str(send(bytes(query("WeB.default.SVC.cluster.local").pack())).rr[0].rname) == "WeB.default.SVC.cluster.local."
    )


def test_what_does_not_fit_is_cut_for_datagrams_alone() -> None:
    state = cluster()
    state.service_changed(None, service("big", ports=[HTTP]))
    state.slice_changed(None, piece("big", *(endpoint(f"10.244.9.{n}") for n in range(1, 101))))
    server = responder(state)
    name = "big.default.svc.cluster.local"
    short = ask(server, name)
    assert short.header.tc == 1
    fits = len(short.rr)
    assert fits == (512 - 12 - len(name) - 6) // 16, "no more than fit, and no less"
    whole = ask(server, name, tcp=True)
    assert (whole.header.tc, len(whole.rr)) == (0, 100)
    message = bytes(query(name, udp_len=4096).pack())
    answer = server.at_once(message, tcp=False)
    assert isinstance(answer, bytes)
    assert len(answer) <= 1232
    assert len(DNSRecord.parse(answer).rr) > fits


def test_a_question_that_comes_again_is_answered_from_memory_with_its_own_number() -> None:
    server = responder(cluster())
    first, second = query(WEB), query(WEB)
    assert server.kept(bytes(first.pack())) is None
    server.at_once(bytes(first.pack()), tcp=False)
    answer = server.kept(bytes(second.pack()))
    assert answer is not None
    assert DNSRecord.parse(answer).header.id == second.header.id
    assert told(DNSRecord.parse(answer)) == ["10.96.0.20"]


def test_every_answer_is_counted_once() -> None:
    def counted(code: str) -> float:
        (family,) = metrics.RESPONSES.labels(code).collect()
        return next(sample.value for sample in family.samples if sample.name.endswith("_total"))

    before = counted("NOERROR"), counted("NXDOMAIN")
    server = responder(cluster())
    known, unknown = (bytes(query(name).pack()) for name in ("db.default.svc.cluster.local", "no.svc.cluster.local"))
    for message in (known, unknown):
        assert server.at_once(message, tcp=False)
    for _ in range(3):
        assert server.kept(known)
    assert server.kept(unknown)
    assert (counted("NOERROR"), counted("NXDOMAIN")) == (before[0] + 4, before[1] + 2)


def test_types_that_differ_in_a_letters_case_are_not_confused() -> None:
    server = responder(cluster())
    for kind in (65, 97):  # A and a
        message = bytes(DNSRecord(q=DNSQuestion(WEB, kind)).pack())
        answer = server.at_once(message, tcp=False)
        assert isinstance(answer, bytes)
        assert DNSRecord.parse(answer).q.qtype == kind
    kept = server.kept(bytes(DNSRecord(q=DNSQuestion(WEB, 65)).pack()))
    assert kept is not None
    assert DNSRecord.parse(kept).q.qtype == 65


def test_memory_ends_with_a_change_of_what_it_was_made_from() -> None:
    state = cluster()
    server = responder(state)
    headless, missing = (
        bytes(query("db.default.svc.cluster.local").pack()),
        bytes(query("soon.default.svc.cluster.local").pack()),
    )
    web = bytes(query(WEB).pack())
    for message in (headless, missing, web):
        server.at_once(message, tcp=False)
    state.slice_changed(
        None,
        {
            **piece("db", endpoint("10.244.8.8")),
            "metadata": {"name": "db-more", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
        },
    )
    assert server.kept(headless) is None
    assert server.kept(missing) is None
    assert server.kept(web) is not None


def test_addresses_are_told_in_turns() -> None:
    server = responder(cluster())
    message = bytes(query("db.default.svc.cluster.local").pack())
    server.at_once(message, tcp=False)
    firsts = set()
    for _ in range(4):
        kept = server.kept(message)
        assert kept is not None
        firsts.add(told(DNSRecord.parse(kept))[0])
    assert firsts == {"10.244.1.5", "10.244.2.6"}
