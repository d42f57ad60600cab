"""Volumes behind a PersistentVolumeClaim: finding the volume, and mounting hostPath, local and nfs ones.

Source: Persistent Volumes; kubelet's desired-state populator; k8s.io/kubernetes pkg/volume/{local,nfs}.
"""

from __future__ import annotations

import os

from agent.command import CommandError, run
from agent.kubelet import mounts
from agent.kubelet.container.errors import VolumeError
from agent.kubelet.volumes import hostpath
from machinery.api import meta
from machinery.api.catalogue import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from machinery.api.meta import Object
from machinery.client.rest import Client
from machinery.errors import NotFound, StatusError, TransportError

_MOUNT_SECONDS = 120.0


class PersistentVolumes:
    """Claims of pods and what is behind them."""

    def __init__(self, client: Client | None) -> None:
        self._client = client

    async def resolve(self, pod: Object, claim_name: str) -> Object:
        """The PersistentVolume behind a pod's claim. Raises VolumeError while there is none."""
        if self._client is None:
            raise VolumeError("persistent volume claims need an API server")
        namespace = meta.namespace_of(pod)
        try:
            claim = await self._client.get(PERSISTENTVOLUMECLAIMS, claim_name, namespace)
            if meta.is_deleting(claim):
                raise VolumeError("PVC is being deleted")
            name = claim["spec"].get("volumeName")
            if not name or (claim.get("status") or {}).get("phase") != "Bound":
                raise VolumeError("PVC is not bound")
            volume = await self._client.get(PERSISTENTVOLUMES, name)
        except NotFound as error:
            raise VolumeError(
                f"error getting PVC {namespace}/{claim_name}: could not find v1.PersistentVolumeClaim: {error}"
            ) from error
        except (StatusError, TransportError) as error:
            raise VolumeError(f"failed to fetch PVC from API server: {error}") from error
        bound = volume["spec"].get("claimRef") or {}
        if bound.get("uid") and bound["uid"] != meta.uid_of(claim):
            raise VolumeError(f"failed to fetch PV {name}: it is bound to another claim")
        return volume

    async def mount(self, pod: Object, name: str, volume: Object, base: str) -> str:
        """Make a PersistentVolume ready for a pod; the path to give to containers. Raises VolumeError."""
        source = volume["spec"]
        try:
            if "hostPath" in source:
                return hostpath.prepare(source["hostPath"])
            if "local" in source:
                return self._mount_local(
                    source["local"]["path"], os.path.join(base, "kubernetes.io~local-volume", name)
                )
            if "nfs" in source:
                target = os.path.join(base, "kubernetes.io~nfs", name)
                await self.mount_nfs(source["nfs"], target, source.get("mountOptions") or ())
                return target
        except OSError as error:
            raise VolumeError(str(error)) from error
        kinds = [kind for kind in source if isinstance(source[kind], dict) and kind not in ("capacity", "claimRef")]
        raise VolumeError(f"no volume plugin matched: {', '.join(sorted(kinds))}")

    @staticmethod
    def _mount_local(path: str, target: str) -> str:
        if not os.path.exists(path):
            raise VolumeError(f'path "{path}" does not exist')
        os.makedirs(target, mode=0o750, exist_ok=True)
        if target not in mounts.below(target):
            mounts.bind(path, target)
        return target

    @staticmethod
    async def mount_nfs(source: Object, target: str, options: tuple[str, ...] | list[str] = ()) -> None:
        """Mount an export, with the host's own mount program. Raises VolumeError."""
        os.makedirs(target, mode=0o750, exist_ok=True)
        if mounts.is_mount_point(target):
            return
        chosen = [*options, *(["ro"] if source.get("readOnly") else [])]
        argv = ["mount", "-t", "nfs", f"{source['server']}:{source['path']}", target]
        if chosen:
            argv[3:3] = ["-o", ",".join(chosen)]
        try:
            await run(*argv, timeout_seconds=_MOUNT_SECONDS, check=True)
        except CommandError as error:
            raise VolumeError(f"mount failed: {error}") from error
