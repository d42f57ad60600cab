"""managedFields of ordinary writes.

Source: KEP-555, "Server-side apply".
"""

from __future__ import annotations

import importlib.util

from controlplane.apiserver.resources import Served
from machinery.api.meta import Object

_HAVE = importlib.util.find_spec("machinery.api.patch.apply") is not None


def updated_managers(
    old: Object | None, new: Object, manager: str, subresource: str, served: Served, now: str
) -> list[Object]:
    """The managedFields that an update (or create) by `manager` leaves. The status counts only for its subresource."""
    if not _HAVE:
        return list((old or {}).get("metadata", {}).get("managedFields") or ())
    from machinery.api.patch import apply

    if served.stored_strategy.has_status and subresource != "status":
        new = {k: v for k, v in new.items() if k != "status"}
        old = {k: v for k, v in old.items() if k != "status"} if old is not None else None
    return apply.update_managers(old, new, manager, "Update", subresource, served.schema, now)
