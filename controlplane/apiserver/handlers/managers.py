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
