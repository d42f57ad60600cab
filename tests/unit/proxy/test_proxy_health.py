"""What load balancers and kubelets are told on the health ports, and what metrics count."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest
from prometheus_client import Counter, Gauge

from agent.proxy import metrics
from agent.proxy.conntrack import StaleFlows, stale_flows
from agent.proxy.errors import BackendError
from agent.proxy.family import FamilyState
from agent.proxy.health import HealthzServer, ProxyHealth
from agent.proxy.healthchecks import HealthCheckServers
from agent.proxy.model import Endpoint, Family, HealthCheck, PortRules, ServicePlan, ServicePortName
from agent.proxy.settings import RuleSettings
from machinery.client.config import ClientConfig
from machinery.client.rest import Client
from machinery.events import EventRecorder
from machinery.testing.clock import FakeClock

LATE_SECONDS = 60.0


@pytest.fixture
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(web: aiohttp.ClientSession, port: int, path: str, method: str = "GET") -> tuple[int, str, str]:
    async with web.request(method, f"http://127.0.0.1:{port}{path}") as response:
        return response.status, response.headers["Content-Type"], await response.text()


async def test_the_proxy_is_well_until_a_change_has_waited_too_long(web: aiohttp.ClientSession) -> None:
    clock = FakeClock()
    health = ProxyHealth(clock, LATE_SECONDS)
    async with HealthzServer(health, "127.0.0.1", 0) as server:
        health.queued()
        await clock.advance(LATE_SECONDS)
        assert (await ask(web, server.port, "/livez"))[0] == 200, "at the start nothing is late"
        health.updated()
        updated = clock.now()
        health.queued()
        await clock.advance(LATE_SECONDS)
        status, kind, text = await ask(web, server.port, "/healthz", "POST")
        assert (status, kind) == (503, "application/json")
        told = json.loads(text)
        assert told["lastUpdated"] == f"{updated:%Y-%m-%d %H:%M:%S.%f} +0000 UTC"
        assert told["currentTime"] > told["lastUpdated"]
        assert told["nodeEligible"] is True
        health.updated()
        told = json.loads((await ask(web, server.port, "/livez"))[2])
        assert told == {"lastUpdated": told["currentTime"], "currentTime": told["currentTime"]}


@pytest.mark.parametrize(
    "node",
    [
        {"metadata": {"name": "w", "deletionTimestamp": "2026-01-01T00:00:00Z"}},
        {"metadata": {"name": "w"}, "spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]}},
    ],
)
async def test_a_node_about_to_go_is_alive_but_gets_no_connections(
    web: aiohttp.ClientSession, node: dict[str, object]
) -> None:
    health = ProxyHealth(FakeClock(), LATE_SECONDS)
    async with HealthzServer(health, "127.0.0.1", 0) as server:
        health.see_node(node)
        status, _, text = await ask(web, server.port, "/healthz")
        assert (status, json.loads(text)["nodeEligible"]) == (503, False)
        assert (await ask(web, server.port, "/livez"))[0] == 200
        health.see_node({"metadata": {"name": "w"}})
        assert (await ask(web, server.port, "/healthz"))[0] == 200


async def test_a_health_check_node_port_that_is_taken_is_served_once_it_is_free(web: aiohttp.ClientSession) -> None:
    health = ProxyHealth(FakeClock(), LATE_SECONDS)
    # Nothing is sent: the recorder is not run.
    async with Client(ClientConfig(server="http://127.0.0.1:1"), user_agent="test") as client:
        recorder = EventRecorder(client, component="kube-proxy")
        async with HealthCheckServers(health, ["127.0.0.1"], recorder, "w1") as servers:
            with socket.socket() as holder:
                holder.bind(("127.0.0.1", 0))
                holder.listen()
                port = holder.getsockname()[1]
                checks = {"ns/web": HealthCheck("ns/web", port, 2)}
                await servers.sync(checks)
            await servers.sync(checks)
            status, kind, text = await ask(web, port, "/whatever", "POST")
            assert (status, kind) == (200, "application/json")
            assert text == (
                '{\n\t"service": {\n\t\t"namespace": "ns",\n\t\t"name": "web"\n\t},\n'
                '\t"localEndpoints": 2,\n\t"serviceProxyHealthy": true\n}'
            )
            await servers.sync({"ns/web": HealthCheck("ns/web", port, 0)})
            assert (await ask(web, port, "/"))[0] == 503
            await servers.sync({})
            with pytest.raises(aiohttp.ClientConnectorError):
                await ask(web, port, "/")


UDP = PortRules(
    ServicePortName("ns", "dns", "dns", "udp"),
    port=53,
    cluster_ip="10.96.0.10",
    node_port=30053,
    cluster=(Endpoint("10.244.0.1", 53),),
    serving_ips=frozenset({"10.244.0.1", "10.244.0.2"}),
)


@pytest.mark.parametrize(
    ("serving", "gone"),
    [
        ({"10.244.0.1", "10.244.0.2", "10.244.0.3"}, []),
        ({"10.244.0.1"}, ["10.244.0.2"]),
        ({"10.244.0.2"}, ["10.244.0.1"]),
    ],
)
def test_flows_of_endpoints_that_serve_no_more_are_stale(serving: set[str], gone: list[str]) -> None:
    new = replace(UDP, serving_ips=frozenset(serving))
    places = (("10.96.0.10", 53), ("", 30053))
    expected = [StaleFlows(Family.IPV4, ip, port, endpoint) for ip, port in places for endpoint in gone]
    assert stale_flows(Family.IPV4, UDP, new) == expected


class _Refusing:
    """A backend that takes nothing, or everything."""

    def __init__(self) -> None:
        self.refuses = False

    def configure(self, settings: RuleSettings) -> None:
        pass

    async def change(self, changes: object) -> None:
        if self.refuses:
            raise BackendError("no")

    async def replace(self, everything: object) -> None:
        if self.refuses:
            raise BackendError("no")

    async def disturbed(self) -> bool:
        return False

    async def cleanup(self) -> None:
        pass


def value(metric: Counter | Gauge, *labels: str) -> float:
    (family,) = metric.labels(*labels).collect()
    return next(sample.value for sample in family.samples if not sample.name.endswith("_created"))


async def test_syncs_that_fail_are_counted_by_their_kind() -> None:
    backend = _Refusing()
    state = FamilyState(RuleSettings(Family.IPV6), backend, metrics.IPTABLES_SYNC_FAILURES)
    full, partial = (value(counter, "IPv6") for counter in metrics.IPTABLES_SYNC_FAILURES)
    backend.refuses = True
    with pytest.raises(BackendError):
        await state.carry_out({})
    backend.refuses = False
    await state.carry_out({})
    backend.refuses = True
    with pytest.raises(BackendError):
        await state.carry_out({UDP.name: None})
    assert value(metrics.IPTABLES_FAILURES, "IPv6") == full + 1
    assert value(metrics.IPTABLES_PARTIAL_FAILURES, "IPv6") == partial + 1


async def test_services_without_an_endpoint_on_this_node_are_counted_under_a_local_policy() -> None:
    state = FamilyState(RuleSettings(Family.IPV6), _Refusing(), metrics.NFTABLES_SYNC_FAILURES)
    away = replace(UDP, internal_local=True, internal_refusal="drop", external_local=True, external_refusal="drop")

    async def counted(*ports: PortRules) -> tuple[float, float]:
        await state.carry_out(state.take("ns/dns", ServicePlan(ports)))
        told = metrics.NO_LOCAL_ENDPOINTS
        return value(told, "IPv6", "internal"), value(told, "IPv6", "external")

    assert await counted(away) == (1, 1)
    assert await counted(replace(away, external_refusal="")) == (1, 0)
    assert await counted(replace(away, internal_refusal="reject", external_refusal="reject")) == (0, 0)
    assert await counted(away) == (1, 1)
    assert await counted() == (0, 0)
