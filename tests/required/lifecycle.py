"""What the suite asks of each kind's API: it is discovered, and every verb does what it is for."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from cluster import Cluster
from events import Seen, watching

from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Life:
    """One kind's life: what is created thrice, how it is patched and updated, and what its status is set to."""

    resource: ResourceType
    body: Object
    patch: Object
    update: Callable[[Object], Any]
    statuses: tuple[Object, Object] | None = None
    """A merge patch of the status, then the status it is updated to."""


async def discovered(cluster: Cluster, resource: ResourceType, *subresources: str) -> None:
    """The group, the version and the resource are in the discovery documents."""
    names = {resource.plural, *(f"{resource.plural}/{each}" for each in subresources)}
    if resource.group:
        groups = {each["name"]: each for each in (await cluster.client.request("GET", "/apis"))["groups"]}
        group = await cluster.client.request("GET", f"/apis/{resource.group}")
        for found in (groups[resource.group], group):
            assert found["name"] == resource.group
            assert resource.version in {each["version"] for each in found["versions"]}
    listed = await cluster.client.request("GET", resource.path().rpartition("/")[0])
    assert listed["groupVersion"] == resource.api_version
    assert names <= {each["name"] for each in listed["resources"]}


async def lives(cluster: Cluster, life: Life) -> None:
    """Each verb of the API, on objects made for it."""
    resource, client = life.resource, cluster.client
    namespace = cluster.namespace if resource.namespaced else ""
    await discovered(cluster, resource, *(["status"] if life.statuses else []))
    marked = {"special-label": secrets.token_hex(4)}
    selector = "special-label=" + marked["special-label"]
    body = copy.deepcopy(life.body) | {"metadata": {"generateName": "e2e-example-", "labels": marked}}
    made = [await cluster.create(resource, body) for _ in range(3)]
    one = made[0]
    name = one["metadata"]["name"]

    async def labelled() -> list[Object]:
        return (await client.list(resource, namespace, label_selector=selector)).items

    assert (await cluster.get(resource, name))["metadata"]["uid"] == one["metadata"]["uid"]
    assert len(await labelled()) == len((await client.list(resource, label_selector=selector)).items) == 3
    since = (await client.list(resource, namespace, label_selector=selector)).resource_version
    async with watching(cluster, resource, since=since, labels=selector) as seen:
        await _changes(cluster, life, name, seen)
        await client.delete(resource, name, namespace)
        with pytest.raises(NotFound):
            await cluster.get(resource, name)
        await seen.until("DELETED", lambda found: found["metadata"]["name"] == name)
    assert len(await labelled()) == 2
    await client.request("DELETE", resource.path(namespace), query={"labelSelector": selector})
    assert await labelled() == []


async def _changes(cluster: Cluster, life: Life, name: str, seen: Seen) -> None:
    resource = life.resource
    patched = await cluster.patch(resource, name, {"metadata": {"annotations": {"patched": "true"}}} | life.patch)
    assert patched["metadata"]["annotations"]["patched"] == "true"
    assert includes(patched, life.patch)

    def change(found: Object) -> None:
        found["metadata"].setdefault("annotations", {})["updated"] = "true"
        life.update(found)

    updated = await update(cluster, resource, name, change)
    assert updated["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
    if resource.subresource("status") or life.patch:
        assert updated["metadata"]["generation"] > patched["metadata"]["generation"] > 1
    for count in (1, 2):
        await seen.until("MODIFIED", lambda found: len(found["metadata"].get("annotations", {})) == count)  # noqa: B023
    if life.statuses:
        await _status(cluster, life, name, life.statuses)


async def _status(cluster: Cluster, life: Life, name: str, statuses: tuple[Object, Object]) -> None:
    resource = life.resource
    patched = await cluster.patch(resource, name, {"status": statuses[0]}, subresource="status")
    assert includes(patched, {"status": statuses[0]})
    updated = await update(cluster, resource, name, lambda found: found.update(status=statuses[1]), "status")
    assert includes(updated, {"status": statuses[1]})
    namespace = cluster.namespace if resource.namespaced else ""
    read = await cluster.client.get(resource, name, namespace, subresource="status")
    assert read["metadata"]["uid"] == updated["metadata"]["uid"]


def includes(found: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there; objects may have more fields."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(includes(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(includes, found, wanted))
    return bool(found == wanted)


async def update(
    cluster: Cluster, resource: ResourceType, name: str, change: Callable[[Object], Any], subresource: str = ""
) -> Object:
    """Read, change and write, again when another wrote meanwhile."""
    for _ in range(20):
        found = await cluster.get(resource, name)
        change(found)
        try:
            return await cluster.client.update(resource, found, subresource=subresource)
        except Conflict:
            pass
    raise AssertionError(f"{resource.plural}/{name} is written to all the time")
