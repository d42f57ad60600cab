"""Dynamic resources: claims of pods, made ready by their drivers before containers start, and given back after the pod.

Extended resources that the scheduler has had from devices are in one special claim, which the pod's status names.

Source: Dynamic Resource Allocation; KEP-5004; kubelet's cm/dra; k8s.io/kubelet/pkg/apis/dra (v1 and v1beta1, which
say the same).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.cri.errors import CriError
from agent.kubelet.container.errors import VolumeError
from agent.kubelet.jsonfile import JsonFile
from agent.kubelet.plugins.api import dra_pb2 as pb
from agent.kubelet.plugins.channel import PluginChannel
from agent.kubelet.plugins.registry import PluginInfo, PluginRefused
from machinery.api import meta, podresources
from machinery.api.catalogue import RESOURCECLAIMS, RESOURCESLICES
from machinery.api.meta import Object
from machinery.api.resourceclaims import special_status
from machinery.client.rest import Client
from machinery.errors import NotFound, StatusError, TransportError
from machinery.log import get_logger

log = get_logger(__name__)

_SERVICES = {
    "v1.DRAPlugin": "k8s.io.kubelet.pkg.apis.dra.v1",
    "v1beta1.DRAPlugin": "k8s.io.kubelet.pkg.apis.dra.v1beta1",
}
_FILE = "navarch_claims.json"
_CALL_SECONDS = 45.0

SPECIAL = ""
"""What the claim for a pod's extended resources goes by among the names that the pod gives to its claims."""


class ClaimError(VolumeError):
    """A claim of the pod can't be made ready now."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="FailedPrepareDynamicResources")


@dataclass(frozen=True, slots=True)
class _Driver:
    channel: PluginChannel
    service: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class ClaimDevice:
    """A device of a claim that is ready."""

    requests: tuple[str, ...]
    driver: str
    pool: str
    device: str
    cdi_ids: tuple[str, ...]
    share: str | None = None

    def is_of(self, request: str) -> bool:
        """Whether it was given for a request of its claim, or for an alternative of that."""
        return any(name == request or name.startswith(f"{request}/") for name in self.requests)


def wants_devices(pod: Object) -> bool:
    """Whether drivers must make something ready for the pod."""
    return bool(pod["spec"].get("resourceClaims") or special_status(pod))


def claim_names(pod: Object) -> Iterator[tuple[str, str]]:
    """(name in the pod, ResourceClaim's name) of each claim; the special one has none in the pod.

    Raises ClaimError while one has not been made.
    """
    made = {s["name"]: s.get("resourceClaimName") for s in (pod.get("status") or {}).get("resourceClaimStatuses") or ()}
    for entry in pod["spec"].get("resourceClaims") or ():
        if entry.get("resourceClaimName"):
            yield entry["name"], entry["resourceClaimName"]
        elif entry["name"] not in made:
            raise ClaimError(
                f'prepare resources: pod "{meta.name_of(pod)}": failed to get ResourceClaim for {entry["name"]}: '
                "ResourceClaim not created yet"
            )
        elif made[entry["name"]]:  # else the pod needs none
            yield entry["name"], str(made[entry["name"]])
    if special := special_status(pod):
        yield SPECIAL, special["resourceClaimName"]


def devices_of(container: Object, ready: dict[str, list[ClaimDevice]]) -> list[ClaimDevice]:
    """The devices that a container uses of its pod's claims."""
    found = []
    for wanted in (container.get("resources") or {}).get("claims") or ():
        for device in ready.get(wanted["name"], ()):
            asked = wanted.get("request")
            if not asked or device.is_of(asked):
                found.append(device)
    return found


def has_by_claim(pod: Object, container: str, resource: str) -> bool:
    """Whether a container has an extended resource by the special claim, and not of a device plugin."""
    mappings = special_status(pod).get("requestMappings") or ()
    return any((each["containerName"], each["resourceName"]) == (container, resource) for each in mappings)


def special_devices(pod: Object, container: Object, ready: dict[str, list[ClaimDevice]]) -> list[ClaimDevice]:
    """The devices that a container has for extended resources it asks for."""
    asked = podresources.of_container(container)
    return [
        device
        for mapping in special_status(pod).get("requestMappings") or ()
        if mapping["containerName"] == container["name"] and asked.get(mapping["resourceName"])
        for device in ready.get(SPECIAL, ())
        if device.is_of(mapping["requestName"])
    ]


class DraManager:
    """Claims of this node's pods. One for the whole kubelet."""

    def __init__(self, directory: str, client: Client | None, node_name: str) -> None:
        self._client, self._node_name = client, node_name
        self._drivers: dict[str, _Driver] = {}
        self._file = JsonFile(Path(directory, _FILE))
        # Prepared claims by uid: namespace, name, drivers, pods that use it, devices.
        self._prepared: dict[str, Object] = self._file.read() or {}

    # -- drivers -----------------------------------------------------------------------------------------------------

    async def register(self, info: PluginInfo) -> None:
        """Take a driver. Raises PluginRefused."""
        service = next((_SERVICES[v] for v in _SERVICES if v in info.versions), None)
        if service is None:
            raise PluginRefused(
                f"DRA plugin {info.name}: none of the supported versions {', '.join(_SERVICES)} is among "
                f"{', '.join(info.versions)}"
            )
        before = self._drivers.get(info.name)
        if before is not None:
            await before.channel.close()
        self._drivers[info.name] = _Driver(PluginChannel(info.endpoint), service, info.endpoint)

    async def deregister(self, info: PluginInfo) -> None:
        """The driver is gone: what it said the node has is no longer true."""
        driver = self._drivers.get(info.name)
        if driver is None or driver.endpoint != info.endpoint:
            return
        del self._drivers[info.name]
        await driver.channel.close()
        if self._client is None:
            return
        selector = f"spec.nodeName={self._node_name},spec.driver={info.name}"
        try:
            for found in (await self._client.list(RESOURCESLICES, field_selector=selector)).items:
                await self._client.delete(RESOURCESLICES, meta.name_of(found))
        except (StatusError, TransportError) as error:
            log.warning("cannot remove the driver's ResourceSlices", driver=info.name, err=str(error))

    # -- pods --------------------------------------------------------------------------------------------------------

    async def prepare(self, pod: Object) -> None:
        """Make the pod's claims ready. Raises ClaimError."""
        if not wants_devices(pod):
            return
        uid = meta.uid_of(pod)
        for _, name in claim_names(pod):
            claim = await self._claim(pod, name)
            record = self._prepared.get(meta.uid_of(claim))
            if record is not None and record["ready"]:
                if uid not in record["pods"]:
                    record["pods"].append(uid)
                    self._save()
                continue
            await self._prepare_one(claim, uid)

    async def _claim(self, pod: Object, name: str) -> Object:
        if self._client is None:
            raise ClaimError("prepare resources: resource claims need an API server")
        namespace = meta.namespace_of(pod)
        try:
            claim = await self._client.get(RESOURCECLAIMS, name, namespace)
        except NotFound as error:
            raise ClaimError(f"prepare resources: failed to fetch ResourceClaim {name}: {error}") from error
        except (StatusError, TransportError) as error:
            raise ClaimError(f"prepare resources: failed to fetch ResourceClaim {name}: {error}") from error
        status = claim.get("status") or {}
        if not status.get("allocation"):
            raise ClaimError(f"prepare resources: ResourceClaim {name}: not allocated")
        users = [r for r in status.get("reservedFor") or () if r.get("uid") == meta.uid_of(pod)]
        if not users:
            raise ClaimError(
                f"prepare resources: pod {meta.name_of(pod)} ({meta.uid_of(pod)}) is not allowed to use ResourceClaim "
                f"{name}"
            )
        return claim

    async def _prepare_one(self, claim: Object, pod_uid: str) -> None:
        uid, name = meta.uid_of(claim), meta.name_of(claim)
        results = (claim["status"]["allocation"].get("devices") or {}).get("results") or ()
        drivers = list(dict.fromkeys(str(result["driver"]) for result in results))
        # Written down before anything is asked for: what may have been prepared has to be given back.
        record: Object = {
            "namespace": meta.namespace_of(claim),
            "name": name,
            "drivers": drivers,
            "pods": [pod_uid],
            "devices": [],
            "ready": False,
        }
        self._prepared[uid] = record
        self._save()
        for driver in drivers:
            record["devices"] += await self._ask(driver, uid, record)
        record["ready"] = True
        self._save()

    async def _ask(self, driver: str, uid: str, record: Object) -> list[Object]:
        known = self._drivers.get(driver)
        if known is None:
            raise ClaimError(f"prepare resources: DRA driver {driver} is not registered")
        claim = pb.Claim(namespace=record["namespace"], uid=uid, name=record["name"])
        method = f"/{known.service}.DRAPlugin/NodePrepareResources"
        request = pb.NodePrepareResourcesRequest(claims=[claim])
        try:
            answer = await known.channel.call(method, request, pb.NodePrepareResourcesResponse, _CALL_SECONDS)
        except CriError as error:
            raise ClaimError(f"NodePrepareResources: {error}") from error
        made = answer.claims.get(uid)
        if made is None:
            raise ClaimError(f"NodePrepareResources skipped claim {uid}")
        if made.error:
            raise ClaimError(f"NodePrepareResources failed for ResourceClaim {record['name']}: {made.error}")
        return [
            {
                "requests": list(device.request_names),
                "driver": driver,
                "pool": device.pool_name,
                "device": device.device_name,
                "cdi": list(device.cdi_device_ids),
                "share": device.share_id if device.HasField("share_id") else None,
            }
            for device in made.devices
        ]

    def ready(self, pod: Object) -> dict[str, list[ClaimDevice]]:
        """The devices of the pod's claims, by the claims' names in the pod."""
        by_name = {(r["namespace"], r["name"]): r for r in self._prepared.values()}
        found = {}
        for inside, name in claim_names(pod):
            record = by_name.get((meta.namespace_of(pod), name))
            found[inside] = [
                ClaimDevice(tuple(d["requests"]), d["driver"], d["pool"], d["device"], tuple(d["cdi"]), d.get("share"))
                for d in (record["devices"] if record else ())
            ]
        return found

    def cdi_ids(self, pod: Object, container: Object) -> list[str]:
        """The CDI names of the devices that a container uses."""
        if not wants_devices(pod):
            return []
        ready = self.ready(pod)
        devices = (*devices_of(container, ready), *special_devices(pod, container, ready))
        return [name for device in devices for name in device.cdi_ids]

    async def release(self, uid: str) -> bool:
        """The pod has ended: give back what no other pod uses; False if it has to be tried again."""
        done = True
        for claim_uid, record in list(self._prepared.items()):
            if uid not in record["pods"]:
                continue
            if record["pods"] != [uid]:
                record["pods"].remove(uid)
                self._save()
            elif await self._unprepare(claim_uid, record):
                del self._prepared[claim_uid]
                self._save()
            else:
                done = False
        return done

    async def _unprepare(self, uid: str, record: Object) -> bool:
        for driver in record["drivers"]:
            known = self._drivers.get(driver)
            try:
                if known is None:
                    raise ClaimError(f"DRA driver {driver} is not registered")
                claim = pb.Claim(namespace=record["namespace"], uid=uid, name=record["name"])
                request = pb.NodeUnprepareResourcesRequest(claims=[claim])
                method = f"/{known.service}.DRAPlugin/NodeUnprepareResources"
                answer = await known.channel.call(method, request, pb.NodeUnprepareResourcesResponse, _CALL_SECONDS)
                made = answer.claims.get(uid)
                if made is None or made.error:
                    raise ClaimError(made.error if made is not None else "NodeUnprepareResources skipped the claim")
            except (CriError, ClaimError) as error:
                log.warning("cannot give claim back", claim=record["name"], driver=driver, err=str(error))
                return False
        return True

    def users(self) -> Iterable[str]:
        """The uids of all pods that have a claim prepared."""
        return {uid for record in self._prepared.values() for uid in record["pods"]}

    def _save(self) -> None:
        self._file.write(self._prepared)

    async def close(self) -> None:
        """Close the connections to drivers."""
        for driver in self._drivers.values():
            await driver.channel.close()
