"""The Node authoriser: a kubelet reads what its pods need, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from auth_store import Store, asks, named

from controlplane.apiserver.authz.contract import Decision
from controlplane.apiserver.authz.node import NodeAuthorizer
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.catalogue import PERSISTENTVOLUMES, PODS, RESOURCESLICES, VOLUMEATTACHMENTS
from machinery.api.meta import Object

W1 = User("system:node:w1", groups=("system:nodes", "system:authenticated"))
W2 = User("system:node:w2", groups=("system:nodes", "system:authenticated"))


def pod(name: str, node: str, **spec: Any) -> Object:
    return named(name, "x", spec={"nodeName": node, "serviceAccountName": "robot", "containers": []} | spec)


FULL: dict[str, Any] = {
    "imagePullSecrets": [{"name": "pull"}],
    "volumes": [
        {"name": "a", "secret": {"secretName": "mounted"}},
        {"name": "b", "projected": {"sources": [{"configMap": {"name": "projected"}}, {"secret": {"name": "ps"}}]}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
        {"name": "d", "ephemeral": {}},
        {"name": "e", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "csi"}}},
    ],
    "containers": [{"name": "c", "env": [{"valueFrom": {"secretKeyRef": {"name": "env"}}}]}],
    "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "from"}}]}],
}


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        ("secrets", "pull"),
        ("secrets", "mounted"),
        ("secrets", "ps"),
        ("secrets", "csi"),
        ("secrets", "env"),
        ("configmaps", "projected"),
        ("configmaps", "from"),
        ("persistentvolumeclaims", "claim"),
        ("persistentvolumeclaims", "p-d"),
        ("serviceaccounts", "robot"),
    ],
)
async def test_what_a_pod_refers_to_can_be_read_by_its_node_alone(resource: str, name: str) -> None:
    store = Store()
    node = NodeAuthorizer(store)
    request = asks("get", resource, namespace="x", name=name)
    assert (await node.authorize(W1, request))[0] is Decision.NO_OPINION
    store.put(PODS, pod("p", "w1", **FULL))
    assert (await node.authorize(W1, request))[0] is Decision.ALLOW
    assert await node.authorize(W2, request) == (
        Decision.NO_OPINION,
        "no relationship found between node 'w2' and this object",
    )
    store.drop(PODS, "x", "p")
    assert (await node.authorize(W1, request))[0] is Decision.NO_OPINION


async def test_volumes_and_their_secrets_follow_the_claim() -> None:
    store = Store()
    node = NodeAuthorizer(store)
    store.put(PODS, pod("p", "w1", **FULL))
    spec = {
        "claimRef": {"namespace": "x", "name": "claim"},
        "csi": {
            "nodeStageSecretRef": {"name": "stage", "namespace": "s"},
            "controllerPublishSecretRef": {"name": "no", "namespace": "s"},
        },
    }
    store.put(PERSISTENTVOLUMES, named("v", spec=spec))
    assert (await node.authorize(W1, asks("get", "persistentvolumes", name="v")))[0] is Decision.ALLOW
    assert (await node.authorize(W2, asks("get", "persistentvolumes", name="v")))[0] is Decision.NO_OPINION
    assert (await node.authorize(W1, asks("get", "secrets", namespace="s", name="stage")))[0] is Decision.ALLOW
    assert (await node.authorize(W1, asks("get", "secrets", namespace="s", name="no")))[0] is Decision.NO_OPINION
    store.put(PERSISTENTVOLUMES, named("v", spec={}))
    assert (await node.authorize(W1, asks("get", "persistentvolumes", name="v")))[0] is Decision.NO_OPINION
    assert (await node.authorize(W1, asks("get", "secrets", namespace="s", name="stage")))[0] is Decision.NO_OPINION


async def test_a_mirror_pod_opens_nothing() -> None:
    store = Store()
    mirror = pod("p", "w1", **FULL)
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    store.put(PODS, mirror)
    node = NodeAuthorizer(store)
    assert (await node.authorize(W1, asks("get", "secrets", namespace="x", name="mounted")))[0] is Decision.NO_OPINION
    assert (await node.authorize(W1, asks("get", "pods", namespace="x", name="p")))[0] is Decision.ALLOW


async def test_a_claim_that_is_made_later_is_seen() -> None:
    store = Store()
    node = NodeAuthorizer(store)
    waiting = pod("p", "w1", resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "t"}])
    store.put(PODS, waiting)
    request = asks("get", "resourceclaims", "resource.k8s.io", "x", name="p-gpu-1")
    assert (await node.authorize(W1, request))[0] is Decision.NO_OPINION
    status = {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-1"}]}
    store.put(PODS, waiting | {"status": status})
    assert (await node.authorize(W1, request))[0] is Decision.ALLOW


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (asks("list", "secrets", namespace="x"), "No Object name found"),
        (asks("update", "secrets", namespace="x", name="mounted"), "can only read resources of this type"),
        (asks("list", "pods"), "can only list/watch pods with spec.nodeName field selector"),
        (
            asks("list", "pods", field_selector="spec.nodeName=w2"),
            "can only list/watch pods with spec.nodeName field selector",
        ),
        (asks("list", "pods", field_selector="spec.nodeName=w1"), None),
        (asks("watch", "pods", field_selector="status.phase!=Failed,spec.nodeName==w1"), None),
        (asks("list", "nodes"), "node 'w1' cannot read all nodes, only its own Node object"),
        (asks("get", "nodes", name="w2"), "node 'w1' cannot read 'w2', only its own Node object"),
        (asks("get", "nodes", name="w1"), None),
        (asks("patch", "nodes/status", name="w1"), None),
        (asks("delete", "nodes", name="w1"), ""),
        (asks("create", "serviceaccounts/token", namespace="x", name="robot"), None),
        (
            asks("create", "serviceaccounts", namespace="x"),
            "can only create tokens for individual service accounts",
        ),
        (
            asks("update", "leases", "coordination.k8s.io", "kube-system", name="w1"),
            'can only access leases in the "kube-node-lease" system namespace',
        ),
        (
            asks("update", "leases", "coordination.k8s.io", "kube-node-lease", name="w2"),
            "can only access node lease with the same name as the requesting node",
        ),
        (asks("update", "leases", "coordination.k8s.io", "kube-node-lease", name="w1"), None),
        (asks("create", "leases", "coordination.k8s.io", "kube-node-lease"), None),
        (
            asks("get", "csinodes", "storage.k8s.io", name="w2"),
            "can only access CSINode with the same name as the requesting node",
        ),
        (asks("get", "volumeattachments", "storage.k8s.io", name="va"), None),
        (asks("get", "resourceslices", "resource.k8s.io", name="sl"), None),
        (
            asks("list", "resourceslices", "resource.k8s.io"),
            "can only list/watch/deletecollection resourceslices with nodeName field selector",
        ),
        (asks("create", "events", namespace="x"), None),
        (asks("list", "services"), None),
        (asks("create", "deployments", "apps", "x"), ""),
        (RequestInfo("get", "/healthz"), ""),
    ],
)
async def test_rules_by_resource(request_: RequestInfo, told: str | None) -> None:
    store = Store()
    store.put(PODS, pod("p", "w1", **FULL))
    store.put(VOLUMEATTACHMENTS, named("va", spec={"nodeName": "w1"}))
    store.put(RESOURCESLICES, named("sl", spec={"nodeName": "w1"}))
    decision, reason = await NodeAuthorizer(store).authorize(W1, request_)
    assert (decision is Decision.ALLOW) is (told is None)
    assert reason == (told or "")


async def test_others_are_not_nodes() -> None:
    node = NodeAuthorizer(Store())
    assert await node.authorize(User("jane"), asks("list", "services")) == (Decision.NO_OPINION, "")
    lone = User("system:node:w1")
    assert await node.authorize(lone, asks("list", "services")) == (Decision.NO_OPINION, "")
    nameless = User("system:node:", groups=("system:nodes",))
    told = 'unknown node for user "system:node:"'
    assert await node.authorize(nameless, asks("list", "services")) == (Decision.NO_OPINION, told)
