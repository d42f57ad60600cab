"""The controllers' names: what `--controllers` accepts, which are on by default, and their older aliases.

Source: k8s.io/kubernetes/cmd/kube-controller-manager/names; kube-controller-manager --help, v1.36.
"""

from __future__ import annotations

from collections.abc import Iterable

from machinery.errors import SettingsError
from machinery.log import get_logger

log = get_logger(__name__)

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

ELSEWHERE = {
    "service-lb-controller": "the cloud controller manager",
    "node-route-controller": "the cloud controller manager",
    "cloud-node-lifecycle-controller": "the cloud controller manager",
    "service": "the cloud controller manager",
    "route": "the cloud controller manager",
    "cloud-node-lifecycle": "the cloud controller manager",
}

OFF_BY_DEFAULT = frozenset({"bootstrap-signer-controller", "token-cleaner-controller"})


def choose(selection: Iterable[str], known: Iterable[str]) -> frozenset[str]:
    """The controllers that `--controllers` selects of those known.

    `*` stands for all that are on by default, `name` (or `+name`) turns one on, `-name` off; a name wins over `*`.
    Raises SettingsError for a name that does not exist.
    """
    names = frozenset(known)
    on: set[str] = set()
    off: set[str] = set()
    everything = False
    for item in selection:
        if item == "*":
            everything = True
            continue
        turned_off = item.startswith("-")
        name = item.lstrip("+-")
        name = ALIASES.get(name, name)
        if name in ELSEWHERE:
            if turned_off:
                continue
            raise SettingsError(f"--controllers: {name} runs in {ELSEWHERE[name]}, not here")
        if name in GATED:
            if not turned_off:
                log.info("Controller is disabled by a feature gate", controller=name, requiredFeatureGates=GATED[name])
            continue
        if name not in names:
            raise SettingsError(f'--controllers: "{name}" is not in the list of known controllers')
        (off if turned_off else on).add(name)
    chosen = on | (names - OFF_BY_DEFAULT if everything else set())
    return frozenset(chosen - (off - on))
