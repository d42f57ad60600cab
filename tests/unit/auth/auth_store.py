"""A small API in memory for the tests here: it reads like the watch cache and writes like the server itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.reader import OnChange
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.meta import Object, key_of, name_of
from machinery.api.resource import ResourceType
from machinery.errors import AlreadyExists, Conflict, NotFound

ADMIN = User("admin", groups=("system:masters", "system:authenticated"))


class Store:
    """Objects with uids and revisions; writes are conditional and tell those who listen."""

    def __init__(self) -> None:
        self._objects: dict[ResourceType, dict[str, Object]] = {}
        self._listeners: dict[ResourceType, list[OnChange]] = {}
        self._revision = 0
        self.before_write: list[Callable[[], Any]] = []
        """Called once each, before a write: what another server does meanwhile."""

    # What plugins read.

    def get(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        return self._objects.get(resource, {}).get(f"{namespace}/{name}" if namespace else name)

    def list(self, resource: ResourceType, namespace: str = "") -> Iterable[Object]:
        found = sorted(self._objects.get(resource, {}).items())
        return [obj for key, obj in found if not namespace or key.startswith(f"{namespace}/")]

    def on_change(self, resource: ResourceType, callback: OnChange, *, holding: str = "") -> None:
        self._listeners.setdefault(resource, []).append(callback)
        for obj in self.list(resource):
            callback(None, obj)

    async def get_latest(self, resource: ResourceType, namespace: str, name: str) -> Object | None:
        return self.get(resource, namespace, name)

    # Writing, at once.

    def put(self, resource: ResourceType, obj: Object) -> Object:
        old = self._objects.get(resource, {}).get(key_of(obj))
        self._revision += 1
        metadata = {"uid": str(uuid.uuid4())} | obj["metadata"] | {"resourceVersion": str(self._revision)}
        if old is not None:
            metadata["uid"] = old["metadata"]["uid"]
        new = obj | {"metadata": metadata}
        self._objects.setdefault(resource, {})[key_of(obj)] = new
        self._tell(resource, old, new)
        return new

    def drop(self, resource: ResourceType, namespace: str, name: str) -> None:
        old = self._objects[resource].pop(f"{namespace}/{name}" if namespace else name)
        self._tell(resource, old, None)

    def _tell(self, resource: ResourceType, old: Object | None, new: Object | None) -> None:
        for callback in self._listeners.get(resource, ()):
            callback(old, new)


class Api:
    """The Loopback over a Store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.writes = 0

    def _meanwhile(self) -> None:
        if self.store.before_write:
            self.store.before_write.pop(0)()

    async def get(self, resource: ResourceType, name: str, namespace: str = "") -> Object:
        obj = self.store.get(resource, namespace, name)
        if obj is None:
            raise NotFound(f"{resource.plural} {name} not found")
        return obj

    async def list(self, resource: ResourceType, namespace: str = "") -> Sequence[Object]:
        return list(self.store.list(resource, namespace))

    async def create(self, resource: ResourceType, obj: Object, namespace: str = "") -> Object:
        self._meanwhile()
        if self.store.get(resource, namespace, name_of(obj)) is not None:
            raise AlreadyExists(f"{resource.plural} {name_of(obj)} already exists")
        self.writes += 1
        return self.store.put(resource, obj)

    async def update(self, resource: ResourceType, obj: Object, subresource: str = "") -> Object:
        self._meanwhile()
        current = await self.get(resource, name_of(obj), obj["metadata"].get("namespace", ""))
        expected = obj["metadata"].get("resourceVersion")
        if expected and expected != current["metadata"]["resourceVersion"]:
            raise Conflict(f"{resource.plural} {name_of(obj)} has changed")
        self.writes += 1
        if subresource == "status":
            return self.store.put(resource, current | {"status": obj["status"]})
        return self.store.put(resource, obj)

    async def delete(
        self, resource: ResourceType, name: str, namespace: str = "", *, uid: str = "", asking: bool = True
    ) -> None:
        self._meanwhile()
        current = await self.get(resource, name, namespace)
        if uid and uid != current["metadata"]["uid"]:
            raise Conflict("another object")
        self.writes += 1
        self.store.drop(resource, namespace, name)


def named(name: str, namespace: str = "", **rest: Any) -> Object:
    """An object with metadata, and whatever else it has."""
    metadata: Object = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"metadata": metadata | rest.pop("metadata", {})} | rest


def asks(verb: str, resource: str, group: str = "", namespace: str = "", **rest: Any) -> RequestInfo:
    """A request for a resource; `resource` may be `pods/log`."""
    plural, _, subresource = resource.partition("/")
    return RequestInfo(
        verb,
        "",
        is_resource=True,
        group=group,
        version="v1",
        resource=plural,
        subresource=subresource,
        namespace=namespace,
        **rest,
    )


def creates(resource: ResourceType, obj: Object, user: User = ADMIN, **rest: Any) -> Operation:
    """The operation of creating an object."""
    metadata = obj["metadata"]
    return Operation(
        "CREATE",
        resource,
        rest.pop("subresource", ""),
        metadata.get("namespace", ""),
        metadata.get("name", ""),
        user,
        obj,
        None,
        **rest,
    )


def updates(resource: ResourceType, new: Object, old: Object, user: User = ADMIN, **rest: Any) -> Operation:
    """The operation of changing an object."""
    metadata = old["metadata"]
    return Operation(
        "UPDATE",
        resource,
        rest.pop("subresource", ""),
        metadata.get("namespace", ""),
        metadata["name"],
        user,
        new,
        old,
        **rest,
    )


async def everybody_may(user: User, request: RequestInfo) -> tuple[bool, str]:
    """The authoriser of those who test something else."""
    return True, ""


HARDENED: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "c",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}
"""The spec of a pod that the strictest of the standards lets pass."""
