"""Times of managedFields move only with what is managed."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.apiserver.handlers.managers import settle_times
from machinery.api.meta import Object

_EARLY, _LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z"


def config(time: str, fields: Any = None, revision: str = "1", **data: str) -> Object:
    entry = {"manager": "m", "operation": "Update", "time": time, "fieldsV1": fields or {"f:data": {}}}
    return {"metadata": {"name": "a", "resourceVersion": revision, "managedFields": [entry]}, "data": data}


@pytest.mark.parametrize(
    ("old", "new", "time"),
    [
        (config(_EARLY, a="b"), config(_LATE, a="b", revision="2"), _EARLY),
        (config(_EARLY, a="b"), config(_LATE, a="c"), _LATE),
        (config(_EARLY, a="b"), config(_LATE, {"f:data": {"f:a": {}}}, a="b"), _LATE),
        ({"metadata": {"name": "a"}, "data": {"a": "b"}}, config(_LATE, a="b"), _LATE),
    ],
)
def test_settle_times(old: Object, new: Object, time: str) -> None:
    settle_times(new, old)
    assert new["metadata"]["managedFields"][0]["time"] == time
