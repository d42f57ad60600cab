"""Binding the claims that waited for their pod to have a node, before the pod itself is bound.

Source: k8s.io/kubernetes/pkg/scheduler/framework/plugins/volumebinding/binder.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from controlplane.scheduler.nodes import NodeTable
from controlplane.scheduler.pod import Pod
from controlplane.scheduler.rows import Rows
from controlplane.scheduler.storage import SELECTED_NODE, Storage, is_bound, requested_storage, volume_rows
from machinery.api.catalogue import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from machinery.api.meta import Object, annotations_of, key_of, name_of, namespace_of, uid_of
from machinery.client.rest import Client
from machinery.errors import NavarchError

BIND_SECONDS = 600.0
_BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"

Choice = tuple[Object, Object | None]
"""(a claim, the volume chosen for it; None: one is to be provisioned)"""


class VolumesNotBound(NavarchError):
    """The claims of a pod could not be bound on the chosen node; the pod must be scheduled again."""


class VolumeBinder:
    """Gives delayed claims their volumes, or asks provisioners for them."""

    name = "VolumeBinding"

    def __init__(self, storage: Storage, client: Client, nodes: NodeTable, bind_seconds: float = BIND_SECONDS) -> None:
        """`bind_seconds`: VolumeBindingArgs.bindTimeoutSeconds."""
        self._storage = storage
        self._client = client
        self._nodes = nodes
        self._bind_seconds = bind_seconds
        self._chosen: dict[str, Sequence[Choice]] = {}
        self._changed = asyncio.Event()
        storage.claims.on_change(lambda old, new: self._changed.set())

    def reserve(self, pod: Pod, node_name: str) -> bool:
        """Promise the pod's delayed claims the volumes they will have on this node."""
        if not pod.shape.claims:
            return False
        claims = self._storage.of(pod).delayed
        row = self._nodes.row(node_name)
        if not claims or row is None:
            return False
        rows = Rows(self._nodes, np.array([row], np.int64))
        choices: list[Choice] = []
        for claim in sorted(claims, key=requested_storage):
            found = None
            if not annotations_of(claim).get(SELECTED_NODE):
                free = (volume for volume in self._storage.candidates(claim) if volume_rows(volume, rows)[0])
                found = next((volume for volume in free if self._storage.promised.get(name_of(volume)) is None), None)
            if found is not None:
                self._storage.promised[name_of(found)] = key_of(claim)
            choices.append((claim, found))
        self._chosen[pod.key] = choices
        return True

    async def before_binding(self, pod: Pod, node_name: str) -> None:
        """Bind every delayed claim of the pod for this node and wait until that is done. Raises VolumesNotBound."""
        choices = self._chosen.get(pod.key, ())
        for claim, volume in choices:
            if volume is not None:
                await self._claim(volume, claim)
            elif annotations_of(claim).get(SELECTED_NODE) != node_name:
                change = {"metadata": {"annotations": {SELECTED_NODE: node_name}}}
                await self._client.patch(PERSISTENTVOLUMECLAIMS, name_of(claim), change, namespace_of(claim))
        try:
            async with asyncio.timeout(self._bind_seconds):
                await self._wait([key_of(claim) for claim, _ in choices], node_name)
        except TimeoutError:
            raise VolumesNotBound("binding volumes: context deadline exceeded") from None
        self._release(pod)

    async def unreserve(self, pod: Pod, node_name: str) -> None:
        """Take the promises back."""
        self._release(pod)

    def _release(self, pod: Pod) -> None:
        for _, volume in self._chosen.pop(pod.key, ()):
            if volume is not None:
                self._storage.promised.pop(name_of(volume), None)

    async def _claim(self, volume: Object, claim: Object) -> None:
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "name": name_of(claim),
            "namespace": namespace_of(claim),
            "uid": uid_of(claim),
            "resourceVersion": claim["metadata"]["resourceVersion"],
        }
        annotations = {**annotations_of(volume), _BOUND_BY_CONTROLLER: "yes"}
        changed = {
            **volume,
            "metadata": {**volume["metadata"], "annotations": annotations},
            "spec": {**volume["spec"], "claimRef": reference},
        }
        await self._client.update(PERSISTENTVOLUMES, changed)

    async def _wait(self, keys: list[str], node_name: str) -> None:
        while True:
            self._changed.clear()
            waiting = False
            for key in keys:
                claim = self._storage.claims.get(key)
                if claim is None:
                    raise VolumesNotBound(f"binding volumes: persistentvolumeclaim {key!r} not found")
                if not is_bound(claim):
                    waiting = True
                    selected = annotations_of(claim).get(SELECTED_NODE)
                    if selected not in (None, node_name):
                        raise VolumesNotBound(
                            f'binding volumes: selectedNode annotation value "{selected}" '
                            f'not set to scheduled node "{node_name}"'
                        )
            if not waiting:
                return
            await self._changed.wait()
