"""What the API lets do with kinds of the network."""

from __future__ import annotations

from typing import Any

import pytest
from cluster import Cluster, requirement, shows
from objects import delete_collection, replace
from operations import Kind, in_discovery, operate
from watching import watching

from machinery.api.catalogue import (
    ENDPOINTS,
    ENDPOINTSLICES,
    INGRESSCLASSES,
    INGRESSES,
    IPADDRESSES,
    SERVICECIDRS,
    SERVICES,
)
from machinery.api.meta import Object, name_of
from machinery.client.rest import STRATEGIC

pytest_plugins = ["cluster_fixture"]

LIST = "required-list"


def _backend(name: str) -> Object:
    return {"service": {"name": name, "port": {"number": 8080}}}


def _host(name: str) -> Object:
    return {"host": name, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": _backend("test-backend")}]}}


def _balancer(address: str) -> Object:
    return {"loadBalancer": {"ingress": [{"ip": address}]}}


_SLICE = Kind(ENDPOINTSLICES, {"addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4", "5.6.7.8"]}]})
_INGRESS = Kind(
    INGRESSES,
    {"spec": {"defaultBackend": _backend("default-backend"), "rules": [_host("foo.bar.com")]}},
    update=lambda ingress: ingress["spec"].update(rules=[_host("bar.foo.com")]),
    statuses=(_balancer("169.1.1.1"), _balancer("169.1.1.2")),
)
_CLASS = Kind(INGRESSCLASSES, {"spec": {"controller": "example.com/controller"}})


@pytest.mark.parametrize(
    "kind",
    [
        shows(
            _SLICE,
            name="[sig-network] EndpointSlice should support creating EndpointSlice API operations [Conformance]",
        ),
        shows(_INGRESS, name="[sig-network] Ingress API should support creating Ingress API operations [Conformance]"),
        shows(
            _CLASS,
            name="[sig-network] IngressClass API should support creating IngressClass API operations [Conformance]",
        ),
    ],
)
async def test_operations(cluster: Cluster, kind: Kind) -> None:
    await operate(cluster, kind)


@requirement("[sig-network] ServiceCIDR and IPAddress API should support ServiceCIDR API operations [Conformance]")
async def test_service_ranges(cluster: Cluster) -> None:
    await in_discovery(cluster, SERVICECIDRS)
    found = await cluster.get(SERVICECIDRS, "kubernetes")
    status = await cluster.client.get(SERVICECIDRS, "kubernetes", subresource="status")
    assert (status["apiVersion"], status["kind"]) == ("networking.k8s.io/v1", "ServiceCIDR")
    assert status["metadata"]["uid"] == found["metadata"]["uid"]
    assert (await cluster.client.list(SERVICECIDRS)).items
    name = f"required-{cluster.namespace}"
    async with watching(cluster, SERVICECIDRS) as watched:
        await cluster.create(SERVICECIDRS, {"metadata": {"name": name}, "spec": {"cidrs": ["198.51.100.0/28"]}})
        await watched.until(lambda e: e.object["metadata"]["name"] == name, "the new range")
        await cluster.delete(SERVICECIDRS, name)
        await watched.deleted(name)


@requirement("[sig-network] ServiceCIDR and IPAddress API should support IPAddress API operations [Conformance]")
async def test_addresses(cluster: Cluster) -> None:
    await in_discovery(cluster, IPADDRESSES)
    spec = {"parentRef": {"group": "mygroup", "resource": "myresources", "namespace": "foo", "name": "bar"}}
    four, six = "255.255.255.255", "fe80::42:1dff:fe84:f9e2"

    async def found(kind: str) -> list[str]:
        return [name_of(each) for each in (await cluster.client.list(IPADDRESSES, label_selector=f"type={kind}")).items]

    async with watching(cluster, IPADDRESSES, "type=broadcast") as watched:
        made = await cluster.create(
            IPADDRESSES, {"metadata": {"name": four, "labels": {"type": "broadcast"}}, "spec": spec}
        )
        await cluster.create(IPADDRESSES, {"metadata": {"name": six, "labels": {"type": "link-local"}}, "spec": spec})
        patched = await cluster.patch(IPADDRESSES, four, {"metadata": {"annotations": {"patched": "true"}}})
        assert patched["metadata"]["annotations"]["patched"] == "true"
        assert int(patched["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
        updated = await replace(
            cluster, IPADDRESSES, four, lambda o: o["metadata"]["annotations"].update(updated="true")
        )
        assert updated["metadata"]["annotations"]["updated"] == "true"
        assert await found("broadcast") == [four]
        await cluster.delete(IPADDRESSES, four)
        await watched.deleted(four)
    await delete_collection(cluster, IPADDRESSES, "type=link-local")
    assert await found("link-local") == []


@requirement("[sig-network] Endpoints should test the lifecycle of an Endpoint [Conformance]")
async def test_endpoints(cluster: Cluster) -> None:
    name, chosen = "testservice", "test-endpoint-static=true"
    subset = {
        "addresses": [{"ip": "10.0.0.24"}],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }
    async with watching(cluster, ENDPOINTS, chosen) as watched:
        labels = {"test-endpoint-static": "true"}
        made = await cluster.create(ENDPOINTS, {"metadata": {"name": name, "labels": labels}, "subsets": [subset]})
        event = await watched.until(lambda _: True, "the new one")
        assert (event.type, event.object["metadata"]["uid"]) == ("ADDED", made["metadata"]["uid"])
        everywhere = (await cluster.client.list(ENDPOINTS, label_selector=chosen)).items
        assert made["metadata"]["uid"] in [each["metadata"]["uid"] for each in everywhere]

        updated = await replace(
            cluster, ENDPOINTS, name, lambda o: o["metadata"]["labels"].update({"test-service": "updated"})
        )
        assert updated["metadata"]["labels"]["test-service"] == "updated"
        await watched.modified(lambda o: o["metadata"]["labels"].get("test-service") == "updated", "updated")
        assert (await cluster.get(ENDPOINTS, name))["metadata"]["labels"]["test-service"] == "updated"

        patch = {
            "metadata": {"labels": {"test-service": "patched"}},
            "subsets": [{"addresses": [{"ip": "10.0.0.25"}], "ports": [{"name": "http-test", "port": 8080}]}],
        }
        await cluster.patch(ENDPOINTS, name, patch, content_type=STRATEGIC)
        await watched.modified(lambda o: o["metadata"]["labels"].get("test-service") == "patched", "patched")
        found = (await cluster.get(ENDPOINTS, name))["subsets"][0]
        assert found["addresses"][0]["ip"] == "10.0.0.25"
        assert (found["ports"][0]["name"], found["ports"][0]["port"]) == ("http-test", 8080)

        await delete_collection(cluster, ENDPOINTS, chosen)
        await watched.deleted(name)
    assert (await cluster.client.list(ENDPOINTS, cluster.namespace, label_selector=chosen)).items == []


def _service(name: str, labels: dict[str, str], **spec: Any) -> Object:
    port = {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 80}
    return {"metadata": {"name": name, "labels": labels}, "spec": {"ports": [port]} | spec}


@requirement("[sig-network] Services should complete a service status lifecycle [Conformance]")
async def test_status(cluster: Cluster) -> None:
    name, labels = "test-service", {"test-service-static": "true"}

    def condition(found: Object, kind: str) -> Any:
        conditions = found["status"].get("conditions") or ()
        return next((each for each in conditions if each["type"] == kind), None)

    async with watching(cluster, SERVICES, "test-service-static=true") as watched:
        made = await cluster.create(SERVICES, _service(name, labels, type="LoadBalancer"))
        everywhere = (await cluster.client.list(SERVICES, label_selector="test-service-static=true")).items
        assert made["metadata"]["uid"] in [each["metadata"]["uid"] for each in everywhere]
        status = await cluster.client.get(SERVICES, name, cluster.namespace, subresource="status")
        assert status["metadata"]["uid"] == made["metadata"]["uid"]

        patch = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": _balancer("203.0.113.1")}
        patched = await cluster.patch(SERVICES, name, patch, subresource="status")
        assert patched["metadata"]["annotations"]["patchedstatus"] == "true"
        assert patched["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.1"
        seen = await watched.modified(lambda o: o["metadata"].get("annotations", {}).get("patchedstatus"), "patched")
        assert seen["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.1"

        new = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}

        def add(found: Object) -> None:
            found["status"]["conditions"] = [new | {"lastTransitionTime": "2026-01-01T00:00:00Z"}]

        updated = await replace(cluster, SERVICES, name, add, subresource="status")
        assert condition(updated, "StatusUpdate")
        seen = await watched.modified(lambda o: condition(o, "StatusUpdate"), "its condition")
        assert condition(seen, "StatusUpdate") | new == condition(seen, "StatusUpdate")

        patch = {"metadata": {"labels": {"test-service": "patched"}}}
        await cluster.patch(SERVICES, name, patch, content_type=STRATEGIC)
        await watched.modified(lambda o: o["metadata"]["labels"].get("test-service") == "patched", "its label")
        await cluster.client.delete(SERVICES, name, cluster.namespace)
        await watched.deleted(name)


@requirement("[sig-network] Services should delete a collection of services [Conformance]")
async def test_collection(cluster: Cluster) -> None:
    for name, group in (("one", "a"), ("two", "a"), ("three", "b")):
        await cluster.create(SERVICES, _service(name, {LIST: group}))

    async def found() -> list[str]:
        return sorted(name_of(each) for each in (await cluster.client.list(SERVICES, cluster.namespace)).items)

    assert await found() == ["one", "three", "two"]
    await delete_collection(cluster, SERVICES, f"{LIST}=a")
    assert await found() == ["three"]


@requirement("[sig-network] Services should find a service from listing all namespaces [Conformance]")
async def test_everywhere(cluster: Cluster) -> None:
    found = [each["metadata"] for each in (await cluster.client.list(SERVICES)).items]
    assert ("default", "kubernetes") in [(each["namespace"], each["name"]) for each in found]


@requirement("[sig-network] API Server should provide secure master service [Conformance]")
async def test_api_service(cluster: Cluster) -> None:
    found = await cluster.client.get(SERVICES, "kubernetes", "default")
    assert [(each["name"], each["port"]) for each in found["spec"]["ports"]] == [("https", 443)]


@requirement("[sig-network] API Server should have Endpoints and EndpointSlices pointing to API Server [Conformance]")
async def test_api_endpoints(cluster: Cluster) -> None:
    await cluster.client.get(SERVICES, "kubernetes", "default")
    endpoints = await cluster.client.get(ENDPOINTS, "kubernetes", "default")
    assert [len(each["ports"]) for each in endpoints["subsets"]] == [1]
    ready = {
        (each["ip"], subset["ports"][0]["port"]) for subset in endpoints["subsets"] for each in subset["addresses"]
    }
    slices = (
        await cluster.client.list(ENDPOINTSLICES, "default", label_selector="kubernetes.io/service-name=kubernetes")
    ).items
    assert slices
    addresses = [address for each in slices for endpoint in each["endpoints"] for address in endpoint["addresses"]]
    assert len(addresses) == len(ready)
    assert {(address, slices[0]["ports"][0]["port"]) for address in addresses} == ready
    assert ready, "no address is ready"
