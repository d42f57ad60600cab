"""Who owns whom, as one graph of all objects; pure: changes come in, uids that need work come out.

A node is *virtual* while only its dependants tell of it.  An edge goes from a dependant to every owner that its
ownerReferences name.

Source: k8s.io/kubernetes/pkg/controller/garbagecollector/{graph,graph_builder}.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from machinery.api.meta import Object, is_deleting, name_of, namespace_of, uid_of
from machinery.api.resource import ResourceType

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"


@dataclass(frozen=True)
class Identity:
    """Where an object is. Of a virtual node's the resource is known by apiVersion and kind alone."""

    uid: str
    api_version: str
    kind: str
    namespace: str
    name: str
    resource: ResourceType | None = None

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"[{self.api_version}/{self.kind}, {place}, uid: {self.uid}]"


@dataclass(eq=False)
class Node:
    """One object of the graph."""

    identity: Identity
    owners: tuple[Object, ...] = ()
    dependants: dict[str, Node] = field(default_factory=dict)
    virtual: bool = False
    deleting: bool = False
    deleting_dependants: bool = False
    """Foreground deletion is under way: the object waits for its dependants."""

    def blocking_dependants(self) -> list[Node]:
        """Dependants whose reference says that the owner must wait for them."""
        return [
            dependant
            for dependant in self.dependants.values()
            if any(ref["uid"] == self.identity.uid and ref.get("blockOwnerDeletion") for ref in dependant.owners)
        ]


@dataclass
class Work:
    """uids that a change made worth looking at."""

    delete: list[str] = field(default_factory=list)
    """May have to be deleted, or have their deletion completed."""

    orphan: list[str] = field(default_factory=list)
    """Are going and want their dependants to stay."""


class Graph:
    """All objects with uids, and their owners."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self.absent: dict[str, None] = {}
        """uids known not to exist (bounded; oldest forgotten first)."""

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, uid: str) -> Node | None:
        """The node of this uid."""
        return self._nodes.get(uid)

    def observe(self, resource: ResourceType, obj: Object) -> Work:
        """An object was added or changed."""
        work = Work()
        uid = uid_of(obj)
        self.absent.pop(uid, None)
        owners = _references(obj)
        node = self._nodes.get(uid)
        identity = Identity(uid, resource.api_version, resource.kind, namespace_of(obj), name_of(obj), resource)
        if node is None:
            node = self._nodes[uid] = Node(identity, owners)
            self._attach(node, owners, work)
        else:
            if node.virtual or node.identity != identity:
                self._correct(node, identity, work)
            if node.owners != owners:
                self._change_owners(node, owners, work)
        was_deleting, was_waiting = node.deleting, node.deleting_dependants
        node.deleting = is_deleting(obj)
        finalizers = obj["metadata"].get("finalizers") or ()
        if node.deleting and ORPHAN in finalizers and not was_deleting:
            work.orphan.append(uid)
        node.deleting_dependants = node.deleting and FOREGROUND in finalizers
        if node.deleting_dependants and not was_waiting:
            work.delete += node.dependants
            work.delete.append(uid)
        elif node.deleting_dependants:
            work.delete.append(uid)
        return work

    def remove(self, uid: str) -> Work:
        """An object is gone, or was found never to have been."""
        work = Work()
        node = self._nodes.pop(uid, None)
        if node is None:
            return work
        self._detach(node, node.owners)
        if node.dependants:
            self.note_absent(uid)
            work.delete += node.dependants
            # It stays in the graph as a virtual node while others refer to it.
            ghost = Node(node.identity, virtual=True)
            ghost.dependants = node.dependants
            self._nodes[uid] = ghost
        for reference in node.owners:
            owner = self._nodes.get(reference["uid"])
            if owner is not None and owner.deleting_dependants:
                work.delete.append(owner.identity.uid)
        return work

    def note_absent(self, uid: str) -> None:
        """The API server was asked: no object has this uid."""
        self.absent[uid] = None
        while len(self.absent) > 500:
            self.absent.pop(next(iter(self.absent)))

    def is_settled(self, node: Node) -> bool:
        """Whether the graph shows every owner alive, as the references tell it: nothing to ask the API server."""
        for reference in node.owners:
            owner = self._nodes.get(reference["uid"])
            if owner is None or owner.virtual or owner.deleting_dependants:
                return False
            if not self._refers_to(node, reference, owner):
                return False
        return True

    def _correct(self, node: Node, identity: Identity, work: Work) -> None:
        """A virtual node turns out to exist; dependants that told another story about it are looked at again."""
        told = node.identity
        node.identity, node.virtual = identity, False
        if (told.api_version, told.kind, told.name) != (identity.api_version, identity.kind, identity.name) or (
            identity.namespace and told.namespace != identity.namespace
        ):
            work.delete += node.dependants

    def _attach(self, node: Node, references: Iterable[Object], work: Work) -> None:
        for reference in references:
            owner = self._nodes.get(reference["uid"])
            if owner is None:
                identity = Identity(
                    reference["uid"],
                    reference["apiVersion"],
                    reference["kind"],
                    node.identity.namespace,
                    reference["name"],
                )
                owner = self._nodes[reference["uid"]] = Node(identity, virtual=True)
            if owner.virtual:
                work.delete.append(node.identity.uid)  # does the owner exist at all?
            elif not self._refers_to(node, reference, owner):
                work.delete.append(node.identity.uid)
            owner.dependants[node.identity.uid] = node

    @staticmethod
    def _refers_to(node: Node, reference: Object, owner: Node) -> bool:
        """Whether the reference's words fit the object that has its uid."""
        found = owner.identity
        return (
            reference["kind"] == found.kind
            and reference["name"] == found.name
            and _group(reference["apiVersion"]) == _group(found.api_version)
            and found.namespace in ("", node.identity.namespace)
        )

    def _detach(self, node: Node, references: Iterable[Object]) -> None:
        for reference in references:
            owner = self._nodes.get(reference["uid"])
            if owner is None:
                continue
            owner.dependants.pop(node.identity.uid, None)
            if owner.virtual and not owner.dependants:
                del self._nodes[reference["uid"]]

    def _change_owners(self, node: Node, owners: tuple[Object, ...], work: Work) -> None:
        before = {ref["uid"]: ref for ref in node.owners}
        after = {ref["uid"]: ref for ref in owners}
        for uid, ref in before.items():
            unblocked = ref.get("blockOwnerDeletion") and not after.get(uid, {}).get("blockOwnerDeletion")
            owner = self._nodes.get(uid)
            if unblocked and owner is not None and owner.deleting_dependants:
                work.delete.append(uid)
        node.owners = owners
        self._detach(node, (ref for uid, ref in before.items() if uid not in after))
        self._attach(node, (ref for uid, ref in after.items() if uid not in before), work)
        if any(uid not in after for uid in before):
            work.delete.append(node.identity.uid)


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def _references(obj: Object) -> tuple[Object, ...]:
    found = obj["metadata"].get("ownerReferences")
    return tuple(ref for ref in found if ref.get("uid")) if found else ()
