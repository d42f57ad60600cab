"""What is asked of a node with the change of a pod that runs on it: what it has declared, and what it has."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from auth_store import Store, creates, named, updates

from controlplane.apiserver.admission.declaredfeatures import NodeDeclaredFeatureValidator
from controlplane.apiserver.admission.podresize import PodResizeValidator
from machinery.api.catalogue import NODES, PODS
from machinery.api.meta import Object
from machinery.errors import Forbidden

CPU, WHOLE, INIT = (
    "GuaranteedQoSPodCPUResize",
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
)
ONE, TWO = {"requests": {"cpu": "1"}}, {"requests": {"cpu": "2"}}
SAME = {"requests": {"cpu": "1000m"}}


def pod(quality: str = "Guaranteed") -> Object:
    spec = {
        "nodeName": "w",
        "containers": [{"name": "c", "resources": ONE}],
        "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
        "resources": ONE,
    }
    made = named("p", "x", spec=spec, status={"qosClass": quality})
    made["metadata"]["generation"] = 1
    return made


def node(*declared: str) -> Store:
    store = Store()
    store.put(NODES, named("w", status={"declaredFeatures": list(declared)}))
    return store


@pytest.mark.parametrize(
    ("quality", "change", "needed"),
    [
        ("Guaranteed", {"containers": [{"name": "c", "resources": TWO}]}, [CPU]),
        ("Guaranteed", {"containers": [{"name": "c", "resources": SAME}]}, []),
        ("Burstable", {"containers": [{"name": "c", "resources": TWO}]}, []),
        ("Burstable", {"resources": TWO}, [WHOLE]),
        ("Burstable", {"initContainers": [{"name": "i", "resources": ONE}, {"name": "s"}]}, [INIT]),
        ("Burstable", {"initContainers": [{"name": "i"}, {"name": "s", "resources": ONE}]}, []),
        (
            "Guaranteed",
            {"containers": [{"name": "c", "resources": TWO}], "initContainers": [{"resources": ONE}], "resources": TWO},
            [CPU, WHOLE, INIT],
        ),
    ],
)
async def test_a_change_needs_a_node_that_can_follow(quality: str, change: Object, needed: list[str]) -> None:
    old = pod(quality)
    new = copy.deepcopy(old)
    new["spec"] |= change
    new["metadata"]["generation"] = 2
    await NodeDeclaredFeatureValidator(node(*needed)).validate(updates(PODS, new, old, subresource="resize"))
    if needed:
        with pytest.raises(Forbidden) as refused:
            await NodeDeclaredFeatureValidator(node()).validate(updates(PODS, new, old, subresource="resize"))
        assert refused.value.message == (
            f'pods "p" is forbidden: pod update requires features {", ".join(needed)} which are not available on '
            'node "w"'
        )
        with pytest.raises(Forbidden, match='node "w" not found'):
            await NodeDeclaredFeatureValidator(Store()).validate(updates(PODS, new, old))


async def test_what_is_not_looked_at() -> None:
    plugin = NodeDeclaredFeatureValidator(node())
    old = pod()
    new = copy.deepcopy(old)
    new["spec"]["resources"] = TWO
    assert plugin.handles(updates(PODS, new, old))
    assert not plugin.handles(updates(PODS, new, old, subresource="status"))
    assert not plugin.handles(creates(PODS, new))
    await plugin.validate(updates(PODS, new, old))  # of the same generation: the spec has not changed
    del new["spec"]["nodeName"]
    new["metadata"]["generation"] = 2
    await plugin.validate(updates(PODS, new, old))


def sizes(cpu: str, memory: str) -> Object:
    return {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}], "nodeName": "w"}


@pytest.mark.parametrize(
    ("system", "cpu", "memory", "told", "reason"),
    [
        ("linux", "2", "1Gi", "", ""),
        (
            "linux",
            "2001m",
            "1025Mi",
            "node didn't have enough allocatable resources: cpu, requested: 2001, allocatable: 2000; "
            "memory, requested: 1074790400, allocatable: 1073741824",
            "NodeCapacity",
        ),
        (
            "windows",
            "1",
            "1",
            'pod resize is only supported on linux nodes, node "w" is "windows"',
            "UnsupportedPlatform",
        ),
    ],
)
async def test_a_resize_fits_the_node(system: str, cpu: str, memory: str, told: str, reason: str) -> None:
    store = Store()
    made: Any = named("w", status={"allocatable": {"cpu": "2", "memory": "1Gi"}})
    made["metadata"]["labels"] = {"kubernetes.io/os": system}
    store.put(NODES, made)
    old = named("p", "x", spec=sizes("1", "1Mi"))
    new = copy.deepcopy(old) | {"spec": sizes(cpu, memory)}
    new["metadata"]["generation"] = 2
    plugin, operation = PodResizeValidator(store), updates(PODS, new, old, subresource="resize")
    assert plugin.handles(operation)
    assert not plugin.handles(updates(PODS, new, old))
    if not told:
        await plugin.validate(operation)
        return
    with pytest.raises(Forbidden) as refused:
        await plugin.validate(operation)
    assert refused.value.message == f'pods "p" is forbidden: {told}'
    assert (refused.value.details or {})["causes"] == [{"reason": reason}]
    with pytest.raises(Forbidden, match='node "w" not found'):
        await PodResizeValidator(Store()).validate(operation)
    await plugin.validate(updates(PODS, old, old, subresource="resize"))
