"""Webhooks that change what is written: one after another, before defaults, on custom resources of any version."""

from __future__ import annotations

import pytest
from cluster import Cluster, container, requirement, shows
from cluster import pod as a_pod
from definitions import ANYTHING, definition, resource_of, served
from hooks import MUTATING, Server, rules, serve

from machinery.api.catalogue import CONFIGMAPS, CUSTOMRESOURCEDEFINITIONS, PODS
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.client.rest import JSON

pytest_plugins = ["cluster_fixture"]

_START = {"mutation-start": "yes"}
_FIRST = _START | {"mutation-stage-1": "yes"}
_BOTH = _FIRST | {"mutation-stage-2": "yes"}


@requirement("[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap [Conformance]")
async def test_webhooks_change_in_order(cluster: Cluster) -> None:
    server = await serve(cluster)
    hooks = [server.hook(f"stage-{stage}.k8s.io", "/mutating-data", rules("configmaps")) for stage in (1, 2)]
    async with server.registered(MUTATING, *hooks):
        made = await cluster.create(CONFIGMAPS, {"metadata": {"name": "to-be-mutated"}, "data": _START})
        assert made["data"] == _BOTH


@requirement(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate pod and apply defaults after mutation [Conformance]"
)
async def test_defaults_follow_mutation(cluster: Cluster) -> None:
    server = await serve(cluster)
    hook = server.hook("adding-init-container.k8s.io", "/mutating-pods", rules("pods"))
    async with server.registered(MUTATING, hook):
        made = await cluster.create(PODS, a_pod("webhook-to-be-mutated", container("true", name="example")))
        added = made["spec"]["initContainers"]
        assert [each["name"] for each in added] == ["webhook-added-init-container"]
        assert added[0]["terminationMessagePolicy"] == "File"


@requirement(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate everything except 'skip-me' configmaps [Conformance]"
)
async def test_match_conditions_say_what_is_changed(cluster: Cluster) -> None:
    server = await serve(cluster)
    skip = {"name": "skip-me", "expression": "object.metadata.name != 'skip-me'"}
    hook = server.hook("stage-1.k8s.io", "/mutating-data", rules("configmaps"), matchConditions=[skip])
    async with server.registered(MUTATING, hook):
        for name, data in (("to-be-mutated", _FIRST), ("skip-me", _START)):
            made = await cluster.create(CONFIGMAPS, {"metadata": {"name": name}, "data": _START})
            assert made["data"] == data


def _stages(server: Server, resource: ResourceType, versions: str) -> list[Object]:
    what = {"group": resource.group, "versions": versions}
    return [
        server.hook("stage-1.k8s.io", "/mutating-data", rules(resource.plural, on="CREATE UPDATE", **what)),
        server.hook("stage-2.k8s.io", "/mutating-data", rules(resource.plural, **what)),
    ]


_TEXT = {"type": "string"}
_DATA = {"type": "object", "properties": {"mutation-start": _TEXT, "mutation-stage-1": _TEXT}}


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        shows(
            ANYTHING,
            _BOTH,
            name="[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource [Conformance]",
        ),
        shows(
            {"type": "object", "properties": {"data": _DATA}},
            _FIRST,
            name="[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with pruning [Conformance]",
        ),
    ],
)
async def test_custom_resources_are_changed(cluster: Cluster, schema: Object, data: Object) -> None:
    server = await serve(cluster)
    async with (
        served(cluster, definition(schema=schema)) as resource,
        server.registered(MUTATING, *_stages(server, resource, "v1")),
    ):
        made = await cluster.create(resource, {"metadata": {"name": "cr-instance-1"}, "data": _START})
        assert made["data"] == data


@requirement(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with different stored version [Conformance]"
)
async def test_custom_resources_stored_in_another_version_are_changed(cluster: Cluster) -> None:
    server = await serve(cluster)
    crd = definition("v1", "v2")
    async with served(cluster, crd) as resource, server.registered(MUTATING, *_stages(server, resource, "v1 v2")):
        await cluster.create(resource, {"metadata": {"name": "cr-instance-1"}, "data": _START})
        versions = crd["spec"]["versions"]
        stored = [version | {"storage": version["name"] == "v2"} for version in versions]
        await cluster.patch(CUSTOMRESOURCEDEFINITIONS, resource.group_resource, {"spec": {"versions": stored}})
        patch = [{"op": "add", "path": "/dummy", "value": "test"}]
        changed = await cluster.patch(resource_of(crd, "v2"), "cr-instance-1", patch, content_type=JSON)
        assert (changed["data"], changed["dummy"]) == (_BOTH, "test")
