"""Whatever comes as a CustomResourceDefinition is refused in words or can be served, and so can its objects."""

import copy
import random
from typing import Any

import pytest

from controlplane.apiserver.admission.webhook.client import WebhookClient
from controlplane.apiserver.customresources import lifecycle
from controlplane.apiserver.customresources.serving import served_of
from controlplane.apiserver.registry import strategy_for
from controlplane.apiserver.resources import Served
from machinery.api import schema
from machinery.api.catalogue import CUSTOMRESOURCEDEFINITIONS

_WORDS = """
type properties items additionalProperties anyOf allOf oneOf not default nullable enum required format pattern maxLength
minimum multipleOf x-kubernetes-list-type x-kubernetes-list-map-keys x-kubernetes-map-type x-kubernetes-int-or-string
x-kubernetes-preserve-unknown-fields x-kubernetes-embedded-resource x-kubernetes-validations maxItems maxProperties
uniqueItems $ref metadata selectableFields subresources additionalPrinterColumns deprecated conversion names scope group
"""
WORDS = _WORDS.split()
VALUES: list[Any] = [
    None, True, False, 0, -1, 2**63, 2**70, 1.5, "", "a", "object", "array", "string", "integer", "map", "set", "(",
    "date-time", [], ["a"], [None], [1], {}, {"a": None}, {"a": {}}, {"type": "object"}, {"type": "string"}, [{}],
    [{"rule": "self.a == 1"}], [{"rule": "self == oldSelf", "optionalOldSelf": True}], [{"rule": None}], {"rule": "x"},
    [{"rule": "self.all(x, x == 'a')", "messageExpression": "1"}], [{"type": "integer"}, {"type": "string"}],
    [{"jsonPath": ".spec.n"}], [{"jsonPath": None}], {"scale": {}}, {"status": {}}, {"strategy": "Webhook"},
]  # fmt: skip
OBJECTS: list[dict[str, Any]] = [
    {}, {"spec": {"n": 1}}, {"spec": "x"}, {"spec": {"n": "x", "a": [1, "a", None, {}]}}, {"spec": None},
    {"a": [1, {}]},
]  # fmt: skip


def good() -> dict[str, Any]:
    inner = {"type": "object", "properties": {"n": {"type": "integer"}}}
    version = {"name": "v1", "served": True, "storage": True}
    return {
        "metadata": {"name": "ships.example.com", "uid": "u"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "ships", "singular": "ship", "kind": "Ship", "listKind": "ShipList"},
            "versions": [{**version, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": inner}}}}],
        },
        "status": {"acceptedNames": {"plural": "", "kind": ""}, "storedVersions": ["v1"]},
    }


def mutated(chance: random.Random) -> dict[str, Any]:
    made = good()
    nodes: list[Any] = []

    def walk(node: Any) -> None:
        nodes.append(node)
        for inner in node.values() if isinstance(node, dict) else node:
            if isinstance(inner, dict | list):
                walk(inner)

    walk(made)
    for _ in range(chance.randint(1, 5)):
        node, value = chance.choice(nodes), copy.deepcopy(chance.choice(VALUES))
        if isinstance(node, dict):
            node[chance.choice([*node, *WORDS])] = value
        else:
            node.append(value)
    return made


@pytest.mark.parametrize("seed", range(4))
def test_no_definition_breaks_the_server(seed: int) -> None:
    chance, kind = random.Random(seed), schema.load().of("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
    assert kind is not None
    strategy = strategy_for(CUSTOMRESOURCEDEFINITIONS)
    served_ones = 0
    for _ in range(1000):
        decoded = kind.decode(mutated(chance))
        if decoded.errors:
            continue
        definition = decoded.object
        definition.setdefault("metadata", {})
        strategy.default(definition)
        strategy.validate_update(definition, good())
        if strategy.validate(definition):
            continue
        definition["status"] = lifecycle.plan_status(definition, [], "now")
        for served in served_of(definition, WebhookClient.__new__(WebhookClient)):
            served_ones += 1
            for obj in OBJECTS:
                use(served, obj)
    assert served_ones > 50


def use(served: Served, given: dict[str, Any]) -> None:
    head = {"apiVersion": "example.com/v1", "kind": "Ship", "metadata": {"name": "a"}}
    assert served.schema is not None
    decoded = served.schema.decode({**head, **copy.deepcopy(given)})
    if decoded.errors:
        return
    obj = {**decoded.object, "metadata": {"name": "a"}}
    strategy = served.strategy
    strategy.default(obj)
    strategy.validate(obj)
    strategy.validate_update(obj, copy.deepcopy(obj))
    strategy.validate_status_update(obj, {"metadata": {"name": "a"}, "spec": {"n": 1}})
    for column in strategy.columns:
        column.cell(obj)
    for field in strategy.fields.values():
        field(obj)
