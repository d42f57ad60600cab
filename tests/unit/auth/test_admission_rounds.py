"""The server's own plugins go over an object twice when a webhook has changed it: the second time changes nothing."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from auth_store import Store, creates, everybody_may, named

from controlplane.apiserver.admission import factory
from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import BasePlugin
from controlplane.apiserver.admission.webhook.client import WebhookClient
from controlplane.apiserver.admitting import Admission
from controlplane.apiserver.settings import Settings
from machinery.api.catalogue import (
    INGRESSCLASSES,
    INGRESSES,
    LIMITRANGES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    PRIORITYCLASSES,
    RUNTIMECLASSES,
    SERVICEACCOUNTS,
    STORAGECLASSES,
)
from machinery.api.resource import ResourceType
from machinery.clock import SystemClock

ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/node-selector": "a=b",
    "scheduler.alpha.kubernetes.io/defaultTolerations": '[{"key":"k","operator":"Exists"}]',
}
LIMITS = {"default": {"cpu": "1", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}, "type": "Container"}


def store() -> Store:
    made = Store()
    namespace = named("x")
    namespace["metadata"]["annotations"] = ANNOTATIONS
    made.put(NAMESPACES, namespace)
    made.put(LIMITRANGES, named("l", "x", spec={"limits": [LIMITS]}))
    made.put(SERVICEACCOUNTS, named("default", "x", imagePullSecrets=[{"name": "s"}]))
    made.put(PRIORITYCLASSES, named("p", value=7, globalDefault=True, preemptionPolicy="Never"))
    scheduling = {"nodeSelector": {"r": "s"}, "tolerations": [{"key": "r", "operator": "Exists"}]}
    made.put(RUNTIMECLASSES, named("r", overhead={"podFixed": {"cpu": "10m"}}, scheduling=scheduling, handler="h"))
    for resource, annotation in ((STORAGECLASSES, "storageclass"), (INGRESSCLASSES, "ingressclass")):
        default = named("d")
        default["metadata"]["annotations"] = {f"{annotation}.kubernetes.io/is-default-class": "true"}
        made.put(resource, default)
    made.put(NODES, named("n"))
    return made


class Late(BasePlugin):
    """Wants a second round, as a webhook that has changed something."""

    seen: bytes = b""

    def handles(self, operation: Operation) -> bool:
        return True

    async def admit(self, operation: Operation) -> None:
        if not operation.rounds.second:
            self.seen = orjson.dumps(operation.object)
            operation.rounds.wanted = True


@pytest.mark.parametrize(
    ("resource", "spec"),
    [
        (PODS, {"containers": [{"name": "c", "image": "i"}], "runtimeClassName": "r"}),
        (PODS, {"containers": [{"name": "c", "image": "i"}], "initContainers": [{"name": "i", "image": "i"}]}),
        (PERSISTENTVOLUMECLAIMS, {}),
        (PERSISTENTVOLUMES, {}),
        (INGRESSES, {}),
        (NODES, {}),
    ],
)
async def test_the_second_round_changes_nothing(resource: ResourceType, spec: dict[str, Any]) -> None:
    objects = store()
    loopback: Any = None  # none of these plugins writes
    client = WebhookClient(objects)
    parts = factory.Parts(objects, loopback, everybody_may, SystemClock(), client, {}, Settings())
    left_out = ("AlwaysDeny", "NamespaceAutoProvision", "EventRateLimit", "ResourceQuota")
    made = [make(parts) for name, make in factory._ALL.items() if make is not None and name not in left_out]
    late = Late()
    namespace = "x" if resource.namespaced else ""
    operation = creates(resource, copy.deepcopy(named("o", namespace, spec=spec)))
    await Admission([*made, late]).admit(operation)
    assert operation.rounds.second
    assert orjson.loads(orjson.dumps(operation.object)) == orjson.loads(late.seen)
