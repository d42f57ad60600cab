"""What the proxy keeps of API objects: no more than planning reads."""

from __future__ import annotations

from machinery.api.meta import Object

_KEPT_METADATA = ("name", "namespace", "uid", "resourceVersion", "labels", "deletionTimestamp")
_UNREAD_SPEC = ("selector", "ipFamilies", "ipFamilyPolicy")
_TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


def _metadata(obj: Object) -> Object:
    metadata = obj["metadata"]
    return {name: metadata[name] for name in _KEPT_METADATA if name in metadata}


def shrink_service(service: Object) -> Object:
    """A Service without what no proxy looks at."""
    spec = {name: value for name, value in (service.get("spec") or {}).items() if name not in _UNREAD_SPEC}
    kept = {"kind": "Service", "apiVersion": "v1", "metadata": _metadata(service), "spec": spec}
    balancer = (service.get("status") or {}).get("loadBalancer")
    return kept | {"status": {"loadBalancer": balancer}} if balancer else kept


def shrink_slice(piece: Object) -> Object:
    """An EndpointSlice without what no proxy looks at; equal small parts are shared by all that have them."""
    metadata = _metadata(piece)
    changed = (piece["metadata"].get("annotations") or {}).get(_TRIGGER_TIME)
    if changed:
        metadata["annotations"] = {_TRIGGER_TIME: changed}
    endpoints = []
    for endpoint in piece.get("endpoints") or ():
        kept: Object = {"addresses": endpoint.get("addresses") or []}
        conditions = endpoint.get("conditions") or {}
        if conditions.get("ready") is False or conditions.get("terminating"):
            kept["conditions"] = conditions
        for name in ("nodeName", "hints"):
            if endpoint.get(name):
                kept[name] = endpoint[name]
        endpoints.append(kept)
    ports = piece.get("ports") or []
    kind = {"kind": "EndpointSlice", "addressType": piece.get("addressType")}
    return {**kind, "metadata": metadata, "ports": ports, "endpoints": endpoints}


def trigger_time(piece: Object) -> str:
    """When what the slice tells of happened, as its controller says; "" if it does not."""
    return str((piece["metadata"].get("annotations") or {}).get(_TRIGGER_TIME) or "")
