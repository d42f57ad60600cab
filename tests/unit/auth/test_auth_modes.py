"""Authorisers from files: ABAC's policies, and AuthorizationConfiguration with conditions in CEL."""

from __future__ import annotations

from pathlib import Path

import pytest
from auth_store import Store

from controlplane.apiserver.authz.abac import AbacAuthorizer
from controlplane.apiserver.authz.chain import build
from controlplane.apiserver.authz.conditions import Conditions
from controlplane.apiserver.authz.configuration import load, parse
from controlplane.apiserver.authz.contract import Decision
from controlplane.apiserver.authz.webhook import WebhookAuthorizer, WebhookSettings
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.meta import Object
from machinery.cel.errors import CompileError, EvaluationError
from machinery.errors import SettingsError

POLICIES = """
# a comment
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "alice", "namespace": "*", "resource": "*", "apiGroup": "*"}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "bob", "namespace": "x", "resource": "pods", "readonly": true}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"group": "ops", "nonResourcePath": "/metrics*"}}
{"user": "old", "resource": "services"}
"""  # noqa: E501 - a policy is one line


def asks(verb: str, resource: str, namespace: str = "x", group: str = "") -> RequestInfo:
    return RequestInfo(verb, "/", is_resource=True, resource=resource, namespace=namespace, group=group)


def path(url: str) -> RequestInfo:
    return RequestInfo("get", url)


@pytest.mark.parametrize(
    ("user", "request_", "allowed"),
    [
        (User("alice"), asks("delete", "nodes", ""), True),
        (User("alice"), path("/metrics"), False),
        (User("bob"), asks("list", "pods"), True),
        (User("bob"), asks("create", "pods"), False),
        (User("bob"), asks("list", "pods", "y"), False),
        (User("bob"), asks("list", "pods", group="apps"), False),
        (User("eve", groups=("ops",)), path("/metrics/cadvisor"), True),
        (User("eve", groups=("ops",)), asks("get", "pods"), False),
        (User("old"), asks("create", "services", "anywhere"), True),
        (User("old"), asks("create", "pods", "anywhere"), False),
    ],
)
async def test_a_policy_allows_what_it_names(tmp_path: Path, user: User, request_: RequestInfo, allowed: bool) -> None:
    file = tmp_path / "policy"
    file.write_text(POLICIES)
    decision, reason = await AbacAuthorizer(str(file)).authorize(user, request_)
    assert decision is (Decision.ALLOW if allowed else Decision.NO_OPINION)
    assert reason == ("" if allowed else "No policy matched.")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1"),
        ("[]", "not an object"),
        ('{"kind": "Other", "apiVersion": "v1"}', "not a Policy"),
        ('{"kind": "Policy", "apiVersion": "abac.authorization.kubernetes.io/v1beta1"}', "without a spec"),
    ],
)
def test_a_policy_that_is_none_is_told_by_its_line(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "policy"
    file.write_text(line)
    with pytest.raises(SettingsError, match=told):
        AbacAuthorizer(str(file))


def webhook(kubeconfig: Path, **more: object) -> Object:
    return {
        "type": "Webhook",
        "name": "own.example",
        "webhook": {
            "timeout": "3s",
            "authorizedTTL": "1m",
            "unauthorizedTTL": "10s",
            "subjectAccessReviewVersion": "v1",
            "failurePolicy": "Deny",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(kubeconfig)},
            **more,
        },
    }


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    file = tmp_path / "kubeconfig"
    file.write_text(
        "{current-context: a, contexts: [{name: a, context: {cluster: a}}],"
        " clusters: [{name: a, cluster: {server: 'https://127.0.0.1:9'}}]}"
    )
    return file


def test_authorisers_come_in_the_order_of_the_file(tmp_path: Path, kubeconfig: Path) -> None:
    file = tmp_path / "authorization.yaml"
    file.write_text(
        f"""
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- {{type: Node, name: node}}
- type: Webhook
  name: own.example
  webhook:
    timeout: 3s
    authorizedTTL: 1m
    unauthorizedTTL: 10s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: NoOpinion
    connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {kubeconfig}}}
    matchConditions:
    - expression: has(request.resourceAttributes)
- {{type: RBAC, name: rbac}}
"""
    )
    entries = load(str(file))
    assert [(e.mode, e.name) for e in entries] == [("Node", "node"), ("Webhook", "own.example"), ("RBAC", "rbac")]
    settings = entries[1].webhook
    assert settings is not None
    assert (settings.timeout_seconds, settings.authorized_ttl_seconds, settings.deny_on_failure) == (3, 60, False)
    assert build(entries, Store()).rbac is not None


def test_all_that_is_wrong_is_told_in_upstream_s_words(kubeconfig: Path) -> None:
    given = [
        {"type": "", "name": "a"},
        {"type": "Other", "name": "b"},
        {"type": "RBAC"},
        {"type": "RBAC", "name": "again"},
        {"type": "Node", "name": "No_Name", "webhook": {}},
        webhook(kubeconfig, timeout="1m", failurePolicy="Perhaps", matchConditions=[{"expression": "1"}, {}]),
        {"type": "Webhook", "name": "c"},
    ]
    with pytest.raises(SettingsError) as caught:
        parse({"authorizers": given}, "f")
    for told in (
        "authorizers[0].type: Required value",
        'authorizers[1].type: Unsupported value: "Other"',
        "authorizers[2].name: Required value",
        'authorizers[3].type: Duplicate value: "RBAC"',
        'authorizers[4].webhook: Invalid value: "non-null": may only be specified when type=Webhook',
        'authorizers[5].timeout: Invalid value: "1m0s": must be > 0s and <= 30s',
        'authorizers[5].failurePolicy: Unsupported value: "Perhaps"',
        "authorizers[5].matchConditionSubjectAccessReviewVersion: Required value: required if match conditions",
        'authorizers[5].matchConditions[0].expression: Invalid value: "1": must evaluate to bool',
        "authorizers[5].matchConditions[1].expression: Required value",
        "authorizers[6].webhook: Required value: required when type=Webhook",
    ):
        assert told in str(caught.value)


def test_conditions_choose_what_is_asked_about() -> None:
    conditions = Conditions.of(
        ["has(request.resourceAttributes)", "request.resourceAttributes.namespace == 'x'", "'ops' in request.groups"]
    )
    resource = {"resourceAttributes": {"namespace": "x", "verb": "get"}, "user": "u", "groups": ["ops"]}
    assert conditions.match(resource)
    assert not conditions.match({**resource, "groups": []})
    assert not conditions.match({"nonResourceAttributes": {"path": "/", "verb": "get"}, "user": "u", "groups": ["ops"]})
    with pytest.raises(EvaluationError):
        Conditions.of(["request.resourceAttributes.namespace == 'x'"]).match({"user": "u"})
    with pytest.raises(CompileError):
        Conditions.of(["request.nothing == ''"])


async def test_a_webhook_that_fails_is_a_no_or_none_of_its_business(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controlplane.apiserver.authz.remote._FIRST_PAUSE_SECONDS", 0.0)
    for deny, expected in ((True, Decision.DENY), (False, Decision.NO_OPINION)):
        settings = WebhookSettings(
            str(kubeconfig),
            deny_on_failure=deny,
            conditions=Conditions.of(["request.resourceAttributes.resource == 'pods'"]),
        )
        authorizer = WebhookAuthorizer(settings)
        try:
            assert (await authorizer.authorize(User("u"), asks("get", "pods")))[0] is expected
            assert await authorizer.authorize(User("u"), asks("get", "nodes")) == (Decision.NO_OPINION, "")
            assert (await authorizer.authorize(User("u"), path("/")))[0] is expected
        finally:
            await authorizer.close()
