"""Objects as the rows of a Table, which is what `kubectl get` asks for.

Source: k8s.io/apiserver/pkg/registry/rest/table.go, meta/v1 Table.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.handlers.forms import json_of, metadata_of
from controlplane.apiserver.registry.strategy import Column
from controlplane.apiserver.resources import Served
from machinery.api.meta import Object, parse_time
from machinery.errors import BadRequest

_NAME = (
    "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a "
    "client to request the generation of an appropriate name automatically. Name is primarily intended for creation "
    "idempotence and configuration definition. Cannot be updated. More info: "
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
)
_CREATED = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed "
    "to be set in happens-before order across separate operations. Clients may not set this value. It is represented "
    "in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: "
    "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
)


def human_duration(seconds: float) -> str:
    """A time span as kubectl shows it: about two digits' worth.

    Source: k8s.io/apimachinery/pkg/util/duration.HumanDuration.
    """
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 60 * 2:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 60 * 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if hours < 24 * 365 * 2:
        return f"{days}d"
    if hours < 24 * 365 * 8:
        years, rest = divmod(days, 365)
        return f"{years}y{rest}d" if rest else f"{years}y"
    return f"{days // 365}y"


def _created(obj: Object) -> str:
    text = obj["metadata"].get("creationTimestamp")
    if not text:
        return "<unknown>"
    return human_duration((datetime.now(UTC) - parse_time(text)).total_seconds())


DEFAULT_COLUMNS = (
    Column("Name", "string", lambda obj: obj["metadata"].get("name", ""), "name", _NAME),
    Column("Created At", "date", lambda obj: obj["metadata"].get("creationTimestamp"), "", _CREATED),
)
"""Columns of kinds that have none of their own.  Source: rest.NewDefaultTableConvertor."""


def columns_of(served: Served) -> Sequence[Column]:
    """The columns of a resource."""
    return served.strategy.columns or served.stored_strategy.columns or DEFAULT_COLUMNS


def definitions(served: Served) -> bytes:
    """columnDefinitions as JSON."""
    return orjson.dumps(
        [
            {
                "name": column.name,
                "type": column.type,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            }
            for column in columns_of(served)
        ]
    )


def include_object(text: str) -> str:
    """The includeObject parameter, checked. Raises BadRequest."""
    if text not in ("", "Metadata", "Object", "None"):
        raise BadRequest(f'unrecognized includeObject value: "{text}"')
    return text


def render(
    records: Sequence[Record],
    served: Served,
    version: str,
    include: str,
    metadata: dict[str, Any],
    *,
    with_definitions: bool = True,
) -> bytes:
    """A Table as JSON; watches tell the definitions only once."""
    columns = columns_of(served)
    rows = b",".join([_row(record, served, columns, version, include) for record in records])
    told = b'"columnDefinitions":%b,' % (definitions(served) if with_definitions else b"null")
    return b'{"kind":"Table","apiVersion":"meta.k8s.io/%b","metadata":%b,%b"rows":[%b]}' % (
        version.encode(),
        orjson.dumps(metadata),
        told,
        rows,
    )


def _row(record: Record, served: Served, columns: Sequence[Column], version: str, include: str) -> bytes:
    cells = orjson.dumps([column.cell(record.object) for column in columns])
    if include == "None":
        return b'{"cells":%b,"object":null}' % cells
    shown = json_of(record, served) if include == "Object" else metadata_of(record, version)
    return b'{"cells":%b,"object":%b}' % (cells, shown)
