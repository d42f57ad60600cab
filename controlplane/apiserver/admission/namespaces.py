"""Plugins that are off by default: what namespaces demand of what is in them.

Source: k8s.io/kubernetes/plugin/pkg/admission/{namespace/exists,namespace/autoprovision,podnodeselector,
podtolerationrestriction}.
"""

from __future__ import annotations

import json
from typing import Any

from controlplane.apiserver.admission import tolerations
from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.plugin import CREATE, DELETE, UPDATE, BasePlugin, refuse, spec_of, subject
from controlplane.apiserver.handlers.contract import Loopback
from controlplane.apiserver.reader import Reader
from machinery.api import labels
from machinery.api.catalogue import NAMESPACES, PODS
from machinery.api.fielderror import show
from machinery.api.meta import Object, annotations_of
from machinery.errors import AlreadyExists, NotFound

_NODE_SELECTOR = "scheduler.alpha.kubernetes.io/node-selector"
_DEFAULT_TOLERATIONS = "scheduler.alpha.kubernetes.io/defaultTolerations"
_WHITELIST = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
_MEMORY_PRESSURE = {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}


async def namespace_of_operation(reader: Reader, operation: Operation) -> Object:
    """The namespace an operation is in. Raises NotFound."""
    name = operation.namespace
    found = reader.get(NAMESPACES, "", name) or await reader.get_latest(NAMESPACES, "", name)
    if found is None:
        raise NotFound(f"namespaces {show(name)} not found", details={"name": name, "kind": "namespaces"})
    return found


class NamespaceExists(BasePlugin):
    """Nothing in a namespace that is not there."""

    name = "NamespaceExists"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, operation: Operation) -> bool:
        """Whatever is in a namespace."""
        in_namespace = bool(operation.namespace) and operation.resource != NAMESPACES
        return in_namespace and operation.verb in (CREATE, UPDATE, DELETE)

    async def validate(self, operation: Operation) -> None:
        """Raises NotFound."""
        await namespace_of_operation(self._reader, operation)


class NamespaceAutoProvision(BasePlugin):
    """A namespace comes into being with the first thing in it."""

    name = "NamespaceAutoProvision"

    def __init__(self, reader: Reader, loopback: Loopback) -> None:
        self._reader = reader
        self._loopback = loopback

    def handles(self, operation: Operation) -> bool:
        """Creations in a namespace."""
        return operation.verb == CREATE and bool(operation.namespace) and operation.resource != NAMESPACES

    async def admit(self, operation: Operation) -> None:
        """Create the namespace if it is not there."""
        name = operation.namespace
        if operation.dry_run or self._reader.get(NAMESPACES, "", name) is not None:
            return
        try:
            await self._loopback.create(
                NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            )
        except AlreadyExists:
            return  # another request was quicker


class PodNodeSelector(BasePlugin):
    """Pods of a namespace run on certain nodes."""

    name = "PodNodeSelector"
    resources = (PODS,)

    def __init__(self, reader: Reader, configuration: Object | None = None) -> None:
        self._reader = reader
        self._configured = (configuration or {}).get("podNodeSelectorPluginConfig") or {}

    async def admit(self, operation: Operation) -> None:
        """Merge the namespace's selector into the pod's. Raises Forbidden where they contradict."""
        wanted = await self._selector(operation)
        spec = spec_of(subject(operation))
        has = spec.get("nodeSelector") or {}
        if any(has.get(key, value) != value for key, value in wanted.items()):
            raise refuse(operation, "pod node label selector conflicts with its namespace node label selector")
        if wanted:
            spec["nodeSelector"] = has | wanted

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden for labels that the configured whitelist of the namespace does not have."""
        wanted = await self._selector(operation)
        has = (subject(operation).get("spec") or {}).get("nodeSelector") or {}
        if any(has.get(key, value) != value for key, value in wanted.items()):
            raise refuse(operation, "pod node label selector conflicts with its namespace node label selector")
        whitelist = _equalities(operation, self._configured.get(operation.namespace) or "")
        if whitelist and any(whitelist.get(key) != value for key, value in has.items()):
            raise refuse(operation, "pod node label selector labels conflict with its namespace whitelist")

    async def _selector(self, operation: Operation) -> dict[str, str]:
        namespace = await namespace_of_operation(self._reader, operation)
        text = annotations_of(namespace).get(_NODE_SELECTOR)
        if text is None:
            text = self._configured.get("clusterDefaultNodeSelector") or ""
        return _equalities(operation, text)


def _equalities(operation: Operation, text: str) -> dict[str, str]:
    try:
        found = labels.parse(text).requirements
    except ValueError as exc:
        raise refuse(operation, str(exc)) from exc
    return {r.key: r.values[0] for r in found if r.operator in (labels.EQUALS, labels.DOUBLE_EQUALS)}


class PodTolerationRestriction(BasePlugin):
    """Pods of a namespace get its tolerations, and have no others than it allows."""

    name = "PodTolerationRestriction"
    verbs = (CREATE, UPDATE)
    resources = (PODS,)

    def __init__(self, reader: Reader, configuration: Object | None = None) -> None:
        self._reader = reader
        self._configuration = configuration or {}

    async def admit(self, operation: Operation) -> None:
        """Merge the namespace's tolerations into a new pod's."""
        spec = spec_of(subject(operation))
        has = spec.get("tolerations") or []
        if operation.verb == CREATE:
            defaults = await self._of_namespace(operation, _DEFAULT_TOLERATIONS, "default")
            if defaults:
                has = tolerations.merge(defaults, has)
        requested = any((c.get("resources") or {}) for c in spec.get("containers") or ())
        if requested and _MEMORY_PRESSURE not in has:
            has = tolerations.merge(has, [_MEMORY_PRESSURE])
        if has:
            spec["tolerations"] = list(has)

    async def validate(self, operation: Operation) -> None:
        """Raises Forbidden."""
        whitelist = await self._of_namespace(operation, _WHITELIST, "whitelist")
        has = (subject(operation).get("spec") or {}).get("tolerations") or []
        if whitelist and not all(any(tolerations.covers(w, one) for w in whitelist) for one in has):
            raise refuse(
                operation,
                "pod tolerations (possibly merged with namespace default tolerations) "
                "conflict with its namespace whitelist",
            )

    async def _of_namespace(self, operation: Operation, annotation: str, configured: str) -> list[Any]:
        namespace = await namespace_of_operation(self._reader, operation)
        text = annotations_of(namespace).get(annotation)
        if text is None:
            return list(self._configuration.get(configured) or ())
        try:
            found = json.loads(text or "[]")
        except ValueError as exc:
            raise refuse(operation, f"the annotation {annotation} of the namespace can't be read: {exc}") from exc
        return [t for t in found if isinstance(t, dict)] if isinstance(found, list) else []
