"""Volumes behind a PersistentVolumeClaim: finding the volume, and mounting hostPath, local and nfs ones.

Source: Persistent Volumes; kubelet's desired-state populator; k8s.io/kubernetes pkg/volume/{local,nfs}.
"""

from __future__ import annotations

import os

from agent.command import CommandError, run
from agent.kubelet import mounts
from agent.kubelet.container.errors import VolumeError
from agent.kubelet.volumes import hostpath
from agent.kubelet.volumes.csi import CsiVolume, CsiVolumes
from machinery.api import meta
from machinery.api.catalogue import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from machinery.api.meta import Object
from machinery.client.rest import STRATEGIC, Client
from machinery.errors import NotFound, StatusError, TransportError

_MOUNT_SECONDS = 120.0


class PersistentVolumes:
    """Claims of pods and what is behind them."""

    def __init__(self, client: Client | None, csi: CsiVolumes) -> None:
        self._client = client
        self._csi = csi

    async def resolve(self, pod: Object, claim_name: str, *, own: bool = False) -> tuple[Object, Object]:
        """(claim, PersistentVolume) behind a volume of a pod; `own`: the claim must have been made for the pod.

        Raises VolumeError while there is none.
        """
        if self._client is None:
            raise VolumeError("persistent volume claims need an API server")
        namespace = meta.namespace_of(pod)
        try:
            claim = await self._client.get(PERSISTENTVOLUMECLAIMS, claim_name, namespace)
            owner = meta.controller_of(claim) or {}
            if own and owner.get("uid") != meta.uid_of(pod):
                raise VolumeError(
                    f"PVC {namespace}/{claim_name} was not created for pod {meta.key_of(pod)} (pod is not owner)"
                )
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
        return claim, volume

    async def grow(self, volume: Object, claim: Object, path: str) -> None:
        """Let a mounted volume grow to what it is to be, and tell the claim. Raises VolumeError."""
        if "csi" not in volume["spec"] or self._client is None:
            return
        size = await self._csi.expand(volume, path, claim)
        if size is None:
            return
        pending = [c for c in claim["status"].get("conditions") or () if c["type"] != "FileSystemResizePending"]
        gone = {"type": "FileSystemResizePending", "$patch": "delete"}
        status: Object = {"capacity": {"storage": size}}
        if len(pending) != len(claim["status"].get("conditions") or ()):
            status["conditions"] = [gone]
        try:
            await self._client.patch(
                PERSISTENTVOLUMECLAIMS,
                meta.name_of(claim),
                {"status": status},
                meta.namespace_of(claim),
                content_type=STRATEGIC,
                subresource="status",
            )
        except (StatusError, TransportError) as error:
            raise VolumeError(f"failed to update the size of the PVC: {error}", reason="VolumeResizeFailed") from error

    async def mount(self, pod: Object, name: str, volume: Object, base: str) -> str:
        """Make a PersistentVolume ready for a pod; the path to give to containers. Raises VolumeError."""
        source = volume["spec"]
        if "csi" in source:
            return await self._csi.mount(pod, name, CsiVolume.of_persistent(volume))
        try:
            if "local" in source and source.get("volumeMode") == "Block":
                return os.path.realpath(str(source["local"]["path"]))
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
