"""PodSecurity and NodeRestriction."""

from __future__ import annotations

from typing import Any

import pytest
from auth_store import ADMIN, HARDENED, Store, creates, everybody_may, named, updates

from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.noderestriction import NodeRestriction, forbidden_labels
from controlplane.apiserver.admission.podsecurity.levels import (
    BASELINE,
    LATEST,
    PRIVILEGED,
    RESTRICTED,
    Policy,
    Standard,
    policy_of,
)
from controlplane.apiserver.admission.podsecurity.plugin import PodSecurity, Settings, details, findings
from controlplane.apiserver.request import RequestInfo, User
from machinery.api.catalogue import (
    CSIDRIVERS,
    DEPLOYMENTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    SERVICEACCOUNTS,
)
from machinery.api.meta import Object
from machinery.errors import Forbidden, Invalid


def container(**context: Any) -> dict[str, Any]:
    return {"containers": [{"name": "c", "securityContext": context}]}


def two(**context: Any) -> dict[str, Any]:
    return {"containers": [{"name": name, "securityContext": context} for name in ("a", "b")]}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"hostNetwork": True, "hostIPC": True}, "host namespaces (hostNetwork=true, hostIPC=true)"),
        (container(privileged=True), 'privileged (container "c" must not set securityContext.privileged=true)'),
        (two(privileged=True), 'privileged (containers "a", "b" must not set securityContext.privileged=true)'),
        (
            container(capabilities={"add": ["NET_ADMIN", "KILL", "SYS_TIME"]}),
            'non-default capabilities (container "c" must not include "NET_ADMIN", "SYS_TIME" '
            "in securityContext.capabilities.add)",
        ),
        ({"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}, 'hostPath volumes (volume "h")'),
        (
            {"containers": [{"name": "c", "ports": [{"hostPort": 80}, {"hostPort": 0}, {"hostPort": 443}]}]},
            'hostPort (container "c" uses hostPorts 443, 80)',
        ),
        (
            {"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "x"}}}]},
            'probe or lifecycle host (container "c" uses probe or lifecycle host "x")',
        ),
        (
            container(procMount="Unmasked"),
            'procMount (container "c" must not set securityContext.procMount to "Unmasked")',
        ),
        (
            {"securityContext": {"seLinuxOptions": {"type": "x", "user": "u", "role": "r"}}},
            'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "x"; '
            "user may not be set; role may not be set)",
        ),
        (
            {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}
            | container(seccompProfile={"type": "Unconfined"}),
            'seccompProfile (pod and container "c" must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_syncookies"}]}},
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            {"securityContext": {"windowsOptions": {"hostProcess": True}}},
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
            'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")',
        ),
        (
            {"initContainers": [{"name": "i", "securityContext": {"privileged": True}}]},
            'privileged (container "i" must not set securityContext.privileged=true)',
        ),
    ],
)
def test_the_baseline(spec: dict[str, Any], told: str) -> None:
    assert details(findings(Standard(BASELINE), {}, {"containers": []} | spec)) == told
    assert findings(Standard(PRIVILEGED), {}, spec) == []


def test_an_annotation_can_be_a_profile() -> None:
    metadata = {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}}
    key = "container.apparmor.security.beta.kubernetes.io/c"
    assert details(findings(Standard(BASELINE), metadata, {})).endswith(
        f'annotation must not set AppArmor profile type to "{key}=\\"unconfined\\"")'
    )


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (HARDENED, ""),
        (
            {"containers": [{"name": "c"}]},
            'allowPrivilegeEscalation != false (container "c" must set '
            "securityContext.allowPrivilegeEscalation=false), "
            'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), '
            'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), '
            'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to '
            '"RuntimeDefault" or "Localhost")',
        ),
        (
            HARDENED | {"volumes": [{"name": "v", "hostPath": {}}, {"name": "n", "nfs": {}}]},
            'restricted volume types (volumes "v", "n" use restricted volume types "hostPath", "nfs")',
        ),
        (
            HARDENED | {"securityContext": HARDENED["securityContext"] | {"runAsUser": 0}},
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            HARDENED | {"securityContext": HARDENED["securityContext"] | {"runAsNonRoot": False}},
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
    ],
)
def test_the_restricted_level(spec: dict[str, Any], told: str) -> None:
    assert details(findings(Standard(RESTRICTED), {}, spec)) == told


def test_labels_make_the_policy() -> None:
    prefix = "pod-security.kubernetes.io/"
    made, errors = policy_of({f"{prefix}enforce": "baseline", f"{prefix}enforce-version": "v1.25"}, Policy())
    assert not errors
    assert str(made.enforce) == "baseline:v1.25"
    # Enforcing warns as well, so that users of controllers hear of it.
    assert made.warn == Standard(BASELINE, 25)
    assert made.audit == Standard(PRIVILEGED, LATEST)
    made, errors = policy_of(
        {f"{prefix}enforce": "strict", f"{prefix}warn": "x", f"{prefix}warn-version": "1"}, Policy()
    )
    assert (made.enforce.level, made.warn.level) == (RESTRICTED, PRIVILEGED)
    assert [str(error) for error in errors] == [
        'metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": '
        "must be one of privileged, baseline, restricted",
        'metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: "x": '
        "must be one of privileged, baseline, restricted",
        'metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "1": must be "latest" or "v1.x"',
    ]


def secured(**labels: str) -> tuple[PodSecurity, Store]:
    store = Store()
    marked = {f"pod-security.kubernetes.io/{key}": value for key, value in labels.items()}
    store.put(NAMESPACES, named("x", metadata={"labels": marked}))
    return PodSecurity(store, Settings(exempt_users=("boss",))), store


async def test_pods_are_refused_and_controllers_warned() -> None:
    plugin, _ = secured(enforce="baseline")
    spec = {"hostNetwork": True, "containers": []}
    operation = creates(PODS, named("p", "x", spec=spec))
    with pytest.raises(Forbidden) as refused:
        await plugin.validate(operation)
    assert refused.value.message == (
        'pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
    )
    assert operation.warnings == []
    deployment = creates(DEPLOYMENTS, named("d", "x", spec={"template": {"spec": spec}}))
    assert plugin.handles(deployment)
    await plugin.validate(deployment)
    told = 'would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
    assert deployment.warnings == [told]
    exempt = creates(PODS, named("p", "x", spec=spec), User("boss"))
    await plugin.validate(exempt)


async def test_audit_notes_and_lets_pass() -> None:
    plugin, _ = secured(audit="baseline")
    operation = creates(PODS, named("p", "x", spec={"hostPID": True, "containers": []}))
    await plugin.validate(operation)
    assert operation.audit_annotations == {
        "pod-security.kubernetes.io/enforce-policy": "privileged:latest",
        "pod-security.kubernetes.io/audit-violations": (
            'would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)'
        ),
    }


async def test_an_update_that_changes_no_container_is_not_looked_at() -> None:
    plugin, _ = secured(enforce="baseline")
    old = named("p", "x", spec={"hostPID": True, "containers": [{"name": "c", "image": "a"}]})
    labelled = old | {"metadata": old["metadata"] | {"labels": {"a": "b"}}}
    await plugin.validate(updates(PODS, labelled, old))
    newer = old | {"spec": old["spec"] | {"containers": [{"name": "c", "image": "b"}]}}
    with pytest.raises(Forbidden):
        await plugin.validate(updates(PODS, newer, old))
    debugged = old | {"spec": old["spec"] | {"ephemeralContainers": [{"name": "e", "image": "a"}]}}
    with pytest.raises(Forbidden):
        await plugin.validate(updates(PODS, debugged, old, subresource="ephemeralcontainers"))


async def test_a_namespace_that_becomes_strict_warns_of_its_pods() -> None:
    plugin, store = secured()
    for name in ("b", "a", "c"):
        store.put(PODS, named(name, "x", spec={"hostPID": True, "containers": []}))
    old = named("x")
    new = named("x", metadata={"labels": {"pod-security.kubernetes.io/enforce": "baseline"}})
    operation = updates(NAMESPACES, new, old)
    assert plugin.handles(operation)
    await plugin.validate(operation)
    assert operation.warnings == [
        'existing pods in namespace "x" violate the new PodSecurity enforce level "baseline:latest"',
        "a (and 2 other pods): host namespaces",
    ]
    bad = named("x", metadata={"labels": {"pod-security.kubernetes.io/enforce": "strict"}})
    with pytest.raises(Invalid, match='Namespace "x" is invalid'):
        await plugin.validate(creates(NAMESPACES, bad))
    await plugin.validate(updates(NAMESPACES, bad, bad))


# --- NodeRestriction --------------------------------------------------------------------------------------------------

W1 = User("system:node:w1", groups=("system:nodes",))


def restricted() -> tuple[NodeRestriction, Store]:
    store = Store()
    node = store.put(NODES, named("w1"))
    store.put(PODS, named("mine", "x", spec={"nodeName": "w1", "serviceAccountName": "robot"}))
    store.put(PODS, named("theirs", "x", spec={"nodeName": "w2"}))
    assert node

    async def nobody_may(user: User, request: RequestInfo) -> tuple[bool, str]:
        return False, ""

    return NodeRestriction(store, nobody_may), store


def mirror(store: Store, **spec: Any) -> Object:
    node = store.get(NODES, "", "w1")
    assert node is not None
    owner = {"apiVersion": "v1", "kind": "Node", "name": "w1", "uid": node["metadata"]["uid"], "controller": True}
    metadata = {"annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner]}
    return named("m", "x", metadata=metadata, spec={"nodeName": "w1", "containers": []} | spec)


async def test_a_kubelet_makes_mirror_pods_of_its_own() -> None:
    plugin, store = restricted()
    await plugin.admit(creates(PODS, mirror(store), W1))
    plain = mirror(store)
    del plain["metadata"]["annotations"]
    ownerless = mirror(store)
    ownerless["metadata"]["ownerReferences"] = []
    other = mirror(store)
    other["metadata"]["ownerReferences"][0]["uid"] = "u"
    for bad, told in [
        (plain, 'pod does not have "kubernetes.io/config.mirror" annotation, node "w1" can only create mirror pods'),
        (mirror(store, nodeName="w2"), 'node "w1" can only create pods with spec.nodeName set to itself'),
        (ownerless, 'node "w1" can only create pods with an owner reference set to itself'),
        (other, "node w1 UID mismatch"),
        (mirror(store, serviceAccountName="a"), 'node "w1" can not create pods that reference a service account'),
        (mirror(store, imagePullSecrets=[{"name": "s"}]), 'node "w1" can not create pods that reference secrets'),
    ]:
        with pytest.raises(Forbidden, match=told):
            await plugin.admit(creates(PODS, bad, W1))


async def test_a_kubelet_writes_about_its_own_pods_alone() -> None:
    plugin, store = restricted()
    mine, theirs = store.get(PODS, "x", "mine"), store.get(PODS, "x", "theirs")
    assert mine is not None
    assert theirs is not None
    await plugin.admit(updates(PODS, mine | {"status": {}}, mine, W1, subresource="status"))
    for operation, told in [
        (updates(PODS, theirs, theirs, W1, subresource="status"), "can only update pod status for pods with"),
        (
            updates(
                PODS, mine | {"status": {"resourceClaimStatuses": [{"name": "a"}]}}, mine, W1, subresource="status"
            ),
            'node "w1" cannot update resource claim statues',
        ),
        (
            updates(PODS, mine | {"status": {"extendedResourceClaimStatus": {}}}, mine, W1, subresource="status"),
            'node "w1" cannot update extended resource claim status',
        ),
        (updates(PODS, mine, mine, W1), 'unexpected operation "UPDATE", node "w1" can only create and delete mirror'),
        (updates(PODS, mine, mine, W1, subresource="resize"), "unexpected pod subresource"),
        (
            Operation("DELETE", PODS, "", "x", "theirs", W1, None, theirs),
            'node "w1" can only delete pods with spec.nodeName set to itself',
        ),
        (
            Operation("CREATE", PODS, "eviction", "x", "theirs", W1, named("theirs", "x"), None),
            "node w1 can only evict pods with spec.nodeName set to itself",
        ),
    ]:
        assert plugin.handles(operation)
        with pytest.raises(Forbidden, match=told):
            await plugin.admit(operation)


async def test_a_kubelet_labels_and_leases_only_itself() -> None:
    plugin, _ = restricted()
    await plugin.admit(creates(NODES, named("w1", metadata={"labels": {"kubernetes.io/os": "linux", "a": "b"}}), W1))
    tainted = named("w1", spec={"taints": [{"key": "a"}]})
    for operation, told in [
        (creates(NODES, named("w2"), W1), 'node "w1" is not allowed to modify node "w2"'),
        (
            creates(NODES, named("w1", metadata={"labels": {"node-role.kubernetes.io/control-plane": ""}}), W1),
            "not allowed to set the following labels: node-role.kubernetes.io/control-plane",
        ),
        (updates(NODES, tainted, named("w1"), W1), 'node "w1" is not allowed to modify taints'),
        (
            creates(LEASES, named("w2", "kube-node-lease"), W1),
            "can only access node lease with the same name as the requesting node",
        ),
        (creates(LEASES, named("w1", "x"), W1), 'can only access leases in the "kube-node-lease" system namespace'),
    ]:
        with pytest.raises(Forbidden, match=told):
            await plugin.admit(operation)


def test_which_labels_are_not_a_kubelets() -> None:
    new = {
        "a": "",
        "example.com/a": "",
        "kubelet.kubernetes.io/a": "",
        "x.node.kubernetes.io/a": "",
        "node-restriction.kubernetes.io/a": "",
        "x.k8s.io/a": "",
        "topology.kubernetes.io/zone": "",
    }
    assert forbidden_labels({}, new) == ["node-restriction.kubernetes.io/a", "x.k8s.io/a"]
    assert forbidden_labels({"x.k8s.io/a": "1"}, {}) == ["x.k8s.io/a"]


async def test_a_kubelet_gets_tokens_for_its_pods_and_their_audiences() -> None:
    plugin, store = restricted()
    pod = store.get(PODS, "x", "mine")
    assert pod is not None
    token = {"serviceAccountToken": {"path": "token", "audience": "vault"}}
    volumes = [
        {"name": "v", "projected": {"sources": [token, {"serviceAccountToken": {"path": "t"}}]}},
        {"name": "d", "csi": {"driver": "csi.example.com"}},
    ]
    pod = store.put(PODS, pod | {"spec": pod["spec"] | {"volumes": volumes}})
    store.put(CSIDRIVERS, named("csi.example.com", spec={"tokenRequests": [{"audience": "storage"}]}))

    def asks_for(*audiences: str, **reference: str) -> Operation:
        bound = {"apiVersion": "v1", "kind": "Pod", "name": "mine", "uid": pod["metadata"]["uid"]} | reference
        body = {"metadata": {}, "spec": {"audiences": list(audiences), "boundObjectRef": bound}}
        return Operation("CREATE", SERVICEACCOUNTS, "token", "x", "robot", W1, body, None)

    for audiences in ((), ("vault",), ("storage",)):
        await plugin.admit(asks_for(*audiences))
    for operation, told in [
        (
            asks_for("other"),
            'audience "other" not found in pod spec volume, system:node:w1 is not authorized to request tokens for '
            "this audience$",
        ),
        (asks_for("vault", "storage"), "node may only request 0 or 1 audiences"),
        (asks_for(uid=""), "node requested token with a pod binding without a uid"),
        (asks_for(uid="u"), "does not match the UID in record"),
        (asks_for(kind="Secret"), "node requested token not bound to a pod"),
    ]:
        with pytest.raises(Forbidden, match=told):
            await plugin.admit(operation)
    theirs = store.get(PODS, "x", "theirs")
    assert theirs is not None
    with pytest.raises(Forbidden, match="bound to a pod scheduled on a different node"):
        await plugin.admit(asks_for(name="theirs", uid=theirs["metadata"]["uid"]))


def test_others_are_not_restricted() -> None:
    plugin = NodeRestriction(Store(), everybody_may)
    assert not plugin.handles(creates(PODS, named("p", "x"), ADMIN))
