"""Where in storage the objects of each resource are: kube-apiserver's own prefixes.

Source: `etcdctl get /registry --prefix --keys-only` of a Kubernetes cluster; pkg/registry (storage prefixes).
"""

from __future__ import annotations

from machinery.api import catalogue as c
from machinery.api.resource import ResourceType

# Groups whose resources have prefixes of their own name alone are the rule for built-in resources; these are not.
_OTHERS = {
    c.SERVICES: "services/specs/",
    c.ENDPOINTS: "services/endpoints/",
    c.NODES: "minions/",
    c.REPLICATIONCONTROLLERS: "controllers/",
    c.INGRESSES: "ingress/",
    c.EVENTS_K8S_IO: "events/",
    c.APISERVICES: "apiregistration.k8s.io/apiservices/",
    c.CUSTOMRESOURCEDEFINITIONS: "apiextensions.k8s.io/customresourcedefinitions/",
}

_BUILT_IN = frozenset(c.BUILT_IN)

_NESTED = frozenset({"services", "ranges"})


def prefix_of(resource: ResourceType) -> str:
    """The prefix of a resource's objects, relative to the store's (`pods/`, `GROUP/PLURAL/` for custom resources)."""
    if resource in _OTHERS:
        return _OTHERS[resource]
    return f"{resource.plural}/" if resource in _BUILT_IN else f"{resource.group}/{resource.plural}/"


def collection_prefix(key: str) -> str:
    """The part of a key (relative to the store's prefix) that names the collection: `pods/`, `services/specs/`."""
    first, _, rest = key.partition("/")
    if "." in first or first in _NESTED:
        return f"{first}/{rest.partition('/')[0]}/"
    return first + "/"


_RESOURCES = {prefix_of(r): (r.group, r.plural) for r in reversed(c.BUILT_IN) if r != c.EVENTS_K8S_IO}


def resource_of(key: str) -> tuple[str, str] | None:
    """(group, plural) of the resource that a key (relative to the store's prefix) is of; None for the servers' own."""
    prefix = collection_prefix(key)
    found = _RESOURCES.get(prefix)
    if found is not None:
        return found
    group, _, plural = prefix.rstrip("/").partition("/")
    return (group, plural) if plural and "." in group else None
