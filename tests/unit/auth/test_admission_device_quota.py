"""ResourceQuota: claims count for the devices they ask for, and what a pod counts for itself is not counted twice."""

from typing import Any

import pytest
from auth_store import Api, Store, creates, named

from controlplane.apiserver.admission.resourcequota import ResourceQuota
from machinery.api import quantity
from machinery.api.catalogue import DEVICECLASSES, PODS, RESOURCECLAIMS, RESOURCEQUOTAS
from machinery.api.devicequota import Surroundings
from machinery.api.meta import Object
from machinery.api.quotausage import relevant, usage
from machinery.errors import Forbidden

DEVICES = "gpu.deviceclass.resource.k8s.io/devices"
IMPLICIT = "requests.deviceclass.resource.kubernetes.io/gpu"
EXPLICIT = "requests.example.com/gpu"
COUNT = "count/resourceclaims.resource.k8s.io"
GPU = {"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "example.com/gpu"}}


def request(count: int | str = 1, name: str = "gpu") -> Object:
    mode = {"allocationMode": "All"} if count == "all" else {"allocationMode": "ExactCount", "count": count}
    return {"name": "r", "deviceClassName": name, **mode}


def claim(*requests: Object, **metadata: Any) -> Object:
    return named("c", "x", **metadata, spec={"devices": {"requests": list(requests)}})


def exactly(count: int | str = 1, name: str = "gpu") -> Object:
    return {"name": "r", "exactly": request(count, name)}


def counted(obj: Object, pod: Object | None = None) -> dict[str, str]:
    around = Surroundings({"gpu": GPU}.get, lambda namespace, name: pod if name == "p" else None)
    found = usage(RESOURCECLAIMS, obj, around=around)
    assert found.pop(COUNT) == quantity.of(1)
    assert set(found) == relevant(RESOURCECLAIMS, found)
    return {name: str(amount) for name, amount in found.items()}


@pytest.mark.parametrize(
    ("requests", "gpus"),
    [
        ([exactly()], "1"),
        ([exactly(2), exactly(3)], "5"),
        ([exactly("all")], "32"),
        ([{"name": "r", "firstAvailable": [request(4), request(2), request("all", "other")]}], "4"),
    ],
)
def test_devices_of_a_class_count_as_the_extended_resources_they_are_too(requests: list[Object], gpus: str) -> None:
    found = counted(claim(*requests))
    assert {name: found.get(name) for name in (DEVICES, IMPLICIT, EXPLICIT)} == dict.fromkeys(
        (DEVICES, IMPLICIT, EXPLICIT), gpus
    )


def test_a_class_without_a_resource_of_its_own_has_the_implicit_one() -> None:
    assert counted(claim(exactly(name="nic"))) == {
        "nic.deviceclass.resource.k8s.io/devices": "1",
        "requests.deviceclass.resource.kubernetes.io/nic": "1",
    }


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ("example.com/gpu", IMPLICIT),
        ("deviceclass.resource.kubernetes.io/gpu", EXPLICIT),
    ],
)
def test_what_the_pod_counts_for_itself_its_claim_does_not(asked: str, left: str) -> None:
    container = {"name": "c", "resources": {"requests": {asked: "2"}}}
    pod = named("p", "x", spec={"containers": [container]})
    pod["metadata"]["uid"] = "u"
    made = claim(exactly(2))
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}
    made["metadata"] |= {
        "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
        "ownerReferences": [owner],
    }
    assert counted(made, pod) == {DEVICES: "2", left: "2"}
    assert usage(PODS, pod)[f"requests.{asked}"] == quantity.of(2)
    stranger = {**pod, "metadata": {**pod["metadata"], "uid": "other"}}
    assert counted(made, stranger) == {DEVICES: "2", IMPLICIT: "2", EXPLICIT: "2"}


async def test_claims_are_refused_when_no_devices_are_left() -> None:
    store = Store()
    store.put(DEVICECLASSES, GPU)
    hard = {DEVICES: "3", COUNT: "9", EXPLICIT: "2"}
    status = {"hard": hard, "used": dict.fromkeys(hard, "0")}
    store.put(RESOURCEQUOTAS, named("q", "x", spec={"hard": hard}, status=status))
    plugin = ResourceQuota(store, Api(store))
    await plugin.validate(creates(RESOURCECLAIMS, claim(exactly())))
    with pytest.raises(Forbidden) as refused:
        await plugin.validate(creates(RESOURCECLAIMS, claim(exactly(3))))
    assert refused.value.message == (
        'resourceclaims.resource.k8s.io "c" is forbidden: exceeded quota: q, '
        f"requested: {DEVICES}=3,{EXPLICIT}=3, used: {DEVICES}=1,{EXPLICIT}=1, limited: {DEVICES}=3,{EXPLICIT}=2"
    )
