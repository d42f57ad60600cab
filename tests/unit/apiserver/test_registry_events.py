"""Events of events.k8s.io: stricter than those of the core group, and fixed but for their series."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.apiserver.registry.validation import endpoints
from machinery.api.meta import Object

_SENT: Object = {
    "metadata": {"name": "a", "namespace": "x"},
    "involvedObject": {"kind": "Pod", "name": "p", "namespace": "x"},
    "eventTime": "2026-01-01T00:00:00.000000Z",
    "reportingComponent": "e.x/c",
    "reportingInstance": "i",
    "action": "Do",
    "reason": "Why",
    "type": "Normal",
}


def sent(**changes: Any) -> Object:
    return {k: v for k, v in (_SENT | changes).items() if v is not None}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"eventTime": None}, ["eventTime: Required value"]),
        ({"type": "Odd"}, ['type: Invalid value: "": has invalid value: Odd']),
        ({"count": 1}, ['count: Invalid value: "": needs to be unset']),
        ({"source": {"host": "h"}}, ['source: Invalid value: "": needs to be unset']),
        ({"firstTimestamp": "2026-01-01T00:00:00Z"}, ['firstTimestamp: Invalid value: "": needs to be unset']),
        ({"action": None}, ["action: Required value"]),
        ({"reason": "r" * 129}, ['reason: Invalid value: "": can have at most 128 characters']),
        (
            {"series": {"count": 1}},
            ['series.count: Invalid value: "": should be at least 2', "series.lastObservedTime: Required value"],
        ),
        (
            {"involvedObject": {"kind": "Node", "name": "n"}},
            ['involvedObject.namespace: Invalid value: "": does not match event.namespace'],
        ),
    ],
)
def test_event(changes: dict[str, Any], told: list[str]) -> None:
    assert [str(error) for error in endpoints.event_k8s_io(sent(**changes))] == told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}}, []),
        ({"note": "other"}, []),
        ({"message": "m"}, ['message: Invalid value: "m": field is immutable']),
        ({"count": 3}, ["count: Invalid value: 3: field is immutable"]),
        (
            {"related": {"kind": "Node", "name": "n"}},
            [
                'related: Invalid value: {"Kind":"Node","Namespace":"","Name":"n","UID":"","APIVersion":"",'
                '"ResourceVersion":"","FieldPath":""}: field is immutable'
            ],
        ),
        ({"source": {"host": "h"}}, ['source: Invalid value: {"Component":"","Host":"h"}: field is immutable']),
    ],
)
def test_event_update(changes: dict[str, Any], told: list[str]) -> None:
    assert [str(error) for error in endpoints.event_k8s_io_update(sent(**changes), sent())] == told
