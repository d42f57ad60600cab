"""PriorityClasses, RuntimeClasses, APIServices."""

from typing import Any

import pytest

from controlplane.apiserver.registry.validation import classes as rules
from machinery.api.meta import Object


def priority(name: str = "p", **changes: Any) -> Object:
    return {"metadata": {"name": name}, "value": 1, **changes}


@pytest.mark.parametrize(
    ("obj", "told"),
    [
        (priority(), []),
        (priority(preemptionPolicy="Never"), []),
        (priority("system-node-critical", value=2000001000), []),
        (
            priority(value=1000000001),
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        ),
        (
            priority("system-x"),
            [
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use "
                "only. error: system-x is not a known system priority class"
            ],
        ),
        (
            priority("system-node-critical", value=7),
            [
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use "
                "only. error: value of system-node-critical PriorityClass must be 2000001000"
            ],
        ),
        (
            priority(preemptionPolicy="Sometimes"),
            ['preemptionPolicy: Unsupported value: "Sometimes": supported values: "PreemptLowerPriority", "Never"'],
        ),
    ],
)
def test_a_priority_class(obj: Object, told: list[str]) -> None:
    assert [str(error) for error in rules.priority_class(obj)] == told


def test_a_priority_classs_value_and_policy_stay() -> None:
    errors = rules.priority_class_update(priority(value=2, preemptionPolicy="Never"), priority())
    assert [str(error) for error in errors] == [
        "value: Forbidden: may not be changed in an update.",
        'preemptionPolicy: Invalid value: "Never": field is immutable',
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        (
            {"overhead": {"podFixed": {"cpu": "-1"}}},
            ['overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0'],
        ),
        ({"scheduling": {"nodeSelector": {"a b": "c"}}}, None),
        ({"handler": "Bad_Name"}, None),
    ],
)
def test_a_runtime_class(changes: Object, told: list[str] | None) -> None:
    errors = rules.runtime_class({"metadata": {"name": "r"}, "handler": "runc", **changes})
    assert errors if told is None else [str(error) for error in errors] == told


def test_a_runtime_classs_handler_stays() -> None:
    old = {"metadata": {"name": "r"}, "handler": "runc"}
    errors = rules.runtime_class_update(old | {"handler": "other"}, old)
    assert [str(error) for error in errors] == ['handler: Invalid value: "other": field is immutable']


def api_service(name: str = "v1.g.example.com", **changes: Any) -> Object:
    service = {"name": "s", "namespace": "n"}
    spec = {"group": "g.example.com", "version": "v1", "groupPriorityMinimum": 10, "versionPriority": 10}
    return {"metadata": {"name": name}, "spec": {**spec, "service": service, **changes}}


@pytest.mark.parametrize(
    ("obj", "told"),
    [
        (api_service(), []),
        (
            api_service("v2.g.example.com"),
            [
                'metadata.name: Invalid value: "v2.g.example.com": must be `spec.version+"."+spec.group`: '
                '"v1.g.example.com"'
            ],
        ),
        (
            api_service(groupPriorityMinimum=0, versionPriority=1001),
            [
                "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
                "spec.versionPriority: Invalid value: 1001: must be positive and less than 1000",
            ],
        ),
        (
            api_service(service={}),
            ["spec.service.namespace: Required value", "spec.service.name: Required value"],
        ),
        (
            api_service(insecureSkipTLSVerify=True, caBundle="eA=="),
            ["spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present"],
        ),
        (
            api_service(service=None, caBundle="eHk=", insecureSkipTLSVerify=True),
            [
                'spec.caBundle: Invalid value: "2 bytes": local APIServices may not have a caBundle',
                "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
            ],
        ),
    ],
)
def test_an_api_service(obj: Object, told: list[str]) -> None:
    assert [str(error) for error in rules.api_service(obj)] == told


def test_conditions_of_an_api_service_have_known_values() -> None:
    new = api_service() | {"status": {"conditions": [{"type": "Available", "status": "Perhaps"}]}}
    (error,) = rules.api_service_status(new, api_service())
    assert str(error).startswith('status.conditions[0].status: Unsupported value: "Perhaps"')


def test_tolerations_of_runtime_classes_stand_once() -> None:
    given = [{"key": "a"}, {"key": "a", "effect": "NoExecute"}, {"key": "a", "tolerationSeconds": 3}]
    errors = rules.runtime_class({"handler": "a", "scheduling": {"tolerations": given}})
    shown = '{"Key":"a","Operator":"","Value":"","Effect":"","TolerationSeconds":3}'
    assert [(e.field, e.body) for e in errors][1:] == [("scheduling.tolerations[2]", f"Duplicate value: {shown}")]
