"""Which names there are, and what they stand for: the DNS specification's, line by line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dns_cluster import HTTP, SETTINGS, ask, cluster, endpoint, piece, responder, service, told
from dnslib import QTYPE, RCODE

SVC = "svc.cluster.local"


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        (f"web.default.{SVC}", "A", ["10.96.0.20"]),
        (f"WEB.Default.{SVC}", "A", ["10.96.0.20"]),
        (f"web.default.{SVC}", "AAAA", ["fd00:96::20"]),
        (f"_http._tcp.web.default.{SVC}", "SRV", [f"0 50 80 web.default.{SVC}."]),
        (f"_dns._udp.web.default.{SVC}", "SRV", [f"0 50 53 web.default.{SVC}."]),
        (f"_http._tcp.old.default.{SVC}", "SRV", [f"0 100 80 old.default.{SVC}."]),
        (f"http.tcp.old.default.{SVC}", "SRV", [f"0 100 80 old.default.{SVC}."]),
        (f"_http._tcp.old.default.{SVC}", "A", ["10.96.0.21"]),
        (f"web.default.{SVC}", "SRV", [f"0 25 80 web.default.{SVC}.", f"0 25 53 web.default.{SVC}."]),
        (f"db.default.{SVC}", "A", ["10.244.1.5", "10.244.2.6"]),
        (f"db.default.{SVC}", "AAAA", ["fd00:244::5"]),
        (f"db-0.db.default.{SVC}", "A", ["10.244.1.5"]),
        (f"10-244-2-6.db.default.{SVC}", "A", ["10.244.2.6"]),
        (
            f"_http._tcp.db.default.{SVC}",
            "SRV",
            [f"0 33 8080 db-0.db.default.{SVC}.", f"0 33 8080 10-244-2-6.db.default.{SVC}."],
        ),
        (f"elsewhere.default.{SVC}", "CNAME", ["example.com."]),
        (f"inside.default.{SVC}", "A", [f"web.default.{SVC}.", "10.96.0.20"]),
        ("10-244-1-5.default.pod.cluster.local", "A", ["10.244.1.5"]),
        ("fd00-244--5.default.pod.cluster.local", "AAAA", ["fd00:244::5"]),
        ("20.0.96.10.in-addr.arpa", "PTR", [f"web.default.{SVC}."]),
        ("5.1.244.10.in-addr.arpa", "PTR", [f"db-0.db.default.{SVC}."]),
        ("6.2.244.10.in-addr.arpa", "PTR", [f"10-244-2-6.db.default.{SVC}."]),
        ("0.2.0.0." + "0." * 20 + "6.9.0.0.0.0.d.f.ip6.arpa", "PTR", [f"web.default.{SVC}."]),
        ("dns-version.cluster.local", "TXT", ['"1.1.0"']),
        ("cluster.local", "NS", [f"kube-dns.kube-system.{SVC}."]),
        ("ns.dns.cluster.local", "A", ["10.96.0.10"]),
    ],
)
def test_a_name_and_a_type_have_these_records(name: str, kind: str, expected: list[str]) -> None:
    answer = ask(responder(cluster()), name, kind)
    assert (answer.header.rcode, told(answer)) == (RCODE.NOERROR, expected)
    assert answer.header.aa
    assert {rr.ttl for rr in answer.rr} == {28800 if kind == "TXT" else 30}


def test_the_zones_server_is_told_with_its_address() -> None:
    answer = ask(responder(cluster()), "cluster.local", "NS")
    assert [(str(rr.rname), str(rr.rdata)) for rr in answer.ar] == [(f"kube-dns.kube-system.{SVC}.", "10.96.0.10")]
    state = cluster()
    state.service_changed(service("kube-dns", "kube-system"), None)
    assert told(ask(responder(state), "cluster.local", "NS")) == ["ns.dns.cluster.local."]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (f"old.default.{SVC}", "AAAA"),
        (f"old.default.{SVC}", "MX"),
        (f"old.default.{SVC}", "ANY"),
        (f"old.default.{SVC}", "SOA"),
        (f"elsewhere.default.{SVC}", "SRV"),
        (f"elsewhere.default.{SVC}", "TXT"),
        (f"db-0.db.default.{SVC}", "TXT"),
        (f"10-244-2-6.db.default.{SVC}", "AAAA"),
        (f"_tcp.db.default.{SVC}", "A"),
        (f"default.{SVC}", "A"),
        (SVC, "A"),
        ("default.pod.cluster.local", "A"),
        ("10-244-1-5.default.pod.cluster.local", "AAAA"),
        ("cluster.local", "A"),
        ("dns.cluster.local", "A"),
    ],
)
def test_a_name_without_records_of_the_type_is_still_a_name(name: str, kind: str) -> None:
    answer = ask(responder(cluster()), name, kind)
    assert (answer.header.rcode, told(answer)) == (RCODE.NOERROR, [])
    assert [rr.rtype for rr in answer.auth] == [QTYPE.SOA]


@pytest.mark.parametrize(
    "name",
    [
        f"none.default.{SVC}",
        f"web.nowhere.{SVC}",
        f"nowhere.{SVC}",
        f"x.web.default.{SVC}.cluster.local",
        f"empty.default.{SVC}",
        f"db-2.db.default.{SVC}",
        f"_http._udp.web.default.{SVC}",
        f"_other._tcp.db.default.{SVC}",
        f"a.b.c.web.default.{SVC}",
        f"sub.elsewhere.default.{SVC}",
        f"numbered.default.{SVC}",
        "10-244-1-5.nowhere.pod.cluster.local",
        "not-an-ip.default.pod.cluster.local",
        "10-244-1.default.pod.cluster.local",
        "google.com.cluster.local",
        "9.9.9.9.in-addr.arpa",
    ],
)
@pytest.mark.parametrize("kind", ["A", "AAAA"])
def test_a_name_that_is_not_there_is_denied_for_every_type(name: str, kind: str) -> None:
    answer = ask(responder(cluster()), name, kind)
    assert (answer.header.rcode, told(answer)) == (RCODE.NXDOMAIN, [])
    assert [str(rr.rname) for rr in answer.auth] == ["in-addr.arpa." if "arpa" in name else "cluster.local."]


def test_srv_answers_carry_the_addresses_of_their_targets() -> None:
    answer = ask(responder(cluster()), f"_http._tcp.db.default.{SVC}", "SRV")
    assert {(str(rr.rname), str(rr.rdata)) for rr in answer.ar} == {
        (f"db-0.db.default.{SVC}.", "10.244.1.5"),
        (f"db-0.db.default.{SVC}.", "fd00:244::5"),
        (f"10-244-2-6.db.default.{SVC}.", "10.244.2.6"),
    }


def test_pods_are_known_as_the_configuration_says() -> None:
    state = cluster()
    verified = responder(state, replace(SETTINGS, pods="verified"))
    name = "10-244-1-5.default.pod.cluster.local"
    assert ask(verified, name).header.rcode == RCODE.NXDOMAIN
    pod = {"metadata": {"name": "p", "namespace": "default"}, "status": {"podIP": "10.244.1.5"}}
    state.pod_changed(None, pod)
    assert told(ask(verified, name)) == ["10.244.1.5"]
    state.pod_changed(pod, None)
    assert ask(verified, name).header.rcode == RCODE.NXDOMAIN
    assert ask(responder(state, replace(SETTINGS, pods="disabled")), name).header.rcode == RCODE.NXDOMAIN


def test_an_alias_that_leads_to_itself_ends() -> None:
    assert ask(responder(cluster()), f"round.default.{SVC}").header.rcode == RCODE.SERVFAIL


def test_names_follow_every_change() -> None:
    state = cluster()
    server = responder(state)
    name = f"late.default.{SVC}"
    assert ask(server, name).header.rcode == RCODE.NXDOMAIN
    first = service("late", clusterIP="10.96.0.77", ports=[HTTP])
    state.service_changed(None, first)
    assert told(ask(server, name)) == ["10.96.0.77"]
    external = service("late", type="ExternalName", externalName="example.org", clusterIP="")
    state.service_changed(first, external)
    assert told(ask(server, name, "CNAME")) == ["example.org."]
    assert ask(server, "77.0.96.10.in-addr.arpa", "PTR").header.rcode == RCODE.NXDOMAIN
    headless = service("late", ports=[HTTP])
    state.service_changed(external, headless)
    one = piece("late", endpoint("10.244.3.3"))
    state.slice_changed(None, one)
    assert told(ask(server, name)) == ["10.244.3.3"]
    state.slice_changed(one, piece("late", endpoint("10.244.3.4")))
    assert told(ask(server, name)) == ["10.244.3.4"]
    assert ask(server, "3.3.244.10.in-addr.arpa", "PTR").header.rcode == RCODE.NXDOMAIN
    state.service_changed(headless, None)
    assert ask(server, name).header.rcode == RCODE.NXDOMAIN
    state.namespace_changed({"metadata": {"name": "default"}}, None)
    assert ask(server, f"default.{SVC}").header.rcode == RCODE.NXDOMAIN
