"""What all handlers work with: the parts of one API server."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from controlplane.apiserver.admitting import Admission
from controlplane.apiserver.cacher.reader import CacheReader
from controlplane.apiserver.handlers.allocation import Allocator, NoAllocation
from controlplane.apiserver.handlers.contract import Authorize, Extensions
from controlplane.apiserver.handlers.kubelets import Kubelets
from controlplane.apiserver.metrics import Metrics
from controlplane.apiserver.objects import Objects
from controlplane.apiserver.registry.strategy import Context
from controlplane.apiserver.request import User
from controlplane.apiserver.resources import Resources
from controlplane.apiserver.settings import Settings
from machinery.api.meta import format_time
from machinery.clock import Clock


@dataclass
class Api:
    """One API server's parts, shared by its handlers."""

    settings: Settings
    resources: Resources
    objects: Objects
    reader: CacheReader
    clock: Clock
    authorize: Authorize
    extensions: Extensions = field(default_factory=Extensions)
    admission: Admission = field(default_factory=Admission)
    metrics: Metrics = field(default_factory=Metrics)
    allocator: Allocator = field(default_factory=NoAllocation)
    kubelets: Kubelets = field(init=False)

    def __post_init__(self) -> None:
        self.kubelets = Kubelets(self.settings)

    def now(self) -> str:
        """The time as objects tell it."""
        return format_time(self.clock.now())

    def moment(self) -> datetime:
        """The time."""
        return self.clock.now()

    def context(self, user: User, namespace: str, name: str, *, dry_run: bool, verb: str = "") -> Context:
        """What strategies get to know."""
        privileged = self.settings.allow_privileged
        return Context(
            user, self.reader, self.now(), namespace, name, dry_run, privileged, verb=verb, authorize=self.authorize
        )
