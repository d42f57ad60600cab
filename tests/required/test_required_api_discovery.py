"""What a server says of itself: its version, its groups, their resources, in one document or in many."""

from __future__ import annotations

import re

import pytest
from cluster import Cluster, eventually, requirement, shows
from connections import send
from definitions import definition, served

from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.errors import NotFound

pytest_plugins = ["cluster_fixture"]

_AGGREGATED = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
_CLIENT = {
    "Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
}
"""What client-go's discovery client asks for."""
_LEGACY = {("", "v1", "namespaces")}
_WANTED = {
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "v1", "apiservices"),
    ("apps", "v1", "deployments"),
    ("authentication.k8s.io", "v1", "tokenreviews"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"),
    ("autoscaling", "v1", "horizontalpodautoscalers"),
    ("autoscaling", "v2", "horizontalpodautoscalers"),
    ("batch", "v1", "jobs"),
    ("certificates.k8s.io", "v1", "certificatesigningrequests"),
    ("coordination.k8s.io", "v1", "leases"),
    ("discovery.k8s.io", "v1", "endpointslices"),
    ("events.k8s.io", "v1", "events"),
    ("networking.k8s.io", "v1", "ingresses"),
    ("node.k8s.io", "v1", "runtimeclasses"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("scheduling.k8s.io", "v1", "priorityclasses"),
    ("storage.k8s.io", "v1", "csinodes"),
}

Resource = tuple[str, str, str]


async def _aggregated(cluster: Cluster, path: str, headers: dict[str, str]) -> set[Resource]:
    """The resources of a discovery document, with their groups and versions."""
    status, found = await send(cluster, "GET", path, headers=headers)
    assert status == 200
    assert (found["kind"], found["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    return {
        (group["metadata"].get("name", ""), version["version"], resource["resource"])
        for group in found["items"]
        for version in group["versions"]
        for resource in version["resources"]
    }


@pytest.mark.parametrize(
    "headers",
    [
        shows(
            _AGGREGATED,
            name="[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers [Conformance]",
        ),
        shows(
            _CLIENT,
            name="[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface [Conformance]",
        ),
    ],
)
async def test_built_in_resources_are_in_one_document(cluster: Cluster, headers: dict[str, str]) -> None:
    assert await _aggregated(cluster, "/apis", headers) >= _WANTED
    assert await _aggregated(cluster, "/api", headers) >= _LEGACY


@pytest.mark.parametrize(
    "headers",
    [
        shows(
            _AGGREGATED,
            name="[sig-api-machinery] AggregatedDiscovery should support raw aggregated discovery request for CRDs [Conformance]",
        ),
        shows(
            _CLIENT,
            name="[sig-api-machinery] AggregatedDiscovery should support aggregated discovery interface for CRDs [Conformance]",
        ),
    ],
)
async def test_custom_resources_are_in_one_document(cluster: Cluster, headers: dict[str, str]) -> None:
    async with served(cluster, definition()) as resource:

        async def there() -> bool:
            return (resource.group, "v1", resource.plural) in await _aggregated(cluster, "/apis", headers)

        await eventually(there, f"{resource.group_resource} in the document")


@requirement("[sig-api-machinery] Discovery should validate PreferredVersion for each APIGroup [Conformance]")
async def test_preferred_versions_are_served(cluster: Cluster) -> None:
    for name in await _groups(cluster):
        try:
            found = await cluster.client.request("GET", f"/apis/{name}")
        except NotFound:  # of a definition that another test has deleted meanwhile
            assert name not in await _groups(cluster)
            continue
        assert found["preferredVersion"]["groupVersion"] in {each["groupVersion"] for each in found["versions"]}


async def _groups(cluster: Cluster) -> dict[str, Object]:
    return {each["name"]: each for each in (await cluster.client.request("GET", "/apis"))["groups"]}


@requirement(
    "[sig-api-machinery] Discovery should locate the groupVersion and a resource within each APIGroup [Conformance]"
)
async def test_each_group_has_its_resource(cluster: Cluster) -> None:
    groups = await _groups(cluster)
    more = {("flowcontrol.apiserver.k8s.io", "v1", "flowschemas"), ("rbac.authorization.k8s.io", "v1", "clusterroles")}
    for name, version, resource in _WANTED | more:
        group_version = f"{name}/{version}"
        for group in (groups[name], await cluster.client.request("GET", f"/apis/{name}")):
            assert group_version in {each["groupVersion"] for each in group["versions"]}
        listed = await cluster.client.request("GET", f"/apis/{group_version}")
        assert listed["groupVersion"] == group_version
        assert resource in {each["name"] for each in listed["resources"]}


@requirement("[sig-api-machinery] server version should find the server version [Conformance]")
async def test_version(cluster: Cluster) -> None:
    found = await cluster.client.request("GET", "/version")
    assert re.fullmatch(r"[1-9]", found["major"])
    assert int(re.sub(r"\D+", "", found["minor"])) > 0


@requirement(
    "[sig-api-machinery] Servers with support for Table transformation should return a 406 for a backend which does not implement metadata [Conformance]"
)
async def test_what_has_no_metadata_is_no_table(cluster: Cluster) -> None:
    review = '{"spec":{"nonResourceAttributes":{"path":"/","verb":"get"}}}'
    path = ResourceType("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview").path()
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    status, told = await send(cluster, "POST", path, body=review, headers=table)
    assert (status, told["reason"]) == (406, "NotAcceptable")
