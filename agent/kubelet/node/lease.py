"""The node's heartbeat: a Lease, renewed every few seconds.

Source: node heartbeats; component-helpers apimachinery/lease.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from machinery.api import meta
from machinery.api.catalogue import LEASES, NODES
from machinery.api.meta import Object
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.errors import AlreadyExists, Conflict, NotFound, StatusError, TransportError
from machinery.log import get_logger

log = get_logger(__name__)

NAMESPACE = "kube-node-lease"
_RENEWALS = 4  # in one lease duration
_RETRY_SECONDS = 1.0


class NodeLease:
    """Keeps one node's Lease."""

    def __init__(
        self, client: Client, node_name: str, seconds: int, clock: Clock, node: Callable[[], Object | None]
    ) -> None:
        self._client = client
        self._name = node_name
        self._seconds = seconds
        self._clock = clock
        self._node = node
        self._lease: Object | None = None

    async def run(self) -> None:
        """Renew until cancelled."""
        period = self._seconds / _RENEWALS
        while True:
            try:
                await self._renew()
                pause = period * random.uniform(1.0, 1.04)
            except (StatusError, TransportError) as error:
                log.warning("cannot renew node lease", node=self._name, err=str(error))
                self._lease = None
                pause = min(_RETRY_SECONDS, period)
            await self._clock.sleep(pause)

    async def _renew(self) -> None:
        now = meta.format_micro_time(self._clock.now())
        if self._lease is None:
            await self._take(now)
            return
        wanted = {**self._lease, "spec": {**self._lease["spec"], "renewTime": now}}
        try:
            self._lease = await self._client.update(LEASES, wanted)
        except (Conflict, NotFound):
            await self._take(now)

    async def _take(self, now: str) -> None:
        own = {"holderIdentity": self._name, "leaseDurationSeconds": self._seconds, "renewTime": now}
        metadata: Object = {"name": self._name, "namespace": NAMESPACE}
        node = self._node()
        if node is not None:
            metadata["ownerReferences"] = [meta.owner_reference(node, NODES, controller=False)]
        try:
            found = await self._client.get(LEASES, self._name, NAMESPACE)
        except NotFound:
            fresh = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": own}
            try:
                self._lease = await self._client.create(LEASES, fresh)
            except AlreadyExists:
                self._lease = None
            return
        found["spec"] = {**(found.get("spec") or {}), **own}
        self._lease = await self._client.update(LEASES, found)
