"""User namespaces: a range of the host's user ids for each pod with hostUsers: false, no two pods' the same.

The range is written into the pod's directory, so that it stays the pod's over restarts of the kubelet.

Source: KEP-127; kubelet's userns/userns_manager.go.
"""

from __future__ import annotations

import os
from pathlib import Path

from agent.cri import api_pb2 as pb
from agent.kubelet.container.errors import StartError
from agent.kubelet.jsonfile import JsonFile
from machinery.api import meta
from machinery.api.meta import Object

_LAST = 1 << 32
_FILE = "userns"


class UserNamespaces:
    """Ranges by pod. One for the whole kubelet."""

    def __init__(self, root_dir: str, length: int) -> None:
        """`length` is how many ids each pod gets (userNamespaces.idsPerPod)."""
        self._length = length
        self._pods = Path(root_dir, "pods")
        self._ranges: dict[str, int] = {}
        for path in self._pods.glob(f"*/{_FILE}"):
            mappings = (JsonFile(path).read() or {}).get("uidMappings") or ()
            if mappings:
                self._ranges[path.parent.name] = int(mappings[0]["hostId"])

    def of_pod(self, pod: Object, *, supported: bool) -> pb.UserNamespace | None:
        """The pod's namespace; None for the host's. Raises StartError if the runtime has no such thing."""
        if pod["spec"].get("hostUsers") is not False:
            return None
        if not supported:
            raise StartError("can't set `spec.hostUsers: false`, runtime does not support user namespaces")
        first = self._range(meta.uid_of(pod))
        mapping = pb.IDMapping(host_id=first, container_id=0, length=self._length)
        return pb.UserNamespace(mode=pb.POD, uids=[mapping], gids=[mapping])

    def _range(self, uid: str) -> int:
        if uid not in self._ranges:
            taken = set(self._ranges.values())
            starts = range(self._length, _LAST - self._length, self._length)
            free = next((start for start in starts if start not in taken), None)
            if free is None:
                raise StartError("could not find an empty slot to allocate a user namespace")
            self._ranges[uid] = free
            mapping = {"hostId": free, "containerId": 0, "length": self._length}
            JsonFile(self._pods / uid / _FILE).write({"uidMappings": [mapping], "gidMappings": [mapping]})
        return self._ranges[uid]

    def forget(self, uid: str) -> None:
        """The pod is gone; its range is free once its directory is."""
        if not os.path.exists(self._pods / uid):
            self._ranges.pop(uid, None)
