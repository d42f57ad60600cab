"""What a pod needs before its containers: its directory, its control group, its volumes.

Source: kubelet's syncPod up to WaitForAttachAndMount; back-off of volume operations.
"""

from __future__ import annotations

import asyncio
import os

from agent.kubelet.container.errors import VolumeError
from agent.kubelet.container.model import RuntimePod
from agent.kubelet.kit import Kit
from agent.kubelet.plugins.dra import wants_devices
from agent.kubelet.pods import spec
from agent.kubelet.volumes.model import MountedVolume
from machinery.api import meta
from machinery.api.meta import Object

_RETRY_SECONDS = 10.0
_OF_EVERY_NAMESPACE = "kube-root-ca.crt"
_VOLUME_RETRIES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 122.0)


class Preparation:
    """Makes and keeps up to date what one pod's containers need."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._made_at = float("-inf")
        self._expired = 0  # how often
        self._failures = 0
        self._began = False
        self._making: asyncio.Task[bool] | None = None
        self.volumes: dict[str, MountedVolume] | None = None  # None until they were all ready once
        self.retry_seconds = 0.0  # after a failure

    def expire(self) -> None:
        """Contents may have changed: look at them again the next time."""
        self._made_at = float("-inf")
        self._expired += 1

    async def make(self, pod: Object, runtime: RuntimePod) -> bool:
        """Whether the sandbox may be made; if not, the user has been told, and `retry_seconds` says when to try again.

        Containers must wait for `finish`, too.
        """
        kit = self._kit
        self.retry_seconds = 0.0
        if self.volumes is not None and kit.clock.monotonic() - self._made_at < kit.settings.sync_seconds:
            return True
        try:
            if not self._began:
                os.makedirs(kit.pod_dir(meta.uid_of(pod)), mode=0o750, exist_ok=True)
                kit.cgroups.create(pod)
                self._began = True
        except OSError as error:
            return self._failed_to_begin(pod, error)
        ips = tuple(kit.node.ips if spec.is_host_network(pod) else runtime.ips)
        if self.volumes is None and needs_nothing_of_users(pod):
            self._making = asyncio.create_task(self._set_up(pod, ips), name=f"volumes {meta.key_of(pod)}")
            return True
        return await self._set_up(pod, ips)

    async def finish(self) -> bool:
        """Wait for what `make` has left to be done meanwhile; whether containers may start, as there."""
        making, self._making = self._making, None
        return making is None or await making

    async def stop(self) -> None:
        """End what `make` has left to be done, if it still goes on."""
        making, self._making = self._making, None
        if making is not None:
            making.cancel()
            await asyncio.wait([making])

    async def _set_up(self, pod: Object, ips: tuple[str, ...]) -> bool:
        kit, expired = self._kit, self._expired
        try:
            volumes = await kit.volumes.set_up(pod, kit.facts(ips))
            await kit.claims.prepare(pod)
            self.volumes = volumes
        except OSError as error:
            return self._failed_to_begin(pod, error)
        except VolumeError as error:
            kit.teller.pod(pod, "Warning", error.reason, str(error))
            self.retry_seconds = _VOLUME_RETRIES[min(self._failures, len(_VOLUME_RETRIES) - 1)]
            self._failures += 1
            # What runs already goes on with what it has.
            return self.volumes is not None
        self._failures = 0
        if expired == self._expired:  # else something changed while we read it
            self._made_at = kit.clock.monotonic()
        return True

    def _failed_to_begin(self, pod: Object, error: OSError) -> bool:
        told = f"failed to ensure that the pod's cgroup or directory exists: {error}"
        self._kit.teller.pod(pod, "Warning", "FailedCreatePodContainer", told)
        self.retry_seconds = _RETRY_SECONDS
        return False


def needs_nothing_of_users(pod: Object) -> bool:
    """Whether volumes are but those that every pod has, which can fail by no mistake in the pod.

    The sandbox then need not wait for them; else a pod whose volume can't be had must have none.
    """
    volumes = pod["spec"].get("volumes") or ()
    return not wants_devices(pod) and all(map(_is_of_every_pod, volumes))


def _is_of_every_pod(volume: Object) -> bool:
    if "projected" not in volume:
        return bool(volume.get("emptyDir") == {})
    return all(
        "serviceAccountToken" in source
        or "downwardAPI" in source
        or (source.get("configMap") or {}).get("name") == _OF_EVERY_NAMESPACE
        for source in volume["projected"].get("sources") or ()
    )
