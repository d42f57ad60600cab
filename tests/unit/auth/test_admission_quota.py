"""ResourceQuota: what counts, what is refused, and two that charge at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from auth_store import Api, Store, creates, named, updates

from controlplane.apiserver.admission.resourcequota import ResourceQuota
from machinery.api import quantity
from machinery.api.catalogue import CONFIGMAPS, DEPLOYMENTS, PERSISTENTVOLUMECLAIMS, PODS, RESOURCEQUOTAS, SERVICES
from machinery.api.meta import Object
from machinery.api.quotausage import in_scope, usage
from machinery.api.resource import ResourceType
from machinery.errors import Forbidden, StatusError


def pod(name: str = "p", requests: dict[str, str] | None = None, limits: dict[str, str] | None = None) -> Object:
    resources = {"requests": requests or {}, "limits": limits or {}}
    return named(name, "x", spec={"containers": [{"name": "c", "resources": resources}]})


def quota(hard: dict[str, str], used: dict[str, str] | None = None, name: str = "q", **spec: Any) -> Object:
    started = dict.fromkeys(hard, "0") if used is None else used
    return named(name, "x", spec={"hard": hard} | spec, status={"hard": hard, "used": started})


def with_quotas(*quotas: Object) -> tuple[ResourceQuota, Store]:
    store = Store()
    for one in quotas:
        store.put(RESOURCEQUOTAS, one)
    return ResourceQuota(store, Api(store)), store


def used(store: Store, name: str = "q") -> dict[str, str]:
    found = store.get(RESOURCEQUOTAS, "x", name)
    assert found is not None
    amounts: dict[str, str] = found["status"]["used"]
    return amounts


async def refusal(plugin: ResourceQuota, obj: Object) -> str:
    with pytest.raises(Forbidden) as refused:
        await plugin.validate(creates(PODS, obj))
    return refused.value.message


async def test_what_is_made_is_charged_until_nothing_is_left() -> None:
    plugin, store = with_quotas(quota({"pods": "2", "requests.cpu": "300m", "limits.memory": "1Gi"}))
    await plugin.validate(creates(PODS, pod(requests={"cpu": "100m"}, limits={"memory": "100Mi"})))
    assert used(store) == {"pods": "1", "requests.cpu": "100m", "limits.memory": "100Mi"}
    assert await refusal(plugin, pod("q", {"cpu": "250m"}, {"memory": "1Gi"})) == (
        'pods "q" is forbidden: exceeded quota: q, requested: limits.memory=1Gi,requests.cpu=250m, '
        "used: limits.memory=100Mi,requests.cpu=100m, limited: limits.memory=1Gi,requests.cpu=300m"
    )
    assert used(store)["pods"] == "1"


async def test_what_a_quota_counts_must_be_said() -> None:
    plugin, _ = with_quotas(quota({"requests.cpu": "1", "limits.memory": "1Gi"}))
    assert await refusal(plugin, pod()) == (
        'pods "p" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c'
    )


async def test_a_quota_without_usage_is_not_guessed() -> None:
    plugin, _ = with_quotas(quota({"pods": "1"}, {}))
    assert await refusal(plugin, pod()) == 'pods "p" is forbidden: status unknown for quota: q, resources: pods'


async def test_a_dry_run_is_refused_but_not_charged() -> None:
    plugin, store = with_quotas(quota({"pods": "1"}))
    await plugin.validate(creates(PODS, pod(), dry_run=True))
    assert used(store) == {"pods": "0"}
    await plugin.validate(creates(PODS, pod()))
    with pytest.raises(Forbidden, match="exceeded quota"):
        await plugin.validate(creates(PODS, pod("b"), dry_run=True))


async def test_objects_are_counted_by_their_resource() -> None:
    plugin, store = with_quotas(quota({"count/deployments.apps": "1", "configmaps": "5"}))
    await plugin.validate(creates(DEPLOYMENTS, named("d", "x")))
    await plugin.validate(creates(CONFIGMAPS, named("c", "x")))
    assert used(store) == {"count/deployments.apps": "1", "configmaps": "1"}
    with pytest.raises(Forbidden, match=r"deployments.apps \"e\" is forbidden: exceeded quota: q, requested: count/"):
        await plugin.validate(creates(DEPLOYMENTS, named("e", "x")))


async def test_an_update_is_charged_what_it_adds() -> None:
    plugin, store = with_quotas(
        quota({"services.nodeports": "3", "services": "9"}, {"services.nodeports": "1", "services": "1"})
    )
    old = named("s", "x", spec={"type": "NodePort", "ports": [{}]})
    new = named("s", "x", spec={"type": "NodePort", "ports": [{}, {}]})
    await plugin.validate(updates(SERVICES, new, old))
    assert used(store) == {"services.nodeports": "2", "services": "1"}
    await plugin.validate(updates(SERVICES, old, new))
    assert used(store)["services.nodeports"] == "2"  # the quota controller counts down


async def test_another_server_may_charge_meanwhile() -> None:
    plugin, store = with_quotas(quota({"pods": "2"}))
    store.before_write.append(lambda: store.put(RESOURCEQUOTAS, quota({"pods": "2"}, {"pods": "1"})))
    await plugin.validate(creates(PODS, pod()))
    assert used(store) == {"pods": "2"}
    plugin, store = with_quotas(quota({"pods": "1"}))
    store.before_write.append(lambda: store.put(RESOURCEQUOTAS, quota({"pods": "1"}, {"pods": "1"})))
    assert "exceeded quota" in await refusal(plugin, pod())


async def test_many_at_once_never_exceed() -> None:
    plugin, store = with_quotas(quota({"pods": "3"}))

    async def attempt(number: int) -> bool:
        try:
            await plugin.validate(creates(PODS, pod(f"p{number}")))
        except Forbidden:
            return False
        return True

    outcomes = await asyncio.gather(*(attempt(number) for number in range(10)))
    assert sum(outcomes) == 3
    assert used(store) == {"pods": "3"}


def test_what_a_claim_counts_for() -> None:
    spec = {"storageClassName": "gold", "resources": {"requests": {"storage": "5Gi"}}}
    counted = {name: str(amount) for name, amount in usage(PERSISTENTVOLUMECLAIMS, named("c", "x", spec=spec)).items()}
    assert counted == {
        "count/persistentvolumeclaims": "1",
        "persistentvolumeclaims": "1",
        "requests.storage": "5Gi",
        "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
        "gold.storageclass.storage.k8s.io/requests.storage": "5Gi",
    }


def test_what_a_pod_counts_for() -> None:
    counted = usage(
        PODS, pod(requests={"cpu": "1", "nvidia.com/gpu": "2", "hugepages-2Mi": "4Mi"}, limits={"cpu": "2"})
    )
    assert {name: str(amount) for name, amount in counted.items()} == {
        "count/pods": "1",
        "pods": "1",
        "cpu": "1",
        "requests.cpu": "1",
        "requests.nvidia.com/gpu": "2",
        "hugepages-2Mi": "4Mi",
        "requests.hugepages-2Mi": "4Mi",
        "limits.cpu": "2",
    }


def test_a_pod_that_has_ended_is_only_an_object() -> None:
    one = {"count/pods": quantity.of(1)}
    made = pod(requests={"cpu": "1"})
    assert usage(PODS, made | {"status": {"phase": "Succeeded"}}) == one
    gone = {"deletionTimestamp": "2030-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}
    lost = made | {"metadata": made["metadata"] | gone}
    assert "pods" in usage(PODS, lost, datetime(2030, 1, 1, 0, 0, 30, tzinfo=UTC))
    assert usage(PODS, lost, datetime(2030, 1, 1, 0, 0, 31, tzinfo=UTC)) == one


def test_a_claim_counts_for_what_is_being_allocated() -> None:
    claim = named("c", "x", spec={"resources": {"requests": {"storage": "1500m"}}})
    assert usage(PERSISTENTVOLUMECLAIMS, claim)["requests.storage"] == quantity.of(2)
    claim["status"] = {"allocatedResources": {"storage": "3"}}
    assert usage(PERSISTENTVOLUMECLAIMS, claim)["requests.storage"] == quantity.of(3)


@pytest.mark.parametrize(
    ("claim", "included"),
    [
        ({"spec": {"volumeAttributesClassName": "gold"}}, True),
        ({"spec": {"volumeAttributesClassName": "x"}, "status": {"currentVolumeAttributesClassName": "gold"}}, True),
        ({"status": {"modifyVolumeStatus": {"targetVolumeAttributesClassName": "gold"}}}, True),
        ({}, False),
    ],
)
def test_a_claim_is_in_the_scope_of_each_of_its_attributes_classes(claim: Object, included: bool) -> None:
    expression = {"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["gold"]}
    selecting = named("q", spec={"scopeSelector": {"matchExpressions": [expression]}})
    assert in_scope(selecting, PERSISTENTVOLUMECLAIMS, claim) is included


@pytest.mark.parametrize(
    ("spec", "scopes", "included"),
    [
        ({}, ["BestEffort"], True),
        ({}, ["NotBestEffort"], False),
        ({"activeDeadlineSeconds": 5}, ["Terminating"], True),
        ({"activeDeadlineSeconds": 5}, ["NotTerminating", "BestEffort"], False),
        (
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["y"]}]}}},
            ["CrossNamespacePodAffinity"],
            True,
        ),
        ({}, ["CrossNamespacePodAffinity"], False),
    ],
)
def test_scopes(spec: Object, scopes: list[str], included: bool) -> None:
    assert in_scope(named("q", spec={"scopes": scopes}), PODS, named("p", "x", spec=spec)) is included


@pytest.mark.parametrize(
    ("operator", "values", "name", "included"),
    [
        ("In", ["high"], "high", True),
        ("In", ["high"], "", False),
        ("NotIn", ["high"], "low", True),
        ("Exists", [], "", False),
        ("DoesNotExist", [], "", True),
    ],
)
def test_a_scope_can_be_a_priority_class(operator: str, values: list[str], name: str, included: bool) -> None:
    expression = {"scopeName": "PriorityClass", "operator": operator, "values": values}
    selector = {"scopeSelector": {"matchExpressions": [expression]}}
    assert in_scope(named("q", spec=selector), PODS, named("p", spec={"priorityClassName": name})) is included


CRITICAL: Object = {"scopeName": "PriorityClass", "operator": "In", "values": ["high", "higher"]}
LIMITED: list[Object] = [
    {"resource": "pods", "matchScopes": [CRITICAL]},
    {"resource": "persistentvolumeclaims", "matchContains": ["gold.storageclass.storage.k8s.io/requests.storage"]},
]


async def test_some_things_may_be_used_within_a_quota_only() -> None:
    store = Store()
    plugin = ResourceQuota(store, Api(store), LIMITED)
    await plugin.validate(creates(PODS, pod()))
    high = pod()
    high["spec"]["priorityClassName"] = "high"
    with pytest.raises(StatusError) as failed:
        await plugin.validate(creates(PODS, high))
    assert failed.value.message == (
        "insufficient quota to match these scopes: [{PriorityClass In [high higher]}]"  # as upstream: no 403
    )
    claim = named("c", "x", spec={"storageClassName": "gold", "resources": {"requests": {"storage": "1"}}})
    assert await refusal_of(plugin, PERSISTENTVOLUMECLAIMS, claim) == (
        'persistentvolumeclaims "c" is forbidden: insufficient quota to consume: '
        "gold.storageclass.storage.k8s.io/requests.storage"
    )
    store.put(RESOURCEQUOTAS, quota({"pods": "1"}, name="of-pods", scopeSelector={"matchExpressions": [CRITICAL]}))
    store.put(RESOURCEQUOTAS, quota({"gold.storageclass.storage.k8s.io/requests.storage": "1"}, name="gold"))
    await plugin.validate(creates(PODS, high))
    await plugin.validate(creates(PERSISTENTVOLUMECLAIMS, claim))


async def refusal_of(plugin: ResourceQuota, resource: ResourceType, obj: Object) -> str:
    with pytest.raises(Forbidden) as refused:
        await plugin.validate(creates(resource, obj))
    return refused.value.message
