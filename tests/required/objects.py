"""Objects of a live cluster: updated while others write to them, deleted by their label."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cluster import Cluster

from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.errors import Conflict


async def replace(
    cluster: Cluster, resource: ResourceType, name: str, change: Callable[[Object], Any], *, subresource: str = ""
) -> Object:
    """Read, change and replace an object (or its subresource), again as long as somebody else was faster."""
    namespace = cluster.namespace if resource.namespaced else ""
    while True:
        found = await cluster.client.get(resource, name, namespace, subresource=subresource)
        change(found)
        with suppress(Conflict):
            return await cluster.client.update(resource, found, subresource=subresource)


async def delete_collection(cluster: Cluster, resource: ResourceType, selector: str, **options: Any) -> None:
    """Delete the collection of objects with a label; options are DeleteOptions'."""
    path = resource.path(cluster.namespace if resource.namespaced else "")
    body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
    await cluster.client.request("DELETE", path, query={"labelSelector": selector}, body=body)


async def labelled(
    cluster: Cluster, resource: ResourceType, selector: str, *, everywhere: bool = False
) -> list[Object]:
    """Objects with a label, in the test's namespace or in all."""
    namespace = cluster.namespace if resource.namespaced and not everywhere else ""
    return list((await cluster.client.list(resource, namespace, label_selector=selector)).items)
