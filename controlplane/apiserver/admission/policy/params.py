"""The objects that a policy binding hands to its policy as `params`.

Source: k8s.io/apiserver/pkg/admission/plugin/policy/generic/policy_dispatcher.go (CollectParams).
"""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.reader import Reader
from machinery.api import labels
from machinery.api.catalogue import BUILT_IN, CUSTOMRESOURCEDEFINITIONS
from machinery.api.meta import Object, labels_of
from machinery.api.resource import ResourceType


class ParamsError(Exception):
    """The params a binding asks for can't be had; the message is upstream's."""


def collect(reader: Reader, kind: Object | None, reference: Object | None, operation: Operation) -> list[Object | None]:
    """The params to evaluate with, one after the other; [None] for a policy without. Raises ParamsError."""
    if not kind:
        return [None]
    if not reference:
        return [None]  # as upstream: the policy sees params == null
    resource = resource_of(reader, kind)
    if resource is None:
        raise ParamsError(f"paramKind kind `{kind.get('apiVersion')}, Kind={kind.get('kind')}` not known")
    namespace = ""
    if resource.namespaced:
        namespace = reference.get("namespace") or operation.namespace
        if not namespace:
            raise ParamsError("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
    elif reference.get("namespace"):
        raise ParamsError("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
    found = _find(reader, resource, namespace, reference)
    if not found and (reference.get("parameterNotFoundAction") or "Deny") == "Deny":
        raise ParamsError("no params found for policy binding with `Deny` parameterNotFoundAction")
    return found


def _find(reader: Reader, resource: ResourceType, namespace: str, reference: Object) -> list[Object | None]:
    name, selector = reference.get("name"), reference.get("selector")
    if name:
        one = reader.get(resource, namespace, name)
        return [one] if one is not None else []
    if selector is None:
        raise ParamsError("one of name or selector must be provided")
    chosen = labels.from_selector(selector)
    return [obj for obj in reader.list(resource, namespace) if chosen.matches(labels_of(obj))]


def resource_of(reader: Reader, kind: Object) -> ResourceType | None:
    """The resource of an apiVersion and kind, built in or custom."""
    api_version, name = kind.get("apiVersion") or "", kind.get("kind") or ""
    for resource in BUILT_IN:
        if resource.api_version == api_version and resource.kind == name:
            return resource
    group, _, version = api_version.rpartition("/")
    for definition in reader.list(CUSTOMRESOURCEDEFINITIONS):
        spec: Any = definition.get("spec") or {}
        names = spec.get("names") or {}
        if spec.get("group") == group and names.get("kind") == name:
            return ResourceType(
                group, version, names.get("plural") or "", name, namespaced=spec.get("scope") == "Namespaced"
            )
    return None
