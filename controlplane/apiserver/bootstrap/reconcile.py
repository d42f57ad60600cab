"""Sees to it that the bootstrap objects exist and grant at least what they should, whenever an API server starts.

Several servers may do so at the same moment: what another has created or changed meanwhile is looked at again.
What an administrator added stays; `autoupdate: "false"` on an object leaves it wholly alone.

Source: k8s.io/kubernetes/pkg/registry/rbac/rest/storage_rbac.go, k8s.io/component-helpers/auth/rbac/reconciliation,
k8s.io/apiserver/pkg/util/flowcontrol (bootstrap), pkg/registry/scheduling/rest,
pkg/controlplane/controller/systemnamespaces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from controlplane.apiserver.authz.rules import compile_rule, compile_rules, missing
from controlplane.apiserver.bootstrap import flowcontrol
from controlplane.apiserver.bootstrap.clusterroles import cluster_role_bindings, cluster_roles
from controlplane.apiserver.bootstrap.flowcontrol import flow_schemas, priority_levels
from controlplane.apiserver.bootstrap.namespacedroles import role_bindings, roles
from controlplane.apiserver.bootstrap.priorityclasses import priority_classes
from controlplane.apiserver.bootstrap.shapes import AUTOUPDATE
from controlplane.apiserver.handlers.contract import Loopback
from machinery.api.catalogue import (
    CLUSTERROLEBINDINGS,
    CLUSTERROLES,
    FLOWSCHEMAS,
    NAMESPACES,
    PRIORITYCLASSES,
    PRIORITYLEVELCONFIGURATIONS,
    ROLEBINDINGS,
    ROLES,
)
from machinery.api.meta import Object, annotations_of, key_of, labels_of, name_of, namespace_of
from machinery.api.resource import ResourceType
from machinery.errors import AlreadyExists, Conflict, NotFound

SYSTEM_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease", "default")

_AT_ONCE = 8
_ATTEMPTS = 10

Correct = Callable[[Object, Object], Object | None]
"""(existing, expected) → what to write instead of the existing object; None if it is right as it is."""


async def ensure_namespaces(api: Loopback) -> None:
    """The namespaces that every cluster has."""
    wanted = ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in SYSTEM_NAMESPACES)
    await _ensure(api, NAMESPACES, wanted, leave)


async def ensure_rbac(api: Loopback) -> None:
    """The roles and bindings that every cluster has; needs the namespaces."""
    await _ensure(api, CLUSTERROLES, cluster_roles(), correct_role)
    await _ensure(api, CLUSTERROLEBINDINGS, cluster_role_bindings(), correct_binding)
    await _ensure(api, ROLES, roles(), correct_role)
    await _ensure(api, ROLEBINDINGS, role_bindings(), correct_binding)


async def ensure_priority_and_fairness(api: Loopback) -> None:
    """The FlowSchemas and PriorityLevelConfigurations that every cluster has."""
    await _ensure(api, PRIORITYLEVELCONFIGURATIONS, priority_levels(), correct_flowcontrol)
    await _ensure(api, FLOWSCHEMAS, flow_schemas(), correct_flowcontrol)


async def ensure_priority_classes(api: Loopback) -> None:
    """The PriorityClasses that every cluster has."""
    await _ensure(api, PRIORITYCLASSES, priority_classes(), leave)


async def ensure(api: Loopback) -> None:
    """Everything in this package, in an order that works on an empty store."""
    await ensure_namespaces(api)
    await ensure_rbac(api)
    await ensure_priority_and_fairness(api)
    await ensure_priority_classes(api)


async def _ensure(api: Loopback, resource: ResourceType, wanted: Iterable[Object], correct: Correct) -> None:
    existing = {key_of(obj): obj for obj in await api.list(resource)}
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(expected: Object) -> None:
        async with places:
            await _ensure_one(api, resource, expected, existing.get(key_of(expected)), correct)

    async with asyncio.TaskGroup() as tasks:
        for expected in wanted:
            tasks.create_task(one(expected))


async def _ensure_one(
    api: Loopback, resource: ResourceType, expected: Object, existing: Object | None, correct: Correct
) -> None:
    name, namespace = name_of(expected), namespace_of(expected)
    for attempt in range(_ATTEMPTS):
        try:
            if existing is None:
                await api.create(resource, expected, namespace)
                return
            corrected = correct(existing, expected)
            if corrected is None:
                return
            if corrected.get("roleRef") != existing.get("roleRef"):
                # What a binding refers to can't be changed: it is made anew.
                uid = str(existing["metadata"].get("uid", ""))
                await api.delete(resource, name, namespace, uid=uid)
                existing = None
                continue
            await api.update(resource, corrected)
            return
        except (AlreadyExists, Conflict, NotFound):
            # Another API server was quicker, or a user interfered: look again.
            if attempt == _ATTEMPTS - 1:
                raise
            try:
                existing = await api.get(resource, name, namespace)
            except NotFound:
                existing = None


def leave(existing: Object, expected: Object) -> Object | None:
    """For objects that are only created."""
    return None


def correct_role(existing: Object, expected: Object) -> Object | None:
    """Add what a (Cluster)Role lacks: rules, selectors to aggregate, labels, annotations."""
    if annotations_of(existing).get(AUTOUPDATE) == "false":
        return None
    changed = _with_metadata(existing, expected)
    if expected.get("aggregationRule"):
        selectors = (existing.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
        lacking = [s for s in expected["aggregationRule"]["clusterRoleSelectors"] if s not in selectors]
        if lacking:
            changed = (changed or existing) | {"aggregationRule": {"clusterRoleSelectors": [*selectors, *lacking]}}
        return changed
    held = compile_rules(existing.get("rules"))
    lacking = [rule for rule in expected.get("rules") or () if missing(held, [compile_rule(rule)])]
    if lacking:
        changed = (changed or existing) | {"rules": [*(existing.get("rules") or ()), *lacking]}
    return changed


def correct_binding(existing: Object, expected: Object) -> Object | None:
    """Add the subjects a binding lacks; point it to the right role."""
    if annotations_of(existing).get(AUTOUPDATE) == "false":
        return None
    if existing.get("roleRef") != expected["roleRef"]:
        return expected
    changed = _with_metadata(existing, expected)
    subjects = existing.get("subjects") or []
    lacking = [s for s in expected.get("subjects") or () if s not in subjects]
    if lacking:
        changed = (changed or existing) | {"subjects": [*subjects, *lacking]}
    return changed


def correct_flowcontrol(existing: Object, expected: Object) -> Object | None:
    """Set back the specification, unless a user has taken it over."""
    if name_of(expected) not in flowcontrol.MANDATORY:
        wish = annotations_of(existing).get(flowcontrol.AUTOUPDATE)
        # Without an annotation, a specification that nobody has changed since its creation is the server's.
        if wish == "false" or (wish is None and (existing["metadata"].get("generation") or 1) > 1):
            return None
    changed = _with_metadata(existing, expected)
    if existing.get("spec") != expected["spec"]:
        changed = (changed or existing) | {"spec": expected["spec"]}
    return changed


def _with_metadata(existing: Object, expected: Object) -> Object | None:
    """The existing object with the labels and annotations it lacks; None if it lacks none."""
    labels = labels_of(expected) | labels_of(existing)
    annotations = annotations_of(expected) | annotations_of(existing)
    if labels == labels_of(existing) and annotations == annotations_of(existing):
        return None
    metadata = existing["metadata"] | {"labels": labels, "annotations": annotations}
    return existing | {"metadata": {key: value for key, value in metadata.items() if value != {}}}
