"""Custom resources of a test's own: a definition in a group that no other test uses, served and deleted at the end."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cluster import Cluster, eventually, has_condition

from machinery.api.catalogue import CUSTOMRESOURCEDEFINITIONS
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.errors import NotFound

ANYTHING: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def unique_group() -> str:
    return f"g{secrets.token_hex(4)}.example.com"


def definition(
    *versions: str, schema: Object = ANYTHING, group: str = "", scope: str = "Namespaced", **version_fields: Any
) -> Object:
    """A definition of versions (`v1`) that are all served, the first of which is stored."""
    word = f"e2etest{secrets.token_hex(4)}"
    group = group or unique_group()
    served = [
        {"name": name, "served": True, "storage": not at, "schema": {"openAPIV3Schema": schema}, **version_fields}
        for at, name in enumerate(versions or ("v1",))
    ]
    names = {"plural": f"{word}s", "singular": word, "kind": word.capitalize(), "listKind": f"{word.capitalize()}List"}
    return {
        "metadata": {"name": f"{word}s.{group}"},
        "spec": {"group": group, "scope": scope, "names": names, "versions": served},
    }


def resource_of(crd: Object, version: str = "") -> ResourceType:
    """The resource that a definition defines; its first version unless told."""
    spec = crd["spec"]
    names, namespaced = spec["names"], spec["scope"] == "Namespaced"
    version = version or spec["versions"][0]["name"]
    return ResourceType(spec["group"], version, names["plural"], names["kind"], names["singular"], namespaced)


async def answers(cluster: Cluster, resource: ResourceType) -> None:
    """Wait until a resource can be listed."""

    async def listed() -> bool:
        try:
            await cluster.client.list(resource, cluster.namespace if resource.namespaced else "")
        except NotFound:
            return False
        return True

    await eventually(listed, f"{resource.group_resource} is served")


@asynccontextmanager
async def served(cluster: Cluster, crd: Object) -> AsyncIterator[ResourceType]:
    """The resource in the definition's first version, from when all versions are served."""
    made = await cluster.create(CUSTOMRESOURCEDEFINITIONS, crd)
    name = made["metadata"]["name"]
    try:
        await cluster.object_that(
            CUSTOMRESOURCEDEFINITIONS, name, lambda found: has_condition(found, "Established"), "established"
        )
        for version in crd["spec"]["versions"]:
            if version["served"]:
                await answers(cluster, resource_of(crd, version["name"]))
        yield resource_of(crd)
    finally:
        await cluster.delete(CUSTOMRESOURCEDEFINITIONS, name)
