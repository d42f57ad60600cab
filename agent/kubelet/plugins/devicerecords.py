"""Which container has which devices, and which resources are plugins': kept in a file, over restarts of the kubelet."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from agent.kubelet.jsonfile import JsonFile
from agent.kubelet.plugins.api import deviceplugin_pb2 as pb
from machinery.api.meta import Object
from machinery.log import get_logger

log = get_logger(__name__)

_FILE = "navarch_devices.json"


class DeviceRecords:
    """Records by pod, container and resource: `ids`, and the plugin's answer once it has been asked."""

    def __init__(self, directory: str) -> None:
        self._file = JsonFile(Path(directory, _FILE))
        kept = self._file.read() or {}
        self._pods: dict[str, dict[str, dict[str, Object]]] = kept.get("pods") or {}
        self._registered: list[str] = kept.get("registered") or []

    def is_own(self, path: str) -> bool:
        """Whether this is the file of records."""
        return Path(path) == self._file.path

    def _save(self) -> None:
        self._file.write({"pods": self._pods, "registered": self._registered})

    @property
    def registered(self) -> tuple[str, ...]:
        """The resources that plugins have had, in this run or an earlier one."""
        return tuple(self._registered)

    def register(self, resource: str) -> None:
        """A plugin has this resource."""
        if resource not in self._registered:
            self._registered.append(resource)
            self._save()

    def taken(self, resource: str) -> set[str]:
        """Ids of a resource that some container has."""
        return {
            i
            for containers in self._pods.values()
            for resources in containers.values()
            for i in resources.get(resource, {}).get("ids", ())
        }

    def resources(self, uid: str, container: str) -> list[str]:
        """The resources of which a container has devices."""
        return sorted(self._pods.get(uid, {}).get(container, {}))

    def ids(self, uid: str, container: str, resource: str) -> list[str]:
        """The devices that a container has of a resource."""
        return list(self._pods.get(uid, {}).get(container, {}).get(resource, {}).get("ids", ()))

    def choose(self, uid: str, container: str, resource: str, ids: list[str]) -> None:
        """These devices are the container's."""
        if ids:
            self._pods.setdefault(uid, {}).setdefault(container, {})[resource] = {"ids": ids}

    def pending(self, uid: str) -> Iterator[tuple[str, str, list[str]]]:
        """(container, resource, ids) of what the plugins have not been asked for yet."""
        for container, resources in list(self._pods.get(uid, {}).items()):
            for resource, record in list(resources.items()):
                if "response" not in record:
                    yield container, resource, list(record["ids"])

    def allocate(self, uid: str, container: str, resource: str, response: pb.ContainerAllocateResponse) -> None:
        """What the plugin said the container needs."""
        record = self._pods[uid][container][resource]
        record["response"] = base64.b64encode(response.SerializeToString()).decode()
        self._save()

    def responses(self, uid: str, container: str) -> list[pb.ContainerAllocateResponse]:
        """What the plugins said a container needs."""
        found = []
        for record in self._pods.get(uid, {}).get(container, {}).values():
            try:
                found.append(pb.ContainerAllocateResponse.FromString(base64.b64decode(record.get("response", ""))))
            except (DecodeError, ValueError) as error:
                log.error("cannot read what a device needs", container=container, err=str(error))
        return found

    def forget(self, uid: str) -> None:
        """The pod has none any more."""
        if self._pods.pop(uid, None) is not None:
            self._save()
