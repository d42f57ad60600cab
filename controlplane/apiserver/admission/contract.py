"""The contract of admission: what a plugin is given and may do.

Source: k8s.io/apiserver/pkg/admission.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from controlplane.apiserver.admission.rounds import Rounds
from controlplane.apiserver.request import User
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


@dataclass(slots=True)
class Operation:
    """One write (or connection) on its way in. `object` may be changed by `admit`, and by it alone."""

    verb: str  # CREATE, UPDATE, DELETE, CONNECT
    resource: ResourceType
    subresource: str
    namespace: str
    name: str  # may be "" on CREATE with generateName
    user: User
    object: Object | None  # new object (options object on CONNECT); None on DELETE
    old: Object | None  # existing object on UPDATE and DELETE; shared, not to be changed
    options: Object = field(default_factory=dict)  # CreateOptions, UpdateOptions, DeleteOptions
    dry_run: bool = False
    warnings: list[str] = field(default_factory=list)  # sent to the client as Warning headers
    audit_annotations: dict[str, str] = field(default_factory=dict)
    rounds: Rounds = field(default_factory=Rounds)


class Plugin(Protocol):
    """An admission plugin. Its `name` is upstream's (--enable-admission-plugins)."""

    name: str

    def handles(self, operation: Operation) -> bool:
        """Whether the plugin wants to see this operation (cheap: called for every write)."""
        ...

    async def admit(self, operation: Operation) -> None:
        """The mutating phase: change `operation.object`, or raise a StatusError (mostly Forbidden)."""
        ...

    async def validate(self, operation: Operation) -> None:
        """The validating phase, after all mutation and validation: raise a StatusError to refuse."""
        ...
