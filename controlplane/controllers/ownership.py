"""From a change of a dependant to the keys of the owners that must look at it.

Source: the addPod/updatePod/deletePod handlers that k8s.io/kubernetes' workload controllers share in kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controlplane.controllers.environment import ORPHAN_INDEX, OWNER_INDEX
from controlplane.controllers.expectations import Expectations
from machinery.api.labels import NOTHING, Selector, from_map, from_selector
from machinery.api.meta import Object, controller_of, is_deleting, key_of, labels_of, namespace_of, uid_of
from machinery.api.resource import ResourceType
from machinery.cache.informer import Informer

Enqueue = Callable[[str], None]


_read: dict[tuple[str, int], Selector] = {}
_REMEMBERED = 20_000


def selector_of(owner: Object) -> Selector:
    """The meaning of spec.selector: a LabelSelector, or the plain map of a ReplicationController or Service.

    A selector that can't be read, or an empty one, selects nothing.
    """
    metadata = owner["metadata"]
    which = metadata.get("uid", ""), metadata.get("generation", 0)
    if not all(which):
        return _read_selector(owner)
    found = _read.get(which)
    if found is None:  # it stays the same as long as the generation does
        if len(_read) >= _REMEMBERED:
            _read.clear()
        found = _read[which] = _read_selector(owner)
    return found


def _read_selector(owner: Object) -> Selector:
    selector = (owner.get("spec") or {}).get("selector")
    if not selector:
        return NOTHING
    if "matchLabels" in selector or "matchExpressions" in selector:
        if all(isinstance(value, str) for value in selector.values()):
            return from_map(selector)  # labels that happen to be called so
        try:
            return from_selector(selector) or NOTHING
        except ValueError:
            return NOTHING
    return from_map(selector)


def candidates(dependants: Informer, owner: Object) -> list[Object]:
    """What `owner` may have to do with: what it controls, and the orphans of its namespace."""
    return dependants.by_index(OWNER_INDEX, uid_of(owner)) + dependants.by_index(ORPHAN_INDEX, namespace_of(owner))


def controlled(dependants: Informer, owner: Object) -> list[Object]:
    """What `owner` controls."""
    return dependants.by_index(OWNER_INDEX, uid_of(owner))


def resolve(owners: Informer, kind: ResourceType, dependant: Object) -> Object | None:
    """The owner in the cache that controls `dependant`, if it is of this kind and still the same object."""
    reference = controller_of(dependant)
    if reference is None or reference.get("kind") != kind.kind or not _same_group(reference, kind):
        return None
    namespace = namespace_of(dependant)
    owner = owners.get(f"{namespace}/{reference['name']}" if namespace else reference["name"])
    return owner if owner is not None and uid_of(owner) == reference.get("uid") else None


def _same_group(reference: Object, kind: ResourceType) -> bool:
    group, slash, _ = str(reference.get("apiVersion") or "").rpartition("/")
    return (group if slash else "") == kind.group


def selecting(owners: Iterable[Object], dependant: Object) -> list[Object]:
    """The owners whose selector matches the dependant's labels."""
    return [owner for owner in owners if selector_of(owner).matches(labels_of(dependant))]


def follow(
    dependants: Informer,
    owners: Informer,
    kind: ResourceType,
    enqueue: Enqueue,
    *,
    expectations: Expectations | None = None,
    revisit: Callable[[Object, Object], None] | None = None,
) -> None:
    """Enqueue owners of `kind` when their dependants change, and lower what was expected of those.

    `revisit(owner, dependant)` is called for every change of a dependant that lives on.
    """

    def on_change(old: Object | None, new: Object | None) -> None:
        if old is not None and (new is None or controller_of(new) != controller_of(old)):
            owner = resolve(owners, kind, old)
            if owner is not None:
                if new is None and expectations is not None:
                    expectations.deleted(key_of(owner), uid_of(old))
                enqueue(key_of(owner))
        if new is None:
            return
        owner = resolve(owners, kind, new)
        if owner is not None:
            if expectations is not None:
                if is_deleting(new):
                    expectations.deleted(key_of(owner), uid_of(new))
                if old is None:
                    expectations.created(key_of(owner))
            enqueue(key_of(owner))
            if revisit is not None:
                revisit(owner, new)
        elif controller_of(new) is None and not is_deleting(new):
            became = old is None or labels_of(old) != labels_of(new) or controller_of(old) is not None
            if became:
                for match in selecting(owners.list(namespace_of(new)), new):
                    enqueue(key_of(match))

    dependants.on_change(on_change)
