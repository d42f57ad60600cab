"""Which string fields take one of a fixed set of values, and the defaults that are published with them.

The schema source has no enums; these are the fields whose Go types carry `+enum`.

Source: the Go types of k8s.io/api v1.36.
"""

from __future__ import annotations

_CORE = "io.k8s.api.core.v1."
_APPS = "io.k8s.api.apps.v1."
_BATCH = "io.k8s.api.batch.v1."
_NET = "io.k8s.api.networking.v1."
_ADMISSION = "io.k8s.api.admissionregistration.v1."

_PROTOCOLS = ["SCTP", "TCP", "UDP"]
_PULL = ["Always", "IfNotPresent", "Never"]
_TRAFFIC = ["Cluster", "Local"]
_EFFECTS = ["NoExecute", "NoSchedule", "PreferNoSchedule"]
_HONOR = ["Honor", "Ignore"]
_PROFILES = ["Localhost", "RuntimeDefault", "Unconfined"]
_MESSAGES = ["FallbackToLogsOnError", "File"]
_FAILURE = ["Fail", "Ignore"]
_MATCH = ["Equivalent", "Exact"]
_SIDE_EFFECTS = ["None", "NoneOnDryRun", "Some", "Unknown"]
_RULE_SCOPES = ["*", "Cluster", "Namespaced"]
_VERBS = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]
_QUOTA_SCOPES = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
]
_SIGNALS = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMIN",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
]
_SIGNALS = sorted(_SIGNALS + [f"SIGRTMAX-{n}" for n in range(1, 15)] + [f"SIGRTMIN+{n}" for n in range(1, 16)])

ENUMS: dict[str, list[str]] = {
    **{
        f"{_CORE}{kind}.protocol": _PROTOCOLS for kind in ("ContainerPort", "ServicePort", "EndpointPort", "PortStatus")
    },
    f"{_NET}NetworkPolicyPort.protocol": _PROTOCOLS,
    "io.k8s.api.discovery.v1.EndpointPort.protocol": _PROTOCOLS,
    **{f"{_CORE}{kind}.imagePullPolicy": _PULL for kind in ("Container", "EphemeralContainer")},
    **{f"{_CORE}{kind}.terminationMessagePolicy": _MESSAGES for kind in ("Container", "EphemeralContainer")},
    f"{_CORE}ImageVolumeSource.pullPolicy": _PULL,
    f"{_CORE}HTTPGetAction.scheme": ["HTTP", "HTTPS"],
    f"{_CORE}Lifecycle.stopSignal": _SIGNALS,
    f"{_CORE}ContainerStatus.stopSignal": _SIGNALS,
    f"{_CORE}HostPathVolumeSource.type": [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ],
    f"{_CORE}AzureDiskVolumeSource.cachingMode": ["None", "ReadOnly", "ReadWrite"],
    f"{_CORE}AzureDiskVolumeSource.kind": ["Dedicated", "Managed", "Shared"],
    f"{_CORE}NamespaceStatus.phase": ["Active", "Terminating"],
    f"{_CORE}NodeStatus.phase": ["Pending", "Running", "Terminated"],
    f"{_CORE}NodeSelectorRequirement.operator": ["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"],
    f"{_CORE}PersistentVolumeClaimSpec.volumeMode": ["Block", "Filesystem"],
    f"{_CORE}PersistentVolumeClaimStatus.phase": ["Bound", "Lost", "Pending"],
    f"{_CORE}PersistentVolumeSpec.persistentVolumeReclaimPolicy": ["Delete", "Recycle", "Retain"],
    f"{_CORE}PersistentVolumeSpec.volumeMode": ["Block", "Filesystem"],
    f"{_CORE}PersistentVolumeStatus.phase": ["Available", "Bound", "Failed", "Pending", "Released"],
    f"{_CORE}PodSecurityContext.fsGroupChangePolicy": ["Always", "OnRootMismatch"],
    f"{_CORE}PodSecurityContext.supplementalGroupsPolicy": ["Merge", "Strict"],
    f"{_CORE}SecurityContext.procMount": ["Default", "Unmasked"],
    f"{_CORE}SeccompProfile.type": _PROFILES,
    f"{_CORE}AppArmorProfile.type": _PROFILES,
    f"{_CORE}PodSpec.dnsPolicy": ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    f"{_CORE}PodSpec.preemptionPolicy": ["Never", "PreemptLowerPriority"],
    f"{_CORE}PodSpec.restartPolicy": ["Always", "Never", "OnFailure"],
    f"{_CORE}PodStatus.phase": ["Failed", "Pending", "Running", "Succeeded", "Unknown"],
    f"{_CORE}PodStatus.qosClass": ["BestEffort", "Burstable", "Guaranteed"],
    f"{_CORE}ResourceQuotaSpec.scopes": _QUOTA_SCOPES,
    f"{_CORE}ScopedResourceSelectorRequirement.operator": ["DoesNotExist", "Exists", "In", "NotIn"],
    f"{_CORE}ScopedResourceSelectorRequirement.scopeName": _QUOTA_SCOPES,
    f"{_CORE}ServiceSpec.externalTrafficPolicy": _TRAFFIC,
    f"{_CORE}ServiceSpec.internalTrafficPolicy": _TRAFFIC,
    f"{_CORE}ServiceSpec.ipFamilyPolicy": ["PreferDualStack", "RequireDualStack", "SingleStack"],
    f"{_CORE}ServiceSpec.sessionAffinity": ["ClientIP", "None"],
    f"{_CORE}ServiceSpec.type": ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    f"{_CORE}Taint.effect": _EFFECTS,
    f"{_CORE}Toleration.effect": _EFFECTS,
    f"{_CORE}Toleration.operator": ["Equal", "Exists", "Gt", "Lt"],
    f"{_CORE}TopologySpreadConstraint.nodeAffinityPolicy": _HONOR,
    f"{_CORE}TopologySpreadConstraint.nodeTaintsPolicy": _HONOR,
    f"{_CORE}TopologySpreadConstraint.whenUnsatisfiable": ["DoNotSchedule", "ScheduleAnyway"],
    f"{_APPS}DaemonSetUpdateStrategy.type": ["OnDelete", "RollingUpdate"],
    f"{_APPS}DeploymentStrategy.type": ["Recreate", "RollingUpdate"],
    f"{_APPS}StatefulSetSpec.podManagementPolicy": ["OrderedReady", "Parallel"],
    f"{_APPS}StatefulSetUpdateStrategy.type": ["OnDelete", "RollingUpdate"],
    f"{_BATCH}CronJobSpec.concurrencyPolicy": ["Allow", "Forbid", "Replace"],
    f"{_BATCH}JobSpec.completionMode": ["Indexed", "NonIndexed"],
    f"{_BATCH}JobSpec.podReplacementPolicy": ["Failed", "TerminatingOrFailed"],
    f"{_BATCH}PodFailurePolicyOnExitCodesRequirement.operator": ["In", "NotIn"],
    f"{_BATCH}PodFailurePolicyRule.action": ["Count", "FailIndex", "FailJob", "Ignore"],
    f"{_NET}HTTPIngressPath.pathType": ["Exact", "ImplementationSpecific", "Prefix"],
    f"{_NET}NetworkPolicySpec.policyTypes": ["Egress", "Ingress"],
    "io.k8s.api.discovery.v1.EndpointSlice.addressType": ["FQDN", "IPv4", "IPv6"],
    "io.k8s.api.storage.v1.StorageClass.reclaimPolicy": ["Delete", "Recycle", "Retain"],
    "io.k8s.api.storage.v1.StorageClass.volumeBindingMode": ["Immediate", "WaitForFirstConsumer"],
    "io.k8s.api.scheduling.v1.PriorityClass.preemptionPolicy": ["Never", "PreemptLowerPriority"],
    **{f"{_ADMISSION}{kind}.scope": _RULE_SCOPES for kind in ("RuleWithOperations", "NamedRuleWithOperations")},
    **{f"{_ADMISSION}{kind}.operations": _VERBS for kind in ("RuleWithOperations", "NamedRuleWithOperations")},
    **{f"{_ADMISSION}{kind}.failurePolicy": _FAILURE for kind in ("MutatingWebhook", "ValidatingWebhook")},
    **{
        f"{_ADMISSION}{kind}.matchPolicy": _MATCH for kind in ("MutatingWebhook", "ValidatingWebhook", "MatchResources")
    },
    **{f"{_ADMISSION}{kind}.sideEffects": _SIDE_EFFECTS for kind in ("MutatingWebhook", "ValidatingWebhook")},
    f"{_ADMISSION}MutatingWebhook.reinvocationPolicy": ["IfNeeded", "Never"],
    f"{_ADMISSION}ValidatingAdmissionPolicySpec.failurePolicy": _FAILURE,
    f"{_ADMISSION}MutatingAdmissionPolicySpec.failurePolicy": _FAILURE,
    f"{_ADMISSION}ParamRef.parameterNotFoundAction": ["Allow", "Deny"],
    f"{_ADMISSION}ValidatingAdmissionPolicyBindingSpec.validationActions": ["Audit", "Deny", "Warn"],
}
"""`definition.field` → its values, sorted; for a list the values of its items."""

DEFAULTS: dict[str, str] = {
    **{f"{_CORE}{kind}.protocol": "TCP" for kind in ("ContainerPort", "ServicePort")},
    f"{_CORE}ISCSIVolumeSource.iscsiInterface": "default",
    f"{_CORE}ISCSIPersistentVolumeSource.iscsiInterface": "default",
    f"{_CORE}RBDVolumeSource.pool": "rbd",
    f"{_CORE}RBDVolumeSource.user": "admin",
    f"{_CORE}RBDVolumeSource.keyring": "/etc/ceph/keyring",
    f"{_CORE}RBDPersistentVolumeSource.pool": "rbd",
    f"{_CORE}RBDPersistentVolumeSource.user": "admin",
    f"{_CORE}RBDPersistentVolumeSource.keyring": "/etc/ceph/keyring",
    f"{_CORE}ScaleIOVolumeSource.fsType": "xfs",
    f"{_CORE}ScaleIOVolumeSource.storageMode": "ThinProvisioned",
    f"{_CORE}AzureDiskVolumeSource.cachingMode": "ReadWrite",
    f"{_CORE}AzureDiskVolumeSource.fsType": "ext4",
    f"{_CORE}AzureDiskVolumeSource.kind": "Shared",
}
"""`definition.field` → the default that the schema states."""
