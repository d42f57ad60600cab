"""Which fields are written although they are empty, and which are kept although they hold their zero value.

The published schema does not say whether a field of upstream's Go types is a pointer or has `omitempty`; clients see
the difference, so these tables add it.  Names are `Definition.field`, with the definition's last three parts.

What the tables don't name follows these rules: required scalars and lists are always written ("", 0, false, null);
optional objects are pointers; optional booleans and numbers are pointers; optional strings, lists and maps are left
out when empty.

Source: k8s.io/api/*/types.go of v1.36.
"""

from __future__ import annotations

from typing import Final

WRITTEN_OBJECTS: Final = frozenset(
    {
        "core.v1.Container.resources",
        "core.v1.ContainerStatus.lastState",
        "core.v1.ContainerStatus.state",
        "core.v1.EphemeralContainer.resources",
        "core.v1.Event.source",
        "core.v1.NodeDaemonEndpoints.kubeletEndpoint",
        "core.v1.NodeStatus.daemonEndpoints",
        "core.v1.NodeStatus.nodeInfo",
        "core.v1.PersistentVolumeClaimSpec.resources",
        "core.v1.PodTemplate.template",
        "core.v1.ServiceStatus.loadBalancer",
        "apps.v1.DaemonSetSpec.updateStrategy",
        "apps.v1.DeploymentSpec.strategy",
        "apps.v1.ReplicaSetSpec.template",
        "apps.v1.StatefulSetSpec.updateStrategy",
        "events.v1.Event.deprecatedSource",
        "events.v1.Event.regarding",
        "authentication.v1.SelfSubjectReviewStatus.userInfo",
        "authentication.v1.TokenReviewStatus.user",
        "networking.v1.IngressServiceBackend.port",
        "networking.v1.IngressStatus.loadBalancer",
        "networking.v1.NetworkPolicySpec.podSelector",
        "apiextensions.v1.CustomResourceDefinitionStatus.acceptedNames",
        "discovery.v1.Endpoint.conditions",
        "resource.v1.AllocationResult.devices",
        "resource.v1.ResourceClaimSpec.devices",
        "flowcontrol.v1.LimitedPriorityLevelConfiguration.limitResponse",
    }
)
"""Objects that are not pointers, besides every `metadata`, `spec` and `status`: an absent one is written as {}."""

POINTER_OBJECTS: Final = frozenset(
    {
        "apps.v1.DaemonSetSpec.selector",
        "apps.v1.DeploymentSpec.selector",
        "apps.v1.ReplicaSetSpec.selector",
        "apps.v1.StatefulSetSpec.selector",
        "core.v1.ScaleIOPersistentVolumeSource.secretRef",
        "core.v1.ScaleIOVolumeSource.secretRef",
        "networking.v1.IPAddressSpec.parentRef",
        "resource.v1.OpaqueDeviceConfiguration.parameters",
    }
)
"""Required objects that are pointers: an absent one is written as null."""

WRITTEN_LISTS: Final = frozenset(
    {
        "autoscaling.v2.HorizontalPodAutoscalerStatus.currentMetrics",
        "discovery.v1.EndpointSlice.endpoints",
        "discovery.v1.EndpointSlice.ports",
        "rbac.v1.ClusterRole.rules",
        "rbac.v1.Role.rules",
        "resource.v1.DeviceClaim.requests",
    }
)
"""Optional lists that are written as null when they are empty."""

WRITTEN_SCALARS: Final = {
    "apps.v1.StatefulSetStatus.availableReplicas": 0,
    "apps.v1.StatefulSetSpec.serviceName": "",
    "core.v1.Event.reportingComponent": "",
    "core.v1.Event.reportingInstance": "",
    "core.v1.TypedLocalObjectReference.apiGroup": None,
    "core.v1.TypedObjectReference.apiGroup": None,
    "flowcontrol.v1.FlowSchemaSpec.matchingPrecedence": 0,
    "flowcontrol.v1.QueuingConfiguration.handSize": 0,
    "flowcontrol.v1.QueuingConfiguration.queueLengthLimit": 0,
    "flowcontrol.v1.QueuingConfiguration.queues": 0,
    "policy.v1.PodDisruptionBudgetStatus.currentHealthy": 0,
    "policy.v1.PodDisruptionBudgetStatus.desiredHealthy": 0,
    "policy.v1.PodDisruptionBudgetStatus.disruptionsAllowed": 0,
    "policy.v1.PodDisruptionBudgetStatus.expectedPods": 0,
    "rbac.v1.RoleRef.apiGroup": "",
    "scheduling.v1.PriorityClass.value": 0,
    "core.v1.ResourceFieldSelector.divisor": "0",
}
"""Optional scalars that are always written."""

TIME_POINTERS: Final = frozenset(
    {
        "acquireTime",
        "allocationTimestamp",
        "completionTime",
        "creationTimestamp",
        "deletionTimestamp",
        "lastPhaseTransitionTime",
        "lastScaleTime",
        "lastScheduleTime",
        "lastSuccessfulTime",
        "renewTime",
        "startTime",
        "timeAdded",
    }
)
"""Times that are left out when absent (others are written as null); ManagedFieldsEntry.time is one more."""

BOOLEAN_VALUES: Final = frozenset(
    {
        "authenticated",
        "chapAuthDiscovery",
        "chapAuthSession",
        "clusterScope",
        "denied",
        "deprecated",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "globalDefault",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "insecureSkipTLSVerify",
        "nullable",
        "paused",
        "preserveUnknownFields",
        "publishNotReadyAddresses",
        "readOnly",
        "sslEnabled",
        "stdin",
        "stdinOnce",
        "tty",
        "uniqueItems",
        "unschedulable",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
    }
)
"""Optional booleans that are no pointers: false is left out."""

BOOLEAN_POINTERS: Final = frozenset({"core.v1.AzureDiskVolumeSource.readOnly", "core.v1.CSIVolumeSource.readOnly"})
"""The exceptions among them."""

NUMBER_VALUES: Final = frozenset(
    {
        "active",
        "availableReplicas",
        "currentReplicas",
        "deprecatedCount",
        "failed",
        "failureThreshold",
        "fullyLabeledReplicas",
        "healthCheckNodePort",
        "hostPort",
        "initialDelaySeconds",
        "minReadySeconds",
        "nodePort",
        "numberAvailable",
        "numberUnavailable",
        "observedGeneration",
        "periodSeconds",
        "readyReplicas",
        "signal",
        "sizeBytes",
        "succeeded",
        "successThreshold",
        "timeoutSeconds",
        "unavailableReplicas",
        "updatedNumberScheduled",
        "updatedReplicas",
        "core.v1.AWSElasticBlockStoreVolumeSource.partition",
        "core.v1.Event.count",
        "core.v1.EventSeries.count",
        "core.v1.GCEPersistentDiskVolumeSource.partition",
        "apps.v1.DeploymentStatus.replicas",
        "networking.v1.ServiceBackendPort.number",
        "apiextensions.v1.CustomResourceColumnDefinition.priority",
        "resource.v1.DeviceSubRequest.count",
        "resource.v1.ExactDeviceRequest.count",
    }
)
"""Optional numbers that are no pointers: 0 is left out."""

NUMBER_POINTERS: Final = frozenset(
    {
        "autoscaling.v1.HorizontalPodAutoscalerStatus.observedGeneration",
        "autoscaling.v2.HorizontalPodAutoscalerStatus.observedGeneration",
        "admissionregistration.v1.MutatingWebhook.timeoutSeconds",
        "admissionregistration.v1.ValidatingWebhook.timeoutSeconds",
        "core.v1.ClientIPConfig.timeoutSeconds",
    }
)
"""The exceptions among them."""

STRING_POINTERS: Final = frozenset(
    {
        "allocationMode",
        "apiGroup",
        "appProtocol",
        "caBundle",
        "capacityKey",
        "completionMode",
        "currentVolumeAttributesClassName",
        "deprecationWarning",
        "distinctAttribute",
        "extendedResourceName",
        "failurePolicy",
        "fsGroupChangePolicy",
        "fsGroupPolicy",
        "gmsaCredentialSpec",
        "gmsaCredentialSpecName",
        "holderIdentity",
        "hostnameOverride",
        "ingressClassName",
        "internalTrafficPolicy",
        "ipFamilyPolicy",
        "ipMode",
        "labelSelectorPath",
        "loadBalancerClass",
        "localhostProfile",
        "managedBy",
        "matchAttribute",
        "matchPolicy",
        "mountPropagation",
        "nodeAffinityPolicy",
        "nodeTaintsPolicy",
        "parameterNotFoundAction",
        "persistentVolumeName",
        "podGroupName",
        "podReplacementPolicy",
        "preemptionPolicy",
        "preferredHolder",
        "procMount",
        "reclaimPolicy",
        "recursiveReadOnly",
        "reinvocationPolicy",
        "resourceClaimName",
        "resourceClaimTemplateName",
        "runAsUserName",
        "runtimeClassName",
        "scope",
        "seLinuxChangePolicy",
        "selectPolicy",
        "shareID",
        "sideEffects",
        "stopSignal",
        "strategy",
        "string",
        "succeededIndexes",
        "supplementalGroupsPolicy",
        "timeZone",
        "trafficDistribution",
        "unhealthyPodEvictionPolicy",
        "url",
        "version",
        "volumeAttributesClassName",
        "volumeBindingMode",
        "volumeMode",
        "x-kubernetes-list-type",
        "x-kubernetes-map-type",
        "admissionregistration.v1.ServiceReference.path",
        "apiextensions.v1.ServiceReference.path",
        "core.v1.Container.restartPolicy",
        "core.v1.EphemeralContainer.restartPolicy",
        "core.v1.AzureDiskVolumeSource.cachingMode",
        "core.v1.AzureDiskVolumeSource.fsType",
        "core.v1.AzureFilePersistentVolumeSource.secretNamespace",
        "core.v1.ClusterTrustBundleProjection.name",
        "core.v1.ClusterTrustBundleProjection.signerName",
        "core.v1.CSIVolumeSource.fsType",
        "core.v1.EndpointAddress.nodeName",
        "core.v1.GlusterfsPersistentVolumeSource.endpointsNamespace",
        "core.v1.GRPCAction.service",
        "core.v1.HostPathVolumeSource.type",
        "core.v1.ISCSIPersistentVolumeSource.initiatorName",
        "core.v1.ISCSIVolumeSource.initiatorName",
        "core.v1.LocalVolumeSource.fsType",
        "core.v1.PersistentVolumeClaimSpec.storageClassName",
        "core.v1.PodDNSConfigOption.value",
        "core.v1.TypedObjectReference.namespace",
        "discovery.v1.Endpoint.hostname",
        "discovery.v1.Endpoint.nodeName",
        "discovery.v1.Endpoint.zone",
        "discovery.v1.EndpointPort.name",
        "discovery.v1.EndpointPort.protocol",
        "networking.v1.IngressClassParametersReference.namespace",
        "networking.v1.NetworkPolicyPort.protocol",
        "core.v1.PortStatus.error",
        "networking.v1.IngressPortStatus.error",
        "batch.v1.PodFailurePolicyOnExitCodesRequirement.containerName",
        "batch.v1.PodFailurePolicyOnPodConditionsPattern.status",
        "batch.v1.JobStatus.failedIndexes",
        "admissionregistration.v1.Validation.reason",
        "apiextensions.v1.ValidationRule.reason",
        "resource.v1.Device.nodeName",
        "resource.v1.ResourceSliceSpec.nodeName",
    }
)
"""Optional strings that are pointers: "" is kept."""

OPAQUE: Final = frozenset(
    {
        "apiextensions.v1.JSON",
        "meta.v1.FieldsV1",
        "pkg.runtime.RawExtension",
    }
)
"""Definitions whose content belongs to somebody else and is left as it is."""
