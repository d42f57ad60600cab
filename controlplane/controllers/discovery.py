"""Which resources an API server has, asked of it: built-in ones, custom ones and those of aggregated API servers.

Source: KEP-3352 (aggregated discovery, apidiscovery.k8s.io/v2); API concepts, "API discovery".
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from machinery.api.meta import Object
from machinery.api.resource import ResourceType, Subresource
from machinery.client.rest import Client
from machinery.errors import StatusError

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


@dataclass(frozen=True)
class Discovered:
    """The resources, each in its group's preferred version, and the groups that could not be asked."""

    resources: tuple[ResourceType, ...]
    failed: dict[str, str]
    """group/version → why."""

    every_version: tuple[ResourceType, ...] = ()
    """The resources in all their versions."""

    def of_kind(self, api_version: str, kind: str) -> ResourceType | None:
        """The resource whose objects have this apiVersion and kind."""
        for resource in self.every_version:
            if resource.kind == kind and resource.api_version == api_version:
                return resource
        return None


async def discover(client: Client) -> Discovered:
    """Ask for all resources. Raises StatusError or TransportError if the root documents can't be had."""
    headers = {"Accept": _AGGREGATED}
    core, groups = await asyncio.gather(
        client.request("GET", "/api", headers=headers), client.request("GET", "/apis", headers=headers)
    )
    if core.get("kind") == groups.get("kind") == "APIGroupDiscoveryList":
        return _aggregated([*(core.get("items") or ()), *(groups.get("items") or ())])
    return await _by_version(client, core, groups)


def _aggregated(groups: Iterable[Object]) -> Discovered:
    preferred: dict[tuple[str, str], ResourceType] = {}
    every: list[ResourceType] = []
    failed: dict[str, str] = {}
    for group in groups:
        group_name = (group.get("metadata") or {}).get("name") or ""
        for version in group.get("versions") or ():
            name = version["version"]
            if version.get("freshness") == "Stale":
                failed[f"{group_name}/{name}" if group_name else name] = "stale GroupVersion discovery"
                continue
            for entry in version.get("resources") or ():
                kind = entry.get("responseKind") or {}
                if not kind.get("kind"):
                    continue
                made = ResourceType(
                    group_name,
                    name,
                    entry["resource"],
                    kind["kind"],
                    entry.get("singularResource") or "",
                    entry.get("scope") == "Namespaced",
                    verbs=tuple(entry.get("verbs") or ()),
                    subresources=tuple(
                        Subresource(s["subresource"], (s.get("responseKind") or {}).get("kind", ""), tuple(s["verbs"]))
                        for s in entry.get("subresources") or ()
                    ),
                )
                every.append(made)
                preferred.setdefault((group_name, made.plural), made)
    return Discovered(tuple(preferred.values()), failed, tuple(every))


async def _by_version(client: Client, core: Object, groups: Object) -> Discovered:
    """The older form: one document for each group and version."""
    asked = [("", version) for version in core.get("versions") or ()]
    for group in groups.get("groups") or ():
        versions = [v["version"] for v in group.get("versions") or ()]
        first = (group.get("preferredVersion") or {}).get("version")
        asked += [(group["name"], v) for v in sorted(versions, key=lambda v: v != first)]
    answers = await asyncio.gather(*(_one(client, group, version) for group, version in asked))
    preferred: dict[tuple[str, str], ResourceType] = {}
    every: list[ResourceType] = []
    failed: dict[str, str] = {}
    for (group, version), answer in zip(asked, answers, strict=True):
        if isinstance(answer, str):
            failed[f"{group}/{version}" if group else version] = answer
            continue
        for resource in answer:
            every.append(resource)
            preferred.setdefault((group, resource.plural), resource)
    return Discovered(tuple(preferred.values()), failed, tuple(every))


async def _one(client: Client, group: str, version: str) -> list[ResourceType] | str:
    path = f"/apis/{group}/{version}" if group else f"/api/{version}"
    try:
        document = await client.request("GET", path)
    except StatusError as exc:
        return str(exc)
    entries = document.get("resources") or []
    return [
        ResourceType(
            group,
            version,
            entry["name"],
            entry["kind"],
            entry.get("singularName") or "",
            bool(entry.get("namespaced")),
            verbs=tuple(entry.get("verbs") or ()),
        )
        for entry in entries
        if "/" not in entry["name"]
    ]
