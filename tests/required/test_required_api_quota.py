"""Quotas: what they count as it comes and goes, what they refuse, their scopes, and their status."""

from __future__ import annotations

import copy
import secrets
from typing import Any

import pytest
from cluster import Cluster, container, eventually, requirement, shows
from cluster import pod as a_pod
from objects import replace
from watching import watching

from machinery.api.catalogue import (
    CONFIGMAPS,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    RESOURCEQUOTAS,
    SECRETS,
    SERVICES,
)
from machinery.api.meta import Object
from machinery.api.quantity import parse
from machinery.api.resource import ResourceType
from machinery.errors import Forbidden, Invalid, NotFound

pytest_plugins = ["cluster_fixture"]

_PREFIX = "requests."
_EXTENDED = "example.com/dongle"
_HARD = {
    "pods": "5",
    "services": "10",
    "services.nodeports": "1",
    "services.loadbalancers": "1",
    "replicationcontrollers": "10",
    "resourcequotas": "1",
    "cpu": "1",
    "memory": "500Mi",
    "configmaps": "10",
    "secrets": "10",
    "persistentvolumeclaims": "10",
    "requests.storage": "10Gi",
    "ephemeral-storage": "50Gi",
    "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "10",
    "gold.storageclass.storage.k8s.io/requests.storage": "10Gi",
    "count/replicasets.apps": "5",
    _PREFIX + _EXTENDED: "3",
}
_QUOTA = "test-quota"


async def _quota(cluster: Cluster, name: str = _QUOTA, hard: dict[str, str] = _HARD, **spec: Any) -> None:
    await cluster.create(RESOURCEQUOTAS, {"metadata": {"name": name}, "spec": {"hard": hard} | spec})


def _same(found: dict[str, str], wanted: dict[str, str]) -> bool:
    return all(parse(found.get(key, "-1")) == parse(value) for key, value in wanted.items())


async def _used(cluster: Cluster, name: str = _QUOTA, **used: str | dict[str, str]) -> None:
    """Wait until a quota's status has its spec's hard limits, and this much used (`counts` for odd names)."""
    counts: Any = used.pop("counts", {})
    wanted: dict[str, str] = {key.replace("_", "."): str(value) for key, value in used.items()} | counts

    def calculated(found: Object) -> bool:
        status = found.get("status", {})
        return status.get("hard") == found["spec"]["hard"] and _same(status.get("used", {}), wanted)

    await cluster.object_that(RESOURCEQUOTAS, name, calculated, f"uses {wanted}")


def _replicated(kind: str) -> Object:
    template = {"metadata": {"labels": {"name": "x"}}, "spec": {"containers": [container("true")]}}
    selector: Object = {"name": "x"} if kind == "rc" else {"matchLabels": {"name": "x"}}
    return {"spec": {"replicas": 0, "selector": selector, "template": template}}


@requirement(
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and ensure its status is promptly calculated. [Conformance]"
)
async def test_status_is_calculated(cluster: Cluster) -> None:
    await _quota(cluster)
    await _used(cluster, resourcequotas="1")


@pytest.mark.parametrize(
    ("resource", "counted", "obj"),
    [
        shows(
            SERVICES,
            "services",
            {"spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}},
            name="[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a service. [Conformance]",
        ),
        shows(
            SECRETS,
            "secrets",
            {"data": {"data-1": "dmFsdWUtMQ=="}},
            name="[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a secret. [Conformance]",
        ),
        shows(
            CONFIGMAPS,
            "configmaps",
            {"data": {"a": "b"}},
            name="[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a configMap. [Conformance]",
        ),
        shows(
            REPLICATIONCONTROLLERS,
            "replicationcontrollers",
            _replicated("rc"),
            name="[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replication controller. [Conformance]",
        ),
        shows(
            REPLICASETS,
            "count/replicasets.apps",
            _replicated("rs"),
            name="[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a replica set. [Conformance]",
        ),
    ],
)
async def test_objects_are_counted(cluster: Cluster, resource: ResourceType, counted: str, obj: Object) -> None:
    if resource == CONFIGMAPS:  # one comes of itself

        async def there() -> bool:
            return bool((await cluster.client.list(CONFIGMAPS, cluster.namespace)).items)

        await eventually(there, "the authority's config map")
    before = len((await cluster.client.list(resource, cluster.namespace)).items)
    hard = _HARD | {counted: str(before + 1)}
    await _quota(cluster, hard=hard)
    await _used(cluster, resourcequotas="1", counts={counted: str(before)})
    await cluster.create(resource, {"metadata": {"name": "test"}} | copy.deepcopy(obj))
    await _used(cluster, resourcequotas="1", counts={counted: str(before + 1)})
    with pytest.raises(Forbidden, match="exceeded quota: test-quota"):
        await cluster.create(resource, {"metadata": {"name": "too-many"}} | copy.deepcopy(obj))
    await cluster.delete(resource, "test")
    await _used(cluster, counts={counted: str(before)})
    if resource == SERVICES:
        await _service_types(cluster)


async def _service_types(cluster: Cluster) -> None:
    """Node ports and load balancers are counted as such."""
    ports = {"selector": {"a": "b"}, "ports": [{"port": 80}]}
    await cluster.create(SERVICES, {"metadata": {"name": "test"}, "spec": ports | {"type": "NodePort"}})
    await _used(cluster, counts={"services": "1", "services.nodeports": "1", "services.loadbalancers": "0"})
    with pytest.raises(Forbidden):
        await cluster.create(SERVICES, {"metadata": {"name": "lb"}, "spec": ports | {"type": "LoadBalancer"}})
    await cluster.delete(SERVICES, "test")
    await _used(cluster, counts={"services": "0", "services.nodeports": "0", "services.loadbalancers": "0"})


def _pod(
    name: str, requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **spec: Any
) -> Object:
    """A pod that no scheduler looks at."""
    resources = {"requests": requests or {}, "limits": limits or {}}
    return a_pod(name, container("true", resources=resources), schedulerName="none.example.com", **spec)


@requirement(
    "[sig-api-machinery] ResourceQuota should create a ResourceQuota and capture the life of a pod. [Conformance]"
)
async def test_pods_are_counted(cluster: Cluster) -> None:
    await _quota(cluster)
    await _used(cluster, resourcequotas="1")
    requests = {"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi", _EXTENDED: "2"}
    await cluster.create(PODS, _pod("test-pod", requests, {_EXTENDED: "2"}))
    counts = {key: value for key, value in requests.items() if key != _EXTENDED}
    counts |= {"resourcequotas": "1", "pods": "1", _PREFIX + _EXTENDED: "2"}
    await _used(cluster, counts=counts)
    with pytest.raises(Forbidden, match="exceeded quota: test-quota"):
        await cluster.create(PODS, _pod("fail-pod", {"cpu": "600m", "memory": "100Mi"}))
    more = {"cpu": "500m", "memory": "100Mi", "ephemeral-storage": "10Gi", _EXTENDED: "2"}
    with pytest.raises(Forbidden, match=r"requested: requests\.example\.com/dongle=2"):
        await cluster.create(PODS, _pod("fail-pod-for-extended-resource", more, {_EXTENDED: "2"}))

    def asks_for_less(found: Object) -> None:
        less = {"cpu": "100m", "memory": "100Mi", "ephemeral-storage": "10Gi"}
        found["spec"]["containers"][0]["resources"]["requests"] = less

    with pytest.raises(Invalid):
        await replace(cluster, PODS, "test-pod", asks_for_less)
    await _used(cluster, counts=counts)
    await cluster.delete(PODS, "test-pod", grace_seconds=0)
    await _used(cluster, counts=dict.fromkeys(counts, "0") | {"resourcequotas": "1"})


_REQUESTS = {"cpu": "500m", "memory": "200Mi"}
_LIMITS = {"cpu": "1", "memory": "400Mi"}
_ALL = {"pods": "1"} | {f"{what}.{key}": value for what, of in (("requests", _REQUESTS), ("limits", _LIMITS)) for key, value in of.items()}  # fmt: skip
_LIMITED = {"pods": "5", "requests.cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2", "limits.memory": "1Gi"}


@pytest.mark.parametrize(
    ("scopes", "hard", "first", "second", "counts"),
    [
        shows(
            ("BestEffort", "NotBestEffort"),
            {"pods": "5"},
            _pod("best-effort"),
            _pod("burstable", _REQUESTS, _LIMITS),
            {"pods": "1"},
            name="[sig-api-machinery] ResourceQuota should verify ResourceQuota with best effort scope. [Conformance]",
        ),
        shows(
            ("NotTerminating", "Terminating"),
            _LIMITED,
            _pod("long-running", _REQUESTS, _LIMITS),
            _pod("terminating", _REQUESTS, _LIMITS, activeDeadlineSeconds=3600),
            _ALL,
            name="[sig-api-machinery] ResourceQuota should verify ResourceQuota with terminating scopes. [Conformance]",
        ),
    ],
)
async def test_scopes(
    cluster: Cluster,
    scopes: tuple[str, str],
    hard: dict[str, str],
    first: Object,
    second: Object,
    counts: dict[str, str],
) -> None:
    nothing = dict.fromkeys(counts, "0")
    for scope in scopes:
        await _quota(cluster, f"quota-{scope.lower()}", hard, scopes=[scope])
        await _used(cluster, f"quota-{scope.lower()}", counts=nothing)
    for obj, (counting, other) in ((first, scopes), (second, scopes[::-1])):
        await cluster.create(PODS, obj)
        await _used(cluster, f"quota-{counting.lower()}", counts=counts)
        await _used(cluster, f"quota-{other.lower()}", counts=nothing)
        await cluster.delete(PODS, obj["metadata"]["name"], grace_seconds=0)
        await _used(cluster, f"quota-{counting.lower()}", counts=nothing)


@requirement("[sig-api-machinery] ResourceQuota should be able to update and delete ResourceQuota. [Conformance]")
async def test_update_and_delete(cluster: Cluster) -> None:
    await _quota(cluster, hard={"cpu": "1", "memory": "500Mi"})
    assert (await cluster.get(RESOURCEQUOTAS, _QUOTA))["spec"]["hard"] == {"cpu": "1", "memory": "500Mi"}
    more = {"cpu": "2", "memory": "1Gi"}
    updated = await replace(cluster, RESOURCEQUOTAS, _QUOTA, lambda found: found["spec"].update(hard=more))
    assert updated["spec"]["hard"] == more
    assert (await cluster.get(RESOURCEQUOTAS, _QUOTA))["spec"]["hard"] == more
    await cluster.client.delete(RESOURCEQUOTAS, _QUOTA, cluster.namespace)
    with pytest.raises(NotFound):
        await cluster.get(RESOURCEQUOTAS, _QUOTA)


@requirement("[sig-api-machinery] ResourceQuota should manage the lifecycle of a ResourceQuota [Conformance]")
async def test_lifecycle(cluster: Cluster) -> None:
    label = secrets.token_hex(4)
    made = {"metadata": {"name": _QUOTA, "labels": {label: "x"}}, "spec": {"hard": {"cpu": "1", "memory": "500Mi"}}}
    await cluster.create(RESOURCEQUOTAS, made)
    listed = (await cluster.client.list(RESOURCEQUOTAS, label_selector=label)).items
    assert [each["metadata"]["name"] for each in listed] == [_QUOTA]
    patch = {"metadata": {"labels": {label: "patched"}}, "spec": {"hard": {"memory": "750Mi"}}}
    patched = await cluster.patch(RESOURCEQUOTAS, _QUOTA, patch)
    assert patched["metadata"]["labels"][label] == "patched"
    assert patched["spec"]["hard"]["memory"] == "750Mi"
    selector = {"labelSelector": f"{label}=patched"}
    await cluster.client.request("DELETE", RESOURCEQUOTAS.path(cluster.namespace), query=selector)
    assert (await cluster.client.list(RESOURCEQUOTAS, label_selector=label)).items == []


@requirement("[sig-api-machinery] ResourceQuota should apply changes to a resourcequota status [Conformance]")
async def test_status(cluster: Cluster) -> None:
    async with watching(cluster, RESOURCEQUOTAS) as seen:
        await _quota(cluster, hard={"cpu": "500m", "memory": "500Mi"})
        await _used(cluster)
        for cpu, memory in (("600m", "600Mi"), ("700m", "700Mi")):
            await _hard_status(cluster, cpu, memory, patch=cpu == "700m")
            told = await seen.one("MODIFIED", lambda found: found.get("status", {}).get("hard", {}).get("cpu") == cpu)  # noqa: B023
            assert told["status"]["hard"]["memory"] == memory
            # The controller sets it back to what the spec says.
            await _used(cluster)
        spec = {"cpu": "1", "memory": "1Gi"}
        await cluster.patch(RESOURCEQUOTAS, _QUOTA, {"spec": {"hard": spec}})
        await _used(cluster)
        status = await cluster.client.get(RESOURCEQUOTAS, _QUOTA, cluster.namespace, subresource="status")
        assert status["status"]["hard"] == status["spec"]["hard"] == spec
        patch = {"spec": {"hard": {"cpu": "4"}}, "status": {"hard": {"cpu": "2", "memory": "2Gi"}}}
        patched = await cluster.patch(RESOURCEQUOTAS, _QUOTA, patch, subresource="status")
        assert (patched["spec"]["hard"], patched["status"]["hard"]) == (spec, {"cpu": "2", "memory": "2Gi"})
        await _used(cluster)
        assert (await cluster.get(RESOURCEQUOTAS, _QUOTA))["spec"]["hard"] == spec


async def _hard_status(cluster: Cluster, cpu: str, memory: str, *, patch: bool) -> None:
    hard = {"cpu": cpu, "memory": memory}
    if patch:
        changed = await cluster.patch(RESOURCEQUOTAS, _QUOTA, {"status": {"hard": hard}}, subresource="status")
    else:
        changed = await replace(
            cluster, RESOURCEQUOTAS, _QUOTA, lambda found: found["status"].update(hard=hard), subresource="status"
        )
    assert changed["status"]["hard"] == hard
