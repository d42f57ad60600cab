"""What admission plugins have in common: doing nothing where there is nothing to do, and upstream's way to refuse."""

from __future__ import annotations

from typing import ClassVar

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.authz.refusal import forbidden_object
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.errors import Forbidden

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"


class BasePlugin:
    """Neither changes nor refuses anything; handles `resources` (without subresources) on `verbs`."""

    name: str = ""
    verbs: ClassVar[tuple[str, ...]] = (CREATE,)
    resources: ClassVar[tuple[ResourceType, ...]] = ()

    def handles(self, operation: Operation) -> bool:
        """Whether the plugin wants to see this operation."""
        return operation.verb in self.verbs and not operation.subresource and operation.resource in self.resources

    async def admit(self, operation: Operation) -> None:
        """The mutating phase."""

    async def validate(self, operation: Operation) -> None:
        """The validating phase."""


def refuse(operation: Operation, told: str) -> Forbidden:
    """The 403 of an admission plugin: `pods "x" is forbidden: told`."""
    metadata = (operation.object or {}).get("metadata") or {}
    name = operation.name or metadata.get("name") or metadata.get("generateName") or "Unknown!"
    return forbidden_object(operation.resource.group, operation.resource.plural, name, told)


def subject(operation: Operation) -> Object:
    """The object of a create or update, to be changed in place."""
    assert operation.object is not None, "creates and updates have an object"
    return operation.object


def spec_of(obj: Object) -> Object:
    """spec, made if it is not there: what is returned is part of the object."""
    spec: Object = obj.get("spec") or {}
    obj["spec"] = spec
    return spec


class AlwaysDeny(BasePlugin):
    """Refuses everything."""

    name = "AlwaysDeny"

    def handles(self, operation: Operation) -> bool:
        """Every operation."""
        return True

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        raise refuse(operation, "admission control is denying all modifications")
