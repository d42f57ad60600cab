"""An API group that a server in a pod serves, behind the aggregator."""

from __future__ import annotations

import pytest
from cluster import Cluster, eventually, has_condition, requirement
from hooks import PORT, serve
from objects import replace

from machinery.api.catalogue import APISERVICES, CONFIGMAPS
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.errors import Forbidden, NotFound, ServiceUnavailable

pytest_plugins = ["cluster_fixture"]

_GROUP, _VERSION = "wardle.example.com", "v1alpha1"
_NAME = f"{_VERSION}.{_GROUP}"
_FLUNDERS = ResourceType(_GROUP, _VERSION, "flunders", "Flunder")
_LABEL = "e2e-apiservice"


async def _front_proxy_authority(cluster: Cluster) -> str:
    """What the server tells extension servers to trust."""
    told = await cluster.client.get(CONFIGMAPS, "extension-apiserver-authentication", "kube-system")
    return str(told["data"]["requestheader-client-ca-file"])


async def _flunders(cluster: Cluster) -> list[str]:
    listed = await cluster.client.request("GET", _FLUNDERS.path(cluster.namespace))
    assert listed["kind"] == "FlunderList"
    return [each["metadata"]["name"] for each in listed["items"]]


async def _live(cluster: Cluster, name: str) -> None:
    """A flunder is made, listed and deleted."""
    made = await cluster.create(_FLUNDERS, {"metadata": {"name": name, "labels": {"sample-label": "true"}}})
    assert (made["apiVersion"], made["kind"]) == (f"{_GROUP}/{_VERSION}", "Flunder")
    assert made["metadata"]["name"] == name
    assert await _flunders(cluster) == [name]
    await cluster.client.delete(_FLUNDERS, name, cluster.namespace)
    assert await _flunders(cluster) == []


@requirement(
    "[sig-api-machinery] Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator [LinuxOnly] [Conformance]"
)
async def test_group_of_another_server(cluster: Cluster) -> None:
    authority = await _front_proxy_authority(cluster)
    server = await serve(cluster, "sample_server.py", "sample-api", authority=authority)
    config = server.client_config("")
    service = {key: value for key, value in config["service"].items() if key != "path"}
    assert service["port"] == PORT
    spec = {"group": _GROUP, "version": _VERSION, "groupPriorityMinimum": 2000, "versionPriority": 200}
    spec |= {"service": service, "caBundle": config["caBundle"]}
    await cluster.create(APISERVICES, {"metadata": {"name": _NAME}, "spec": spec})
    try:

        async def answers() -> bool:
            try:
                return await _flunders(cluster) == []
            except (NotFound, Forbidden, ServiceUnavailable):
                return False

        await eventually(answers, "the server answers")
        await _live(cluster, "rest-flunder")
        found = await cluster.client.request("GET", f"/apis/{_GROUP}/{_VERSION}")
        assert "flunders" in {each["name"] for each in found["resources"]}
        groups = (await cluster.client.request("GET", "/apis"))["groups"]
        assert _GROUP in {each["name"] for each in groups}
        await _live(cluster, "dynamic-flunder")
        await _service(cluster)
    finally:
        selector = {"labelSelector": f"{_LABEL}=patched"}
        await cluster.client.request("DELETE", APISERVICES.path(), query=selector)
        await cluster.gone(APISERVICES, _NAME)
    with pytest.raises(NotFound):
        await _flunders(cluster)


async def _service(cluster: Cluster) -> None:
    """The APIService and its status are read, patched, updated and listed."""
    read = await cluster.client.get(APISERVICES, _NAME, subresource="status")
    assert has_condition(read, "Available")
    patch = {"metadata": {"labels": {_LABEL: "patched"}}, "spec": {"versionPriority": 400}}
    patched = await cluster.patch(APISERVICES, _NAME, patch)
    assert (patched["metadata"]["labels"][_LABEL], patched["spec"]["versionPriority"]) == ("patched", 400)
    listed = (await cluster.client.list(APISERVICES, label_selector=f"{_LABEL}=patched")).items
    assert [each["metadata"]["name"] for each in listed] == [_NAME]
    condition = {"type": "StatusUpdated", "status": "True", "reason": "E2E", "message": "Set from e2e test"}

    def add(found: Object) -> None:
        found["status"]["conditions"].append(condition)

    updated = await replace(cluster, APISERVICES, _NAME, add, subresource="status")
    assert has_condition(updated, "StatusUpdated")
    status = {"status": {"conditions": [condition | {"type": "StatusPatched"}]}}
    patched = await cluster.patch(APISERVICES, _NAME, status, subresource="status")
    assert has_condition(patched, "StatusPatched")

    def label(found: Object) -> None:
        found["metadata"]["labels"]["e2e-updated"] = "yes"

    updated = await replace(cluster, APISERVICES, _NAME, label)
    assert updated["metadata"]["labels"] == {_LABEL: "patched", "e2e-updated": "yes"}
    await cluster.object_that(APISERVICES, _NAME, lambda found: has_condition(found, "Available"), "available")
