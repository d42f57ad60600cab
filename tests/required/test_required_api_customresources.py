"""Definitions of custom resources: created, listed, their status, defaults, watches and selectable fields."""

from __future__ import annotations

from contextlib import AsyncExitStack

from cluster import Cluster, eventually, has_condition, requirement
from definitions import ANYTHING, definition, served
from objects import replace
from watching import watching

from machinery.api.catalogue import CUSTOMRESOURCEDEFINITIONS
from machinery.api.meta import Object
from machinery.client.rest import JSON

pytest_plugins = ["cluster_fixture"]


@requirement(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition creating/deleting custom resource definition objects works [Conformance]"
)
async def test_definition_is_created_and_deleted(cluster: Cluster) -> None:
    async with served(cluster, definition(scope="Cluster")) as resource:
        found = await cluster.get(CUSTOMRESOURCEDEFINITIONS, resource.group_resource)
        assert has_condition(found, "NamesAccepted")


@requirement(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition listing custom resource definition objects works [Conformance]"
)
async def test_definitions_are_listed_and_deleted_by_label(cluster: Cluster) -> None:
    labels = {"e2e-list-test-uuid": cluster.namespace}
    selector = f"e2e-list-test-uuid={cluster.namespace}"
    made: dict[str, Object] = {}
    for _ in range(10):
        crd = definition(scope="Cluster")
        crd["metadata"]["labels"] = labels
        made[crd["metadata"]["name"]] = (await cluster.create(CUSTOMRESOURCEDEFINITIONS, crd))["spec"]
    async with served(cluster, definition(scope="Cluster")) as other:
        for name in made:
            await cluster.object_that(
                CUSTOMRESOURCEDEFINITIONS, name, lambda found: has_condition(found, "Established"), "established"
            )
        found = (await cluster.client.list(CUSTOMRESOURCEDEFINITIONS, label_selector=selector)).items
        assert {each["metadata"]["name"]: each["spec"] for each in found} == made
        await cluster.client.request("DELETE", CUSTOMRESOURCEDEFINITIONS.path(), query={"labelSelector": selector})

        async def gone() -> bool:
            return not (await cluster.client.list(CUSTOMRESOURCEDEFINITIONS, label_selector=selector)).items

        await eventually(gone, "the labelled definitions are gone")
        await cluster.get(CUSTOMRESOURCEDEFINITIONS, other.group_resource)


@requirement(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works [Conformance]"
)
async def test_status_of_a_definition(cluster: Cluster) -> None:
    async with served(cluster, definition(scope="Cluster")) as resource:
        name = resource.group_resource
        spec = (await cluster.get(CUSTOMRESOURCEDEFINITIONS, name))["spec"]
        status = await cluster.client.get(CUSTOMRESOURCEDEFINITIONS, name, subresource="status")
        assert status["spec"] == spec
        condition = {"type": "", "status": "", "message": "updated"}

        def add(found: Object) -> None:
            found["status"]["conditions"].append(condition)

        updated = await replace(cluster, CUSTOMRESOURCEDEFINITIONS, name, add, subresource="status")
        assert "updated" in [each.get("message") for each in updated["status"]["conditions"]]
        patch = [{"op": "add", "path": "/status/conditions", "value": [{"message": "patched"}]}]
        patched = await cluster.patch(CUSTOMRESOURCEDEFINITIONS, name, patch, content_type=JSON, subresource="status")
        assert [each["message"] for each in patched["status"]["conditions"]] == ["patched"]


@requirement(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for requests and from storage works [Conformance]"
)
async def test_defaults_of_requests_and_of_what_is_stored(cluster: Cluster) -> None:
    text: Object = {"type": "string"}
    schema = ANYTHING | {"properties": {"a": text, "b": text}}
    a, b = (f"/spec/versions/0/schema/openAPIV3Schema/properties/{each}/default" for each in "ab")
    async with served(cluster, definition(schema=schema, scope="Cluster")) as resource:
        name = resource.group_resource
        await cluster.create(resource, {"metadata": {"name": "cr-1"}})
        patch: list[Object] = [{"op": "add", "path": a, "value": "A"}]
        await cluster.patch(CUSTOMRESOURCEDEFINITIONS, name, patch, content_type=JSON)
        first = await cluster.object_that(resource, "cr-1", lambda found: "a" in found, "defaulted")
        assert first["a"] == "A"
        second = await cluster.create(resource, {"metadata": {"name": "cr-2"}})
        assert second["a"] == "A"
        patch = [{"op": "remove", "path": a}, {"op": "add", "path": b, "value": "B"}]
        await cluster.patch(CUSTOMRESOURCEDEFINITIONS, name, patch, content_type=JSON)
        second = await cluster.object_that(resource, "cr-2", lambda found: "b" in found, "defaulted")
        assert (second["a"], second["b"]) == ("A", "B")


@requirement(
    "[sig-api-machinery] CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch on custom resource definition objects [Conformance]"
)
async def test_watch_of_custom_resources(cluster: Cluster) -> None:
    async with served(cluster, definition(scope="Cluster")) as resource, AsyncExitStack() as stack:
        watches = {
            name: await stack.enter_async_context(watching(cluster, resource, field_selector=f"metadata.name={name}"))
            for name in ("name1", "name2")
        }
        for name, seen in watches.items():  # an event of the other's would come first
            made = await cluster.create(resource, {"metadata": {"name": name}, "content": {"key": "value"}})
            assert made["metadata"]["uid"]
            assert await seen.then("ADDED") == made
        for name, seen in watches.items():
            await cluster.patch(resource, name, [{"op": "add", "path": "/dummy", "value": "test"}], content_type=JSON)
            assert (await seen.then("MODIFIED"))["dummy"] == "test"
        for name, seen in watches.items():
            await cluster.delete(resource, name)
            await seen.then("DELETED")
