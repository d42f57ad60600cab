"""ValidatingAdmissionPolicies: which types they are about, and what is told of expressions that don't fit them."""

from __future__ import annotations

from typing import Any

import pytest
from controller_objects import metadata

from controlplane.controllers.admissionpolicies import declared_kind, inlined, kinds_to_check, warnings_of
from machinery.api.catalogue import CONFIGMAPS, DEPLOYMENTS, PODS, REPLICASETS
from machinery.api.meta import Object
from machinery.api.resource import ResourceType

KNOWN = (CONFIGMAPS, DEPLOYMENTS, PODS, REPLICASETS)
SCHEMAS = {
    "Pod": {
        "type": "object",
        "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Pod"}],
        "properties": {"spec": {"allOf": [{"$ref": "#/components/schemas/Spec"}], "default": {}}},
    },
    "Spec": {
        "type": "object",
        "properties": {
            "hostNetwork": {"type": "boolean"},
            "port": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
            "again": {"$ref": "#/components/schemas/Spec"},
        },
    },
}


def policy(*expressions: str, variables: tuple[tuple[str, str], ...] = (), **spec: Any) -> Object:
    named = [{"name": name, "expression": text} for name, text in variables]
    validations = [{"expression": text} for text in expressions]
    return {"metadata": metadata("p"), "spec": {"validations": validations, "variables": named, **spec}}


def rule(groups: list[str], versions: list[str], resources: list[str]) -> Object:
    return {"apiGroups": groups, "apiVersions": versions, "resources": resources}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([rule(["apps"], ["v1"], ["replicasets", "deployments"])], [DEPLOYMENTS, REPLICASETS]),
        ([rule(["", "apps"], ["v1"], ["pods", "pods/status", "*"])], [PODS]),
        ([rule(["*"], ["v1"], ["pods"])], []),
        ([rule([""], ["*"], ["pods"])], []),
        ([rule([""], ["v1"], ["nonsense"])], []),
        ([], []),
    ],
)
def test_the_kinds_that_rules_name(rules: list[Object], expected: list[ResourceType]) -> None:
    assert kinds_to_check(policy(matchConstraints={"resourceRules": rules}), KNOWN) == expected


def told(made: Object) -> list[str]:
    pod = declared_kind(SCHEMAS, PODS)
    assert pod is not None
    return [w["fieldRef"] + ": " + w["warning"].splitlines()[0] for w in warnings_of(made, [(PODS, pod)], None)]


def test_expressions_that_do_not_fit_are_told_of() -> None:
    made = policy("object.spec.hostNetwork", "object.spec.nonsense", "oldObject == null || object.spec.port == 'http'")
    assert told(made) == [
        "spec.validations[1].expression: /v1, Kind=Pod: ERROR: <input>:1:12: undefined field 'nonsense'"
    ]
    assert told(policy("variables.net == 1", variables=(("net", "object.spec.hostNetwork"),))) == [
        "spec.validations[0].expression: /v1, Kind=Pod: ERROR: <input>:1:15: "
        "found no matching overload for '_==_' applied to '(bool, int)'"
    ]
    assert told(policy("variables.broken == 1", variables=(("broken", "object.nonsense"),))) == []
    assert told(policy("params.whatever > 1 && authorizer.group('').resource('pods').check('get').allowed()")) != []
    assert told(policy("params.whatever > 1", paramKind={"apiVersion": "v1", "kind": "X"})) == []


def test_schemas_that_contain_themselves_end() -> None:
    assert inlined(SCHEMAS["Spec"], SCHEMAS)["properties"]["port"] == {"x-kubernetes-int-or-string": True}
    assert declared_kind(SCHEMAS, DEPLOYMENTS) is None
