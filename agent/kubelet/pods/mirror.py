"""Mirror pods: what the API shows of static pods, which run whether there is an API or not.

Source: kubelet's pod/mirror_client.go; Create static Pods.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from agent.kubelet.container import identity
from agent.kubelet.pods import spec
from machinery.api import meta
from machinery.api.catalogue import NODES, PODS
from machinery.api.meta import Object
from machinery.client.rest import Client
from machinery.errors import AlreadyExists, Conflict, NotFound, StatusError, TransportError
from machinery.log import get_logger

log = get_logger(__name__)


class Mirrors:
    """Mirror pods of this node, by key. Without a client there are none."""

    def __init__(self, client: Client | None, node: Callable[[], Object | None]) -> None:
        """`node()` is this node's object, once it is registered."""
        self._client = client
        self._node = node
        self._known: dict[str, Object] = {}
        self._wanted: dict[str, str] = {}  # pod key: config hash

    def get(self, key: str) -> Object | None:
        """The mirror of the static pod of this key, if it shows what runs now."""
        mirror = self._known.get(key)
        if mirror is None or _hash(mirror) != self._wanted.get(key, _hash(mirror)):
            return None
        return mirror

    def seen(self, mirror: Object) -> None:
        """The API has this mirror pod."""
        self._known[meta.key_of(mirror)] = mirror

    def lost(self, key: str) -> None:
        """The API no longer has it."""
        self._known.pop(key, None)

    def orphans(self, static_keys: set[str]) -> list[Object]:
        """Mirror pods whose static pods are no more."""
        return [mirror for key, mirror in self._known.items() if key not in static_keys]

    async def ensure(self, pod: Object) -> bool:
        """Make the mirror of a static pod if it isn't there; False if that has to be tried again."""
        if not spec.is_static(pod) or self._client is None:
            return True
        key = meta.key_of(pod)
        self._wanted[key] = meta.uid_of(pod)
        mirror = self._known.get(key)
        try:
            if mirror is not None:
                if _hash(mirror) == meta.uid_of(pod) and not meta.is_deleting(mirror):
                    return True
                await self._delete(mirror)
            await self._create(pod)
        except (StatusError, TransportError) as error:
            log.warning("cannot make mirror pod", pod=key, err=str(error))
        return key in self._known

    async def _create(self, pod: Object) -> None:
        node = self._node()
        if node is None or self._client is None:
            return
        annotations = {**meta.annotations_of(pod), identity.CONFIG_MIRROR: meta.uid_of(pod)}
        metadata = {
            "name": meta.name_of(pod),
            "namespace": meta.namespace_of(pod),
            "annotations": annotations,
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": NODES.kind,
                    "name": meta.name_of(node),
                    "uid": meta.uid_of(node),
                    "controller": True,
                }
            ],
        }
        if meta.labels_of(pod):
            metadata["labels"] = meta.labels_of(pod)
        mirror = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}
        try:
            made = await self._client.create(PODS, mirror)
        except AlreadyExists:
            made = await self._client.get(PODS, meta.name_of(pod), meta.namespace_of(pod))
            if _hash(made) != meta.uid_of(pod):
                await self._delete(made)
                return
        self._known[meta.key_of(made)] = made

    async def _delete(self, mirror: Object) -> None:
        if self._client is None:
            return
        with contextlib.suppress(NotFound, Conflict):
            await self._client.delete(
                PODS, meta.name_of(mirror), meta.namespace_of(mirror), grace_seconds=0, uid=meta.uid_of(mirror)
            )
        self._known.pop(meta.key_of(mirror), None)

    async def remove(self, pod: Object) -> None:
        """The static pod is gone: its mirror too."""
        key = meta.key_of(pod)
        mirror = self._known.get(key)
        if self._wanted.get(key) == meta.uid_of(pod):
            del self._wanted[key]
        if mirror is not None and _hash(mirror) == meta.uid_of(pod):
            await self.remove_mirror(mirror)

    async def remove_mirror(self, mirror: Object) -> None:
        """Remove a mirror pod; a failure is logged and left to housekeeping."""
        try:
            await self._delete(mirror)
        except (StatusError, TransportError) as error:
            log.warning("cannot remove mirror pod", pod=meta.key_of(mirror), err=str(error))


def _hash(mirror: Object) -> str:
    return meta.annotations_of(mirror).get(identity.CONFIG_MIRROR, "")
