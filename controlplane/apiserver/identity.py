"""The Lease by which an API server says that it is there, and the removal of those of servers that are not any more.

Source: pkg/controlplane/apiserver/server.go, k8s.io/component-helpers/apimachinery/lease,
pkg/controlplane/controller/apiserverleasegc; KEP-1965.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from dataclasses import dataclass
from datetime import timedelta

from controlplane.apiserver.handlers.contract import Loopback
from controlplane.apiserver.reader import Reader
from machinery.api.catalogue import LEASES
from machinery.api.meta import Object, format_micro_time, labels_of, name_of, parse_time
from machinery.clock import Clock
from machinery.errors import NavarchError, NotFound
from machinery.log import get_logger

log = get_logger(__name__)

NAMESPACE = "kube-system"
LABEL, COMPONENT = "apiserver.kubernetes.io/identity", "kube-apiserver"
_COLLECT_SECONDS = 3600.0


def lease_name(hostname: str) -> str:
    """The same for a server after each restart on its host."""
    digest = hashlib.sha256(hostname.encode()).digest()[:16]
    return "apiserver-" + base64.b32encode(digest).decode().rstrip("=").lower()


@dataclass(frozen=True, slots=True)
class Identity:
    """One server's Lease, renewed every `renew_seconds` and good for `lease_seconds`."""

    loopback: Loopback
    reader: Reader
    clock: Clock
    hostname: str
    lease_seconds: int
    renew_seconds: float

    async def keep(self) -> None:
        """Renew the Lease until cancelled. It is not given back: a server that restarts finds its own again."""
        holder = f"{lease_name(self.hostname)}_{uuid.uuid4()}"
        while True:
            try:
                await self._renew(holder)
            except NavarchError as exc:
                log.warning("the API server's own lease not renewed", reason=str(exc))
            await self.clock.sleep(self.renew_seconds)

    async def _renew(self, holder: str) -> None:
        name = lease_name(self.hostname)
        try:
            found = await self.loopback.get(LEASES, name, NAMESPACE)
        except NotFound:
            await self.loopback.create(LEASES, self._lease({"name": name}, holder), NAMESPACE)
        else:
            await self.loopback.update(LEASES, self._lease(found["metadata"], holder))

    def _lease(self, metadata: Object, holder: str) -> Object:
        labels = {**(metadata.get("labels") or {}), LABEL: COMPONENT, "kubernetes.io/hostname": self.hostname}
        return {
            "metadata": {**metadata, "namespace": NAMESPACE, "labels": labels},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": self.lease_seconds,
                "renewTime": format_micro_time(self.clock.now()),
            },
        }

    async def collect(self) -> None:
        """Remove the Leases of servers that have long stopped, every hour, until cancelled."""
        while True:
            await self.clock.sleep(_COLLECT_SECONDS)
            for lease in self.reader.list(LEASES, NAMESPACE):
                if labels_of(lease).get(LABEL) == COMPONENT and self._has_run_out(lease):
                    try:
                        await self.loopback.delete(LEASES, name_of(lease), NAMESPACE)
                    except NotFound:
                        pass  # another server was quicker
                    except NavarchError as exc:
                        log.warning("lease of another API server not removed", lease=name_of(lease), reason=str(exc))

    def _has_run_out(self, lease: Object) -> bool:
        spec = lease.get("spec") or {}
        renewed, seconds = spec.get("renewTime"), spec.get("leaseDurationSeconds")
        return not renewed or not seconds or parse_time(renewed) + timedelta(seconds=seconds) < self.clock.now()
