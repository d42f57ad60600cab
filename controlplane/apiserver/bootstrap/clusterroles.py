"""The ClusterRoles and ClusterRoleBindings that every cluster has.

Source: k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go, v1.36.
"""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.apiserver.bootstrap.controllerroles import CONTROLLERS
from controlplane.apiserver.bootstrap.shapes import (
    CHANGE,
    EVENTS,
    FOLLOW,
    READ,
    READ_WRITE,
    WRITE,
    binding,
    cluster_role,
    group,
    paths,
    rule,
    service_account,
    user,
)
from machinery.api.meta import Object

AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"

ROLES: dict[str, list[Object]] = {
    "cluster-admin": [rule("*", "*", "*"), paths("*", "*")],
    "system:aggregate-to-admin": [
        rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
        rule(READ_WRITE, "rbac.authorization.k8s.io", "rolebindings roles"),
    ],
    "system:aggregate-to-edit": [
        rule(READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
        rule("impersonate", "core", "serviceaccounts"),
        rule(WRITE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
        rule("create", "core", "pods/eviction"),
        rule(
            WRITE,
            "core",
            "configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets "
            "serviceaccounts services services/proxy",
        ),
        rule("create", "core", "serviceaccounts/token"),
        rule(WRITE, "core events.k8s.io", "events"),
        rule(
            WRITE,
            "apps",
            "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale "
            "statefulsets statefulsets/scale",
        ),
        rule(WRITE, "autoscaling", "horizontalpodautoscalers"),
        rule(WRITE, "batch", "cronjobs jobs"),
        rule(
            WRITE,
            "extensions",
            "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies "
            "replicasets replicasets/scale replicationcontrollers/scale",
        ),
        rule(WRITE, "policy", "poddisruptionbudgets"),
        rule(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
        rule(READ_WRITE, "coordination.k8s.io", "leases"),
        rule(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
    ],
    "system:aggregate-to-view": [
        rule(
            READ,
            "core",
            "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods "
            "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status",
        ),
        rule(
            READ,
            "core",
            "bindings limitranges namespaces/status pods/log pods/status replicationcontrollers/status "
            "resourcequotas resourcequotas/status",
        ),
        rule(READ, "core", "namespaces"),
        rule(READ, "core events.k8s.io", "events"),
        rule(READ, "discovery.k8s.io", "endpointslices"),
        rule(
            READ,
            "apps",
            "controllerrevisions daemonsets daemonsets/status deployments deployments/scale "
            "deployments/status replicasets replicasets/scale replicasets/status statefulsets "
            "statefulsets/scale statefulsets/status",
        ),
        rule(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
        rule(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
        rule(
            READ,
            "extensions",
            "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses "
            "ingresses/status networkpolicies replicasets replicasets/scale replicasets/status "
            "replicationcontrollers/scale",
        ),
        rule(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
        rule(READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
        rule(READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
    ],
    "system:auth-delegator": [
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
    ],
    "system:basic-user": [
        rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        rule("create", "authentication.k8s.io", "selfsubjectreviews"),
    ],
    "system:certificates.k8s.io:certificatesigningrequests:nodeclient": [
        rule("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient"),
    ],
    "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient": [
        rule("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient"),
    ],
    "system:certificates.k8s.io:kube-apiserver-client-approver": [
        rule("approve", "certificates.k8s.io", "signers", names="kubernetes.io/kube-apiserver-client"),
    ],
    "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver": [
        rule("approve", "certificates.k8s.io", "signers", names="kubernetes.io/kube-apiserver-client-kubelet"),
    ],
    "system:certificates.k8s.io:kubelet-serving-approver": [
        rule("approve", "certificates.k8s.io", "signers", names="kubernetes.io/kubelet-serving"),
    ],
    "system:certificates.k8s.io:legacy-unknown-approver": [
        rule("approve", "certificates.k8s.io", "signers", names="kubernetes.io/legacy-unknown"),
    ],
    "system:discovery": [
        paths("get", "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/"),
    ],
    "system:heapster": [rule(READ, "core", "events namespaces nodes pods"), rule(READ, "extensions", "deployments")],
    "system:kube-aggregator": [rule(READ, "core", "endpoints services")],
    "system:kube-controller-manager": [
        EVENTS,
        rule("create", "coordination.k8s.io", "leases"),
        rule("get update", "coordination.k8s.io", "leases", names="kube-controller-manager"),
        rule("create", "core", "secrets serviceaccounts"),
        rule("delete", "core", "secrets"),
        rule("get", "core", "configmaps namespaces secrets serviceaccounts"),
        rule("update", "core", "secrets serviceaccounts"),
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        rule(FOLLOW, "*", "*"),
        rule("create", "core", "serviceaccounts/token"),
    ],
    "system:kube-dns": [rule(FOLLOW, "core", "endpoints services")],
    "system:kube-scheduler": [
        EVENTS,
        rule("create", "coordination.k8s.io", "leases"),
        rule("get list update watch", "coordination.k8s.io", "leases", names="kube-scheduler"),
        rule(READ_WRITE, "coordination.k8s.io", "leasecandidates"),
        rule(READ, "core", "nodes"),
        rule("delete get list watch", "core", "pods"),
        rule("create", "core", "bindings pods/binding"),
        rule(CHANGE, "core", "pods/status"),
        rule(READ, "core", "replicationcontrollers services"),
        rule(READ, "apps extensions", "replicasets"),
        rule(READ, "apps", "statefulsets"),
        rule(READ, "policy", "poddisruptionbudgets"),
        rule(READ, "core", "persistentvolumeclaims persistentvolumes"),
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        rule(READ, "storage.k8s.io", "csinodes"),
        rule(READ, "storage.k8s.io", "volumeattachments"),
        rule(READ, "core", "namespaces"),
        rule(READ, "storage.k8s.io", "csidrivers"),
        rule(READ, "storage.k8s.io", "csistoragecapacities"),
        rule(READ, "resource.k8s.io", "deviceclasses"),
        rule("get list patch update watch", "resource.k8s.io", "resourceclaims"),
        rule("get list patch update watch", "resource.k8s.io", "resourceclaims/status"),
        rule("update", "core", "pods/finalizers"),
        rule(READ, "resource.k8s.io", "resourceslices"),
        rule("create delete", "resource.k8s.io", "resourceclaims"),
        rule(CHANGE, "resource.k8s.io", "resourceclaims/binding"),
    ],
    "system:kubelet-api-admin": [
        rule(READ, "core", "nodes"),
        rule("proxy", "core", "nodes"),
        rule("*", "core", "nodes/log nodes/metrics nodes/proxy nodes/stats"),
        rule("*", "core", "nodes/configz nodes/healthz nodes/pods"),
    ],
    "system:monitoring": [
        paths("get", "/flagz /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/* /statusz"),
        rule("get", "core", "nodes/metrics"),
    ],
    "system:node": [
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
        rule(READ, "core", "services"),
        rule("create get list watch", "core", "nodes"),
        rule(CHANGE, "core", "nodes/status"),
        rule(CHANGE, "core", "nodes"),
        EVENTS,
        rule(READ, "core", "pods"),
        rule("create delete", "core", "pods"),
        rule(CHANGE, "core", "pods/status"),
        rule("create", "core", "pods/eviction"),
        rule(READ, "core", "configmaps secrets"),
        rule("get", "core", "persistentvolumeclaims persistentvolumes"),
        rule("get", "core", "endpoints"),
        rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
        rule("create delete get patch update", "coordination.k8s.io", "leases"),
        rule("get", "storage.k8s.io", "volumeattachments"),
        rule("create", "core", "serviceaccounts/token"),
        rule("get patch update", "core", "persistentvolumeclaims/status"),
        rule(READ, "storage.k8s.io", "csidrivers"),
        rule("create delete get patch update", "storage.k8s.io", "csinodes"),
        rule(READ, "node.k8s.io", "runtimeclasses"),
        rule("get", "resource.k8s.io", "resourceclaims"),
        rule("deletecollection", "resource.k8s.io", "resourceslices"),
        rule("get", "core", "serviceaccounts"),
    ],
    "system:node-bootstrapper": [rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests")],
    "system:node-problem-detector": [rule("get", "core", "nodes"), rule("patch", "core", "nodes/status"), EVENTS],
    "system:node-proxier": [
        rule(FOLLOW, "core", "endpoints services"),
        rule(READ, "core", "nodes"),
        EVENTS,
        rule(FOLLOW, "networking.k8s.io", "servicecidrs"),
        rule(FOLLOW, "discovery.k8s.io", "endpointslices"),
    ],
    "system:persistent-volume-provisioner": [
        rule("create delete get list watch", "core", "persistentvolumes"),
        rule("get list update watch", "core", "persistentvolumeclaims"),
        rule(READ, "storage.k8s.io", "storageclasses"),
        rule("watch", "core", "events"),
        EVENTS,
    ],
    "system:public-info-viewer": [paths("get", "/healthz /livez /readyz /version /version/")],
    "system:service-account-issuer-discovery": [
        paths(
            "get",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        ),
    ],
    "system:volume-scheduler": [
        rule("get list patch update watch", "core", "persistentvolumes"),
        rule(READ, "storage.k8s.io", "storageclasses"),
        rule("get list patch update watch", "core", "persistentvolumeclaims"),
    ],
}

NODE_RULES = ROLES["system:node"]
"""What the Node authoriser allows every kubelet."""

_AGGREGATED = {"admin": "", "edit": "admin", "view": "edit"}
"""Roles made of all that are labelled for them, by name, and the larger one that each is part of."""

_LABELS = {f"system:aggregate-to-{name}": {f"{AGGREGATE}{name}": "true"} for name in _AGGREGATED}

_BINDINGS: dict[str, list[Object]] = {
    "cluster-admin": [group("system:masters")],
    "system:monitoring": [group("system:monitoring")],
    "system:discovery": [group("system:authenticated")],
    "system:basic-user": [group("system:authenticated")],
    "system:public-info-viewer": [group("system:authenticated"), group("system:unauthenticated")],
    "system:node-proxier": [user("system:kube-proxy")],
    "system:kube-controller-manager": [user("system:kube-controller-manager")],
    "system:kube-dns": [service_account("kube-dns")],
    "system:kube-scheduler": [user("system:kube-scheduler")],
    "system:volume-scheduler": [user("system:kube-scheduler")],
    "system:node": [],  # the Node authoriser serves kubelets; older clusters have subjects here
    "system:service-account-issuer-discovery": [group("system:serviceaccounts")],
}
"""By the name of the role and of the binding."""


def cluster_roles() -> Iterator[Object]:
    """All ClusterRoles."""
    for name, rules in ROLES.items():
        yield cluster_role(name, rules, _LABELS.get(name))
    for name, larger in _AGGREGATED.items():
        made = cluster_role(name, [], {f"{AGGREGATE}{larger}": "true"} if larger else None)
        selector = {"matchLabels": {f"{AGGREGATE}{name}": "true"}}
        yield made | {"rules": None, "aggregationRule": {"clusterRoleSelectors": [selector]}}
    for name, rules in CONTROLLERS.items():
        yield cluster_role(f"system:controller:{name}", rules)


def cluster_role_bindings() -> Iterator[Object]:
    """All ClusterRoleBindings."""
    for name, subjects in _BINDINGS.items():
        yield binding("ClusterRoleBinding", name, "ClusterRole", name, subjects)
    for name in CONTROLLERS:
        role = f"system:controller:{name}"
        yield binding("ClusterRoleBinding", role, "ClusterRole", role, [service_account(name)])
