"""What a container needs to use the devices and processors that it has been given.

Source: kubelet's GenerateRunContainerOptions; KEP-4009 (CDI devices in CRI).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.cri import api_pb2 as cri
from agent.kubelet.plugins.api import deviceplugin_pb2 as pb


@dataclass(frozen=True, slots=True)
class Placement:
    """The CPUs to run on and the nodes to have memory of (empty: any), and whether the CPUs are the container's own."""

    cpus: str = ""
    mems: str = ""
    exclusive: bool = False

    def add_to(self, resources: cri.LinuxContainerResources) -> None:
        """Put it into what the runtime is told; no quota holds back who has CPUs of its own."""
        resources.cpuset_cpus, resources.cpuset_mems = self.cpus, self.mems
        if self.exclusive and resources.cpu_quota:
            resources.cpu_quota = -1


@dataclass(frozen=True, slots=True)
class DeviceNeeds:
    """The answers of device plugins, the CDI names of claimed devices, and where on the machine the container is."""

    responses: Sequence[pb.ContainerAllocateResponse] = ()
    cdi_ids: Sequence[str] = ()
    placement: Placement = Placement()

    def add_to(self, config: cri.ContainerConfig) -> None:
        """Put them into the container's configuration."""
        known = {env.key for env in config.envs}
        for response in self.responses:
            for key, value in sorted(response.envs.items()):
                if key not in known:
                    known.add(key)
                    config.envs.add(key=key, value=value)
            for mount in response.mounts:
                config.mounts.add(
                    container_path=mount.container_path, host_path=mount.host_path, readonly=mount.read_only
                )
            for device in response.devices:
                config.devices.add(
                    container_path=device.container_path, host_path=device.host_path, permissions=device.permissions
                )
            config.annotations.update(response.annotations)
        names = [device.name for response in self.responses for device in response.cdi_devices]
        for name in dict.fromkeys([*names, *self.cdi_ids]):
            config.CDI_devices.add(name=name)
        self.placement.add_to(config.linux.resources)
