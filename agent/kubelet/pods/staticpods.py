"""Static pods: manifests in a folder, read again when they change.

Source: kubelet's config/file.go and config/common.go; Create static Pods.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping

import orjson

from agent.kubelet.container import identity
from agent.kubelet.pods.defaults import with_defaults
from machinery.api import meta, names
from machinery.api.meta import Object
from machinery.clock import Clock
from machinery.errors import SettingsError
from machinery.log import get_logger
from machinery.settings import read_yaml

log = get_logger(__name__)

_LOOK_SECONDS = 1.0
_API_OBJECTS = ("serviceAccountName", "ephemeralContainers", "resourceClaims")


class StaticPods:
    """The pods of one folder (or one file). `on_change(pods by uid)` is called with all of them when any changed."""

    def __init__(
        self, path: str, node_name: str, clock: Clock, on_change: Callable[[Mapping[str, Object]], None]
    ) -> None:
        self._path = path
        self._node_name = node_name
        self._clock = clock
        self._on_change = on_change
        self._stamps: dict[str, tuple[int, int, int]] = {}
        self._pods: dict[str, Object] = {}  # by file
        self._told: dict[str, str] = {}

    async def run(self) -> None:
        """Look every second until cancelled: a stat for each file."""
        first = True
        while True:
            if self.look() or first:
                self._on_change({meta.uid_of(pod): pod for pod in self._pods.values()})
            first = False
            await self._clock.sleep(_LOOK_SECONDS)

    def look(self) -> bool:
        """Read what changed; whether anything did."""
        stamps = self._scan()
        changed = False
        for file in [file for file in self._stamps if file not in stamps]:
            del self._stamps[file]
            self._told.pop(file, None)
            changed |= self._pods.pop(file, None) is not None
        for file, stamp in stamps.items():
            if self._stamps.get(file) == stamp:
                continue
            self._stamps[file] = stamp
            changed |= self._read(file)
        return changed

    def _scan(self) -> dict[str, tuple[int, int, int]]:
        try:
            if os.path.isfile(self._path):
                files = [self._path]
            else:
                found = os.listdir(self._path)
                files = [os.path.join(self._path, name) for name in sorted(found) if not name.startswith(".")]
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._tell(self._path, f"cannot read {self._path}: {error.strerror}")
            return dict(self._stamps)
        stamps = {}
        for file in files:
            try:
                found_stat = os.stat(file)
            except OSError:
                continue
            if stat.S_ISREG(found_stat.st_mode):
                stamps[file] = (found_stat.st_mtime_ns, found_stat.st_size, found_stat.st_ino)
        return stamps

    def _read(self, file: str) -> bool:
        """Read one manifest; a wrong one is told, and what it said before goes on."""
        try:
            pod = read_manifest(file, self._node_name, meta.format_time(self._clock.now()))
        except SettingsError as error:
            self._tell(file, str(error))
            return False
        self._told.pop(file, None)
        before = self._pods.get(file)
        taken = next((f for f, p in self._pods.items() if f != file and meta.key_of(p) == meta.key_of(pod)), None)
        if taken is not None:
            self._tell(file, f"{file}: pod {meta.key_of(pod)} is in {taken} already")
            return False
        if before is not None and meta.uid_of(before) == meta.uid_of(pod):
            return False
        self._pods[file] = pod
        return True

    def _tell(self, file: str, message: str) -> None:
        if self._told.get(file) != message:
            self._told[file] = message
            log.error("cannot use static pod manifest", file=file, err=message)


def read_manifest(file: str, node_name: str, now: str) -> Object:
    """The pod of a manifest as it will run on this node. Raises SettingsError naming the file and what is wrong."""
    documents = read_yaml(file)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise SettingsError(f"{file}: one Pod is needed, there are {len(documents)} documents")
    return to_static_pod(documents[0], file, node_name, now, "file")


def to_static_pod(pod: Object, file: str, node_name: str, now: str, source: str) -> Object:
    """A pod of a `file` or of `http` (then `file` is the URL) as it will run on this node. Raises SettingsError."""
    if pod.get("kind") != "Pod" or pod.get("apiVersion") != "v1":
        raise SettingsError(f"{file}: a v1 Pod is needed, this is {pod.get('apiVersion')} {pod.get('kind')}")
    metadata = dict(pod.get("metadata") or {})
    wrong = names.dns1123_subdomain(str(metadata.get("name") or ""))
    if wrong:
        raise SettingsError(f"{file}: metadata.name: {wrong[0]}")
    _check_spec(file, pod.get("spec"))
    uid = metadata.get("uid") or _uid(pod, f"host:{node_name}file:{file}" if source == "file" else f"url:{file}")
    metadata["name"] = f"{metadata['name']}-{node_name}"
    metadata["namespace"] = metadata.get("namespace") or "default"
    metadata["uid"] = uid
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        identity.CONFIG_SOURCE: source,
        identity.CONFIG_SEEN: now,
        identity.CONFIG_HASH: uid,
    }
    defaulted = with_defaults(pod)
    tolerations = [*(defaulted["spec"].get("tolerations") or ()), {"operator": "Exists", "effect": "NoExecute"}]
    spec = {**defaulted["spec"], "nodeName": node_name, "tolerations": tolerations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}


def _check_spec(file: str, of_pod: object) -> None:
    if not isinstance(of_pod, dict) or not of_pod.get("containers"):
        raise SettingsError(f"{file}: spec.containers: Required value")
    for section in ("initContainers", "containers"):
        for index, container in enumerate(of_pod.get(section) or ()):
            for field in ("name", "image"):
                if not isinstance(container, dict) or not container.get(field):
                    raise SettingsError(f"{file}: spec.{section}[{index}].{field}: Required value")
    for field in _API_OBJECTS:
        if of_pod.get(field):
            raise SettingsError(f"{file}: spec.{field}: static pods may not refer to other API objects")


def _uid(pod: Object, where: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    digest.update(orjson.dumps(pod, option=orjson.OPT_SORT_KEYS))
    digest.update(where.encode())
    return digest.hexdigest()
