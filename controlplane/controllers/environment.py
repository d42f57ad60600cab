"""What every controller is built from: settings, shared informers, a client and an event recorder of its own.

A controller's module has a function `build(env)` that registers what it watches and returns its `Controller`s; the
manager runs them once every cache is filled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from controlplane.controllers.options import Options
from machinery.api.catalogue import PODS
from machinery.api.meta import Object, controller_of, namespace_of
from machinery.api.resource import ResourceType
from machinery.cache.informer import Informer, Informers
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.events import EventRecorder

OWNER_INDEX = "controller"  # uid of the controlling owner
ORPHAN_INDEX = "orphan"  # namespace of objects that no controller owns
NODE_INDEX = "node"  # spec.nodeName


def without_managed_fields(obj: Object) -> Object:
    """The object without its managedFields, which no controller reads and which are a good part of its size."""
    metadata = obj["metadata"]
    if "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {k: v for k, v in metadata.items() if k != "managedFields"}}


@dataclass
class Environment:
    """The shared things. One instance a term of leadership: its caches start empty."""

    options: Options
    informers: Informers
    metadata_informers: Informers
    """Those whose objects are metadata alone (for the garbage collector)."""

    clock: Clock
    client_for: Callable[[str], Client]
    """The client that acts as the ServiceAccount of this name in kube-system (or as the manager itself)."""
    recorders: dict[str, EventRecorder] = field(default_factory=dict)
    shared_resources: set[ResourceType] = field(default_factory=set)
    """What `informer` was asked for so far."""

    def informer(self, resource: ResourceType) -> Informer:
        """The shared informer of a resource, indexed by controlling owner."""
        informer = self.informers.of(resource, transform=without_managed_fields)
        self.shared_resources.add(resource)
        informer.add_index(OWNER_INDEX, _owner_keys)
        informer.add_index(ORPHAN_INDEX, _orphan_keys)
        if resource == PODS:
            informer.add_index(NODE_INDEX, _node_keys)
        return informer

    def recorder(self, component: str, account: str) -> EventRecorder:
        """The recorder whose events come from `component`, sent as `account`."""
        if component not in self.recorders:
            self.recorders[component] = EventRecorder(self.client_for(account), component=component, clock=self.clock)
        return self.recorders[component]


Build = Callable[[Environment], list[Controller]]


def _owner_keys(obj: Object) -> list[str]:
    reference = controller_of(obj)
    return [reference["uid"]] if reference is not None else []


def _orphan_keys(obj: Object) -> list[str]:
    return [namespace_of(obj)] if controller_of(obj) is None else []


def _node_keys(pod: Object) -> list[str]:
    node = (pod.get("spec") or {}).get("nodeName")
    return [node] if node else []
