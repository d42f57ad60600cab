"""Admission policies in force: what they deny, what they change, and what their type check says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cluster import Cluster, eventually, requirement, shows

from machinery.api.catalogue import (
    DEPLOYMENTS,
    MUTATINGADMISSIONPOLICIES,
    MUTATINGADMISSIONPOLICYBINDINGS,
    REPLICASETS,
    VALIDATINGADMISSIONPOLICIES,
    VALIDATINGADMISSIONPOLICYBINDINGS,
)
from machinery.api.meta import Object
from machinery.api.resource import ResourceType
from machinery.errors import Invalid

pytest_plugins = ["cluster_fixture"]


def _app(name: str, replicas: int, labels: dict[str, str] | None = None) -> Object:
    """A deployment, or a replica set."""
    labels = {"app": "nginx"} if labels is None else labels
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "nginx", "image": "nginx:latest"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def _matched(cluster: Cluster) -> Object:
    """Deployments of the test's namespace."""
    rule = {"operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"]}
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": cluster.namespace}},
        "resourceRules": [rule | {"resources": ["deployments"]}],
    }


@asynccontextmanager
async def _in_force(
    cluster: Cluster, policies: ResourceType, bindings: ResourceType, spec: Object, **binding: Any
) -> AsyncIterator[None]:
    """A policy and its binding exist; when they are in force is another matter."""
    name = f"{cluster.namespace}.policy.example.com"
    bound = {"policyName": name, "matchResources": {"namespaceSelector": _matched(cluster)["namespaceSelector"]}}
    await cluster.create(policies, {"metadata": {"name": name}, "spec": {"matchConstraints": _matched(cluster)} | spec})
    try:
        await cluster.create(bindings, {"metadata": {"name": name}, "spec": bound | binding})
        try:
            yield
        finally:
            await cluster.delete(bindings, name)
    finally:
        await cluster.delete(policies, name)


@pytest.mark.parametrize(
    "spec",
    [
        shows(
            {
                "validations": [
                    {
                        "expression": "object.spec.replicas > 1",
                        "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas",
                    },
                    {
                        "expression": "namespaceObject.metadata.name.startsWith('required-')",
                        "message": "Internal error! Other namespace should not be allowed.",
                    },
                ]
            },
            name="[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should validate against a Deployment [Conformance]",
        ),
        shows(
            {
                "variables": [
                    {"name": "replicas", "expression": "object.spec.replicas"},
                    {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
                ],
                "validations": [
                    {"expression": "variables.replicas > 1"},
                    {"expression": "variables.oddReplicas == false"},
                ],
            },
            name="[sig-api-machinery] ValidatingAdmissionPolicy [Privileged:ClusterAdmin] should allow expressions to refer variables. [Conformance]",
        ),
    ],
)
async def test_policy_denies(cluster: Cluster, spec: Object) -> None:
    kinds = VALIDATINGADMISSIONPOLICIES, VALIDATINGADMISSIONPOLICYBINDINGS
    async with _in_force(cluster, *kinds, spec, validationActions=["Deny"]):

        async def denied() -> bool:
            try:
                await cluster.create(DEPLOYMENTS, _app("marker-deployment", 1))
            except Invalid:
                return True
            await cluster.delete(DEPLOYMENTS, "marker-deployment")
            return False

        await eventually(denied, "the marker is denied")
        await cluster.create(DEPLOYMENTS, _app("replicated", 2))
        await cluster.create(REPLICASETS, _app("non-replicated", 1))
        if "variables" in spec:
            with pytest.raises(Invalid, match=r"failed expression: variables\.oddReplicas == false"):
                await cluster.create(DEPLOYMENTS, _app("odd", 3))


_ANNOTATES = {
    "patchType": "ApplyConfiguration",
    "applyConfiguration": {
        "expression": 'Object{metadata: Object.metadata{annotations: {"my-foo-annotation": "myAnnotationValue"}}}'
    },
}
_LABELS = {
    "patchType": "JSONPatch",
    "jsonPatch": {
        "expression": """[
            JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("example.com/mutated"), value: "yes"},
            JSONPatch{op: "replace", path: "/spec/replicas", value: object.spec.replicas + 1}
        ]"""
    },
}
_SCALES = {
    "patchType": "ApplyConfiguration",
    "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: object.spec.replicas % 2 == 0 ? 1 : 2}}"},
}


async def _mutated(cluster: Cluster, mutations: list[Object], reached: Any) -> Object:
    """A deployment of one replica as it is made once a policy of these mutations is in force."""
    spec = {"reinvocationPolicy": "Never", "mutations": mutations}
    async with _in_force(cluster, MUTATINGADMISSIONPOLICIES, MUTATINGADMISSIONPOLICYBINDINGS, spec):

        async def made() -> Object | None:
            found = await cluster.create(DEPLOYMENTS, _app("to-be-mutated", 1))
            await cluster.delete(DEPLOYMENTS, "to-be-mutated")
            return found if reached(found) else None

        found: Object = await eventually(made, "the marker is changed")
        return found


@requirement(
    "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment [Conformance]"
)
async def test_policy_changes(cluster: Cluster) -> None:
    found = await _mutated(cluster, [_SCALES, _LABELS], lambda made: made["spec"]["replicas"] != 1)
    assert found["spec"]["replicas"] == 3
    assert found["metadata"]["labels"] == {"app": "nginx", "example.com/mutated": "yes"}


@requirement(
    "[sig-api-machinery] MutatingAdmissionPolicy [Privileged:ClusterAdmin] should mutate a Deployment with annotations [Conformance]"
)
async def test_policy_annotates(cluster: Cluster) -> None:
    found = await _mutated(cluster, [_ANNOTATES], lambda made: made["metadata"].get("annotations"))
    assert found["metadata"]["annotations"] == {"my-foo-annotation": "myAnnotationValue"}
    assert found["spec"]["replicas"] == 1
