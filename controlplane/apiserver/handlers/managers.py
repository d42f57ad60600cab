"""managedFields of ordinary writes.

Source: KEP-555, "Server-side apply".
"""

from __future__ import annotations

from controlplane.apiserver.resources import Served
from machinery.api.meta import Object
from machinery.api.patch import apply


def updated_managers(
    old: Object | None, new: Object, manager: str, subresource: str, served: Served, now: str
) -> list[Object]:
    """The managedFields that an update (or create) by `manager` leaves. The status counts only for its subresource."""
    if served.schema is None:
        return []
    return apply.update_managers(
        old,
        new,
        manager,
        subresource=subresource,
        kind_schema=served.schema,
        api_version=served.type.api_version,
        now=now,
    )


def settle_times(new: Object, old: Object) -> None:
    """Leave managedFields alone if only their times have changed: what was asked for did not come to be.

    Source: k8s.io/apiserver/pkg/endpoints/handlers/fieldmanager/equality.go.
    """
    after, before = new["metadata"].get("managedFields"), old["metadata"].get("managedFields")
    if not after or not before or after == before or len(after) != len(before):
        return
    if any(_timeless(one) != _timeless(other) for one, other in zip(after, before, strict=True)):
        return
    if _unmanaged(new) == _unmanaged(old):
        new["metadata"]["managedFields"] = before


def _timeless(entry: Object) -> Object:
    return {k: v for k, v in entry.items() if k != "time"}


def _unmanaged(obj: Object) -> Object:
    metadata = {k: v for k, v in obj["metadata"].items() if k not in ("managedFields", "resourceVersion")}
    return {**obj, "metadata": metadata}
