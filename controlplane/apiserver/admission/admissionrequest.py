"""An operation as AdmissionReview and CEL's `request` show it.

Source: admission.k8s.io/v1 AdmissionRequest.
"""

from __future__ import annotations

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.authn.reviews import user_info
from machinery.api.meta import Object


def kind_of(operation: Operation) -> tuple[str, str, str]:
    """(group, version, kind) of the object that is written: a subresource may speak another kind."""
    obj = operation.object or operation.old or {}
    kind = obj.get("kind")
    if kind:
        group, _, version = str(obj.get("apiVersion") or "").rpartition("/")
        return group, version, str(kind)
    sub = operation.resource.subresource(operation.subresource) if operation.subresource else None
    if sub is not None and sub.kind:
        return sub.group or operation.resource.group, sub.version or operation.resource.version, sub.kind
    return operation.resource.group, operation.resource.version, operation.resource.kind


def admission_request(operation: Operation) -> Object:
    """The request without its uid and without the objects."""
    group, version, kind = kind_of(operation)
    resource = operation.resource
    kind_object = {"group": group, "version": version, "kind": kind}
    resource_object = {"group": resource.group, "version": resource.version, "resource": resource.plural}
    request: Object = {"kind": kind_object, "resource": resource_object}
    if operation.subresource:
        request["subResource"] = operation.subresource
    request |= {"requestKind": kind_object, "requestResource": resource_object}
    if operation.subresource:
        request["requestSubResource"] = operation.subresource
    name = operation.name or ((operation.object or {}).get("metadata") or {}).get("name")
    if name:
        request["name"] = name
    if operation.namespace:
        request["namespace"] = operation.namespace
    request |= {
        "operation": operation.verb,
        "userInfo": user_info(operation.user),
        "dryRun": operation.dry_run,
        "options": operation.options or None,
    }
    return request
