"""Who owns the replicas of an object: its entries and those that its Scale shows are one."""

from __future__ import annotations

from typing import Any

import pytest

from machinery.api.patch import scale


def entry(manager: str, operation: str, version: str, *names: str, subresource: str = "") -> dict[str, Any]:
    fields: Any = {"f:spec": {f"f:{name}": {} for name in names}}
    made = {"manager": manager, "operation": operation, "apiVersion": version}
    return made | {"fieldsType": "FieldsV1", "fieldsV1": fields} | ({"subresource": subresource} if subresource else {})


@pytest.mark.parametrize("parent", ["Apply", "Update"])
@pytest.mark.parametrize("scaler", ["Apply", "Update"])
@pytest.mark.parametrize("name", ["scale", "test"])
def test_the_scale_takes_the_replicas(parent: str, scaler: str, name: str) -> None:
    before = {"metadata": {"managedFields": [entry("test", parent, "apps/v1", "replicas", "selector")]}}
    told = [entry(name, scaler, "autoscaling/v1", "replicas", subresource="scale")]
    made = scale.parent_entries(before, told, api_version="apps/v1")
    key = lambda e: (e["operation"], e["manager"], e.get("subresource", ""))  # noqa: E731
    assert made == sorted(
        [
            entry("test", parent, "apps/v1", "selector"),
            entry(name, scaler, "apps/v1", "replicas", subresource="scale"),
        ],
        key=key,
    )


def test_the_scale_of_other_versions() -> None:
    paths = {"g/v1": ["spec", "one"], "g/v2": ["spec", "two"], "g/v3": None}
    entries = [
        entry("a", "Apply", "g/v1", "one", "selector"),
        entry("b", "Apply", "g/v2", "one", "two"),
        entry("c", "Apply", "g/v3", "one"),
        entry("d", "Apply", "g/v4", "one"),
    ]
    before = {"metadata": {"managedFields": entries}}
    told = [entry(m, "Apply", "autoscaling/v1", "replicas") for m in ("a", "b")]
    assert scale.scale_entries(before, paths) == told
    told = [*told[:1], entry("s", "Update", "autoscaling/v1", "replicas", subresource="scale")]
    assert scale.parent_entries(before, told, api_version="g/v1", paths=paths) == [
        entry("a", "Apply", "g/v1", "one", "selector"),
        entry("b", "Apply", "g/v2", "one"),
        entry("c", "Apply", "g/v3", "one"),
        entry("s", "Update", "g/v1", "one", subresource="scale"),
    ]
