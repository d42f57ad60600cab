"""The controllers' names: what `--controllers` accepts, which are on by default, and their older aliases.

Source: k8s.io/kubernetes/cmd/kube-controller-manager/names; kube-controller-manager --help, v1.36.
"""

from __future__ import annotations

from collections.abc import Iterable

from machinery.selection import Names

ALIASES = {
    "serviceaccount-token": "serviceaccount-token-controller",
    "endpoint": "endpoints-controller",
    "endpointslice": "endpointslice-controller",
    "endpointslicemirroring": "endpointslice-mirroring-controller",
    "replicationcontroller": "replicationcontroller-controller",
    "podgc": "pod-garbage-collector-controller",
    "resourcequota": "resourcequota-controller",
    "namespace": "namespace-controller",
    "serviceaccount": "serviceaccount-controller",
    "garbagecollector": "garbage-collector-controller",
    "daemonset": "daemonset-controller",
    "job": "job-controller",
    "deployment": "deployment-controller",
    "replicaset": "replicaset-controller",
    "horizontalpodautoscaling": "horizontal-pod-autoscaler-controller",
    "disruption": "disruption-controller",
    "statefulset": "statefulset-controller",
    "cronjob": "cronjob-controller",
    "csrsigning": "certificatesigningrequest-signing-controller",
    "csrapproving": "certificatesigningrequest-approving-controller",
    "csrcleaner": "certificatesigningrequest-cleaner-controller",
    "ttl": "ttl-controller",
    "bootstrapsigner": "bootstrap-signer-controller",
    "tokencleaner": "token-cleaner-controller",
    "nodeipam": "node-ipam-controller",
    "nodelifecycle": "node-lifecycle-controller",
    "persistentvolume-binder": "persistentvolume-binder-controller",
    "attachdetach": "persistentvolume-attach-detach-controller",
    "persistentvolume-expander": "persistentvolume-expander-controller",
    "clusterrole-aggregation": "clusterrole-aggregation-controller",
    "pvc-protection": "persistentvolumeclaim-protection-controller",
    "pv-protection": "persistentvolume-protection-controller",
    "ttl-after-finished": "ttl-after-finished-controller",
    "root-ca-cert-publisher": "root-ca-certificate-publisher-controller",
    "ephemeral-volume": "ephemeral-volume-controller",
    "resource-claim-controller": "resourceclaim-controller",
    "legacy-service-account-token-cleaner": "legacy-serviceaccount-token-cleaner-controller",
}

GATED = {
    "kube-apiserver-serving-clustertrustbundle-publisher-controller": "ClusterTrustBundle",
    "podcertificaterequest-cleaner-controller": "PodCertificateRequest",
    "podgroup-protection-controller": "GenericWorkload",
    "resourcepoolstatusrequest-controller": "DRAResourcePoolStatus",
    "storage-version-migrator-controller": "StorageVersionMigrator",
    "storageversion-garbage-collector-controller": "StorageVersionAPI",
}
"""Controllers of alpha and beta APIs that are off by default: known by name, never running."""

_CLOUD = "runs in the cloud controller manager, not here"
NOT_HERE = {
    "service-lb-controller": _CLOUD,
    "node-route-controller": _CLOUD,
    "cloud-node-lifecycle-controller": _CLOUD,
    "service": _CLOUD,
    "route": _CLOUD,
    "cloud-node-lifecycle": _CLOUD,
    "selinux-warning-controller": "is off by default and not implemented",
}

OFF_BY_DEFAULT = frozenset({"bootstrap-signer-controller", "token-cleaner-controller"})


def choose(selection: Iterable[str], known: Iterable[str]) -> frozenset[str]:
    """The controllers that `--controllers` selects of those known. Raises SettingsError for an unknown name."""
    names = Names(frozenset(known), ALIASES, OFF_BY_DEFAULT, NOT_HERE, GATED)
    return names.choose(selection)
