"""Hints that keep traffic near: for which zone, or node, an endpoint is meant.  Pure functions.

Source: KEP-4444 and KEP-3015 (trafficDistribution), KEP-2433 (topology aware routing).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from controlplane.controllers.endpoints.model import ZONE, PortSet
from machinery.api import quantity
from machinery.api.meta import Object, annotations_of, condition, labels_of

_AUTO = ("Auto", "auto")
_OVERLOAD = 0.2
_PER_ZONE = 3


def distribution_of(service: Object) -> str:
    """ "", PreferSameZone, PreferSameNode, or Auto (the older annotation, which wins)."""
    annotations = annotations_of(service)
    mode = annotations.get("service.kubernetes.io/topology-mode") or annotations.get(
        "service.kubernetes.io/topology-aware-hints", ""
    )
    if mode in _AUTO:
        return "Auto"
    chosen = str(service["spec"].get("trafficDistribution") or "")
    return {"PreferClose": "PreferSameZone"}.get(chosen, chosen)


def with_hints(
    desired: Mapping[PortSet, list[Object]], distribution: str, nodes: Callable[[], Iterable[Object]]
) -> dict[PortSet, list[Object]]:
    """The endpoints with the hints that the distribution asks for."""
    if distribution == "Auto":
        shares = zone_shares(nodes())
        return {ports: _by_shares(endpoints, shares) for ports, endpoints in desired.items()}
    if distribution in ("PreferSameZone", "PreferSameNode"):
        return {ports: [_near(e, distribution) for e in endpoints] for ports, endpoints in desired.items()}
    return dict(desired)


def _is_ready(endpoint: Object) -> bool:
    return bool((endpoint.get("conditions") or {}).get("ready", True))


def _near(endpoint: Object, distribution: str) -> Object:
    if not _is_ready(endpoint):
        return endpoint
    hints: Object = {}
    if endpoint.get("zone"):
        hints["forZones"] = [{"name": endpoint["zone"]}]
    if distribution == "PreferSameNode" and endpoint.get("nodeName"):
        hints["forNodes"] = [{"name": endpoint["nodeName"]}]
    return {**endpoint, "hints": hints} if hints else endpoint


def zone_shares(nodes: Iterable[Object]) -> dict[str, float]:
    """Each zone's share of the CPU of all ready nodes; empty if hints would make no sense."""
    cpu: dict[str, int] = defaultdict(int)
    for node in nodes:
        labels = labels_of(node)
        if {"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"} & labels.keys():
            continue
        status = node.get("status") or {}
        ready = condition(status.get("conditions"), "Ready")
        if ready is None or ready["status"] != "True":
            continue
        allocatable = (status.get("allocatable") or {}).get("cpu")
        if not labels.get(ZONE) or not allocatable:
            return {}
        cpu[labels[ZONE]] += quantity.parse(allocatable).milli_value()
    total = sum(cpu.values())
    return {zone: millis / total for zone, millis in cpu.items()} if len(cpu) > 1 and total else {}


def _by_shares(endpoints: list[Object], shares: Mapping[str, float]) -> list[Object]:
    """Hints so that each zone has endpoints for its share of CPU; none where that can't be without overload."""
    ready = [e for e in endpoints if _is_ready(e)]
    if not shares or len(ready) < _PER_ZONE * len(shares) or any(not e.get("zone") for e in ready):
        return endpoints
    count = len(ready)
    present = Counter(e["zone"] for e in ready)
    least = {zone: math.ceil(share * count / (1 + _OVERLOAD)) for zone, share in shares.items()}
    if sum(least.values()) > count:
        return endpoints
    chosen: dict[int, str] = {}
    spare: list[Object] = []
    taken: Counter[str] = Counter()
    wanted = {zone: share * count for zone, share in shares.items()}
    for endpoint in ready:
        zone = endpoint["zone"]
        if zone in wanted and taken[zone] < max(least[zone], math.floor(wanted[zone])):
            taken[zone] += 1
            chosen[id(endpoint)] = zone
        else:
            spare.append(endpoint)
    for endpoint in spare:
        needy = [z for z in wanted if taken[z] < least[z]]
        own = endpoint["zone"] if endpoint["zone"] in wanted else ""
        zone = max(needy, key=lambda z: least[z] - taken[z]) if needy else own or next(iter(wanted))
        taken[zone] += 1
        chosen[id(endpoint)] = zone
    if any(taken[zone] < least[zone] for zone in wanted) or not present:
        return endpoints
    return [{**e, "hints": {"forZones": [{"name": chosen[id(e)]}]}} if id(e) in chosen else e for e in endpoints]
