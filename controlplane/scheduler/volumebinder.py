"""Binding the claims that waited for their pod to have a node, before the pod itself is bound.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/volumebinding/binder.go.
"""

from __future__ import annotations

import asyncio

from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.plugins.volumes import SELECTED_NODE, Volumes, is_bound, volume_rows
from controlplane.scheduler.pod import Pod
from machinery.api.catalogue import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from machinery.api.meta import Object, annotations_of, key_of, name_of, namespace_of, uid_of
from machinery.client.rest import Client
from machinery.errors import NavarchError

_BIND_SECONDS = 600.0
_BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"


class VolumesNotBound(NavarchError):
    """The claims of a pod could not be bound on the chosen node; the pod must be scheduled again."""


class VolumeBinder:
    """Gives delayed claims their volumes, or asks provisioners for them."""

    def __init__(self, volumes: Volumes, client: Client) -> None:
        self._volumes = volumes
        self._client = client
        self._promised: set[str] = set()  # volumes chosen by us that the informer does not show as claimed yet
        self._changed = asyncio.Event()
        volumes.claims.on_change(lambda old, new: self._changed.set())

    async def bind(self, pod: Pod, nodes: NodeTable, node_name: str) -> None:
        """Bind every delayed claim of the pod for this node and wait until that is done. Raises VolumesNotBound."""
        claims = self._volumes.of(pod).delayed
        if not claims:
            return
        row = nodes.row(node_name)
        for claim in claims:
            volume = None if row is None else self._choose(claim, nodes, row)
            if volume is not None:
                await self._claim(volume, claim)
            elif annotations_of(claim).get(SELECTED_NODE) != node_name:
                change = {"metadata": {"annotations": {SELECTED_NODE: node_name}}}
                await self._client.patch(PERSISTENTVOLUMECLAIMS, name_of(claim), change, namespace_of(claim))
        try:
            async with asyncio.timeout(_BIND_SECONDS):
                await self._wait([key_of(claim) for claim in claims], node_name)
        except TimeoutError:
            raise VolumesNotBound("binding volumes: context deadline exceeded") from None

    def _choose(self, claim: Object, nodes: NodeTable, row: int) -> Object | None:
        for volume in self._volumes.candidates(claim):
            if name_of(volume) not in self._promised and volume_rows(volume, nodes)[row]:
                return volume
        return None

    async def _claim(self, volume: Object, claim: Object) -> None:
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "name": name_of(claim),
            "namespace": namespace_of(claim),
            "uid": uid_of(claim),
            "resourceVersion": claim["metadata"]["resourceVersion"],
        }
        self._promised.add(name_of(volume))
        annotations = {**annotations_of(volume), _BOUND_BY_CONTROLLER: "yes"}
        changed = {
            **volume,
            "metadata": {**volume["metadata"], "annotations": annotations},
            "spec": {**volume["spec"], "claimRef": reference},
        }
        try:
            await self._client.update(PERSISTENTVOLUMES, changed)
        finally:
            self._promised.discard(name_of(volume))

    async def _wait(self, keys: list[str], node_name: str) -> None:
        while True:
            self._changed.clear()
            waiting = False
            for key in keys:
                claim = self._volumes.claims.get(key)
                if claim is None:
                    raise VolumesNotBound(f"persistentvolumeclaim {key!r} was deleted")
                if not is_bound(claim):
                    waiting = True
                    selected = annotations_of(claim).get(SELECTED_NODE)
                    if selected not in (None, node_name):
                        raise VolumesNotBound(f"persistentvolumeclaim {key!r} was given to node {selected!r}")
            if not waiting:
                return
            await self._changed.wait()
