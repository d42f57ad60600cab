"""SubjectAccessReview and its siblings, TokenReview, SelfSubjectReview."""

from __future__ import annotations

from typing import Any

import pytest
from auth_store import ADMIN, Store, named

from controlplane.apiserver.authz.chain import build, of_modes
from controlplane.apiserver.authz.reviews import AccessReviews
from controlplane.apiserver.authz.selectors import field_requirements, label_requirements
from controlplane.apiserver.handlers.contract import Call
from controlplane.apiserver.request import User
from machinery.api.catalogue import CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, SUBJECTACCESSREVIEWS
from machinery.api.meta import Object
from machinery.errors import BadRequest, Invalid

DEPLOYMENTS = {"namespace": "x", "verb": "get", "group": "apps", "resource": "deployments"}


def reviews() -> AccessReviews:
    store = Store()
    rule = {"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"]}
    store.put(CLUSTERROLES, named("r", rules=[rule, {"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]))
    jane = {"kind": "User", "name": "jane"}
    reference = {"kind": "ClusterRole", "name": "r"}
    store.put(ROLEBINDINGS, named("b", "x", subjects=[jane], roleRef=reference))
    store.put(CLUSTERROLEBINDINGS, named("c", subjects=[{"kind": "User", "name": "joe"}], roleRef=reference))
    return AccessReviews(build(of_modes(["Node", "RBAC"]), store))


def call(spec: Object, user: User = ADMIN, namespace: str = "", **metadata: Any) -> Call:
    body: Object = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": metadata}
    return Call(user, SUBJECTACCESSREVIEWS, "", namespace, "", body | {"spec": spec}, "2030-01-01T00:00:00Z")


async def test_a_review_says_who_allowed() -> None:
    spec = {"user": "jane", "resourceAttributes": {**DEPLOYMENTS, "name": "", "version": ""}, "groups": []}
    answer = await reviews().subject(call(spec))
    assert answer["status"] == {
        "allowed": True,
        "reason": 'RBAC: allowed by RoleBinding "b/x" of ClusterRole "r" to User "jane"',
    }
    assert answer["spec"] == {"user": "jane", "resourceAttributes": DEPLOYMENTS}
    assert answer["metadata"] == {}


async def test_a_review_says_no_without_a_reason() -> None:
    spec = {"user": "jane", "resourceAttributes": {**DEPLOYMENTS, "verb": "delete"}}
    assert (await reviews().subject(call(spec)))["status"] == {"allowed": False}
    spec = {"user": "jane", "groups": ["system:masters"], "resourceAttributes": {**DEPLOYMENTS, "verb": "delete"}}
    assert (await reviews().subject(call(spec)))["status"] == {"allowed": True}
    spec = {"user": "joe", "nonResourceAttributes": {"path": "/healthz", "verb": "get"}}
    assert (await reviews().subject(call(spec)))["status"]["allowed"] is True


def test_webhooks_are_told_requirements() -> None:
    assert field_requirements("spec.nodeName=w1,b!=c") == [
        {"key": "b", "operator": "NotIn", "values": ["c"]},
        {"key": "spec.nodeName", "operator": "In", "values": ["w1"]},
    ]
    assert label_requirements("x in (b,a),!y,z>1") == [
        {"key": "x", "operator": "In", "values": ["a", "b"]},
        {"key": "y", "operator": "DoesNotExist"},
    ]
    assert field_requirements("a=b=c") == label_requirements("((") == []


async def test_a_field_selector_narrows_for_nodes() -> None:
    pods = {"verb": "list", "resource": "pods"}
    who = {"user": "system:node:w1", "groups": ["system:nodes"]}
    narrowed = {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["w1"]}]}
    assert not (await reviews().subject(call(who | {"resourceAttributes": pods})))["status"]["allowed"]
    answer = await reviews().subject(call(who | {"resourceAttributes": pods | {"fieldSelector": narrowed}}))
    assert answer["status"]["allowed"]


@pytest.mark.parametrize(
    ("selectors", "ignored"),
    [
        ({"fieldSelector": {"rawSelector": "a=b,spec.nodeName=w1"}}, ""),
        ({"fieldSelector": {"rawSelector": "a=b=c"}}, "fieldSelector ignored due to parse error"),
        (
            {"fieldSelector": {"requirements": [{"key": "a", "operator": "In", "values": ["b", "c"]}]}},
            "fieldSelector ignored due to parse error",
        ),
        (
            {"fieldSelector": {"requirements": [{"key": "a", "operator": "In", "values": ["b"]}, {"key": "a"}]}},
            "fieldSelector partially ignored due to parse error",
        ),
        ({"labelSelector": {"requirements": [{"key": "a", "operator": "Exists"}]}}, ""),
        (
            {"labelSelector": {"requirements": [{"key": "a", "operator": "Later"}]}},
            "labelSelector ignored due to parse error",
        ),
    ],
)
async def test_selectors_that_can_not_be_understood_are_told(selectors: Object, ignored: str) -> None:
    spec = {"user": "x", "resourceAttributes": {"verb": "list", "resource": "pods"} | selectors}
    status = (await reviews().subject(call(spec)))["status"]
    assert status.get("evaluationError", "") == (f"spec.resourceAttributes.{ignored}" if ignored else "")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {
                "user": "x",
                "resourceAttributes": DEPLOYMENTS
                | {"labelSelector": {"requirements": [{"key": "a/", "operator": "In", "values": ["b", "c-"]}]}},
            },
            'spec.resourceAttributes.labelSelector.requirements[0].key: Invalid value: "a/": name part must be',
        ),
        (
            {"resourceAttributes": DEPLOYMENTS},
            'spec.user: Invalid value: "": at least one of user or group must be specified',
        ),
        (
            {"user": "x"},
            "spec.resourceAttributes: Invalid value: null: "
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (
            {"user": "x", "resourceAttributes": DEPLOYMENTS, "nonResourceAttributes": {"path": "/x", "verb": "get"}},
            'spec.nonResourceAttributes: Invalid value: {"Path":"/x","Verb":"get"}: '
            "cannot be specified in combination with resourceAttributes",
        ),
        (
            {"user": "x", "resourceAttributes": DEPLOYMENTS | {"fieldSelector": {}}},
            "spec.resourceAttributes.fieldSelector.requirements: Required value: when "
            "spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required",
        ),
    ],
)
async def test_malformed_reviews_are_refused(spec: Object, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        await reviews().subject(call(spec))
    assert refused.value.message.replace("is invalid: [", "is invalid: ").startswith(
        f'.authorization.k8s.io "" is invalid: {message}'
    )
    assert refused.value.details is not None
    assert "kind" not in refused.value.details


async def test_a_local_review_stays_in_its_namespace() -> None:
    spec = {"user": "jane", "resourceAttributes": DEPLOYMENTS}
    answer = await reviews().local(call(spec, namespace="x"))
    assert answer["status"]["allowed"] is True
    with pytest.raises(Invalid, match=r"must match metadata\.namespace"):
        await reviews().local(call(spec, namespace="y"))


async def test_a_self_review_asks_about_the_caller() -> None:
    spec = {"resourceAttributes": DEPLOYMENTS}
    assert (await reviews().self_access(call(spec, User("jane"))))["status"]["allowed"] is True
    assert (await reviews().self_access(call(spec, User("jack"))))["status"]["allowed"] is False


async def test_rules_of_the_caller() -> None:
    answer = await reviews().self_rules(call({"namespace": "x"}, User("joe")))
    assert answer["spec"] == {}
    assert answer["status"] == {
        "resourceRules": [{"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"]}],
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}],
        "incomplete": False,
    }
    node = User("system:node:w1", groups=("system:nodes",))
    status = (await reviews().self_rules(call({"namespace": "x"}, node)))["status"]
    assert status["incomplete"] is True
    assert status["evaluationError"] == "node authorizer does not support user rule resolution"
    with pytest.raises(BadRequest):
        await reviews().self_rules(call({}))
