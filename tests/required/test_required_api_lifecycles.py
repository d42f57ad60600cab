"""Kinds of the API's own machinery: flow control and admission policies."""

from __future__ import annotations

from typing import Any

import pytest
from cluster import Cluster, requirement, shows
from operations import Kind, in_discovery, operate

from machinery.api.catalogue import (
    CUSTOMRESOURCEDEFINITIONS,
    FLOWSCHEMAS,
    MUTATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS,
    MUTATINGWEBHOOKCONFIGURATIONS,
    PRIORITYLEVELCONFIGURATIONS,
    VALIDATINGADMISSIONPOLICIES,
    VALIDATINGADMISSIONPOLICYBINDINGS,
    VALIDATINGWEBHOOKCONFIGURATIONS,
)

pytest_plugins = ["cluster_fixture"]

_WHEN = "2024-01-01T00:00:00Z"


def _conditions(kind: str, status: str, **more: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, "reason": "e2e", "lastTransitionTime": _WHEN, **more}]}


_STATUSES = (
    _conditions("PatchStatusFailed", "False", message="Set by e2e test"),
    _conditions("StatusUpdate", "True", message="Set from e2e test"),
)
_DEPLOYMENTS = {
    "resourceRules": [
        {"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
    ]
}
_PRECEDENCE = 10000
_FLOW_SCHEMA = {
    "matchingPrecedence": _PRECEDENCE,
    "priorityLevelConfiguration": {"name": "global-default"},
    "distinguisherMethod": {"type": "ByUser"},
    "rules": [
        {
            "subjects": [{"kind": "User", "user": {"name": "example-e2e-non-existent-user"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }
    ],
}
_LEVEL = {"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}}
_VALIDATIONS = {"validations": [{"expression": "object.spec.replicas <= 100"}], "matchConstraints": _DEPLOYMENTS}
_EXPRESSION = 'Object{metadata: Object.metadata{annotations: {"my-foo-annotation": "myAnnotationValue"}}}'
_MUTATIONS = {
    "reinvocationPolicy": "Never",
    "matchConstraints": _DEPLOYMENTS,
    "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": _EXPRESSION}}],
}
_IGNORE = {"spec": {"failurePolicy": "Ignore"}}
_ANOTHER = {"spec": {"policyName": "another-policy.example.com"}}


def _policy_fails(found: dict[str, Any]) -> None:
    found["spec"]["failurePolicy"] = "Fail"


def _of_another_policy(found: dict[str, Any]) -> None:
    found["spec"]["policyName"] = "a-third-policy.example.com"


def _binding(**more: Any) -> dict[str, Any]:
    return {"spec": {"policyName": "replicalimit-policy.example.com", **more}}


@pytest.mark.parametrize(
    "kind",
    [
        shows(
            Kind(
                FLOWSCHEMAS,
                {"spec": _FLOW_SCHEMA},
                {"spec": {"matchingPrecedence": _PRECEDENCE - 1}},
                lambda found: found["spec"].update(matchingPrecedence=_PRECEDENCE - 2),
                _STATUSES,
                status_alone=True,
            ),
            name="[sig-api-machinery] API priority and fairness should support FlowSchema API operations [Conformance]",
        ),
        shows(
            Kind(
                PRIORITYLEVELCONFIGURATIONS,
                {"spec": _LEVEL},
                {"spec": {"limited": {"nominalConcurrencyShares": 4}}},
                lambda found: found["spec"]["limited"].update(nominalConcurrencyShares=6),
                _STATUSES,
                status_alone=True,
            ),
            name="[sig-api-machinery] API priority and fairness should support PriorityLevelConfiguration API operations [Conformance]",
        ),
        shows(
            Kind(
                VALIDATINGADMISSIONPOLICIES,
                {"spec": _VALIDATIONS},
                _IGNORE,
                _policy_fails,
                _STATUSES,
                status_alone=True,
            ),
            name="[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicy API operations [Conformance]",
        ),
        shows(
            Kind(VALIDATINGADMISSIONPOLICYBINDINGS, _binding(validationActions=["Deny"]), _ANOTHER, _of_another_policy),
            name="[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should support ValidatingAdmissionPolicyBinding API operations [Conformance]",
        ),
        shows(
            Kind(MUTATINGADMISSIONPOLICIES, {"spec": _MUTATIONS}, _IGNORE, _policy_fails),
            name="[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicy API operations [Conformance]",
        ),
        shows(
            Kind(MUTATINGADMISSIONPOLICYBINDINGS, _binding(), _ANOTHER, _of_another_policy),
            name="[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should support MutatingAdmissionPolicyBinding API operations [Conformance]",
        ),
    ],
)
async def test_kind_has_all_verbs(cluster: Cluster, kind: Kind) -> None:
    await operate(cluster, kind)


@requirement(
    "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents [Conformance]"
)
async def test_webhook_configurations_are_discovered(cluster: Cluster) -> None:
    await in_discovery(cluster, MUTATINGWEBHOOKCONFIGURATIONS)
    await in_discovery(cluster, VALIDATINGWEBHOOKCONFIGURATIONS)


@requirement(
    "[sig-api-machinery] CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource definition resources in discovery documents [Conformance]"
)
async def test_definitions_are_discovered(cluster: Cluster) -> None:
    await in_discovery(cluster, CUSTOMRESOURCEDEFINITIONS)
