"""Custom resources of two versions that a webhook in a pod converts, and what is selected by their fields."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from cluster import Cluster, eventually, requirement
from definitions import definition, resource_of, served
from hooks import Server, serve
from objects import replace
from watching import watching

from machinery.api.catalogue import CUSTOMRESOURCEDEFINITIONS
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.errors import BadRequest, StatusError

pytest_plugins = ["cluster_fixture"]

_TEXT: Object = {"type": "string"}
_FIRST: Object = {"type": "object", "properties": {"hostPort": _TEXT}}
_SECOND: Object = {"type": "object", "properties": {"host": _TEXT, "port": _TEXT}}


def _of_two_versions(server: Server, *, selectable: bool = False) -> Object:
    crd = definition("v1", "v2")
    for version, schema in zip(crd["spec"]["versions"], (_FIRST, _SECOND), strict=True):
        version["schema"] = {"openAPIV3Schema": schema}
        if selectable:
            version["selectableFields"] = [{"jsonPath": f".{field}"} for field in schema["properties"]]
    webhook = {"clientConfig": server.client_config("/convert"), "conversionReviewVersions": ["v1", "v1beta1"]}
    crd["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
    return crd


@asynccontextmanager
async def _converted(cluster: Cluster, *, selectable: bool = False) -> AsyncIterator[tuple[ResourceType, ResourceType]]:
    """The resource in its two versions, once the webhook answers."""
    crd = _of_two_versions(await serve(cluster), selectable=selectable)
    async with served(cluster, crd) as first:
        second = resource_of(crd, "v2")

        async def answers() -> bool:
            try:
                await cluster.create(second, {"metadata": {"name": "stub"}})
            except StatusError:
                return False
            await cluster.delete(second, "stub")
            return True

        await eventually(answers, "the webhook converts")
        yield first, second


def _is_first(found: Object) -> None:
    assert found["hostPort"] == "localhost:8080"
    assert found["apiVersion"].endswith("/v1")
    assert not {"host", "port"} & found.keys()


def _is_second(found: Object) -> None:
    assert (found["host"], found["port"]) == ("localhost", "8080")
    assert found["apiVersion"].endswith("/v2")
    assert "hostPort" not in found


def _named(name: str) -> Object:
    return {"metadata": {"name": name}, "hostPort": "localhost:8080"}


@requirement(
    "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert from CR v1 to CR v2 [Conformance]"
)
async def test_one_object(cluster: Cluster) -> None:
    async with _converted(cluster) as (first, second):
        await cluster.create(first, _named("cr-instance-1"))
        _is_second(await cluster.get(second, "cr-instance-1"))


@requirement(
    "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert a non homogeneous list of CRs [Conformance]"
)
async def test_list_of_objects_stored_in_different_versions(cluster: Cluster) -> None:
    async with _converted(cluster) as (first, second):
        await cluster.create(first, _named("cr-instance-1"))

        def store_second(found: Object) -> None:
            for version in found["spec"]["versions"]:
                version["storage"] = version["name"] == "v2"

        await replace(cluster, CUSTOMRESOURCEDEFINITIONS, first.group_resource, store_second)

        def stored_in_second(found: Object) -> bool:
            return "v2" in found["status"]["storedVersions"]

        await cluster.object_that(CUSTOMRESOURCEDEFINITIONS, first.group_resource, stored_in_second, "stored in v2")
        await cluster.create(first, _named("cr-instance-2"))
        for resource, check in ((first, _is_first), (second, _is_second)):
            listed = (await cluster.client.list(resource, cluster.namespace)).items
            assert [each["metadata"]["name"] for each in listed] == ["cr-instance-1", "cr-instance-2"]
            for each in listed:
                check(each)


async def _names(cluster: Cluster, resource: ResourceType, selector: str) -> list[str]:
    listed = await cluster.client.list(resource, cluster.namespace, field_selector=selector)
    return [each["metadata"]["name"] for each in listed.items]


@requirement(
    "[sig-api-machinery] CustomResourceFieldSelectors [Privileged:ClusterAdmin] CustomResourceFieldSelectors MUST list and watch custom resources matching the field selector [Conformance]"
)
async def test_fields_are_selected_in_each_version(cluster: Cluster) -> None:
    async with (
        _converted(cluster, selectable=True) as (first, second),
        watching(cluster, first, field_selector="hostPort=host1:80") as by_both,
        watching(cluster, second, field_selector="host=host1") as by_host,
        watching(cluster, second, field_selector="host=host1,port=80") as by_host_and_port,
    ):
        for name, fields in (
            ("a", {"host": "host1", "port": "80"}),
            ("b", {"host": "host1", "port": "8080"}),
            ("c", {"host": "host2"}),
        ):
            await cluster.create(second, {"metadata": {"name": name}} | fields)
        for selector, names in (("hostPort=host1:80", ["a"]), ("hostPort=host1:8080", ["b"])):
            assert await _names(cluster, first, selector) == names
        assert await _names(cluster, first, "hostPort!=host1:80") == ["b", "c"]
        for selector, names in (("host=host1", ["a", "b"]), ("host=host1,port=80", ["a"]), ("port=", ["c"])):
            assert await _names(cluster, second, selector) == names
        with pytest.raises(BadRequest, match="field label not supported: host"):
            await _names(cluster, first, "host=host1")
        for seen in (by_both, by_host, by_host_and_port):
            assert (await seen.then("ADDED"))["metadata"]["name"] == "a"
        assert (await by_host.then("ADDED"))["metadata"]["name"] == "b"
        # Into what is selected, out of it, and gone.
        await cluster.patch(second, "b", {"port": "80"})
        assert (await by_host.then("MODIFIED"))["port"] == "80"
        assert (await by_both.then("ADDED"))["metadata"]["name"] == "b"
        assert (await by_host_and_port.then("ADDED"))["metadata"]["name"] == "b"
        await cluster.patch(first, "a", {"hostPort": "host2:80"})
        for seen in (by_both, by_host, by_host_and_port):
            assert (await seen.then("DELETED"))["metadata"]["name"] == "a"
        await cluster.client.request("DELETE", second.path(cluster.namespace), query={"fieldSelector": "host=host1"})
        for seen in (by_both, by_host, by_host_and_port):
            assert (await seen.then("DELETED"))["metadata"]["name"] == "b"
        assert await _names(cluster, second, "host=host1") == []
        assert await _names(cluster, first, "") == ["a", "c"]
