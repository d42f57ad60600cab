"""The ConfigMaps and Secrets that pods of this node refer to: each watched by itself, while a pod needs it.

A node may read only what its pods refer to, object by object. The first use waits for the object; later ones are
answered from memory; a change calls `on_change(pod uid)` for each pod that uses it.

Source: kubelet's secret and configmap managers (watch strategy); Node authorisation.
"""

from __future__ import annotations

from collections.abc import Callable

from agent.kubelet.container.errors import ContainerConfigError
from machinery.api import meta
from machinery.api.catalogue import CONFIGMAPS, SECRETS
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.cache.informer import Informer, Informers
from machinery.client.rest import Client
from machinery.errors import NotFound, StatusError, TransportError


class ReferenceMissing(ContainerConfigError):
    """An object that a pod refers to does not exist, or can't be read now."""


class References:
    """Objects by reference. One for the whole kubelet; without a client (static pods alone) nothing is found."""

    def __init__(self, client: Client | None, informers: Informers | None, on_change: Callable[[str], None]) -> None:
        self._client = client
        self._informers = informers
        self._on_change = on_change
        self._watched: dict[tuple[ResourceType, str, str], Informer] = {}
        self._users: dict[tuple[ResourceType, str, str], set[str]] = {}

    async def config_map(self, namespace: str, name: str, *, optional: bool = False) -> Object | None:
        """A ConfigMap; None if it is optional and not there. Raises ReferenceMissing."""
        return await self._get(CONFIGMAPS, namespace, name, optional=optional)

    async def secret(self, namespace: str, name: str, *, optional: bool = False) -> Object | None:
        """A Secret; None if it is optional and not there. Raises ReferenceMissing."""
        return await self._get(SECRETS, namespace, name, optional=optional)

    def use(self, pod: Object) -> None:
        """Watch what this pod refers to from now on, and call back for it."""
        uid = meta.uid_of(pod)
        for which in referred(pod):
            self._users.setdefault(which, set()).add(uid)

    async def release(self, uid: str) -> None:
        """The pod is gone: stop watching what nobody else uses."""
        for which, users in list(self._users.items()):
            users.discard(uid)
            if not users:
                del self._users[which]
                informer = self._watched.pop(which, None)
                if informer is not None and self._informers is not None:
                    await self._informers.stop(informer)

    async def _get(self, kind: ResourceType, namespace: str, name: str, *, optional: bool) -> Object | None:
        if self._client is None:
            raise ReferenceMissing(f"{kind.singular} {namespace}/{name}: this kubelet has no API server")
        which = (kind, namespace, name)
        informer = self._watched.get(which)
        try:
            if informer is None:
                if which in self._users:
                    self._watch(which)
                return await self._client.get(kind, name, namespace)
            if not informer.has_synced:
                return await self._client.get(kind, name, namespace)
            found = informer.get(f"{namespace}/{name}")
            # What the watch doesn't have may be newer than it: an answer of "no" comes from the server itself.
            return found if found is not None else await self._client.get(kind, name, namespace)
        except NotFound as error:
            if optional:
                return None
            raise ReferenceMissing(f'{kind.singular} "{name}" not found') from error
        except (StatusError, TransportError) as error:
            raise ReferenceMissing(f"failed to fetch {kind.singular} {namespace}/{name}: {error}") from error

    def _watch(self, which: tuple[ResourceType, str, str]) -> None:
        if self._informers is None:
            return
        kind, namespace, name = which
        informer = self._informers.of(kind, namespace=namespace, field_selector=f"metadata.name={name}")
        self._watched[which] = informer

        def changed(old: Object | None, new: Object | None) -> None:
            if old is not None or informer.has_synced:
                for uid in list(self._users.get(which, ())):
                    self._on_change(uid)

        informer.on_change(changed)


def referred(pod: Object) -> set[tuple[ResourceType, str, str]]:
    """Every ConfigMap and Secret that a pod's spec names."""
    namespace, found = meta.namespace_of(pod), set()

    def add(kind: ResourceType, name: str | None) -> None:
        if name:
            found.add((kind, namespace, name))

    of_pod = pod["spec"]
    for secret in of_pod.get("imagePullSecrets") or ():
        add(SECRETS, secret.get("name"))
    for section in ("initContainers", "containers", "ephemeralContainers"):
        for container in of_pod.get(section) or ():
            for source in container.get("envFrom") or ():
                add(CONFIGMAPS, (source.get("configMapRef") or {}).get("name"))
                add(SECRETS, (source.get("secretRef") or {}).get("name"))
            for entry in container.get("env") or ():
                source = entry.get("valueFrom") or {}
                add(CONFIGMAPS, (source.get("configMapKeyRef") or {}).get("name"))
                add(SECRETS, (source.get("secretKeyRef") or {}).get("name"))
    for volume in of_pod.get("volumes") or ():
        add(CONFIGMAPS, (volume.get("configMap") or {}).get("name"))
        add(SECRETS, (volume.get("secret") or {}).get("secretName"))
        for source in (volume.get("projected") or {}).get("sources") or ():
            add(CONFIGMAPS, (source.get("configMap") or {}).get("name"))
            add(SECRETS, (source.get("secret") or {}).get("name"))
    return found
