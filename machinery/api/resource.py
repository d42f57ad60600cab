"""What a resource type is: the row of a group's discovery document, as one immutable value.

Clients, informers and the API server all name resource types with these values; `catalogue` holds the built-in ones
and a CustomResourceDefinition makes more of them at run time.

Source: API conventions, "Resources"; apidiscovery.k8s.io/v2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

STANDARD_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Subresource:
    """A path below an object, such as `status`, with the kind it speaks (group/version empty: the parent's)."""

    name: str
    kind: str  # empty: the parent's kind
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


STATUS = Subresource("status", "", ("get", "patch", "update"))
SCALE = Subresource("scale", "Scale", ("get", "patch", "update"), group="autoscaling", version="v1")


@dataclass(frozen=True, slots=True, eq=False)
class ResourceType:
    """One resource of one group and version. Equality and hash are by (group, version, plural)."""

    group: str
    version: str
    plural: str
    kind: str = field(compare=False)
    singular: str = field(default="", compare=False)
    namespaced: bool = field(default=True, compare=False)
    short_names: tuple[str, ...] = field(default=(), compare=False)
    categories: tuple[str, ...] = field(default=(), compare=False)
    verbs: tuple[str, ...] = field(default=STANDARD_VERBS, compare=False)
    subresources: tuple[Subresource, ...] = field(default=(), compare=False)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, ResourceType):
            return NotImplemented
        return self.plural == other.plural and self.group == other.group and self.version == other.version

    def __hash__(self) -> int:
        return hash(self.plural)

    @property
    def api_version(self) -> str:
        """`v1` for the core group, else `group/version`: an object's apiVersion."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """`pods`, `deployments.apps`: how messages name the resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def list_kind(self) -> str:
        """The kind of a list of these."""
        return f"{self.kind}List"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, of one object, or of its subresource."""
        parts = ["/apis/" + self.group if self.group else "/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def subresource(self, name: str) -> Subresource | None:
        """The subresource of this name, if the resource has it."""
        return next((s for s in self.subresources if s.name == name), None)
