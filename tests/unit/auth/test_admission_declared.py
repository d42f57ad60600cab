"""NodeDeclaredFeatureValidator: what is asked of a node with the change of a pod that runs on it."""

from __future__ import annotations

import copy

import pytest
from auth_store import Store, creates, named, updates

from controlplane.apiserver.admission.declaredfeatures import NodeDeclaredFeatureValidator
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
