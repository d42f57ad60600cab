"""The Service `kubernetes` in the namespace `default`, by which the cluster reaches its API servers.

Each server keeps a lease in storage for as long as it lives; the addresses with a lease are the Service's endpoints.

Source: pkg/controlplane/controller/kubernetesservice, pkg/controlplane/reconcilers/lease.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from controlplane.apiserver.allocation.addresses import Network, Range
from controlplane.apiserver.handlers.contract import Loopback
from controlplane.apiserver.storage.contract import Storage
from machinery.api.catalogue import ENDPOINTS, ENDPOINTSLICES, SERVICES
from machinery.api.meta import Object
from machinery.clock import Clock
from machinery.errors import AlreadyExists, Conflict, NavarchError, NotFound, RevisionConflict
from machinery.log import get_logger

log = get_logger(__name__)

NAME, NAMESPACE = "kubernetes", "default"
LEASE_SECONDS = 15
RENEW_SECONDS = 10.0
_PORT = 443


@dataclass(frozen=True, slots=True)
class KubernetesService:
    """One server's part in it. `address` and `port` are where this server can be reached."""

    loopback: Loopback
    storage: Storage
    prefix: str
    address: str
    port: int
    service_range: Network
    clock: Clock

    @property
    def _lease_key(self) -> str:
        return f"{self.prefix}masterleases/{self.address}"

    async def ensure_service(self) -> None:
        """The Service exists, with the first address of the range."""
        with contextlib.suppress(AlreadyExists):
            try:
                await self.loopback.get(SERVICES, NAME, NAMESPACE)
            except NotFound:
                await self.loopback.create(SERVICES, self._service(), NAMESPACE)

    def _service(self) -> Object:
        labels = {"component": "apiserver", "provider": "kubernetes"}
        address = Range(self.service_range).address(0)
        return {
            "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": address,
                "clusterIPs": [address],
                "ipFamilies": [f"IPv{self.service_range.version}"],
                "ipFamilyPolicy": "SingleStack",
                "sessionAffinity": "None",
                "ports": [{"name": "https", "protocol": "TCP", "port": _PORT, "targetPort": self.port}],
            },
        }

    async def run(self) -> None:
        """Keep the lease and the endpoints until cancelled; then take this server out."""
        try:
            while True:
                try:
                    await self.renew()
                    await self.reconcile()
                except NavarchError as exc:
                    log.warning("endpoints of the service kubernetes not brought up to date", reason=str(exc))
                await self.clock.sleep(RENEW_SECONDS)
        finally:
            with contextlib.suppress(NavarchError, TimeoutError):
                async with asyncio.timeout(2):
                    await self.leave()

    async def renew(self) -> None:
        """Say that this server lives."""
        obj: Object = {
            "kind": "Endpoints",
            "apiVersion": "v1",
            "metadata": {"name": self.address},
            "subsets": [{"addresses": [{"ip": self.address}]}],
        }
        stored, _ = await self.storage.get(self._lease_key)
        expected = stored.revision if stored is not None else 0
        with contextlib.suppress(RevisionConflict):  # the old lease ran out in between: the next round writes it
            await self.storage.put(self._lease_key, orjson.dumps(obj), expected=expected, ttl_seconds=LEASE_SECONDS)

    async def leave(self) -> None:
        """Say that this server is going."""
        stored, _ = await self.storage.get(self._lease_key)
        if stored is not None:
            with contextlib.suppress(RevisionConflict):
                await self.storage.delete(self._lease_key, expected=stored.revision)
        await self.reconcile()

    async def reconcile(self) -> None:
        """Make the endpoints those of all servers with a lease."""
        prefix = f"{self.prefix}masterleases/"
        stored, _, _ = await self.storage.list(prefix)
        addresses = sorted((one.key.removeprefix(prefix) for one in stored), key=_order)
        await self._write(ENDPOINTS, self._endpoints(addresses), "subsets")
        await self._write(ENDPOINTSLICES, self._slice(addresses), "endpoints", "ports")

    async def _write(self, resource: object, wanted: Object, *fields: str) -> None:
        kind = ENDPOINTS if resource is ENDPOINTS else ENDPOINTSLICES
        try:
            found = await self.loopback.get(kind, NAME, NAMESPACE)
        except NotFound:
            with contextlib.suppress(AlreadyExists):
                await self.loopback.create(kind, wanted, NAMESPACE)
            return
        labels = {**(found["metadata"].get("labels") or {}), **wanted["metadata"]["labels"]}
        same = labels == (found["metadata"].get("labels") or {})
        if same and all(_comparable(found.get(field)) == _comparable(wanted.get(field)) for field in fields):
            return
        changed = {**found, **{field: wanted[field] for field in fields}}
        changed["metadata"] = {**found["metadata"], "labels": labels}
        with contextlib.suppress(Conflict):  # another server was quicker; the next round sees
            await self.loopback.update(kind, changed)

    def _endpoints(self, addresses: Sequence[str]) -> Object:
        ports = [{"name": "https", "port": self.port, "protocol": "TCP"}]
        subsets = [{"addresses": [{"ip": ip} for ip in addresses], "ports": ports}] if addresses else []
        labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}
        return {"metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels}, "subsets": subsets}

    def _slice(self, addresses: Sequence[str]) -> Object:
        family = "IPv6" if ":" in self.address else "IPv4"
        return {
            "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
            "addressType": family,
            "endpoints": [
                {"addresses": [ip], "conditions": {"ready": True}}
                for ip in addresses
                if (":" in ip) == (family == "IPv6")
            ],
            "ports": [{"name": "https", "port": self.port, "protocol": "TCP"}],
        }


def _order(address: str) -> tuple[int, int]:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return 0, 0
    return parsed.version, int(parsed)


def _comparable(value: object) -> object:
    return value or []
