"""The resources that are served now, by path: built-in ones, and custom ones as definitions come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.registry import strategy_for
from controlplane.apiserver.registry.strategy import Strategy
from controlplane.apiserver.storage.keys import prefix_of
from controlplane.apiserver.views import VIEWS, View
from machinery.api import schema
from machinery.api.catalogue import BUILT_IN
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.api.schema import KindSchema
from machinery.api.structural.custom import CustomSchema
from machinery.api.versions import by_priority


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """JSONPaths into a custom resource. Source: apiextensions.k8s.io/v1 CustomResourceSubresourceScale."""

    spec_replicas: str
    status_replicas: str
    selector: str = ""


class Conversion(Protocol):
    """Shows stored objects in another version; it may have to ask somebody."""

    @property
    def waits(self) -> bool:
        """Whether `present` must be awaited before `of`."""
        ...

    def of(self, record: Record) -> Object:
        """The object in the version; shared, not to be changed."""
        ...

    def missing(self, records: Sequence[Record]) -> bool:
        """Whether `present` has something to do for these."""
        ...

    async def present(self, records: Sequence[Record]) -> None:
        """Convert what must be. Raises InternalError."""
        ...

    async def to_stored(self, obj: Object) -> Object:
        """What to store for an object of the version. Raises InternalError."""
        ...


@dataclass(frozen=True, slots=True)
class Served:
    """One resource of one version, with all that handlers need to serve it."""

    type: ResourceType
    strategy: Strategy
    schema: KindSchema | None
    """What the kind looks like; None: nothing is known, and everything accepted."""
    prefix: str
    """Where its objects are in storage, relative to the store's prefix."""
    stored: ResourceType
    """The version objects are stored in."""
    stored_strategy: Strategy
    """By whose rules objects are stored and printed."""
    view: View | None = None
    """How to turn stored objects into this version and back; None: it is the stored version."""
    conversion: Conversion | None = None
    """How custom resources get from the version they are stored in to this one; None: they are shown as stored."""
    scale: ScalePaths | None = None
    """Where a custom resource keeps what its scale tells; None: where built-in kinds do."""
    deprecation: str = ""
    """The warning that every answer about a deprecated kind or version carries."""

    terminating: bool = False
    """Whether its CustomResourceDefinition is going: nothing new may be created."""

    @property
    def custom(self) -> bool:
        """Whether a CustomResourceDefinition made it."""
        return isinstance(self.schema, CustomSchema)


@dataclass
class Resources:
    """What is served. `generation` changes whenever anything in it does."""

    _by_path: dict[tuple[str, str, str], Served] = field(default_factory=dict)
    generation: int = 0
    hidden: frozenset[tuple[str, str]] = frozenset()
    """Groups and versions that clients do not see; the server itself still works with what is in them."""
    changed: list[Callable[[], None]] = field(default_factory=list)
    """Called after each change: caches made from this (discovery, OpenAPI) are then dropped."""

    def find(self, group: str, version: str, plural: str) -> Served | None:
        """The resource at a path."""
        return None if (group, version) in self.hidden else self._by_path.get((group, version, plural))

    def of(self, resource: ResourceType) -> Served:
        """A resource that is known to be served. Raises KeyError."""
        return self._by_path[resource.group, resource.version, resource.plural]

    def all(self) -> Iterable[Served]:
        """Everything served, in the order of registration."""
        if not self.hidden:
            return self._by_path.values()
        return [s for s in self._by_path.values() if (s.type.group, s.type.version) not in self.hidden]

    def group_versions(self) -> dict[str, list[str]]:
        """Versions of each group, the preferred first; groups in the order of registration."""
        found: dict[str, list[str]] = {}
        for group, version, _ in self._by_path:
            if (group, version) in self.hidden:
                continue
            versions = found.setdefault(group, [])
            if version not in versions:
                versions.append(version)
        return {group: by_priority(versions) for group, versions in found.items()}

    def is_custom(self, group: str) -> bool:
        """Whether all that is served of a group are custom resources."""
        return all(served.custom for (g, _, _), served in self._by_path.items() if g == group)

    def replace(self, removed: Iterable[Served], added: Iterable[Served]) -> None:
        """Stop serving some and serve others, at once."""
        for served in removed:
            self._by_path.pop((served.type.group, served.type.version, served.type.plural), None)
        for served in added:
            self._by_path[served.type.group, served.type.version, served.type.plural] = served
        self.generation += 1
        for callback in self.changed:
            callback()


def built_in(hidden: frozenset[tuple[str, str]] = frozenset()) -> Resources:
    """The built-in resources; clients do not see those of `hidden` groups and versions."""
    schemas = schema.load()
    resources = Resources(hidden=hidden)
    made = []
    for resource in BUILT_IN:
        view = VIEWS.get(resource)
        stored = view.stored if view else resource
        made.append(
            Served(
                resource,
                strategy_for(resource),
                schemas.of(resource.group, resource.version, resource.kind),
                prefix_of(stored),
                stored,
                strategy_for(resource if view and view.own_rules else stored),
                view,
                deprecation=strategy_for(resource).deprecated,
            )
        )
    resources.replace((), made)
    return resources
