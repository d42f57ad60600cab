"""FlowSchemas and PriorityLevelConfigurations."""

from typing import Any

import pytest

from controlplane.apiserver.bootstrap import flowcontrol as bootstrap
from controlplane.apiserver.registry import strategy_for
from controlplane.apiserver.registry.validation import flowcontrol as rules
from machinery.api.catalogue import FLOWSCHEMAS, PRIORITYLEVELCONFIGURATIONS
from machinery.api.meta import Object

RULE: Object = {
    "subjects": [{"kind": "User", "user": {"name": "u"}}],
    "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}],
}
PATHS: Object = {"verbs": ["get"], "nonResourceURLs": ["/x"]}


def flow(name: str = "f", **changes: Any) -> Object:
    spec = {"priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 100, "rules": [RULE], **changes}
    return {"metadata": {"name": name}, "spec": spec}


def subjects(*found: Object) -> Object:
    return {"rules": [RULE | {"subjects": list(found)}]}


def paths(**changes: Any) -> Object:
    return {"rules": [RULE | {"nonResourceRules": [PATHS | changes]}]}


def resources(**changes: Any) -> Object:
    return {"rules": [RULE | {"resourceRules": [RULE["resourceRules"][0] | changes]}]}


def level(name: str = "l", **changes: Any) -> Object:
    limited = {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}, "lendablePercent": 0}
    return {"metadata": {"name": name}, "spec": {"type": "Limited", "limited": limited | changes}}


def queue(**changes: int) -> Object:
    queuing = {"queues": 64, "handSize": 6, "queueLengthLimit": 50} | changes
    return level(limitResponse={"type": "Queue", "queuing": queuing})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"matchingPrecedence": 0}, ["spec.matchingPrecedence: Invalid value: 0: must be a positive value"]),
        (
            {"matchingPrecedence": 10001},
            ["spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000"],
        ),
        (
            {"matchingPrecedence": 1},
            ["spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1"],
        ),
        (
            {"priorityLevelConfiguration": {}},
            ["spec.priorityLevelConfiguration.name: Required value: must reference a priority level"],
        ),
        (
            {"distinguisherMethod": {"type": "ByColour"}},
            [
                'spec.distinguisherMethod.type: Unsupported value: {"Type":"ByColour"}: supported values: '
                '"ByNamespace", "ByUser"'
            ],
        ),
        (
            {"rules": [{}]},
            [
                "spec.rules[0].subjects: Required value: subjects must contain at least one value",
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
            ],
        ),
        (
            subjects({"kind": "Robot"}),
            [
                'spec.rules[0].subjects[0].kind: Unsupported value: "Robot": supported values: "Group", '
                '"ServiceAccount", "User"'
            ],
        ),
        (
            subjects({"kind": "Group", "user": {"name": "x"}}),
            [
                "spec.rules[0].subjects[0].group: Required value: group is required when subject kind is 'Group'",
                "spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'",
            ],
        ),
        (
            subjects({"kind": "ServiceAccount", "serviceAccount": {"name": "*"}}),
            [
                "spec.rules[0].subjects[0].serviceAccount.namespace: Required value: "
                "must specify namespace for service account"
            ],
        ),
        (
            resources(verbs=["get", "*"]),
            [
                'spec.rules[0].resourceRules[0].verbs: Invalid value: ["get","*"]: if \'*\' is present, must not '
                "specify other verbs"
            ],
        ),
        (
            resources(namespaces=[]),
            [
                "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster "
                "scoped must supply at least one namespace"
            ],
        ),
        (
            paths(nonResourceURLs=["x", "/a b", "//", "/*/x", "/*"]),
            [
                f'spec.rules[0].nonResourceRules[0].nonResourceURLs[{i}]: Invalid value: "{path}": {told}'
                for i, path, told in (
                    (0, "x", "must start with slash"),
                    (1, "/a b", "must not contain white-space"),
                    (2, "//", "must not contain double slash"),
                    (3, "/*/x", "wildcard can only do suffix matching"),
                )
            ],
        ),
    ],
)
def test_a_flow_schema(changes: Object, told: list[str]) -> None:
    assert [str(error) for error in rules.flow_schema(flow(**changes))] == told


@pytest.mark.parametrize(
    ("obj", "told"),
    [
        (level(), []),
        (queue(), []),
        (
            level(nominalConcurrencyShares=-1),
            ["spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer"],
        ),
        (
            level(lendablePercent=101),
            ["spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"],
        ),
        (
            level(borrowingLimitPercent=-1),
            ["spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer"],
        ),
        (
            level(limitResponse={"type": "Reject", "queuing": {}}),
            ["spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited"],
        ),
        (
            level(limitResponse={"type": "Queue"}),
            [
                "spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type "
                "is Limited"
            ],
        ),
        (
            queue(handSize=65),
            ["spec.limited.limitResponse.queuing.handSize: Invalid value: 65: should not be greater than queues (64)"],
        ),
        (
            queue(handSize=12),
            [
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 12: required entropy bits of deckSize 64 "
                "and handSize 12 should not be greater than 60"
            ],
        ),
        (
            {"metadata": {"name": "l"}, "spec": {"type": "Odd"}},
            ['spec.type: Unsupported value: "Odd": supported values: "Exempt", "Limited"'],
        ),
        (
            {"metadata": {"name": "l"}, "spec": {"type": "Exempt"}},
            ["spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'"],
        ),
    ],
)
def test_a_priority_level(obj: Object, told: list[str]) -> None:
    assert [str(error) for error in rules.priority_level(obj)] == told


def test_what_every_cluster_has_is_valid_and_the_mandatory_ones_stay() -> None:
    made_at_start = {FLOWSCHEMAS: bootstrap.flow_schemas(), PRIORITYLEVELCONFIGURATIONS: bootstrap.priority_levels()}
    for resource, made in made_at_start.items():
        strategy = strategy_for(resource)
        for obj in made:
            strategy.default(obj)
            assert strategy.validate(obj) == []
    (error,) = rules.flow_schema(flow("catch-all"))
    assert str(error).endswith("spec of 'catch-all' must equal the fixed value")
    exempt = {"metadata": {"name": "exempt"}, "spec": {"type": "Exempt", "exempt": {"lendablePercent": 50}}}
    assert rules.priority_level(exempt) == []


def test_conditions_have_types_and_each_one_once() -> None:
    obj = flow() | {"status": {"conditions": [{"type": "A"}, {"type": "A"}, {}]}}
    assert [str(error) for error in rules.conditions(obj)] == [
        'status.conditions[1].type: Duplicate value: "A"',
        "status.conditions[2].type: Required value: must not be empty",
    ]
