"""Devices of device plugins: which containers have them, and what a container needs to use its own.

    pod admitted ──► devices chosen ──► Allocate ──► environment, mounts, device files of the container

Devices are chosen when a pod is taken, at once; their plugins are asked before anything of the pod is made, and a
plugin that says no has the pod rejected.

Source: Device Plugins; kubelet's cm/devicemanager; k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agent.cri.errors import CriError
from agent.kubelet import metrics
from agent.kubelet.plugins import devicechoice
from agent.kubelet.plugins.api import deviceplugin_pb2 as pb
from agent.kubelet.plugins.channel import PluginChannel
from agent.kubelet.plugins.deviceplugins import PLUGIN, DevicePlugins, Resource
from agent.kubelet.plugins.devicerecords import DeviceRecords
from agent.kubelet.plugins.dra import has_by_claim
from agent.kubelet.pods import spec
from agent.kubelet.resources.hints import Hint, Hints
from agent.kubelet.resources.topologymanager import AdmissionError
from machinery.api import meta, podresources
from machinery.api.meta import Object


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a plugin may still choose itself: so many of the candidates, the fixed ones among them."""

    candidates: frozenset[str]
    fixed: tuple[str, ...]
    count: int


class DeviceManager:
    """Who has which devices. `is_running(uid, container)` tells of containers that were there before the kubelet."""

    def __init__(
        self,
        plugins: DevicePlugins,
        records: DeviceRecords,
        nodes: Sequence[int],
        is_running: Callable[[str, str], bool],
    ) -> None:
        self.plugins = plugins
        self._records, self._nodes, self._is_running = records, nodes, is_running
        self._wishes: dict[tuple[str, str, str], _Wish] = {}
        # Of init containers of the pod that is being taken, by resource.
        self._reusable: tuple[str, dict[str, set[str]]] = ("", {})

    def _wanted(self, amounts: podresources.Resources) -> Iterator[tuple[Resource, int]]:
        for name, amount in sorted(amounts.items()):
            resource = self.plugins.get(name)
            if resource is not None:
                yield resource, amount.value()

    # -- hints -------------------------------------------------------------------------------------------------------

    def hints(self, pod: Object, container: Object) -> Hints:
        """Where the devices of a container could be."""
        found: dict[str, Sequence[Hint] | None] = {}
        for resource, count in self._wanted(podresources.of_container(container, "limits")):
            has = set(self._records.ids(meta.uid_of(pod), container["name"], resource.name))
            found[resource.name] = self._hints(resource, count, has, self._reusable_of(pod).get(resource.name, set()))
        return found

    def pod_hints(self, pod: Object) -> Hints:
        """Where the devices of a whole pod could be."""
        bare = {**pod, "spec": {**pod["spec"], "overhead": None}}
        return {
            resource.name: self._hints(resource, count, self._records.of_pod(meta.uid_of(pod), resource.name), set())
            for resource, count in self._wanted(podresources.of_pod(bare, "limits"))
        }

    def _hints(self, resource: Resource, count: int, has: set[str], reusable: set[str]) -> Sequence[Hint] | None:
        devices = resource.devices
        if not devicechoice.have_places(devices):
            return None
        if has:
            return devicechoice.hints(devices, has, (), count, self._nodes) if len(has) == count else []
        free = self._free(resource)
        if len(free | reusable) < count:
            return []
        return devicechoice.hints(devices, free, reusable, count, self._nodes)

    def _free(self, resource: Resource) -> set[str]:
        return resource.healthy - self._records.taken(resource.name)

    # -- giving and taking back --------------------------------------------------------------------------------------

    def allocate(self, pod: Object, container: Object, hint: Hint) -> None:
        """Choose the devices of a container. Raises AdmissionError."""
        uid, name = meta.uid_of(pod), container["name"]
        for resource, count in self._wanted(podresources.of_container(container, "limits")):
            if has_by_claim(pod, name, resource.name):
                continue
            has = self._records.ids(uid, name, resource.name)
            if has and len(has) != count:
                raise AdmissionError(
                    f'pod "{uid}" container "{name}" changed request for resource "{resource.name}" '
                    f"from {len(has)} to {count}"
                )
            if not (has and self._is_running(uid, name)):
                self._check_health(resource, has)
            if count and not has:
                self._choose(pod, name, resource, count, hint)
            self._note_reusable(pod, container, resource)

    @staticmethod
    def _check_health(resource: Resource, has: Sequence[str]) -> None:
        healthy = resource.healthy
        if not healthy:
            told = f"no healthy devices present; cannot allocate unhealthy devices {resource.name}"
            raise AdmissionError(told)
        if not set(has) <= healthy:
            raise AdmissionError(
                f"previously allocated devices are no longer healthy; cannot allocate unhealthy devices {resource.name}"
            )

    def _choose(self, pod: Object, name: str, resource: Resource, count: int, hint: Hint) -> None:
        uid, devices = meta.uid_of(pod), resource.devices
        fixed = sorted(self._reusable_of(pod).get(resource.name, ()))[:count]
        free, needed = self._free(resource), count - len(fixed)
        if len(free) < needed:
            raise AdmissionError(
                f"requested number of devices unavailable for {resource.name}. Requested: {needed}, "
                f"Available: {len(free)}"
            )
        near, far, anywhere = devicechoice.by_affinity(devices, free, hint.mask)
        candidates = frozenset(near if needed < len(near) else free)
        if needed >= len(near):
            fixed = [*fixed, *near]
        ids = [*fixed, *(i for i in [*near, *far, *anywhere] if i not in fixed)][:count]
        self._records.choose(uid, name, resource.name, devicechoice.by_node(devices, ids))
        if len(fixed) < count:
            self._wishes[(uid, name, resource.name)] = _Wish(candidates | set(fixed), tuple(fixed), count)

    def _reusable_of(self, pod: Object) -> dict[str, set[str]]:
        uid, found = self._reusable
        return found if uid == meta.uid_of(pod) else {}

    def _note_reusable(self, pod: Object, container: Object, resource: Resource) -> None:
        found = {name: set(ids) for name, ids in self._reusable_of(pod).items()}
        has = set(self._records.ids(meta.uid_of(pod), container["name"], resource.name))
        before = found.get(resource.name, set())
        ends = not spec.is_app(pod, container) and not spec.is_sidecar(container)
        found[resource.name] = before | has if ends else before - has
        self._reusable = (meta.uid_of(pod), found)

    async def ask(self, pod: Object) -> None:
        """Ask the plugins for what was chosen. Raises AdmissionError when one of them says no."""
        uid = meta.uid_of(pod)
        for container, name in self._records.pending(uid):
            resource = self.plugins.get(name)
            if resource is None:
                raise AdmissionError(f"unknown Device Plugin {name}")
            if resource.channel is None or resource.gone_at is not None:
                raise AdmissionError(f"endpoint {name} has been stopped")
            try:
                await self._prefer(resource, resource.channel, uid, container)
                ids = self._records.ids(uid, container, name)
                request = pb.AllocateRequest(container_requests=[pb.ContainerAllocateRequest(devices_ids=ids)])
                with metrics.timed(metrics.DEVICE_ALLOCATION.labels(name)):
                    answer = await resource.channel.call(f"{PLUGIN}/Allocate", request, pb.AllocateResponse)
            except CriError as error:
                raise AdmissionError(str(error)) from error
            if not answer.container_responses:
                raise AdmissionError(
                    "no containers return in allocation response "
                    "&AllocateResponse{ContainerResponses:[]*ContainerAllocateResponse{},}"
                )
            self._records.allocate(uid, container, name, answer.container_responses[0])

    async def _prefer(self, resource: Resource, channel: PluginChannel, uid: str, container: str) -> None:
        """Let the plugin choose, if it wants to. Raises CriError."""
        wish = self._wishes.pop((uid, container, resource.name), None)
        if wish is None or not resource.options.get_preferred_allocation_available:
            return
        ids = self._records.ids(uid, container, resource.name)
        wanted = pb.ContainerPreferredAllocationRequest(
            available_deviceIDs=sorted(wish.candidates & (self._free(resource) | set(ids))),
            must_include_deviceIDs=wish.fixed,
            allocation_size=wish.count,
        )
        request = pb.PreferredAllocationRequest(container_requests=[wanted])
        answer = await channel.call(f"{PLUGIN}/GetPreferredAllocation", request, pb.PreferredAllocationResponse)
        usable = wish.candidates & (self._free(resource) | set(ids))  # others may have been chosen meanwhile
        named = answer.container_responses[0].deviceIDs if answer.container_responses else ()
        chosen = dict.fromkeys([*wish.fixed, *(i for i in named if i in usable), *ids])
        by_node = devicechoice.by_node(resource.devices, list(chosen)[: wish.count])
        self._records.choose(uid, container, resource.name, by_node)

    async def before_start(self, pod: Object, container: Object) -> list[pb.ContainerAllocateResponse]:
        """What the container needs to use its devices; tells plugins that want to know. Raises CriError."""
        uid, name = meta.uid_of(pod), container["name"]
        for resource_name in self._records.resources(uid, name):
            resource = self.plugins.get(resource_name)
            if resource is not None and resource.channel is not None and resource.options.pre_start_required:
                request = pb.PreStartContainerRequest(devices_ids=self._records.ids(uid, name, resource_name))
                await resource.channel.call(f"{PLUGIN}/PreStartContainer", request, pb.PreStartContainerResponse, 30.0)
        return self._records.responses(uid, name)

    def held(self, uid: str, container: str) -> dict[str, list[str]]:
        """Ids of a container's devices, by resource."""
        return {name: self._records.ids(uid, container, name) for name in self._records.resources(uid, container)}

    def known(self) -> set[str]:
        """The uids of pods that have any."""
        return self._records.known()

    def forget(self, uid: str) -> None:
        """The pod has ended: others may have its devices."""
        self._wishes = {key: wish for key, wish in self._wishes.items() if key[0] != uid}
        self._records.forget(uid)
