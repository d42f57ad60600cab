"""Admission of what is not a pod: namespaces, nodes, volumes, classes, certificates, owners, events; and the order."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from auth_store import ADMIN, Api, Store, creates, everybody_may, named, updates

from controlplane.apiserver.admission.certificates import (
    CLIENT_SIGNER,
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
)
from controlplane.apiserver.admission.contract import Operation
from controlplane.apiserver.admission.eventratelimit import EventRateLimit
from controlplane.apiserver.admission.factory import DEFAULT, build, enabled
from controlplane.apiserver.admission.namespacelifecycle import NamespaceLifecycle
from controlplane.apiserver.admission.namespaces import NamespaceAutoProvision, PodNodeSelector
from controlplane.apiserver.admission.network import DefaultIngressClass, DenyServiceExternalIPs
from controlplane.apiserver.admission.nodes import TaintNodesByCondition
from controlplane.apiserver.admission.owners import OwnerReferencesPermissionEnforcement
from controlplane.apiserver.admission.storage import (
    DefaultStorageClass,
    PersistentVolumeClaimResize,
    StorageObjectInUseProtection,
)
from controlplane.apiserver.request import RequestInfo, User
from controlplane.apiserver.settings import Settings
from machinery import pki
from machinery.api.catalogue import (
    CERTIFICATESIGNINGREQUESTS,
    CONFIGMAPS,
    EVENTS,
    INGRESSCLASSES,
    INGRESSES,
    NAMESPACES,
    NODES,
    PERSISTENTVOLUMECLAIMS,
    PERSISTENTVOLUMES,
    PODS,
    SERVICES,
    STORAGECLASSES,
)
from machinery.api.meta import Object
from machinery.errors import Forbidden, NotFound, SettingsError, TooManyRequests
from machinery.testing.clock import FakeClock

# --- namespaces -------------------------------------------------------------------------------------------------------


async def test_nothing_new_where_no_namespace_is_or_it_is_going() -> None:
    store = Store()
    plugin = NamespaceLifecycle(store, FakeClock())
    operation = creates(CONFIGMAPS, named("c", "x"))
    with pytest.raises(NotFound, match='namespaces "x" not found'):
        await plugin.admit(operation)
    store.put(NAMESPACES, named("x", status={"phase": "Active"}))
    await plugin.admit(operation)
    store.put(NAMESPACES, named("x", status={"phase": "Terminating"}))
    with pytest.raises(Forbidden) as refused:
        await plugin.admit(operation)
    assert refused.value.message == (
        'configmaps "c" is forbidden: unable to create new content in namespace x because it is being terminated'
    )
    assert refused.value.details == {
        "name": "c",
        "kind": "configmaps",
        "causes": [
            {
                "reason": "NamespaceTerminating",
                "message": "namespace x is being terminated",
                "field": "metadata.namespace",
            }
        ],
    }
    await plugin.admit(updates(CONFIGMAPS, named("c", "x"), named("c", "x")))


async def test_some_namespaces_stay() -> None:
    plugin = NamespaceLifecycle(Store(), FakeClock())
    for name in ("default", "kube-system", "kube-public"):
        operation = Operation("DELETE", NAMESPACES, "", name, name, ADMIN, None, named(name))
        assert plugin.handles(operation)
        with pytest.raises(Forbidden) as refused:
            await plugin.admit(operation)
        assert refused.value.message == f'namespaces "{name}" is forbidden: this namespace may not be deleted'


async def test_a_namespace_can_come_with_its_first_object() -> None:
    store = Store()
    await NamespaceAutoProvision(store, Api(store)).admit(creates(CONFIGMAPS, named("c", "x")))
    assert store.get(NAMESPACES, "", "x") is not None


async def test_a_namespace_can_choose_nodes() -> None:
    store = Store()
    namespace = named("x")
    namespace["metadata"]["annotations"] = {"scheduler.alpha.kubernetes.io/node-selector": "tier=gold"}
    store.put(NAMESPACES, namespace)
    plugin = PodNodeSelector(store)
    pod = named("p", "x", spec={"nodeSelector": {"a": "b"}})
    await plugin.admit(creates(PODS, pod))
    assert pod["spec"]["nodeSelector"] == {"a": "b", "tier": "gold"}
    with pytest.raises(Forbidden, match="pod node label selector conflicts with its namespace node label selector"):
        await plugin.admit(creates(PODS, named("p", "x", spec={"nodeSelector": {"tier": "iron"}})))


# --- nodes, storage, network ------------------------------------------------------------------------------------------


async def test_a_new_node_is_not_ready() -> None:
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    node = named("n")
    await TaintNodesByCondition().admit(creates(NODES, node))
    await TaintNodesByCondition().admit(creates(NODES, node))
    assert node["spec"]["taints"] == [taint]


def default_class(name: str, created: str = "2030-01-01T00:00:00Z", prefix: str = "storageclass") -> Object:
    made = named(name)
    made["metadata"] |= {
        "creationTimestamp": created,
        "annotations": {f"{prefix}.kubernetes.io/is-default-class": "true"},
    }
    return made


async def test_the_youngest_default_class_is_taken() -> None:
    store = Store()
    for made in (
        default_class("old"),
        default_class("b", "2031-01-01T00:00:00Z"),
        default_class("a", "2031-01-01T00:00:00Z"),
    ):
        store.put(STORAGECLASSES, made)
    plugin = DefaultStorageClass(store)
    claim = named("c", "x", spec={})
    await plugin.admit(creates(PERSISTENTVOLUMECLAIMS, claim))
    assert claim["spec"]["storageClassName"] == "a"
    none = named("c", "x", spec={"storageClassName": ""})
    await plugin.admit(creates(PERSISTENTVOLUMECLAIMS, none))
    assert none["spec"]["storageClassName"] == ""


async def test_ingresses_have_a_default_class_too() -> None:
    store = Store()
    store.put(INGRESSCLASSES, default_class("nginx", prefix="ingressclass"))
    ingress = named("i", "x", spec={})
    await DefaultIngressClass(store).admit(creates(INGRESSES, ingress))
    assert ingress["spec"]["ingressClassName"] == "nginx"
    old = named("i", "x", spec={}, metadata={"annotations": {"kubernetes.io/ingress.class": "other"}})
    await DefaultIngressClass(store).admit(creates(INGRESSES, old))
    assert "ingressClassName" not in old["spec"]


async def test_what_is_in_use_is_protected() -> None:
    for resource, finalizer in ((PERSISTENTVOLUMECLAIMS, "pvc"), (PERSISTENTVOLUMES, "pv")):
        obj = named("c")
        await StorageObjectInUseProtection().admit(creates(resource, obj))
        await StorageObjectInUseProtection().admit(creates(resource, obj))
        assert obj["metadata"]["finalizers"] == [f"kubernetes.io/{finalizer}-protection"]


def claim_of(size: str, phase: str = "Bound", storage_class: str = "grows") -> Object:
    spec = {"storageClassName": storage_class, "resources": {"requests": {"storage": size}}}
    return named("c", "x", spec=spec, status={"phase": phase})


async def test_claims_grow_where_their_class_lets_them() -> None:
    store = Store()
    store.put(STORAGECLASSES, named("grows", allowVolumeExpansion=True))
    store.put(STORAGECLASSES, named("stays"))
    plugin = PersistentVolumeClaimResize(store)
    await plugin.validate(updates(PERSISTENTVOLUMECLAIMS, claim_of("2Gi"), claim_of("1Gi")))
    await plugin.validate(updates(PERSISTENTVOLUMECLAIMS, claim_of("1Gi"), claim_of("1024Mi")))
    for new, old, told in [
        (claim_of("2Gi"), claim_of("1Gi", "Pending"), "Only bound persistent volume claims can be expanded"),
        (claim_of("2Gi", storage_class="stays"), claim_of("1Gi", storage_class="stays"), "only dynamically provis"),
    ]:
        with pytest.raises(Forbidden, match=told):
            await plugin.validate(updates(PERSISTENTVOLUMECLAIMS, new, old))


async def test_external_addresses_can_be_denied() -> None:
    service = named("s", "x", spec={"externalIPs": ["1.2.3.4"]})
    with pytest.raises(Forbidden, match="Use of external IPs is denied by admission control"):
        await DenyServiceExternalIPs().validate(creates(SERVICES, service))
    await DenyServiceExternalIPs().validate(updates(SERVICES, service, service))


# --- certificates -----------------------------------------------------------------------------------------------------


class Signers:
    """Allows a verb for the signers named."""

    def __init__(self, *names: str) -> None:
        self._names = names

    async def __call__(self, user: User, request: RequestInfo) -> tuple[bool, str]:
        return request.name in self._names, ""


def request(signer: str = CLIENT_SIGNER, *groups: str, **status: Any) -> Object:
    pem = pki.make_request(pki.new_key("ECDSA-P256"), "jane", organizations=groups)
    spec = {"signerName": signer, "request": base64.b64encode(pem).decode()}
    return named("r", spec=spec) | ({"status": status} if status else {})


@pytest.mark.parametrize("allowed", ["example.com/x", "example.com/*"])
async def test_who_may_approve_and_sign(allowed: str) -> None:
    old = request("example.com/x")
    signed = old | {"status": {"certificate": "Yw=="}}
    for plugin, subresource, told in [
        (CertificateApproval, "approval", "user not permitted to approve requests with signerName"),
        (CertificateSigning, "status", "user not permitted to sign requests with signerName"),
    ]:
        operation = updates(CERTIFICATESIGNINGREQUESTS, signed, old, subresource=subresource)
        assert plugin(Signers()).handles(operation)
        await plugin(Signers(allowed)).validate(operation)
        with pytest.raises(Forbidden, match=f'{told} "example.com/x"'):
            await plugin(Signers("example.com/y")).validate(operation)
    unchanged = updates(CERTIFICATESIGNINGREQUESTS, old, old, subresource="status")
    await CertificateSigning(Signers()).validate(unchanged)


async def test_nobody_asks_to_be_a_master() -> None:
    plugin = CertificateSubjectRestriction()
    await plugin.validate(creates(CERTIFICATESIGNINGREQUESTS, request(CLIENT_SIGNER, "dev")))
    await plugin.validate(creates(CERTIFICATESIGNINGREQUESTS, request("example.com/x", "system:masters")))
    with pytest.raises(Forbidden, match="signer with system:masters group is not allowed"):
        await plugin.validate(creates(CERTIFICATESIGNINGREQUESTS, request(CLIENT_SIGNER, "system:masters")))
    broken = named("r", spec={"signerName": CLIENT_SIGNER, "request": "bm90aGluZw=="})
    with pytest.raises(Forbidden, match="PEM block type must be CERTIFICATE REQUEST"):
        await plugin.validate(creates(CERTIFICATESIGNINGREQUESTS, broken))


# --- owners, events, the chain ----------------------------------------------------------------------------------------


async def test_owners_need_the_right_to_delete_and_to_block() -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "u", "blockOwnerDeletion": True}
    old, new = named("c", "x"), named("c", "x", metadata={"ownerReferences": [owner]})

    async def only_updates(user: User, request: RequestInfo) -> tuple[bool, str]:
        return request.verb == "update" and request.subresource == "finalizers", ""

    async def only_deletes(user: User, request: RequestInfo) -> tuple[bool, str]:
        return request.verb == "delete", ""

    await OwnerReferencesPermissionEnforcement(Store(), everybody_may).validate(updates(CONFIGMAPS, new, old))
    with pytest.raises(Forbidden, match="cannot set an ownerRef on a resource you can't delete"):
        await OwnerReferencesPermissionEnforcement(Store(), only_updates).validate(updates(CONFIGMAPS, new, old))
    with pytest.raises(Forbidden, match="a resource you can't set finalizers on"):
        await OwnerReferencesPermissionEnforcement(Store(), only_deletes).validate(updates(CONFIGMAPS, new, old))
    await OwnerReferencesPermissionEnforcement(Store(), only_updates).validate(creates(CONFIGMAPS, new))


async def test_events_have_a_rate() -> None:
    clock = FakeClock()
    plugin = EventRateLimit(clock, {"limits": [{"type": "Namespace", "qps": 1, "burst": 2}]})
    for _ in range(2):
        await plugin.validate(creates(EVENTS, named("e", "x")))
    with pytest.raises(TooManyRequests, match="limit reached on type Namespace for key x"):
        await plugin.validate(creates(EVENTS, named("e", "x")))
    await plugin.validate(creates(EVENTS, named("e", "y")))
    await clock.advance(1)
    await plugin.validate(creates(EVENTS, named("e", "x")))
    with pytest.raises(SettingsError, match="EventRateLimit needs"):
        EventRateLimit(clock, None)


def test_the_plugins_that_are_on_by_default_in_upstreams_order() -> None:
    made = build(Settings(), Store(), Api(Store()), everybody_may)
    assert [plugin.name for plugin in made.admission] == [
        "NamespaceLifecycle",
        "LimitRanger",
        "ServiceAccount",
        "TaintNodesByCondition",
        "PodSecurity",
        "Priority",
        "DefaultTolerationSeconds",
        "DefaultStorageClass",
        "StorageObjectInUseProtection",
        "PersistentVolumeClaimResize",
        "RuntimeClass",
        "CertificateApproval",
        "CertificateSigning",
        "ClusterTrustBundleAttest",
        "CertificateSubjectRestriction",
        "DefaultIngressClass",
        "PodTopologyLabels",
        "NodeDeclaredFeatureValidator",
        "PodResizeValidator",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionWebhook",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionWebhook",
        "ResourceQuota",
    ]


def test_plugins_are_chosen_by_name() -> None:
    chosen = enabled(["NodeRestriction"], ["PodSecurity", "ResourceQuota"])
    assert "NodeRestriction" in chosen
    assert chosen.index("NodeRestriction") == chosen.index("ServiceAccount") + 1
    assert "PodSecurity" not in chosen
    assert enabled([], []) == list(DEFAULT)
    for on, off, told in [
        (["Nonsense"], [], "--enable-admission-plugins: unknown admission plugin 'Nonsense'"),
        ([], ["Nonsense"], "--disable-admission-plugins: unknown"),
        (["Priority"], ["Priority"], "Priority in both"),
        (["ImagePolicyWebhook"], [], "not supported"),
    ]:
        with pytest.raises(SettingsError, match=told):
            enabled(on, off)
