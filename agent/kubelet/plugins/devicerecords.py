"""Which container has which devices: kept in upstream's kubelet_internal_checkpoint, over restarts of the kubelet.

Source: kubelet's cm/devicemanager (pod_devices.go, checkpoint/checkpoint.go).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from agent.kubelet.plugins.api import deviceplugin_pb2 as pb
from agent.kubelet.resources.checkpoint import Checkpoint, corrupt, fnv32a, show_list, show_map, show_struct
from machinery.errors import SettingsError
from machinery.log import get_logger

log = get_logger(__name__)

FILE = "kubelet_internal_checkpoint"
NO_NODE = -1  # of devices that don't say where they are


@dataclass
class Record:
    """Devices of one resource that a container has, by NUMA node, and its plugin's answer once it has been asked."""

    ids: list[str]
    by_node: dict[int, list[str]] = field(default_factory=dict)
    response: bytes | None = None


class DeviceRecords:
    """Records by pod, container and resource."""

    def __init__(self, directory: str) -> None:
        self._file = Checkpoint(Path(directory, FILE))
        self._pods: dict[str, dict[str, dict[str, Record]]] = {}
        self.registered: dict[str, list[str]] = {}  # ids of usable devices by resource, as last written
        try:
            self._restore(self._file.read())
        except SettingsError as error:
            log.error("continue after failing to read checkpoint file: allocations may not be up to date", error=error)

    def _restore(self, document: Any) -> None:
        if document is None:
            return
        try:
            data = document["Data"]
            entries, registered = data["PodDeviceEntries"], data["RegisteredDevices"] or {}
            found = [(e["PodUID"], e["ContainerName"], e["ResourceName"], _record(e)) for e in entries or ()]
            checksum = int(document.get("Checksum") or 0)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SettingsError(f"{self._file.path}: {error}") from error
        shown = None if entries is None else [_show_entry(*entry) for entry in found]
        actual = _checksum(shown, registered)
        if checksum != actual:
            raise corrupt(actual, checksum)
        self.registered = {name: list(ids or ()) for name, ids in registered.items()}
        for uid, container, resource, record in found:
            self._pods.setdefault(uid, {}).setdefault(container, {})[resource] = record

    def is_own(self, path: str) -> bool:
        """Whether this is the file of records."""
        return Path(path) == self._file.path

    def save(self, registered: Mapping[str, Sequence[str]] | None = None) -> None:
        """Write what there is; `registered` are the usable devices now."""
        if registered is not None:
            self.registered = {name: sorted(ids) for name, ids in registered.items()}
        found = [entry for entry in self._entries() if entry[3].response is not None]
        entries = [
            {
                "PodUID": uid,
                "ContainerName": container,
                "ResourceName": resource,
                "DeviceIDs": {str(node): ids for node, ids in sorted(record.by_node.items())},
                "AllocResp": base64.b64encode(record.response or b"").decode(),
            }
            for uid, container, resource, record in found
        ]
        checksum = _checksum([_show_entry(*entry) for entry in found] or None, self.registered)
        data = {"PodDeviceEntries": entries or None, "RegisteredDevices": self.registered}
        self._file.write({"Data": data, "Checksum": checksum})

    def _entries(self) -> Iterator[tuple[str, str, str, Record]]:
        for uid, containers in sorted(self._pods.items()):
            for container, resources in sorted(containers.items()):
                for resource, record in sorted(resources.items()):
                    yield uid, container, resource, record

    def taken(self, resource: str) -> set[str]:
        """Ids of a resource that some container has."""
        return {i for _, _, name, record in self._entries() if name == resource for i in record.ids}

    def resources(self, uid: str, container: str) -> list[str]:
        """The resources of which a container has devices."""
        return sorted(self._pods.get(uid, {}).get(container, {}))

    def ids(self, uid: str, container: str, resource: str) -> list[str]:
        """The devices that a container has of a resource."""
        record = self._pods.get(uid, {}).get(container, {}).get(resource)
        return list(record.ids) if record is not None else []

    def of_pod(self, uid: str, resource: str) -> set[str]:
        """The devices that a pod's containers have of a resource."""
        return {i for container in self._pods.get(uid, {}) for i in self.ids(uid, container, resource)}

    def choose(self, uid: str, container: str, resource: str, by_node: dict[int, list[str]]) -> None:
        """These devices are the container's."""
        ids = sorted({i for found in by_node.values() for i in found})
        if ids:
            self._pods.setdefault(uid, {}).setdefault(container, {})[resource] = Record(ids, by_node)

    def pending(self, uid: str) -> list[tuple[str, str]]:
        """(container, resource) of what the plugins have not been asked for yet."""
        return [
            (container, resource)
            for container, resources in sorted(self._pods.get(uid, {}).items())
            for resource, record in sorted(resources.items())
            if record.response is None
        ]

    def allocate(self, uid: str, container: str, resource: str, response: pb.ContainerAllocateResponse) -> None:
        """What the plugin said the container needs."""
        self._pods[uid][container][resource].response = response.SerializeToString()
        self.save()

    def responses(self, uid: str, container: str) -> list[pb.ContainerAllocateResponse]:
        """What the plugins said a container needs."""
        found = []
        for resource, record in sorted(self._pods.get(uid, {}).get(container, {}).items()):
            try:
                found.append(pb.ContainerAllocateResponse.FromString(record.response or b""))
            except DecodeError as error:
                log.error("cannot read what a device needs", container=container, resource=resource, err=str(error))
        return found

    def known(self) -> set[str]:
        """The uids of pods that have any."""
        return set(self._pods)

    def forget(self, uid: str) -> None:
        """The pod has none any more."""
        if self._pods.pop(uid, None) is not None:
            self.save()


def _record(entry: Mapping[str, Any]) -> Record:
    by_node = {int(node): list(ids) for node, ids in (entry["DeviceIDs"] or {}).items()}
    response = base64.b64decode(entry["AllocResp"] or "", validate=True)
    return Record(sorted({i for ids in by_node.values() for i in ids}), by_node, response)


def _show_entry(uid: str, container: str, resource: str, record: Record) -> str:
    return show_struct(
        [
            ("PodUID", "string", uid),
            ("ContainerName", "string", container),
            ("ResourceName", "string", resource),
            (
                "DeviceIDs",
                "checkpoint.DevicesPerNUMA",
                show_map({node: show_list(ids) for node, ids in record.by_node.items()}),
            ),
            ("AllocResp", "[]uint8", show_list(record.response or b"")),
        ]
    )


def _checksum(entries: list[str] | None, registered: Mapping[str, Sequence[str]]) -> int:
    shown = show_struct(
        [
            ("PodDeviceEntries", "[]checkpoint.PodDevicesEntry", "<nil>" if entries is None else show_list(entries)),
            ("RegisteredDevices", "map[string][]string", show_map({n: show_list(i) for n, i in registered.items()})),
        ]
    )
    return fnv32a(f"(checkpoint.checkpointData){shown}")
