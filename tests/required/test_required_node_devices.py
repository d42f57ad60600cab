"""What the conformance suite requires of the API of dynamic resource allocation: create, read, update, patch, delete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from cluster import Cluster, shows
from objects import delete_collection, labelled
from watching import Watching, watching

from machinery.api.catalogue import DEVICECLASSES, RESOURCECLAIMS, RESOURCECLAIMTEMPLATES, RESOURCESLICES
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.client.rest import APPLY, JSON, MERGE, STRATEGIC
from machinery.errors import NotFound

pytest_plugins = ["cluster_fixture"]

_STRICT = {"fieldValidation": "Strict"}
_LABEL = "e2e-test.kubernetes.io"
_REQUESTS = {
    "devices": {
        "requests": [
            {"name": "req-0", "exactly": {"deviceClassName": "dc", "allocationMode": "ExactCount", "count": 1}}
        ]
    }
}
_DEVICE = {"driver": "dra.example.com", "pool": "p", "device": "d0"}
_READY = {
    "type": "Ready",
    "status": "True",
    "reason": "R",
    "message": "m",
    "lastTransitionTime": "2024-01-01T00:00:00Z",
}
_ALLOCATED = {
    "allocation": {"devices": {"results": [{"request": "req-0", **_DEVICE}]}},
    "devices": [_DEVICE | {"conditions": [_READY]}],
}


def _slice(device: str) -> Object:
    pool = {"name": "p", "resourceSliceCount": 1, "generation": 1}
    return {"driver": "dra.example.com", "nodeName": "n", "pool": pool, "devices": [{"name": device}]}


@dataclass(frozen=True)
class Kind:
    """A kind, an object's spec, and what of it is changed."""

    resource: ResourceType
    spec: Object
    change: Object
    status: Object = field(default_factory=dict)

    @property
    def wanted(self) -> Sequence[tuple[str, Object]]:
        """Parts that can be changed: the subresource, and what is merged."""
        return [("", self.change), *([("status", {"status": self.status})] if self.status else [])]


_LABELLED = {"metadata": {"labels": {"changed": "yes"}}}


@pytest.mark.parametrize(
    "kind",
    [
        shows(
            Kind(
                DEVICECLASSES,
                {"selectors": [{"cel": {"expression": "true"}}]},
                {"spec": {"selectors": [{"cel": {"expression": "false"}}]}},
            ),
            name="[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 DeviceClass [Conformance]",
        ),
        shows(
            Kind(RESOURCECLAIMS, _REQUESTS, _LABELLED, _ALLOCATED),
            name="[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaim [Conformance]",
        ),
        shows(
            Kind(RESOURCECLAIMTEMPLATES, {"spec": _REQUESTS}, _LABELLED),
            name="[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceClaimTemplate [Conformance]",
        ),
        shows(
            Kind(RESOURCESLICES, _slice("d0"), {"spec": _slice("d1")}),
            name="[sig-node] [DRA] CRUD Tests resource.k8s.io/v1 ResourceSlice [Conformance]",
        ),
    ],
)
async def test_create_read_update_patch_delete(cluster: Cluster, kind: Kind) -> None:
    mine = cluster.namespace
    async with watching(cluster, kind.resource, everywhere=True, label_selector=f"{_LABEL}={mine}") as watched:
        trial = _Trial(cluster, kind, watched)
        made = await trial.create()
        assert await trial.get() == made
        changed = _merged(made, kind.change)
        updated = await cluster.client.update(kind.resource, changed)
        assert _has(updated, kind.change)
        await trial.sees("MODIFIED")
        if kind.status:
            updated = await cluster.client.update(
                kind.resource, updated | {"status": kind.status}, subresource="status"
            )
            assert updated["status"] == kind.status
            await trial.sees("MODIFIED")
            namespace = trial.namespace
            read = await cluster.client.get(kind.resource, trial.name, namespace, subresource="status")
            assert read["status"] == kind.status
        await trial.delete()
        for subresource, change in kind.wanted:
            for content_type in (STRATEGIC, APPLY, MERGE, JSON):
                made = await trial.create()
                patched = await trial.patch(made, change, content_type, subresource)
                assert _has(patched, change), (content_type, subresource)
                await trial.sees("MODIFIED")
                await trial.delete()
        await trial.create()
        assert len(await labelled(cluster, kind.resource, f"{_LABEL}={mine}", everywhere=True)) == 1
        assert len(await labelled(cluster, kind.resource, f"{_LABEL}={mine}")) == 1
        await delete_collection(cluster, kind.resource, f"{_LABEL}={mine}")
        await trial.sees("DELETED")
        with pytest.raises(NotFound):
            await trial.get()


@dataclass(frozen=True)
class _Trial:
    cluster: Cluster
    kind: Kind
    watched: Watching

    @property
    def name(self) -> str:
        return "test" if self.kind.resource.namespaced else f"test-{self.cluster.namespace}"

    @property
    def namespace(self) -> str:
        return self.cluster.namespace if self.kind.resource.namespaced else ""

    @property
    def _identity(self) -> Object:
        resource, where = self.kind.resource, {"namespace": self.namespace} if self.namespace else {}
        metadata = {"name": self.name, **where}
        return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}

    async def create(self) -> Object:
        wanted = _merged(self._identity, {"metadata": {"labels": {_LABEL: self.cluster.namespace}}})
        body = wanted | {"spec": self.kind.spec}
        path = self.kind.resource.path(self.namespace)
        made = await self.cluster.client.request("POST", path, body=body, query=_STRICT)
        assert made["spec"] == _merged(made["spec"], self.kind.spec)
        await self.sees("ADDED")
        return made

    async def get(self) -> Object:
        return await self.cluster.get(self.kind.resource, self.name)

    async def patch(self, made: Object, change: Object, content_type: str, subresource: str) -> Object:
        body: Any = _merged(self._identity | change, {"metadata": {"uid": made["metadata"]["uid"], "name": self.name}})
        if content_type == JSON:
            body = _operations("", made, change)
        applied = {"fieldManager": "test-apply", "force": "true"} if content_type == APPLY else {}
        return await self.cluster.patch(
            self.kind.resource,
            self.name,
            body,
            content_type=content_type,
            subresource=subresource,
            query=_STRICT | applied,
        )

    async def delete(self) -> None:
        await self.cluster.client.delete(self.kind.resource, self.name, self.namespace)
        await self.sees("DELETED")
        with pytest.raises(NotFound):
            await self.get()

    async def sees(self, kind: str) -> None:
        """The next event, and no other before it."""
        event = await self.watched.next()
        assert (event.type, event.object["metadata"]["name"]) == (kind, self.name)


def _merged(into: Object, change: Object) -> Object:
    """Objects merged, lists and values replaced."""
    result = dict(into)
    for key, value in change.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(value, dict) and isinstance(old, dict) else value
    return result


def _has(found: Object, change: Object) -> bool:
    return _merged(found, change) == found


def _operations(at: str, found: Object, change: Object) -> list[Object]:
    """A JSON patch that makes the change."""
    made: list[Object] = []
    for key, value in change.items():
        path = f"{at}/{key}"
        if isinstance(value, dict) and isinstance(found.get(key), dict):
            made += _operations(path, found[key], value)
        else:
            made.append({"op": "add", "path": path, "value": value})
    return made
