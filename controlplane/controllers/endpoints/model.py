"""From a Service and its pods to endpoints: addresses, ports, readiness. Pure functions.

Source: k8s.io/endpointslice/util, k8s.io/kubernetes/pkg/controller/endpointslice; KEP-752, KEP-1672.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from controlplane.controllers.pods import is_ready, node_of, phase_of, pod_condition
from machinery.api.meta import Object, annotations_of, is_deleting, labels_of, name_of, namespace_of, parse_time, uid_of

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
HEADLESS = "service.kubernetes.io/headless"
CHANGE_TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"
ZONE = "topology.kubernetes.io/zone"
TOLERATE_UNREADY = "service.alpha.kubernetes.io/tolerate-unready-endpoints"


@dataclass(frozen=True)
class PortSet:
    """The ports that some endpoints have, as one key; endpoints of other ports live in other slices."""

    text: str

    @classmethod
    def of(cls, ports: Iterable[Object]) -> PortSet:
        """The same ports in any order give the same set."""
        cleaned = [{k: v for k, v in port.items() if v is not None} for port in ports]
        return cls(json.dumps(sorted(cleaned, key=lambda p: json.dumps(p, sort_keys=True)), sort_keys=True))

    @property
    def ports(self) -> list[Object]:
        """The ports, as a slice has them."""
        found: list[Object] = json.loads(self.text)
        return found


def selector_text(service: Object) -> dict[str, str] | None:
    """spec.selector; None for a Service whose endpoints somebody else manages."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return None
    return spec.get("selector") or None


def is_headless(service: Object) -> bool:
    """Whether the Service has no address of its own."""
    return (service["spec"].get("clusterIP") or "") == "None"


def publishes_unready(service: Object) -> bool:
    """Whether endpoints count as ready whatever their pods say."""
    annotation = annotations_of(service).get(TOLERATE_UNREADY, "")
    return bool(service["spec"].get("publishNotReadyAddresses")) or annotation in (
        "true",
        "1",
        "t",
        "T",
        "TRUE",
        "True",
    )


def families_of(service: Object) -> list[str]:
    """IPv4, IPv6: the address types of the Service's slices."""
    families = service["spec"].get("ipFamilies")
    if families:
        return list(families)
    address = str(service["spec"].get("clusterIP") or "")
    return ["IPv6"] if ":" in address else ["IPv4"]


def pod_addresses(pod: Object) -> list[str]:
    """All addresses of a pod."""
    status = pod.get("status") or {}
    found = [str(entry["ip"]) for entry in status.get("podIPs") or () if entry.get("ip")]
    return found or ([str(status["podIP"])] if status.get("podIP") else [])


def address_of(pod: Object, family: str) -> str:
    """The pod's address of a family, or ""."""
    return next((ip for ip in pod_addresses(pod) if (":" in ip) == (family == "IPv6")), "")


def may_serve(pod: Object, *, terminating: bool) -> bool:
    """Whether the pod can be an endpoint at all; those being deleted only if `terminating` ones are wanted."""
    if phase_of(pod) in ("Failed", "Succeeded") or not pod_addresses(pod):
        return False
    return terminating or not is_deleting(pod)


def port_of(pod: Object, port: Object) -> int | None:
    """The number of a Service's port in this pod; None if the pod has no port of that name."""
    target: Any = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target or int(port["port"])
    if target == "":
        return int(port["port"])
    protocol = port.get("protocol") or "TCP"
    spec = pod["spec"]
    restartable = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *restartable]:
        for offered in container.get("ports") or ():
            if offered.get("name") == target and (offered.get("protocol") or "TCP") == protocol:
                return int(offered["containerPort"])
    return None


def ports_for(service: Object, pod: Object) -> list[Object]:
    """The endpoint ports that the Service's ports become in this pod; those it does not have are left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = port_of(pod, port)
        if number is None:
            continue
        made = {"name": port.get("name") or "", "port": number, "protocol": port.get("protocol") or "TCP"}
        if port.get("appProtocol") is not None:
            made["appProtocol"] = port["appProtocol"]
        found.append(made)
    return found


def endpoint_of(service: Object, pod: Object, node: Object | None, family: str) -> Object:
    """One endpoint of an EndpointSlice."""
    serving, terminating = is_ready(pod), is_deleting(pod)
    ready = publishes_unready(service) or (serving and not terminating)
    made: Object = {
        "addresses": [address_of(pod, family)],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": {
            "kind": "Pod",
            "namespace": namespace_of(pod),
            "name": name_of(pod),
            "uid": uid_of(pod),
        },
    }
    if pod["spec"].get("nodeName"):
        made["nodeName"] = pod["spec"]["nodeName"]
    zone = labels_of(node).get(ZONE) if node is not None else None
    if zone:
        made["zone"] = zone
    spec = pod["spec"]
    if spec.get("hostname") and spec.get("subdomain") == name_of(service):
        made["hostname"] = spec["hostname"]
    return made


def desired_endpoints(
    service: Object, pods: Iterable[Object], node: Callable[[str], Object | None], family: str
) -> dict[PortSet, list[Object]]:
    """The endpoints of one address family, by the ports they have; one without any of the ports is one, too.

    A pod of a node that is not there is left out until the node is, unless unready ones are wanted.
    """
    found: dict[PortSet, list[Object]] = defaultdict(list)
    for pod in pods:
        if not may_serve(pod, terminating=True) or not address_of(pod, family):
            continue
        where = node(node_of(pod))
        if where is None and not publishes_unready(service):
            continue
        found[PortSet.of(ports_for(service, pod))].append(endpoint_of(service, pod, where, family))
    return found


def trigger_time(service: Object, pods: Iterable[Object], since: str) -> str:
    """The newest moment at which a pod's readiness, or the Service, changed after `since`; "" if none did.

    The time from it to a programmed rule is what the network programming latency measures.
    """
    ready = (pod_condition(pod, "Ready") or {} for pod in pods)
    moments = [item["lastTransitionTime"] for item in ready if item.get("lastTransitionTime")]
    created = service["metadata"].get("creationTimestamp")
    if created:
        moments.append(created)
    latest = max(moments, key=parse_time, default="")
    if not latest or (since and parse_time(latest) <= parse_time(since)):
        return ""
    return str(latest)
