"""Keeping shared containers off the CPUs that others have for themselves.

Source: kubelet's cm/cpumanager reconcileState.
"""

from __future__ import annotations

from agent.cri import api_pb2 as pb
from agent.cri.errors import CriError
from agent.kubelet.container.model import RUNNING
from agent.kubelet.kit import Kit
from agent.kubelet.pods import spec
from machinery.api import meta
from machinery.log import get_logger

log = get_logger(__name__)


class CpuSharing:
    """Tells the runtime when the shared CPUs are others than before. One for the whole kubelet."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._told: dict[str, str] = {}  # by container id

    async def run(self) -> None:
        """Look every reconcile period until cancelled; nothing to do without the static policy."""
        while self._kit.cpus.is_static:
            await self.look()
            await self._kit.clock.sleep(self._kit.settings.cpu_reconcile_seconds)

    async def look(self) -> None:
        """Tell what has changed."""
        kit, told = self._kit, {}
        for pod in kit.active_pods():
            runtime = kit.view.pod(meta.uid_of(pod))
            for container in spec.all_containers(pod):
                status = runtime.container(container["name"])
                if status is None or status.state != RUNNING:
                    continue
                cpus = kit.cpus.cpuset(meta.uid_of(pod), container["name"])
                told[status.id] = cpus
                if self._told.get(status.id) == cpus:
                    continue
                try:
                    await kit.cri.update_container_resources(status.id, pb.LinuxContainerResources(cpuset_cpus=cpus))
                except CriError as error:
                    log.warning("cannot move container to other CPUs", container=status.id, err=str(error))
                    del told[status.id]
        self._told = told
