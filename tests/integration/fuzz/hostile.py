"""Values that nobody should send, and objects made along the schema with some of them in it."""

from __future__ import annotations

import copy
import random
from typing import Any

from machinery.api import schema
from machinery.api.resource import ResourceType
from machinery.api.schema_types import Type

DEPTH = 7

HOSTILE: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    -(2**63) - 1,
    2**200,
    1.5,
    1e308,
    "",
    " ",
    "\x00",
    "a" * 300,
    "ÄÖ€😀",
    "../../etc/passwd",
    "${jndi:ldap://x}",
    "%00%ff",
    "{{7*7}}",
    [],
    [None],
    [[[[]]]],
    {},
    {"": None},
    {"a": {"b": {"c": []}}},
    {"$patch": "delete"},
    {"$ref": "#"},
)
STRINGS = (
    "a",
    "web",
    "default",
    "1.2.3.4",
    "::1",
    "10.0.0.0/8",
    "Always",
    "TCP",
    "ClusterIP",
    "example.com/x",
    "NoSchedule",
    "In",
    "Exists",
    "self.x > 1",
    "* * * * *",
    "1d",
    "2026-01-01T00:00:00Z",
    "/metrics",
    "*",
    "v1",
    "Pod",
    "a" * 64,
)
INTEGERS = (0, 1, -1, 2, 80, 65535, 65536, 2**31 - 1, 2**31, 2**63 - 1, -(2**63))
QUANTITIES = ("0", "1", "100m", "1Gi", "-1", "1e9", "1e400", "0.0000000001", "1 Gi", "", "9" * 400)


def value(of: Type, chance: random.Random, depth: int = 0) -> Any:
    """A value of the type, or now and then of none at all."""
    if chance.random() < 0.06:
        return copy.deepcopy(chance.choice(HOSTILE))
    match of.sort:
        case "object":
            return _object(of, chance, depth)
        case "list" if of.element is not None:
            return [
                value(of.element, chance, depth + 1) for _ in range(chance.choice((0, 1, 1, 2)) if depth < DEPTH else 0)
            ]
        case "map" if of.element is not None:
            size = chance.choice((0, 1, 2)) if depth < DEPTH else 0
            return {chance.choice(STRINGS): value(of.element, chance, depth + 1) for _ in range(size)}
        case "integer":
            return chance.choice(INTEGERS)
        case "number":
            return chance.choice((0.0, 0.5, -1e300))
        case "boolean":
            return chance.random() < 0.5
        case "bytes":
            return chance.choice(("", "YQ==", "not base64", "YQ"))
        case "quantity":
            return chance.choice(QUANTITIES)
        case "string":
            return chance.choice(STRINGS)
        case _:
            return chance.choice((*STRINGS, *INTEGERS, *HOSTILE))


def _object(of: Type, chance: random.Random, depth: int) -> Any:
    share = 0.35 if depth < 3 else 0.2
    names = [name for name in of.fields if chance.random() < (0.85 if name in of.required else share)]
    if depth >= DEPTH:
        names = []
    made = {name: value(of.fields[name], chance, depth + 1) for name in names}
    if chance.random() < 0.03:
        made[chance.choice(STRINGS)] = chance.choice(HOSTILE)
    return made


def an_object(resource: ResourceType, chance: random.Random, name: str) -> dict[str, Any]:
    """An object of the type that may well be refused, but for its own good reasons."""
    found = schema.load().of(resource.group, resource.version, resource.kind)
    assert found is not None, resource
    made = _object(found.type, chance, 0)
    metadata = made.get("metadata")
    if not isinstance(metadata, dict) or chance.random() < 0.8:
        metadata = {}
    for name_of_field in ("finalizers", "deletionTimestamp", "generateName", "namespace"):
        metadata.pop(name_of_field, None)  # nothing is to outlive the test
    return {**made, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": {**metadata, "name": name}}
