"""Admission policies and webhook configurations: what is said about wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.apiserver.registry.validation import policies, webhooks
from machinery.api.fielderror import FieldError
from machinery.api.meta import Object

_RULE = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
_EVERYTHING: Object = {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}


def _told(errors: list[FieldError]) -> list[str]:
    return [f"{e.field}: {e.body}" for e in errors]


def _policy(**spec: Any) -> list[str]:
    whole = {
        "failurePolicy": "Fail",
        "matchConstraints": {**_EVERYTHING, "resourceRules": [_RULE]},
        "validations": [{"expression": "true"}],
    }
    return _told(policies.validating_policy({"metadata": {"name": "p"}, "spec": whole | spec}))


@pytest.mark.parametrize(
    ("validation", "told"),
    [
        ({"expression": "true &&\n true"}, []),
        ({"expression": "true", "message": "no\n"}, []),
        (
            {"expression": "true", "message": "a\rb"},
            ['message: Invalid value: "a\\rb": message must not contain line breaks'],
        ),
        ({"expression": "true", "messageExpression": "'a' + request.name"}, []),
        (
            {"expression": "authorizer.path('/').check('get').allowed()", "messageExpression": "authorizer"},
            [
                'messageExpression: Invalid value: "authorizer": compilation failed: ERROR: <input>:1:1: undeclared '
                "reference to 'authorizer' (in container '')\n | authorizer\n | ^"
            ],
        ),
        ({"expression": "object.a"}, ['expression: Invalid value: "object.a": must evaluate to bool but got dyn']),
        ({"expression": "null"}, ['expression: Invalid value: "null": must evaluate to bool but got null_type']),
        (
            {"expression": "[duration('1s')]"},
            [
                'expression: Invalid value: "[duration(\'1s\')]": must evaluate to bool but got '
                "list(google.protobuf.Duration)"
            ],
        ),
    ],
)  # fmt: skip
def test_validations(validation: Object, told: list[str]) -> None:
    assert _policy(validations=[validation]) == [f"spec.validations[0].{t}" for t in told]


def test_variables_need_names_and_expressions() -> None:
    assert _policy(variables=[{"name": " ", "expression": ""}]) == [
        "spec.variables[0].name: Required value: name is not specified",
        "spec.variables[0].expression: Required value: expression is not specified",
    ]


def test_audit_annotations_are_told_of_by_their_whole_names() -> None:
    given = [{"key": "a b", "valueExpression": " 1 "}, {"key": "c", "valueExpression": ""}, {"key": "c"}]
    told = _policy(auditAnnotations=given)
    assert told[0].startswith('spec.auditAnnotations[0].key: Invalid value: "p/a b": name part must consist of')
    at = "spec.auditAnnotations"
    assert told[1:] == [
        f'{at}[0].valueExpression: Invalid value: " 1 ": must evaluate to one of [string null_type]',
        f"{at}[1].valueExpression: Required value: valueExpression is not specified",
        f"{at}[2].valueExpression: Required value: valueExpression is not specified",
        f'{at}[2].key: Duplicate value: "c"',
    ]


def test_the_kind_of_parameters() -> None:
    assert _told(policies.param_kind("k", {"apiVersion": "a/", "kind": "A"})) == [
        'k.apiVersion: Invalid value: "a/": version must be specified'
    ]


def test_mutations_yield_what_is_applied() -> None:
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {**_EVERYTHING, "resourceRules": [_RULE]},
        "mutations": [
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[1]"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/a'}]"}},
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object.spec{a: 1}"}},
        ],
    }
    first, last = (f"spec.mutations[{i}].{k}.expression: " for i, k in ((0, "jsonPatch"), (2, "applyConfiguration")))
    assert _told(policies.mutating_policy({"metadata": {"name": "p"}, "spec": spec})) == [
        first + 'Invalid value: "[1]": must evaluate to list(JSONPatch) but got list(int)',
        last + 'Invalid value: "Object.spec{a: 1}": must evaluate to Object but got Object.spec',
    ]


def test_what_is_reported_about_a_policy() -> None:
    status = {"typeChecking": {"expressionWarnings": [{"fieldRef": "spec.x", "warning": ""}, {"warning": "w"}]}}
    at = "status.typeChecking.expressionWarnings"
    assert _told(policies.validating_policy_status({"status": status}, {})) == [
        f"{at}[0].warning: Required value",
        f"{at}[1].fieldRef: Required value",
    ]


def _webhook(**changes: Any) -> list[str]:
    hook = {
        "name": "a.b.c",
        "clientConfig": {"url": "https://x"},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "rules": [_RULE],
    }
    return _told(webhooks.webhooks({"webhooks": [hook | changes]}, mutating=False))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://a:99999/b", ""),
        ("https://[::1]:8443", ""),
        ("https://a:b", 'parse "https://a:b": invalid port ":b" after host'),
        ("https://[::1", "parse \"https://[::1\": missing ']' in host"),
    ],
)
def test_urls(url: str, told: str) -> None:
    wanted = f"Required value: url must be a valid URL: {told}; desired format: https://host[/path]"
    assert _webhook(clientConfig={"url": url}) == ([f"webhooks[0].clientConfig.url: {wanted}"] if told else [])


def test_review_versions_stand_once() -> None:
    assert _webhook(admissionReviewVersions=["v1", "v1"]) == [
        'webhooks[0].admissionReviewVersions[1]: Invalid value: "v1": duplicate version'
    ]


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        (["*", "pods/status"], []),
        (["pods/*", "pods/*"], ["[1]: Invalid value: \"pods/*\": if 'pods/*' is present, must not specify pods/*"]),
        (
            ["*/*", "*/a"],
            [
                "[1]: Invalid value: \"*/a\": if '*/*' is present, must not specify */a",
                ': Invalid value: ["*/*","*/a"]: if \'*/*\' is present, must not specify other resources',
            ],
        ),
        (["*/a", "pods/a"], ["[1]: Invalid value: \"pods/a\": if '*/a' is present, must not specify pods/a"]),
    ],
)
def test_resources_of_rules(resources: list[str], told: list[str]) -> None:
    assert _webhook(rules=[_RULE | {"resources": resources}]) == [f"webhooks[0].rules[0].resources{t}" for t in told]
