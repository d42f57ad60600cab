"""The operations that every kind of the API supports, one after the other, as the conformance suite asks for them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster import Cluster
from objects import delete_collection, replace
from watching import Watching, watching

from machinery.api.meta import Object, name_of
from machinery.api.resource import ResourceType
from machinery.client.rest import MERGE
from machinery.errors import NotFound

LABEL = "required-operations"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind, an object of it, and how the object is changed."""

    resource: ResourceType
    obj: Object
    patch: Object = field(default_factory=dict)
    update: Callable[[Object], object] = lambda _: None
    statuses: tuple[Object, ...] = ()
    """One to patch into its status and one to update that to; none: the kind has no status."""
    status_alone: bool = False
    """A request for its status changes nothing of its metadata."""
    patch_type: str = MERGE


async def in_discovery(cluster: Cluster, resource: ResourceType) -> None:
    """The kind is in the documents of all its groups, of its group, and of its version."""
    client = cluster.client
    root = "/api/v1"
    if resource.group:
        groups = {group["name"]: group for group in (await client.request("GET", "/apis"))["groups"]}
        for group in (groups[resource.group], await client.request("GET", f"/apis/{resource.group}")):
            assert resource.version in [each["version"] for each in group["versions"]]
        root = f"/apis/{resource.api_version}"
    found = {each["name"]: each for each in (await client.request("GET", root))["resources"]}
    assert found[resource.plural]["kind"] == resource.kind
    assert not resource.subresources or f"{resource.plural}/status" in found


async def operate(cluster: Cluster, kind: Kind) -> None:
    """All operations on three objects of a kind."""
    resource, client = kind.resource, cluster.client
    namespace = cluster.namespace if resource.namespaced else ""
    marker = secrets.token_hex(4)
    chosen = f"{LABEL}={marker}"
    metadata = {"generateName": "required-", "labels": {LABEL: marker}} | kind.obj.get("metadata", {})
    obj = {**kind.obj, "metadata": metadata}

    async def found(where: str = namespace) -> list[str]:
        listed = await client.list(resource, where, label_selector=chosen)
        return sorted(name_of(each) for each in listed.items if "deletionTimestamp" not in each["metadata"])

    await in_discovery(cluster, resource)
    names = sorted([name_of(await cluster.create(resource, obj)) for _ in range(3)])
    name = names[0]
    created = await cluster.get(resource, name)
    assert created["metadata"]["resourceVersion"].isdecimal()
    assert await found() == names
    assert await found("") == names, "in all namespaces"
    async with watching(cluster, resource, chosen) as watched, watching(_everywhere(cluster), resource, chosen) as wide:
        await _change(cluster, kind, created)
        for each in (watched, wide):
            await _tells_changes(each)
        if kind.statuses:
            await _change_status(cluster, kind, created)
        await client.delete(resource, name, namespace)
        try:
            left = await cluster.get(resource, name)
            assert left["metadata"]["deletionTimestamp"]
            assert left["metadata"]["finalizers"]
        except NotFound:
            await watched.deleted(name)
    assert await found() == names[1:]
    await delete_collection(cluster, resource, chosen)
    assert await found() == []


def _everywhere(cluster: Cluster) -> Cluster:
    return Cluster(cluster.lab, cluster.client, "")


async def _change(cluster: Cluster, kind: Kind, created: Object) -> None:
    patch = _merged(kind.patch, {"metadata": {"annotations": {"patched": "true"}}})
    patched = await cluster.patch(kind.resource, name_of(created), patch, content_type=kind.patch_type)
    assert patched["metadata"]["annotations"]["patched"] == "true"
    assert int(patched["metadata"]["resourceVersion"]) > int(created["metadata"]["resourceVersion"])
    assert contains(patched, kind.patch), patched
    if "spec" in kind.patch and "generation" in created["metadata"]:
        assert patched["metadata"]["generation"] > created["metadata"]["generation"]

    def change(found: Object) -> None:
        found["metadata"].setdefault("annotations", {})["updated"] = "true"
        kind.update(found)

    updated = await replace(cluster, kind.resource, name_of(created), change)
    assert updated["metadata"]["annotations"]["updated"] == "true"
    again = {**updated, "metadata": dict(updated["metadata"])}
    kind.update(again)
    assert again == updated, "what the update changed was kept"
    assert (await cluster.get(kind.resource, name_of(created)))["metadata"]["uid"] == created["metadata"]["uid"]


async def _tells_changes(watched: Watching) -> None:
    await watched.modified(lambda o: o["metadata"].get("annotations", {}).get("patched") == "true", "patched")
    await watched.modified(lambda o: o["metadata"].get("annotations", {}).get("updated") == "true", "updated")


async def _change_status(cluster: Cluster, kind: Kind, created: Object) -> None:
    first, second = kind.statuses
    name = name_of(created)
    patch = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": first}
    patched = await cluster.patch(kind.resource, name, patch, subresource="status")
    assert ("patchedstatus" in patched["metadata"].get("annotations", {})) is not kind.status_alone
    assert contains(patched["status"], first), patched["status"]

    updated = await replace(
        cluster, kind.resource, name, lambda found: found["status"].update(second), subresource="status"
    )
    assert contains(updated["status"], second), updated["status"]
    namespace = cluster.namespace if kind.resource.namespaced else ""
    got = await cluster.client.get(kind.resource, name, namespace, subresource="status")
    assert got["metadata"]["uid"] == created["metadata"]["uid"]
    assert got["kind"] == kind.resource.kind


def contains(whole: Any, part: Any) -> bool:
    """Whether all that `part` says is said by the other, too."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(contains(whole.get(key), value) for key, value in part.items())
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(contains, whole, part))
    return bool(whole == part)


def _merged(one: Object, two: Object) -> Object:
    both = [key for key in one if key in two]
    return {**one, **two, **{key: _merged(one[key], two[key]) for key in both}}
