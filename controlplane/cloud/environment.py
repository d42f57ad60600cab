"""What the cloud's controllers are built from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from controlplane.cloud.contract import Cloud
from machinery.cache.informer import Informers
from machinery.client.rest import Client
from machinery.clock import Clock
from machinery.controller import Controller
from machinery.events import EventRecorder


@dataclass
class Environment:
    """The shared things. One instance a term of leadership: its caches start empty."""

    flags: dict[str, Any]
    cloud: Cloud
    informers: Informers
    clock: Clock
    client_for: Callable[[str], Client]
    """The client that acts as the ServiceAccount of this name in kube-system (or as the manager itself)."""

    recorders: dict[str, EventRecorder] = field(default_factory=dict)

    def recorder(self, component: str, account: str) -> EventRecorder:
        """The recorder whose events come from `component`, sent as `account`."""
        if component not in self.recorders:
            self.recorders[component] = EventRecorder(self.client_for(account), component=component, clock=self.clock)
        return self.recorders[component]


Build = Callable[[Environment], list[Controller]]
