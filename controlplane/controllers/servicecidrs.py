"""ServiceCIDRs: ready once they are there, and kept while addresses of theirs are in use.

Source: k8s.io/kubernetes/pkg/controller/servicecidrs/servicecidrs_controller.go; KEP-1880.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.controllers.environment import Environment
from controlplane.controllers.options import Network
from machinery.api.catalogue import IPADDRESSES, SERVICECIDRS
from machinery.api.meta import Object, condition, format_time, is_deleting, name_of, set_condition
from machinery.cache.informer import Informer
from machinery.client.rest import STRATEGIC, Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.errors import NotFound
from machinery.events import EventRecorder

ACCOUNT = "service-cidrs-controller"
FINALIZER = "networking.k8s.io/service-cidr-finalizer"
_IN_USE = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
_GRACE_SECONDS = 10.0
"""How long after its deletion was asked for a ServiceCIDR is kept, so that API servers stop allocating from it."""


def networks_of(cidr: Object) -> list[Network]:
    """spec.cidrs; what can't be read is left out."""
    found: list[Network] = []
    for text in cidr["spec"].get("cidrs") or ():
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue
    return found


def is_in_use(cidr: Object, others: Iterable[Object], addresses: Iterable[Object]) -> bool:
    """Whether an IPAddress lies in this ServiceCIDR and in no other one that stays."""
    own = networks_of(cidr)
    rest = [n for other in others if other is not cidr and not is_deleting(other) for n in networks_of(other)]
    for address in addresses:
        try:
            ip = ipaddress.ip_address(name_of(address))
        except ValueError:
            continue
        if any(ip in network for network in own) and not any(ip in network for network in rest):
            return True
    return False


@dataclass(frozen=True)
class ServiceCIDRReconciler:
    """Keeps one ServiceCIDR's finalizer and condition."""

    cidrs: Informer
    addresses: Informer
    client: Client
    recorder: EventRecorder
    clock: Clock

    async def reconcile(self, key: str) -> float | None:
        """One ServiceCIDR."""
        cidr = self.cidrs.get(key)
        if cidr is None:
            return None
        if not is_deleting(cidr):
            cidr = await self._protect(cidr)
            await self._tell(cidr, "True", "", "Kubernetes Service CIDR is ready")
            return None
        if FINALIZER not in (cidr["metadata"].get("finalizers") or ()):
            return None
        if is_in_use(cidr, self.cidrs.list(), self.addresses.list()):
            await self._tell(cidr, "False", "Terminating", _IN_USE)
            return None
        return await self._let_go(cidr)

    async def _protect(self, cidr: Object) -> Object:
        if FINALIZER in (cidr["metadata"].get("finalizers") or ()):
            return cidr
        patch = {"metadata": {"finalizers": [FINALIZER]}}
        return await self.client.patch(SERVICECIDRS, name_of(cidr), patch, content_type=STRATEGIC)

    async def _let_go(self, cidr: Object) -> float | None:
        told = condition((cidr.get("status") or {}).get("conditions"), "Ready")
        if told is None or told["status"] != "False":
            await self._tell(cidr, "False", "Terminating", "Kubernetes Service CIDR is being deleted")
            return _GRACE_SECONDS
        patch = {"metadata": {"uid": cidr["metadata"]["uid"], "$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        try:
            await self.client.patch(SERVICECIDRS, name_of(cidr), patch, content_type=STRATEGIC)
        except NotFound:
            return None
        return None

    async def _tell(self, cidr: Object, status: str, reason: str, message: str) -> None:
        conditions = [dict(c) for c in (cidr.get("status") or {}).get("conditions") or ()]
        told = {"type": "Ready", "status": status, "reason": reason, "message": message}
        if set_condition(conditions, told, now=format_time(self.clock.now())):
            changed = {**cidr, "status": {**(cidr.get("status") or {}), "conditions": conditions}}
            await self.client.update(SERVICECIDRS, changed, subresource="status")


def build(env: Environment) -> list[Controller]:
    """The controller of ServiceCIDRs."""
    cidrs, addresses = env.informer(SERVICECIDRS), env.informer(IPADDRESSES)
    recorder = env.recorder("service-cidrs-controller", ACCOUNT)
    reconciler = ServiceCIDRReconciler(cidrs, addresses, env.client_for(ACCOUNT), recorder, env.clock)
    controller = Controller("service_cidrs", reconciler.reconcile, workers=5)

    def cidr_changed(old: Object | None, new: Object | None) -> None:
        for cidr in cidrs.list():
            controller.enqueue(name_of(cidr))

    def address_gone(old: Object | None, new: Object | None) -> None:
        if new is None:
            for cidr in cidrs.list():
                if is_deleting(cidr):
                    controller.enqueue(name_of(cidr))

    cidrs.on_change(cidr_changed)
    addresses.on_change(address_gone)
    return [controller]
