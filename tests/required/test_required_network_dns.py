"""Names of services and pods."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from cluster import Cluster, eventually, pod, requirement, shows, sleeper
from objects import replace
from servers import Asker, asker

from machinery.api.catalogue import PODS, SERVICES
from machinery.api.meta import Object

pytest_plugins = ["cluster_fixture"]

LABELS = {"dns-test": "true"}
HOST, HEADLESS, REGULAR = "dns-querier", "dns-test-service", "test-service-2"


async def _create(cluster: Cluster, name: str, **spec: Any) -> Object:
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    return await cluster.create(
        SERVICES, {"metadata": {"name": name}, "spec": {"selector": LABELS, "ports": ports} | spec}
    )


async def _resolves(asks: Asker, *questions: tuple[str, str], to: set[str] | None = None) -> None:
    """Wait until all questions are answered, over UDP and TCP (with these answers)."""

    async def all_answered() -> bool:
        answers = await asks.resolve(*questions)
        return all(each and (to is None or set(each) == to) for both in answers for each in both)

    await eventually(all_answered, f"answers to {questions} ({to})")


async def _asker(cluster: Cluster, **spec: Any) -> tuple[Asker, str]:
    """A pod to ask from, one that the services choose, and its address."""
    asks = await asker(cluster, HOST, labels=LABELS, **spec)
    return asks, (await cluster.get(PODS, HOST))["status"]["podIP"]


def _svc(cluster: Cluster, name: str) -> str:
    return f"{name}.{cluster.namespace}.svc.cluster.local"


@requirement("[sig-network] DNS should provide DNS for the cluster [Conformance]")
async def test_cluster(cluster: Cluster) -> None:
    asks, address = await _asker(cluster)
    found = await cluster.client.get(SERVICES, "kubernetes", "default")
    await _resolves(asks, ("kubernetes.default.svc.cluster.local", "A"), to={found["spec"]["clusterIP"]})
    await _resolves(asks, ("kubernetes.default", "A"), ("kubernetes.default.svc", "A"), to={found["spec"]["clusterIP"]})
    own = f"{address.replace('.', '-')}.{cluster.namespace}.pod.cluster.local"
    await _resolves(asks, (own, "A"), to={address})


async def _knows_hosts(cluster: Cluster, *names: str) -> None:
    """The pod's own /etc/hosts has these names of its own."""
    address = (await cluster.get(PODS, HOST))["status"]["podIP"]
    hosts = [
        line.split()
        for line in (await cluster.exec(HOST, "python3", "-c", "print(open('/etc/hosts').read())")).splitlines()
    ]
    mine = {name for line in hosts if line and line[0] == address for name in line[1:]}
    assert mine >= set(names), hosts
    for name in names:
        ask = f"import socket; print(socket.getaddrinfo({name!r}, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])"
        assert (await cluster.exec(HOST, "python3", "-c", ask)).strip() == address


@requirement("[sig-network] DNS should provide /etc/hosts entries for the cluster [Conformance]")
async def test_hosts(cluster: Cluster) -> None:
    await _asker(cluster, hostname=HOST, subdomain=HEADLESS)
    await _knows_hosts(cluster, _svc(cluster, f"{HOST}.{HEADLESS}"), HOST)


@requirement("[sig-network] DNS should provide DNS for services [Conformance]")
async def test_services(cluster: Cluster) -> None:
    await _create(cluster, HEADLESS, clusterIP="None")
    regular = (await _create(cluster, REGULAR))["spec"]["clusterIP"]
    asks, address = await _asker(cluster)
    await _resolves(asks, (_svc(cluster, HEADLESS), "A"), to={address})
    await _resolves(asks, (_svc(cluster, REGULAR), "A"), to={regular})
    await _resolves(
        asks, (f"_http._tcp.{_svc(cluster, HEADLESS)}", "SRV"), (f"_http._tcp.{_svc(cluster, REGULAR)}", "SRV")
    )
    [(srv, _)] = await asks.resolve((f"_http._tcp.{_svc(cluster, REGULAR)}", "SRV"))
    assert [each.split()[2:] for each in srv] == [["80", f"{_svc(cluster, REGULAR)}."]]
    await _resolves(asks, (f"{ip_address(regular).reverse_pointer}.", "PTR"), to={f"{_svc(cluster, REGULAR)}."})


@requirement("[sig-network] DNS should resolve DNS of partial qualified names for services [LinuxOnly] [Conformance]")
async def test_partial_names(cluster: Cluster) -> None:
    await _create(cluster, HEADLESS, clusterIP="None")
    regular = (await _create(cluster, REGULAR))["spec"]["clusterIP"]
    asks, address = await _asker(cluster)
    ends = ("", f".{cluster.namespace}", f".{cluster.namespace}.svc")
    await _resolves(asks, *[(f"{HEADLESS}{end}", "A") for end in ends], to={address})
    await _resolves(asks, *[(f"{REGULAR}{end}", "A") for end in ends], to={regular})
    await _resolves(asks, *[(f"_http._tcp.{name}{ends[2]}", "SRV") for name in (HEADLESS, REGULAR)])
    await _resolves(asks, (f"{ip_address(regular).reverse_pointer}.", "PTR"), to={f"{_svc(cluster, REGULAR)}."})


@pytest.mark.parametrize(
    "subdomain",
    [
        shows(False, name="[sig-network] DNS should provide DNS for pods for Hostname [Conformance]"),
        shows(True, name="[sig-network] DNS should provide DNS for pods for Subdomain [Conformance]"),
    ],
)
async def test_pods(cluster: Cluster, subdomain: bool) -> None:
    await _create(cluster, HEADLESS, clusterIP="None")
    asks, address = await _asker(cluster, hostname=HOST, subdomain=HEADLESS)
    full = _svc(cluster, f"{HOST}.{HEADLESS}")
    await _resolves(asks, (_svc(cluster, HEADLESS) if subdomain else full, "A"), to={address})
    if not subdomain:
        await _knows_hosts(cluster, full, HOST)


@requirement("[sig-network] DNS should provide DNS for ExternalName services [Conformance]")
async def test_external_name(cluster: Cluster) -> None:
    name = "dns-test-service-3"
    await cluster.create(
        SERVICES, {"metadata": {"name": name}, "spec": {"type": "ExternalName", "externalName": "foo.example.com"}}
    )
    asks = await asker(cluster)
    await _resolves(asks, (_svc(cluster, name), "CNAME"), to={"foo.example.com."})
    await replace(cluster, SERVICES, name, lambda o: o["spec"].update(externalName="bar.example.com"))
    await _resolves(asks, (_svc(cluster, name), "CNAME"), to={"bar.example.com."})
    ports = [{"port": 80, "name": "http", "protocol": "TCP"}]
    changed = await replace(cluster, SERVICES, name, lambda o: o["spec"].update(type="ClusterIP", ports=ports))
    await _resolves(asks, (_svc(cluster, name), "A"), to={changed["spec"]["clusterIP"]})


@requirement("[sig-network] DNS should support configurable pod DNS nameservers [Conformance]")
async def test_configured(cluster: Cluster) -> None:
    config = {"nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"]}
    made = await cluster.start(pod("configured", sleeper(), dnsPolicy="None", dnsConfig=config))
    assert (made["spec"]["dnsPolicy"], made["spec"]["dnsConfig"]) == ("None", config)
    told = (await cluster.exec("configured", "cat", "/etc/resolv.conf")).split("\n")
    assert [line for line in told if line] == ["search resolv.conf.local", "nameserver 1.1.1.1"]
