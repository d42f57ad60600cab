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
        every = [endpoint for endpoints in desired.values() for endpoint in endpoints]
        chosen = iter(_by_shares(every, zone_shares(nodes())))
        return {ports: [next(chosen) for _ in endpoints] for ports, endpoints in desired.items()}
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
    """Hints so that each zone has endpoints for its share of CPU; none where that can't be without overload.

    Each endpoint is meant for its own zone first; then zones with more than their share give to those with less.

    Source: k8s.io/endpointslice/topologycache, "AddHints".
    """
    ready = [e for e in endpoints if _is_ready(e)]
    count = len(ready)
    least = {zone: math.ceil(share * count * (1 / (1 + _OVERLOAD))) for zone, share in shares.items()}
    if not shares or len(shares) > count or sum(least.values()) > count or any(not e.get("zone") for e in ready):
        return endpoints
    wanted = {zone: max(share * count, least[zone]) for zone, share in shares.items()}
    giving, receiving = _exchange(wanted, Counter(e["zone"] for e in ready))
    made = []
    for endpoint in endpoints:
        if not _is_ready(endpoint):
            made.append(endpoint)
            continue
        zone = endpoint["zone"]
        if giving[zone] > 0 and (needy := next((z for z in sorted(receiving) if receiving[z] > 0), "")):
            giving[zone] -= 1
            receiving[needy] -= 1
            zone = needy
        made.append({**endpoint, "hints": {"forZones": [{"name": zone}]}})
    return made


def _exchange(wanted: Mapping[str, float], present: Mapping[str, int]) -> tuple[Counter[str], Counter[str]]:
    """(how many endpoints each zone gives to others, how many it gets), the largest differences first."""
    surplus = {zone: present.get(zone, 0) - share for zone, share in wanted.items()}
    more = {zone: over for zone, over in surplus.items() if over > 0}
    fewer = {zone: -over for zone, over in surplus.items() if over < 0}
    giving: Counter[str] = Counter()
    receiving: Counter[str] = Counter()
    while more and fewer:
        giver, taker = (max(sorted(zones), key=lambda z: zones[z]) for zones in (more, fewer))
        if (more[giver] < 1.0 and fewer[taker] < 1.0) or more[giver] < 0.5 or fewer[taker] < 0.5:
            break
        giving[giver] += 1
        receiving[taker] += 1
        more[giver] -= 1
        fewer[taker] -= 1
    return giving, receiving
