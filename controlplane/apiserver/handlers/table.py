"""Objects as the rows of a Table, which is what `kubectl get` asks for.

Source: k8s.io/apiserver/pkg/registry/rest/table.go, meta/v1 Table.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from controlplane.apiserver.cacher.record import Record
from controlplane.apiserver.handlers.forms import json_of, metadata_of, viewed
from controlplane.apiserver.registry import printing
from controlplane.apiserver.registry.columns.parts import NAME_AND_CREATION
from controlplane.apiserver.registry.strategy import Column, Strategy
from controlplane.apiserver.resources import Served
from machinery.api.meta import Object
from machinery.errors import BadRequest


def columns_of(served: Served) -> Sequence[Column]:
    """The columns of a resource."""
    return _printer(served).columns or NAME_AND_CREATION


def _printer(served: Served) -> Strategy:
    """Who prints: built-in kinds look alike in all their versions."""
    return served.strategy if served.custom else served.stored_strategy


def _printed(record: Record, served: Served) -> Object:
    return viewed(record, served) if served.custom else record.object


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
    order = _printer(served).row_order
    if order is not None and len(records) > 1:
        records = sorted(records, key=lambda record: order(_printed(record, served)))
    now = datetime.now(UTC)
    rows = b",".join([_row(record, served, columns, version, include, now) for record in records])
    told = b'"columnDefinitions":%b,' % (definitions(served) if with_definitions else b"null")
    return b'{"kind":"Table","apiVersion":"meta.k8s.io/%b","metadata":%b,%b"rows":[%b]}' % (
        version.encode(),
        orjson.dumps(metadata),
        told,
        rows,
    )


def _row(record: Record, served: Served, columns: Sequence[Column], version: str, include: str, now: datetime) -> bytes:
    obj = _printed(record, served)
    cells = orjson.dumps([printing.render(column.cell(obj), now) for column in columns])
    conditions = _printer(served).row_conditions(obj)
    told = b'"conditions":%b,' % orjson.dumps(conditions) if conditions else b""
    if include == "None":
        return b'{"cells":%b,%b"object":null}' % (cells, told)
    shown = json_of(record, served) if include == "Object" else metadata_of(record, served, version)
    return b'{"cells":%b,%b"object":%b}' % (cells, told, shown)
