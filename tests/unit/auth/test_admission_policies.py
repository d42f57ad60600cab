"""Policies in CEL: whom they concern, what they deny, warn, note and change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from auth_store import Store, creates, everybody_may, named, updates

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.expressions import Evaluation, ExpressionError, Expressions
from controlplane.apiserver.admission.policy.mutating import MutatingAdmissionPolicy
from controlplane.apiserver.admission.policy.validating import ValidatingAdmissionPolicy
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.catalogue import (
    CONFIGMAPS,
    DEPLOYMENTS,
    LIMITRANGES,
    MUTATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS,
    NAMESPACES,
    SECRETS,
    VALIDATINGADMISSIONPOLICIES,
    VALIDATINGADMISSIONPOLICYBINDINGS,
)
from machinery.api.meta import Object
from machinery.errors import Forbidden, StatusError

CONFIGS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}
DEPLOYS = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}


def validating(
    *validations: Object, rule: Object = CONFIGS, actions: tuple[str, ...] = ("Deny",), **spec: Any
) -> Store:
    store = Store()
    store.put(NAMESPACES, named("x", metadata={"labels": {"tier": "gold"}}))
    reference = spec.pop("paramRef", None)
    whole = {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]}, "validations": list(validations)}
    store.put(VALIDATINGADMISSIONPOLICIES, named("p", spec=whole | spec))
    bound: Object = {"policyName": "p", "validationActions": list(actions)}
    store.put(
        VALIDATINGADMISSIONPOLICYBINDINGS, named("b", spec=bound | ({"paramRef": reference} if reference else {}))
    )
    return store


def config(name: str = "c", **data: str) -> Object:
    return named(name, "x", apiVersion="v1", kind="ConfigMap") | ({"data": data} if data else {})


async def run(store: Store, operation: Operation) -> Operation:
    plugin = ValidatingAdmissionPolicy(store, everybody_may)
    assert plugin.handles(operation)
    await plugin.validate(operation)
    return operation


async def denial(store: Store, obj: Object) -> StatusError:
    with pytest.raises(StatusError) as refused:
        await run(store, creates(CONFIGMAPS, obj))
    return refused.value


DENIED = "configmaps \"c\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: "


async def test_a_denial_has_message_reason_and_cause() -> None:
    store = validating({"expression": "!has(object.data) || !('bad' in object.data)", "message": "no bad keys"})
    await run(store, creates(CONFIGMAPS, config(good="1")))
    refused = (await denial(store, config(bad="1"))).to_status()
    assert refused["message"] == DENIED + "no bad keys"
    assert (refused["code"], refused["reason"]) == (422, "Invalid")
    cause = {"message": "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no bad keys"}
    assert refused["details"] == {"name": "c", "kind": "configmaps", "causes": [cause]}


@pytest.mark.parametrize(
    ("validation", "code", "told"),
    [
        ({"expression": "false"}, 422, "failed expression: false"),
        ({"expression": "false", "reason": "Forbidden", "message": "no"}, 403, "no"),
        (
            {"expression": "false", "messageExpression": "'name ' + object.metadata.name"},
            422,
            "name c",
        ),
        ({"expression": "false", "messageExpression": "object.nope", "message": "else"}, 422, "else"),
        ({"expression": "false", "messageExpression": "''"}, 422, "failed expression: false"),
        (
            {"expression": "object.nope == 1"},
            422,
            "expression 'object.nope == 1' resulted in error: no such key: nope",
        ),
        ({"expression": "1 / 0 == 1"}, 422, "expression '1 / 0 == 1' resulted in error: division by zero"),
    ],
)
async def test_what_is_told(validation: Object, code: int, told: str) -> None:
    refused = await denial(validating(validation), config())
    assert (refused.code, refused.message) == (code, DENIED + told)


async def test_failing_open() -> None:
    store = validating({"expression": "object.nope == 1"}, failurePolicy="Ignore")
    await run(store, creates(CONFIGMAPS, config()))
    store = validating({"expression": "1 +"}, failurePolicy="Ignore")
    await run(store, creates(CONFIGMAPS, config()))
    refused = await denial(validating({"expression": "1 +"}), config())
    assert "failed to configure policy: compilation failed" in refused.message


async def test_warn_and_audit_let_pass() -> None:
    store = validating({"expression": "false", "message": "odd"}, actions=("Warn", "Audit"))
    operation = await run(store, creates(CONFIGMAPS, config()))
    assert operation.warnings == ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': odd"]
    noted = operation.audit_annotations["validation.policy.admission.k8s.io/validation_failure"]
    assert noted.startswith('[{"message":"odd","policy":"p","binding":"b","expressionIndex":0')


async def test_what_is_set_up_wrongly_is_denied_whatever_a_binding_does() -> None:
    audits = ("Warn", "Audit")
    store = validating({"expression": "1 +"}, actions=audits)
    refused = await denial(store, config())
    assert "ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: compilation" in refused.message
    store = validating({"expression": "true"}, paramKind={"apiVersion": "a/v1", "kind": "None"}, actions=audits)
    told = "failed to configure policy: failed to find resource referenced by paramKind: 'a/v1, Kind=None'"
    assert (await denial(store, config())).message.endswith(told)
    kind, missing = {"apiVersion": "v1", "kind": "ConfigMap"}, {"name": "m", "parameterNotFoundAction": "Deny"}
    store = validating({"expression": "true"}, paramKind=kind, paramRef=missing, actions=audits)
    assert "with binding 'b' denied request: failed to configure binding" in (await denial(store, config())).message


async def test_audit_annotations_are_noted_once_and_must_not_fail() -> None:
    notes = [
        {"key": "said", "valueExpression": "' ' + object.metadata.name + ' '"},
        {"key": "blank", "valueExpression": "' '"},
        {"key": "none", "valueExpression": "null"},
    ]
    store = validating({"expression": "false"}, {"expression": "1 == 2"}, auditAnnotations=notes, actions=("Audit",))
    bound = {"policyName": "p", "validationActions": ["Audit"]}
    store.put(VALIDATINGADMISSIONPOLICYBINDINGS, named("c", spec=bound))
    operation = await run(store, creates(CONFIGMAPS, config()))
    noted = operation.audit_annotations.pop("validation.policy.admission.k8s.io/validation_failure")
    assert operation.audit_annotations == {"p/said": "c"}
    assert [(n["binding"], n["expressionIndex"]) for n in json.loads(noted)] == [("b", 0)]
    broken = [{"key": "k", "valueExpression": "object.nope"}]
    refused = await denial(validating(auditAnnotations=broken, actions=("Audit",)), config())
    assert refused.message == DENIED + "expression 'object.nope' resulted in error: no such key: nope"
    await run(validating(auditAnnotations=broken, failurePolicy="Ignore"), creates(CONFIGMAPS, config()))


async def test_a_namespace_is_in_no_namespace() -> None:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["namespaces"]}
    await run(validating({"expression": "namespaceObject == null"}, rule=rule), creates(NAMESPACES, named("x")))


async def test_values_that_expressions_see() -> None:
    expression = (
        "object.metadata.name == 'c' && oldObject.data.a == '1' && request.operation == 'UPDATE' && "
        "request.userInfo.username == 'admin' && request.namespace == 'x' && "
        "namespaceObject.metadata.labels.tier == 'gold' && params == null && "
        "authorizer.group('').resource('pods').namespace('x').check('get').allowed()"
    )
    await run(validating({"expression": expression}), updates(CONFIGMAPS, config(a="2"), config(a="1")))


async def test_the_authorizer_is_the_servers() -> None:
    asked: list[RequestInfo] = []

    async def authorize(user: User, request: RequestInfo) -> tuple[bool, str]:
        asked.append(request)
        return user.name == "system:serviceaccount:x:robot", "because"

    store = validating(
        {"expression": "!authorizer.path('/healthz').check('get').allowed()"},
        {"expression": "authorizer.serviceAccount('x', 'robot').group('apps').resource('d').check('list').allowed()"},
        {"expression": "authorizer.requestResource.check('custom').reason() == 'because'"},
    )
    await ValidatingAdmissionPolicy(store, authorize).validate(creates(CONFIGMAPS, config()))
    assert [(r.verb, r.path, r.group, r.resource, r.namespace, r.name) for r in asked] == [
        ("get", "/healthz", "", "", "", ""),
        ("list", "", "apps", "d", "", ""),
        ("custom", "", "", "configmaps", "x", "c"),
    ]


async def test_variables_are_computed_when_used() -> None:
    variables = [
        {"name": "a", "expression": "1"},
        {"name": "b", "expression": "variables.a + 1"},
        {"name": "broken", "expression": "object.nope"},
    ]
    store = validating({"expression": "variables.b == 2"}, variables=variables)
    await run(store, creates(CONFIGMAPS, config()))
    refused = await denial(validating({"expression": "variables.broken == 2"}, variables=variables), config())
    assert refused.message.endswith("resulted in error: no such key: nope")


async def test_conditions_keep_a_policy_off() -> None:
    conditions = [{"name": "not-skipped", "expression": "!('skip' in object.data)"}]
    store = validating({"expression": "false"}, matchConditions=conditions)
    await run(store, creates(CONFIGMAPS, config(skip="1")))
    await denial(store, config(other="1"))
    refused = await denial(validating({"expression": "true"}, matchConditions=conditions), config())
    assert refused.message.endswith("no such key: data")


async def test_params_by_name_and_by_selector() -> None:
    kind = {"apiVersion": "v1", "kind": "LimitRange"}
    check = {"expression": "object.data.n == params.metadata.labels.n"}
    reference: Object = {"name": "prm", "parameterNotFoundAction": "Deny"}
    store = validating(check, paramKind=kind, paramRef=reference)
    refused = await denial(store, config(n="1"))
    assert refused.message == DENIED + (
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    )
    store.put(LIMITRANGES, named("prm", "x", metadata={"labels": {"n": "1"}}))
    await run(store, creates(CONFIGMAPS, config(n="1")))
    await denial(store, config(n="2"))
    store = validating(check, paramKind=kind, paramRef={"selector": {}, "parameterNotFoundAction": "Allow"})
    await run(store, creates(CONFIGMAPS, config(n="1")))
    for n in ("1", "2"):
        store.put(LIMITRANGES, named(f"p{n}", "x", metadata={"labels": {"n": n}}))
    await denial(store, config(n="1"))


@pytest.mark.parametrize(
    ("constraints", "concerned"),
    [
        ({}, True),
        ({"namespaceSelector": {"matchLabels": {"tier": "gold"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"tier": "iron"}}}, False),
        ({"objectSelector": {"matchLabels": {"a": "b"}}}, False),
        ({"excludeResourceRules": [CONFIGS]}, False),
        ({"excludeResourceRules": [CONFIGS | {"resourceNames": ["other"]}]}, True),
        ({"resourceRules": [CONFIGS | {"operations": ["DELETE"]}]}, False),
        ({"resourceRules": [CONFIGS | {"resources": ["*"]}]}, True),
        ({"resourceRules": [CONFIGS | {"resources": ["configmaps/status"]}]}, False),
        ({"resourceRules": [CONFIGS | {"resources": ["*/*"]}]}, True),
        ({"resourceRules": [CONFIGS | {"scope": "Cluster"}]}, False),
        ({"resourceRules": [CONFIGS | {"apiVersions": ["v2"]}]}, True),
        ({"resourceRules": [CONFIGS | {"apiVersions": ["v2"]}], "matchPolicy": "Exact"}, False),
    ],
)
async def test_whom_a_policy_concerns(constraints: Object, concerned: bool) -> None:
    store = validating({"expression": "false"}, matchConstraints={"resourceRules": [CONFIGS]} | constraints)
    plugin = ValidatingAdmissionPolicy(store, everybody_may)
    operation = creates(CONFIGMAPS, config())
    denied = False
    if plugin.handles(operation):
        try:
            await plugin.validate(operation)
        except StatusError:
            denied = True
    assert denied is concerned


async def test_without_a_binding_nothing_happens_and_changes_count_at_once() -> None:
    store = validating({"expression": "false"})
    plugin = ValidatingAdmissionPolicy(store, everybody_may)
    operation = creates(CONFIGMAPS, config())
    assert plugin.handles(operation)
    assert not plugin.handles(creates(SECRETS, named("s", "x")))
    store.drop(VALIDATINGADMISSIONPOLICYBINDINGS, "", "b")
    assert not plugin.handles(operation)
    policies = creates(VALIDATINGADMISSIONPOLICIES, named("q"))
    assert not plugin.handles(policies)


# --- MutatingAdmissionPolicy ------------------------------------------------------------------------------------------


def deployment(**spec: Any) -> Object:
    return named("d", "x", apiVersion="apps/v1", kind="Deployment", spec={"replicas": 1} | spec)


async def mutated(obj: Object, *mutations: Object, **spec: Any) -> Object:
    store = Store()
    whole = {"matchConstraints": {"resourceRules": [DEPLOYS]}, "mutations": list(mutations)} | spec
    store.put(MUTATINGADMISSIONPOLICIES, named("p", spec=whole))
    store.put(MUTATINGADMISSIONPOLICYBINDINGS, named("b", spec={"policyName": "p"}))
    plugin = MutatingAdmissionPolicy(store, everybody_may)
    operation = creates(DEPLOYMENTS, obj)
    assert plugin.handles(operation)
    await plugin.admit(operation)
    assert operation.object is not None
    return operation.object


def applying(expression: str) -> Object:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patching(expression: str) -> Object:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


async def test_an_apply_configuration_merges() -> None:
    template = {"spec": {"containers": [{"name": "a", "image": "i"}]}}
    expression = (
        "Object{metadata: Object.metadata{labels: {'by': object.metadata.name}}, spec: Object.spec{replicas: 3, "
        "template: Object.spec.template{spec: Object.spec.template.spec{containers: "
        "[Object.spec.template.spec.containers{name: 'b', image: 'j'}]}}}}"
    )
    made = await mutated(deployment(template=template), applying(expression))
    assert made["spec"]["replicas"] == 3
    assert made["metadata"]["labels"] == {"by": "d"}
    assert {c["name"]: c["image"] for c in made["spec"]["template"]["spec"]["containers"]} == {"a": "i", "b": "j"}


async def test_a_json_patch_applies_and_later_mutations_see_it() -> None:
    made = await mutated(
        deployment(),
        patching("[JSONPatch{op: 'replace', path: '/spec/replicas', value: object.spec.replicas + 1}]"),
        patching("[JSONPatch{op: 'replace', path: '/spec/replicas', value: object.spec.replicas + 1}]"),
    )
    assert made["spec"]["replicas"] == 3


async def test_mutations_that_fail() -> None:
    for mutation in (
        patching("[JSONPatch{op: 'remove', path: '/spec/nope'}]"),
        patching("[JSONPatch{op: 'replace', path: '/spec/replicas', value: 'many'}]"),
        patching("[JSONPatch{op: 'replace', path: '/kind', value: 'Pod'}]"),
        applying("object.nope"),
        applying("'text'"),
    ):
        with pytest.raises(Forbidden) as refused:
            await mutated(deployment(), mutation)
        status = refused.value.to_status()
        assert str(status["message"]).startswith("policy 'p' with binding 'b' denied request: ")
        assert (status["code"], status["reason"]) == (403, "Invalid")
        assert status["details"]["causes"] == [{"message": status["message"]}]
        assert (await mutated(deployment(), mutation, failurePolicy="Ignore"))["spec"]["replicas"] == 1


# --- expressions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Object{a: 1, b: Object.b{c: [Object.b.c{d: 'x}'}]}}", {"a": 1, "b": {"c": [{"d": "x}"}]}}),
        ("'Object{a: 1}'", "Object{a: 1}"),
        ("Object{}", {}),
        (
            "[JSONPatch{op: 'test', path: '/a', value: {'k': [1, 2]}}]",
            [{"op": "test", "path": "/a", "value": {"k": [1, 2]}}],
        ),
        ("{'Object': 1}", {"Object": 1}),
    ],
)
def test_object_literals_are_maps(text: str, value: Any) -> None:
    assert Evaluation(Expressions(literals=True), {}).value(text) == value


def test_bad_expressions_say_why() -> None:
    expressions = Expressions(literals=True)
    for text in ("1 +", "Object{1: 2}", "Object{a: 1", "Object{?a: 1}", "x" * 100_001):
        with pytest.raises(ExpressionError, match="compilation failed"):
            expressions.program(text)
    with pytest.raises(ExpressionError, match="undeclared reference to 'nobody'"):
        expressions.program("nobody == 1")
    with pytest.raises(ExpressionError, match=r"found no matching overload for '_\+_' applied to '.int, string.'"):
        expressions.program("1 + 'a'")
