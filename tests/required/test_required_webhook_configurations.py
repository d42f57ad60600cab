"""Configurations of webhooks: listed and deleted by label, updated and patched in force, and their match conditions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from cluster import Cluster, eventually, shows
from hooks import MUTATING, VALIDATING, Server, rules, serve
from objects import replace

from machinery.api.catalogue import CONFIGMAPS
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.client.rest import JSON
from machinery.errors import Invalid, StatusError

pytest_plugins = ["cluster_fixture"]

Acts = Callable[[Cluster], Awaitable[bool]]


async def _denied(cluster: Cluster) -> bool:
    """Whether a config map that does not comply is denied."""
    unwanted = {"metadata": {"generateName": "x-"}, "data": {"webhook-e2e-test": "webhook-disallow"}}
    try:
        await cluster.create(CONFIGMAPS, unwanted)
    except StatusError as exc:
        if "denied" not in exc.message:
            raise
        return True
    return False


async def _mutated(cluster: Cluster) -> bool:
    made = await cluster.create(CONFIGMAPS, {"metadata": {"generateName": "x-"}, "data": {"mutation-start": "yes"}})
    return "mutation-stage-1" in made["data"]


async def _until(acts: Acts, cluster: Cluster, wanted: bool) -> None:
    async def as_wanted() -> bool:
        return await acts(cluster) is wanted

    await eventually(as_wanted, f"{acts.__name__} is {wanted}")


def _hook(server: Server, resource: ResourceType) -> Object:
    path = "/data" if resource == VALIDATING else "/mutating-data"
    return server.hook("data.k8s.io", path, rules("configmaps"))


_KINDS = [
    shows(
        VALIDATING,
        _denied,
        name="[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work [Conformance]",
    ),
    shows(
        MUTATING,
        _mutated,
        name="[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work [Conformance]",
    ),
]


@pytest.mark.parametrize(("resource", "acts"), _KINDS)
async def test_configurations_are_listed_and_deleted_by_label(
    cluster: Cluster, resource: ResourceType, acts: Acts
) -> None:
    server = await serve(cluster)
    labels = {"e2e-list-test-uuid": cluster.namespace}
    selector = f"e2e-list-test-uuid={cluster.namespace}"
    for number in range(10):
        metadata = {"name": f"{cluster.namespace}-{number}", "labels": labels}
        await cluster.create(resource, {"metadata": metadata, "webhooks": [_hook(server, resource), server.ready]})
    try:
        assert len((await cluster.client.list(resource, label_selector=selector)).items) == 10
        await server.in_force()
        await _until(acts, cluster, True)
    finally:
        await cluster.client.request("DELETE", resource.path(), query={"labelSelector": selector})
    await _until(acts, cluster, False)


@pytest.mark.parametrize(
    ("resource", "acts"),
    [
        shows(
            VALIDATING,
            _denied,
            name="[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work [Conformance]",
        ),
        shows(
            MUTATING,
            _mutated,
            name="[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work [Conformance]",
        ),
    ],
)
async def test_changed_rules_are_in_force(cluster: Cluster, resource: ResourceType, acts: Acts) -> None:
    server = await serve(cluster)
    async with server.registered(resource, _hook(server, resource)) as name:
        await _until(acts, cluster, True)

        def on_update(found: Object) -> None:
            found["webhooks"][0]["rules"][0]["operations"] = ["UPDATE"]

        await replace(cluster, resource, name, on_update)
        await _until(acts, cluster, False)
        patch = [{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]
        await cluster.patch(resource, name, patch, content_type=JSON)
        await _until(acts, cluster, True)


def _of_nothing(*conditions: str) -> Object:
    """A webhook that is never called."""
    rule = rules("nothings", group="none.example.com")
    named = [{"name": f"expression-{at}", "expression": text} for at, text in enumerate(conditions, 1)]
    told = {"name": "conditions.k8s.io", "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": [rule]}
    return told | {"clientConfig": {"url": "https://127.0.0.1:1/"}, "matchConditions": named}


@pytest.mark.parametrize(
    "resource",
    [
        shows(
            VALIDATING,
            name="[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update validating webhook configurations with match conditions [Conformance]",
        ),
        shows(
            MUTATING,
            name="[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to create and update mutating webhook configurations with match conditions [Conformance]",
        ),
    ],
)
async def test_match_conditions_are_kept(cluster: Cluster, resource: ResourceType) -> None:
    name = f"{cluster.namespace}-conditions"
    first = _of_nothing("object.metadata.namespace == 'production'")
    await cluster.create(resource, {"metadata": {"name": name}, "webhooks": [first]})
    try:
        found = await cluster.get(resource, name)
        assert found["webhooks"][0]["matchConditions"] == first["matchConditions"]
        both = _of_nothing("object.metadata.namespace == 'production'", "object.metadata.namespace == 'staging'")
        await replace(cluster, resource, name, lambda found: found.update(webhooks=[both]))
        found = await cluster.get(resource, name)
        assert found["webhooks"][0]["matchConditions"] == both["matchConditions"]
    finally:
        await cluster.delete(resource, name)


@pytest.mark.parametrize(
    "resource",
    [
        shows(
            VALIDATING,
            name="[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject validating webhook configurations with invalid match conditions [Conformance]",
        ),
        shows(
            MUTATING,
            name="[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should reject mutating webhook configurations with invalid match conditions [Conformance]",
        ),
    ],
)
async def test_invalid_match_conditions_are_rejected(cluster: Cluster, resource: ResourceType) -> None:
    with pytest.raises(Invalid, match="compilation failed"):
        await cluster.create(
            resource,
            {"metadata": {"name": f"{cluster.namespace}-invalid"}, "webhooks": [_of_nothing("... [] bad expression")]},
        )
