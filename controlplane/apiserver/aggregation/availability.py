"""Whether an APIService can be had, and why not. Pure.

Source: kube-aggregator/pkg/controllers/status/remote/remote_available_controller.go, …/status/local.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.apiserver.registry.objects import items, sub, text
from machinery.api.fielderror import show
from machinery.api.meta import Object


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the condition `Available` says."""

    available: bool
    reason: str
    message: str

    def condition(self) -> dict[str, Any]:
        """The condition, without its time."""
        status = "True" if self.available else "False"
        return {"type": "Available", "status": status, "reason": self.reason, "message": self.message}


LOCAL = Verdict(True, "Local", "Local APIServices are always available")
PASSED = Verdict(True, "Passed", "all checks passed")


def of_service(reference: Object, service: Object | None, slices: Sequence[Object]) -> Verdict | None:
    """Why the Service of an APIService can't be reached; None if it may be."""
    name, namespace = text(reference, "name"), text(reference, "namespace")
    port = reference.get("port") or 443
    if service is None:
        return Verdict(False, "ServiceNotFound", f"service/{name} in {show(namespace)} is not present")
    if text(service, "spec", "type") == "ExternalName":
        return None
    found = next((p for p in items(service, "spec", "ports") if p.get("port") == port), None)
    if found is None:
        told = f"service/{name} in {show(namespace)} is not listening on port {port}"
        return Verdict(False, "ServicePortError", told)
    if not sub(service, "spec").get("selector"):
        return None  # its endpoints are somebody else's matter
    if not slices:
        told = f"cannot find endpointslices for service/{name} in {show(namespace)}"
        return Verdict(False, "EndpointsNotFound", told)
    wanted = text(found, "name")
    if not any(_serves(piece, wanted) for piece in slices):
        told = f"endpointslices for service/{name} in {show(namespace)} have no addresses with port name {show(wanted)}"
        return Verdict(False, "MissingEndpoints", told)
    return None


def _serves(piece: Object, port_name: str) -> bool:
    has_port = any(text(p, "name") == port_name for p in items(piece, "ports"))
    ready = (e for e in items(piece, "endpoints") if sub(e, "conditions").get("ready") is not False)
    return has_port and any(e.get("addresses") for e in ready)


def failed_discovery(url: str, why: str) -> Verdict:
    """The server does not answer for what it should serve."""
    return Verdict(False, "FailedDiscoveryCheck", f"failing or missing response from {url}: {why}")
