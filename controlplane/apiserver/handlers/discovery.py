"""What the server offers: groups, versions and resources, in the older documents and the aggregated one.

Documents are made on first use and dropped when the resources change.

Source: apidiscovery.k8s.io/v2, meta/v1 APIGroup, APIResourceList; KEP-3352, "Aggregated discovery".
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from controlplane.apiserver.aggregation.registration import group_priority
from controlplane.apiserver.handlers.exchange import JSON, Answer
from controlplane.apiserver.resources import Resources, Served
from machinery.api.catalogue import APISERVICES, CUSTOMRESOURCEDEFINITIONS
from machinery.api.resource import Subresource

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_STORAGE_VERSIONS = {CUSTOMRESOURCEDEFINITIONS: "v1beta1"}
"""Where upstream stores another version than it prefers; clients compare hashes between servers."""
_STORED_VERBS = frozenset({"create", "update", "patch"})


def storage_version_hash(served: Served) -> str:
    """How clients see that the stored version of a resource has changed.

    Source: k8s.io/apiserver/pkg/endpoints/discovery/storageversionhash.go.
    """
    stored = served.stored
    version = _STORAGE_VERSIONS.get(stored, stored.version)
    text = f"{stored.group}/{version}/{stored.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


class Elsewhere(Protocol):
    """A version of a group that another server serves."""

    @property
    def group(self) -> str:
        """The group."""
        ...

    @property
    def version(self) -> str:
        """The version."""
        ...

    @property
    def priorities(self) -> tuple[int, int]:
        """How far to the front the group stands, and the version in it."""
        ...

    @property
    def resources(self) -> dict[str, Any] | None:
        """Its APIVersionDiscovery, as far as it is known."""
        ...


def group_versions(resources: Resources, elsewhere: Iterable[Elsewhere] = ()) -> dict[str, list[str]]:
    """Versions of each group but the core one, the preferred first; groups by their priority."""
    found = {group: list(versions) for group, versions in resources.group_versions().items() if group}
    priorities = {group: group_priority(group) for group in found}
    for other in sorted(elsewhere, key=lambda o: -o.priorities[1]):
        versions = found.setdefault(other.group, [])
        if other.version not in versions:
            versions.append(other.version)
        priorities[other.group] = max(priorities.get(other.group, 0), other.priorities[0])
    return dict(sorted(found.items(), key=lambda item: (-priorities[item[0]], item[0])))


def api_group(name: str, versions: list[str]) -> dict[str, Any]:
    """An APIGroup without kind."""
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _is_stored(served: Served) -> bool:
    return bool(_STORED_VERBS & set(served.type.verbs)) and "get" in served.type.verbs


def api_resources(resources: Resources, group: str, version: str) -> list[dict[str, Any]]:
    """The APIResources of one version, subresources included, sorted by name."""
    made: list[dict[str, Any]] = []
    for served in resources.all():
        kind = served.type
        if (kind.group, kind.version) != (group, version):
            continue
        entry: dict[str, Any] = {
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": list(kind.verbs),
        }
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        if _is_stored(served):
            entry["storageVersionHash"] = storage_version_hash(served)
        made.append(entry)
        made += [_sub_entry(served, sub) for sub in kind.subresources]
    return sorted(made, key=lambda entry: str(entry["name"]))


def _sub_entry(served: Served, sub: Subresource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": f"{served.type.plural}/{sub.name}",
        "singularName": "",
        "namespaced": served.type.namespaced,
    }
    if sub.group:
        entry["group"] = sub.group
    if sub.version:
        entry["version"] = sub.version
    return {**entry, "kind": sub.kind or served.type.kind, "verbs": list(sub.verbs)}


def aggregated_version(resources: Resources, group: str, version: str) -> dict[str, Any]:
    """An APIVersionDiscovery."""
    listed = []
    for served in sorted(resources.all(), key=lambda s: s.type.plural):
        kind = served.type
        if (kind.group, kind.version) != (group, version):
            continue
        entry: dict[str, Any] = {
            "resource": kind.plural,
            "responseKind": {"group": "", "version": "", "kind": kind.kind},
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "singularResource": kind.singular,
            "verbs": list(kind.verbs),
        }
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        if kind.subresources:
            entry["subresources"] = [
                {
                    "subresource": sub.name,
                    "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind or kind.kind},
                    "verbs": list(sub.verbs),
                }
                for sub in kind.subresources
            ]
        listed.append(entry)
    return {"version": version, "resources": listed, "freshness": "Current"}


@dataclass
class Discovery:
    """The documents of one server. `address` is what /api tells clients to connect to."""

    resources: Resources
    address: str
    remotes: Mapping[str, Elsewhere] = field(default_factory=dict)
    """What other servers serve."""
    _made: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.resources.changed.append(self._made.clear)

    def _document(self, name: str, make: Callable[[], Any]) -> bytes:
        found = self._made.get(name)
        if found is None:
            found = self._made[name] = orjson.dumps(make())
        return found

    def answer(self, path: str, accept: str, if_none_match: str) -> Answer | None:
        """The document at a path (without a trailing slash); None if there is none."""
        if path in ("/api", "/apis"):
            if wants_aggregated(accept):
                return self._aggregated(path, if_none_match)
            make = self._versions if path == "/api" else self._groups
            return Answer(self._document(path, make), JSON, headers={"Vary": "Accept"})
        parts = path.split("/")[1:]
        versions = group_versions(self.resources, self.remotes.values())
        core = self.resources.group_versions().get("", ())
        if len(parts) == 2 and parts[0] == "api" and parts[1] in core:
            return Answer(self._document(path, lambda: self._resources("", parts[1])))
        if parts[0] != "apis" or len(parts) not in (2, 3) or not parts[1]:
            return None
        group = parts[1]
        if len(parts) == 2 and group in versions:
            head = {"kind": "APIGroup", "apiVersion": "v1"}
            return Answer(self._document(path, lambda: head | api_group(group, versions[group])))
        if len(parts) == 3 and parts[2] in versions.get(group, ()):
            return Answer(self._document(path, lambda: self._resources(group, parts[2])))
        return None

    def _versions(self) -> Any:
        return {
            "kind": "APIVersions",
            "versions": self.resources.group_versions().get("", []),
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": self.address}],
        }

    def _groups(self) -> Any:
        found = group_versions(self.resources, self.remotes.values())
        order = sorted(found, key=lambda name: name != APISERVICES.group)  # the aggregator's own stands before all
        groups = [api_group(name, found[name]) for name in order]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def _resources(self, group: str, version: str) -> Any:
        head: dict[str, Any] = {"kind": "APIResourceList"}
        if group:
            head["apiVersion"] = "v1"
        head["groupVersion"] = f"{group}/{version}" if group else version
        return {**head, "resources": api_resources(self.resources, group, version)}

    def _aggregated(self, path: str, if_none_match: str) -> Answer:
        data = self._document(path + "#aggregated", lambda: self._aggregate(core=path == "/api"))
        etag = f'"{hashlib.sha512(data).hexdigest().upper()}"'
        headers = {"Vary": "Accept", "ETag": etag}
        if if_none_match == etag:
            return Answer(b"", AGGREGATED, 304, headers)
        return Answer(data, AGGREGATED, 200, headers)

    def _aggregate(self, *, core: bool) -> Any:
        groups = (
            {"": self.resources.group_versions().get("", [])}
            if core
            else group_versions(self.resources, self.remotes.values())
        )
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": [
                {
                    "metadata": {"name": name} if name else {},
                    "versions": [self._aggregated_version(name, version) for version in versions],
                }
                for name, versions in groups.items()
            ],
        }

    def _aggregated_version(self, group: str, version: str) -> dict[str, Any]:
        other = self.remotes.get(f"/apis/{group}/{version}")
        if other is None:
            return aggregated_version(self.resources, group, version)
        return other.resources or {"version": version, "freshness": "Stale"}


def wants_aggregated(accept: str) -> bool:
    """Whether a client prefers the aggregated document."""
    for clause in accept.split(","):
        media, *parameters = [part.strip() for part in clause.split(";")]
        given = dict(p.split("=", 1) for p in parameters if "=" in p)
        if media in (JSON, "*/*") and not given.get("as"):
            return False
        if (
            media == JSON
            and given.get("as") == "APIGroupDiscoveryList"
            and given.get("g") == "apidiscovery.k8s.io"
            and given.get("v") == "v2"
        ):
            return True
    return False
