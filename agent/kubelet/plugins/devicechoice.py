"""Which devices would be close to what else a container has: hints for the topology manager, and an order to take them.

Source: kubelet's cm/devicemanager (topology_hints.go, manager.go filterByAffinity).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agent.kubelet.plugins.api import deviceplugin_pb2 as pb
from agent.kubelet.plugins.devicerecords import NO_NODE
from agent.kubelet.resources.hints import Hint, mask_of, masks

Devices = Mapping[str, pb.Device]


def mask(device: pb.Device | None) -> int:
    """The NUMA nodes that a device is at; none if it doesn't say."""
    return mask_of(node.ID for node in device.topology.nodes) if device is not None else 0


def have_places(devices: Devices) -> bool:
    """Whether any device says where it is: then its kind cares."""
    return any(device.topology.nodes for device in devices.values())


def hints(
    devices: Devices, available: Iterable[str], reusable: Iterable[str], count: int, nodes: Sequence[int]
) -> list[Hint]:
    """Where so many devices could be, all of the reusable ones among them."""
    places = {i: mask(device) for i, device in devices.items()}
    free = [places.get(i, 0) for i in available]
    ours = [places[i] for i in reusable if places.get(i)]
    narrowest, found = len(nodes), []
    for candidate in masks(nodes):
        if sum(1 for place in places.values() if place & candidate) >= count:
            narrowest = min(narrowest, candidate.bit_count())
        fits = all(place & candidate for place in ours)
        if fits and len(ours) + sum(1 for place in free if place & candidate) >= count:
            found.append(candidate)
    return [Hint(candidate, candidate.bit_count() == narrowest) for candidate in found]


def by_affinity(
    devices: Devices, available: Iterable[str], wanted: int | None
) -> tuple[list[str], list[str], list[str]]:
    """Devices at the nodes of the wanted mask, at other nodes, and those of which no place is wanted or known."""
    near: list[str] = []
    far: list[str] = []
    anywhere: list[str] = []
    for i in sorted(available):
        place = mask(devices.get(i))
        if wanted is None or not place:
            anywhere.append(i)
        else:
            (near if place & wanted else far).append(i)
    return near, far, anywhere


def by_node(devices: Devices, ids: Iterable[str]) -> dict[int, list[str]]:
    """Ids by the nodes that they are at."""
    found: dict[int, list[str]] = {}
    for i in sorted(ids):
        device = devices.get(i)
        for number in [node.ID for node in device.topology.nodes] if device is not None else ():
            found.setdefault(number, []).append(i)
        if not mask(device):
            found.setdefault(NO_NODE, []).append(i)
    return found
