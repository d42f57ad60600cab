"""A cluster's state for DNS tests, and questions to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dnslib import DNSRecord

from agent.dns.configuration import Caching, Kubernetes
from agent.dns.resolver import Resolver
from agent.dns.responding import Responder
from agent.dns.state import ClusterState
from agent.dns.zone import ClusterZones
from machinery.api.meta import Object
from machinery.testing.clock import FakeClock

REVERSE = ("in-addr.arpa", "ip6.arpa")
SETTINGS = Kubernetes(("cluster.local", *REVERSE), "insecure", 30, REVERSE)


def service(name: str, namespace: str = "default", **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": "None", **spec}}


def piece(service: str, *endpoints: Object, family: str = "IPv4", ports: Sequence[Object] | None = None) -> Object:
    given = [{"name": "http", "protocol": "TCP", "port": 8080}] if ports is None else ports
    return {
        "metadata": {
            "name": f"{service}-{family.lower()}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "ports": given,
        "endpoints": list(endpoints),
    }


def endpoint(ip: str, hostname: str = "", **conditions: bool) -> Object:
    return {"addresses": [ip], "conditions": conditions} | ({"hostname": hostname} if hostname else {})


HTTP, DNS = {"name": "http", "protocol": "TCP", "port": 80}, {"name": "dns", "protocol": "UDP", "port": 53}


def cluster() -> ClusterState:
    state = ClusterState()
    for namespace in ("default", "kube-system"):
        state.namespace_changed(None, {"metadata": {"name": namespace}})
    for obj in (
        service("web", clusterIP="10.96.0.20", clusterIPs=["10.96.0.20", "fd00:96::20"], ports=[HTTP, DNS]),
        service("old", clusterIP="10.96.0.21", ports=[HTTP]),
        service("kube-dns", "kube-system", clusterIP="10.96.0.10", ports=[DNS]),
        service("db", ports=[HTTP]),
        service("empty", ports=[HTTP]),
        service("elsewhere", type="ExternalName", externalName="example.COM.", clusterIP=""),
        service("numbered", type="ExternalName", externalName="192.0.2.1", clusterIP=""),
        service("inside", type="ExternalName", externalName="web.default.svc.cluster.local", clusterIP=""),
        service("round", type="ExternalName", externalName="round.default.svc.cluster.local", clusterIP=""),
    ):
        state.service_changed(None, obj)
    state.slice_changed(
        None,
        piece(
            "db", endpoint("10.244.1.5", "db-0"), endpoint("10.244.2.6"), endpoint("10.244.2.7", "db-2", ready=False)
        ),
    )
    state.slice_changed(None, piece("db", endpoint("fd00:244::5", "db-0"), family="IPv6"))
    return state


def responder(state: ClusterState, settings: Kubernetes | None = SETTINGS) -> Responder:
    zones = ClusterZones(state, settings, ["kube-system/kube-dns"]) if settings else None
    made = Responder(zones, Resolver({}, Caching(), FakeClock()), 30)
    state.on_change = made.forget
    return made


def ask(to: Responder, name: str, kind: str = "A", *, tcp: bool = False) -> DNSRecord:
    message = to.at_once(bytes(DNSRecord.question(name, kind).pack()), tcp=tcp)
    assert isinstance(message, bytes)
    return DNSRecord.parse(message)


def told(answer: DNSRecord) -> list[str]:
    return [str(rr.rdata) for rr in answer.rr]
