"""How Go's types of the API print what is empty: the facts that a schema does not say.

An optional string, list or map that is empty is left out when an object is printed; an optional number or boolean that
is zero is left out only where the Go field is no pointer; a nested structure that is no pointer is always printed, and
so is a field without `omitempty`.  What follows from the schema (`required`: always printed, except lists and maps) is
not repeated here.

One line for a type, by its short name (`group/Name` where groups differ):

    v: numbers and booleans that are left out when zero (no pointers)
    p: strings that are kept when empty (pointers)
    a: always printed: structures, times and what has no `omitempty`
    n: required by the schema, yet pointers: null when absent
    o: required by the schema, yet left out when empty

Source: k8s.io/api */types.go (struct tags), k8s.io/apimachinery/pkg/apis/meta/v1/types.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

_TEXT: Final = """
Condition: v observedGeneration
DeleteOptions: p propagationPolicy
ObjectMeta: v generation
Status: v code
StatusDetails: v retryAfterSeconds
Preconditions: p resourceVersion uid
ManagedFieldsEntry:

ValidatingAdmissionPolicyStatus: v observedGeneration
MutatingWebhook: p failurePolicy matchPolicy sideEffects reinvocationPolicy
ValidatingWebhook: p failurePolicy matchPolicy sideEffects
MatchResources: p matchPolicy
RuleWithOperations: p scope
NamedRuleWithOperations: p scope
ParamRef: p parameterNotFoundAction
ValidatingAdmissionPolicySpec: p failurePolicy
MutatingAdmissionPolicySpec: p failurePolicy
Validation: p reason
WebhookClientConfig: p url
ServiceReference: p path

ControllerRevision: a data
DaemonSetSpec: v minReadySeconds; a updateStrategy; n selector
DaemonSetStatus: v numberAvailable numberUnavailable observedGeneration updatedNumberScheduled
DaemonSetCondition: a lastTransitionTime
DeploymentSpec: v minReadySeconds paused; a strategy; n selector
DeploymentStatus: v availableReplicas observedGeneration readyReplicas replicas unavailableReplicas updatedReplicas
DeploymentCondition: a lastTransitionTime lastUpdateTime
ReplicaSetSpec: v minReadySeconds; a template; n selector
ReplicaSetStatus: v availableReplicas fullyLabeledReplicas observedGeneration readyReplicas
ReplicaSetCondition: a lastTransitionTime
StatefulSetSpec: v minReadySeconds; a updateStrategy serviceName; n selector
StatefulSetStatus: v currentReplicas observedGeneration readyReplicas updatedReplicas; a availableReplicas
StatefulSetCondition: a lastTransitionTime
StatefulSetOrdinals: a start

TokenRequestSpec: n boundObjectRef; a boundObjectRef audiences
TokenRequestStatus: a expirationTimestamp
TokenReviewStatus: v authenticated; a user
SelfSubjectReviewStatus: a userInfo
SubjectAccessReviewStatus: v denied
SubjectRulesReviewStatus: a nonResourceRules resourceRules

ScaleSpec: v replicas
HorizontalPodAutoscalerStatus: v currentReplicas; a currentMetrics
autoscaling/v1/HorizontalPodAutoscalerStatus: a currentReplicas
HorizontalPodAutoscalerCondition: a lastTransitionTime
HPAScalingRules: p selectPolicy

CronJobSpec: p timeZone
JobSpec: p completionMode managedBy podReplacementPolicy
JobStatus: v active failed succeeded
JobCondition: a lastProbeTime lastTransitionTime
JobTemplateSpec: a metadata spec
PodFailurePolicyOnExitCodesRequirement: p containerName
SuccessPolicyRule: p succeededIndexes

CertificateSigningRequestCondition: a lastTransitionTime lastUpdateTime
LeaseSpec: p holderIdentity preferredHolder strategy

AWSElasticBlockStoreVolumeSource: v partition readOnly
AppArmorProfile: p localhostProfile
AzureDiskVolumeSource: p cachingMode fsType kind
AzureFilePersistentVolumeSource: v readOnly; a secretNamespace; p secretNamespace
AzureFileVolumeSource: v readOnly
CSIPersistentVolumeSource: v readOnly
CSIVolumeSource: p fsType
CephFSPersistentVolumeSource: v readOnly
CephFSVolumeSource: v readOnly
CinderPersistentVolumeSource: v readOnly
CinderVolumeSource: v readOnly
ClusterTrustBundleProjection: p name signerName
Container: v stdin stdinOnce tty; a resources; p restartPolicy
ContainerImage: v sizeBytes
ContainerPort: v hostPort
ContainerStateRunning: a startedAt
ContainerStateTerminated: v signal; a startedAt finishedAt
ContainerStatus: a state lastState; p stopSignal
EndpointPort: p appProtocol
EndpointAddress: p nodeName
EphemeralContainer: v stdin stdinOnce tty; a resources; p restartPolicy
Event: v count; a source firstTimestamp lastTimestamp eventTime reportingComponent reportingInstance
EventSeries: v count; a lastObservedTime
FlexPersistentVolumeSource: v readOnly
FlexVolumeSource: v readOnly
FlockerVolumeSource:
GCEPersistentDiskVolumeSource: v partition readOnly
GlusterfsPersistentVolumeSource: v readOnly; p endpointsNamespace
GlusterfsVolumeSource: v readOnly
GRPCAction: a service; p service
HostPathVolumeSource: p type
ISCSIPersistentVolumeSource: v chapAuthDiscovery chapAuthSession readOnly; p initiatorName
ISCSIVolumeSource: v chapAuthDiscovery chapAuthSession readOnly; p initiatorName
Lifecycle: p stopSignal
LimitRangeSpec: a limits
LoadBalancerIngress: p ipMode
LocalVolumeSource: p fsType
NFSVolumeSource: v readOnly
NamespaceCondition: a lastTransitionTime
NodeCondition: a lastHeartbeatTime lastTransitionTime
NodeDaemonEndpoints: a kubeletEndpoint
NodeSpec: v unschedulable
NodeStatus: a daemonEndpoints nodeInfo
PersistentVolumeClaimCondition: a lastProbeTime lastTransitionTime
PersistentVolumeClaimSpec: a resources; p storageClassName volumeAttributesClassName volumeMode
PersistentVolumeClaimStatus: p currentVolumeAttributesClassName
PersistentVolumeClaimTemplate: a metadata
PersistentVolumeClaimVolumeSource: v readOnly
PersistentVolumeSpec: p volumeAttributesClassName volumeMode
PodCondition: v observedGeneration; a lastProbeTime lastTransitionTime
PodDNSConfigOption: p value
PodResourceClaim: p resourceClaimName resourceClaimTemplateName
PodResourceClaimStatus: p resourceClaimName
PodSchedulingGroup: p podGroupName
PodSecurityContext: p fsGroupChangePolicy seLinuxChangePolicy supplementalGroupsPolicy
PodSpec: v hostIPC hostNetwork hostPID; p hostnameOverride preemptionPolicy runtimeClassName
PodStatus: v observedGeneration
PodTemplate: a template
PodTemplateSpec: a metadata spec
PortStatus: p error
PortworxVolumeSource: v readOnly
Probe: v failureThreshold initialDelaySeconds periodSeconds successThreshold timeoutSeconds
QuobyteVolumeSource: v readOnly
RBDPersistentVolumeSource: v readOnly
RBDVolumeSource: v readOnly
ReplicationControllerSpec: v minReadySeconds
ReplicationControllerStatus: v availableReplicas fullyLabeledReplicas observedGeneration readyReplicas
ReplicationControllerCondition: a lastTransitionTime
ResourceFieldSelector: a divisor
ScaleIOPersistentVolumeSource: v readOnly sslEnabled; n secretRef
ScaleIOVolumeSource: v readOnly sslEnabled; n secretRef
SeccompProfile: p localhostProfile
SecurityContext: p procMount
ServicePort: v nodePort; p appProtocol
ServiceSpec: v healthCheckNodePort publishNotReadyAddresses; p internalTrafficPolicy ipFamilyPolicy loadBalancerClass trafficDistribution
ServiceStatus: a loadBalancer
StorageOSPersistentVolumeSource: v readOnly
StorageOSVolumeSource: v readOnly
TopologySpreadConstraint: p nodeAffinityPolicy nodeTaintsPolicy
TypedLocalObjectReference: n apiGroup; a apiGroup; p apiGroup
TypedObjectReference: n apiGroup; a apiGroup; p apiGroup namespace
VolumeMount: v readOnly; p mountPropagation recursiveReadOnly
VolumeMountStatus: v readOnly; p recursiveReadOnly
WindowsSecurityContextOptions: p gmsaCredentialSpec gmsaCredentialSpecName runAsUserName

EndpointSlice: a ports endpoints
Endpoint: a conditions; p hostname nodeName zone
discovery/EndpointPort: p appProtocol name protocol
events/Event: v deprecatedCount; a deprecatedFirstTimestamp deprecatedLastTimestamp deprecatedSource regarding eventTime

FlowSchemaSpec: a matchingPrecedence
FlowSchemaCondition: a lastTransitionTime
PriorityLevelConfigurationCondition: a lastTransitionTime
LimitedPriorityLevelConfiguration: a limitResponse
QueuingConfiguration: a handSize queueLengthLimit queues
PolicyRulesWithSubjects: a subjects
ResourcePolicyRule: v clusterScope

HTTPIngressPath: n pathType; p pathType
IngressClassParametersReference: p apiGroup namespace scope
IngressServiceBackend: a port
IngressSpec: p ingressClassName
IngressStatus: a loadBalancer
NetworkPolicyPort: p protocol
NetworkPolicySpec: a podSelector
ServiceBackendPort: v number
IPAddressSpec: n parentRef
networking/PortStatus: p error
PodDisruptionBudgetSpec: p unhealthyPodEvictionPolicy
PodDisruptionBudgetStatus: v observedGeneration; a currentHealthy desiredHealthy disruptionsAllowed expectedPods
ClusterRole: a rules
Role: a rules

BasicDevice:
Device: p nodeName
DeviceAttribute: p string version
DeviceClaim: a requests
DeviceClassSpec: p extendedResourceName
DeviceConstraint: p matchAttribute distinctAttribute
DeviceRequest: v count
DeviceRequestAllocationResult: p shareID
DeviceSubRequest: v count
ExactDeviceRequest: v count
ResourceClaimSpec: a devices
ResourceSliceSpec: p nodeName
AllocationResult: a devices
AllocatedDeviceStatus: p shareID
DeviceTaintSelector: p deviceClassName driver pool device

PriorityClass: v globalDefault; a value; p preemptionPolicy
CSIDriverSpec: p fsGroupPolicy
CSINodeSpec: a drivers
StorageClass: p reclaimPolicy volumeBindingMode
VolumeAttachmentSource: p persistentVolumeName
VolumeError: a time

CustomResourceColumnDefinition: v priority
CustomResourceDefinitionCondition: v observedGeneration; a lastTransitionTime
CustomResourceDefinitionSpec: v preserveUnknownFields
CustomResourceDefinitionStatus: v observedGeneration; a acceptedNames conditions storedVersions
CustomResourceDefinitionVersion: v deprecated; p deprecationWarning
CustomResourceSubresourceScale: p labelSelectorPath
JSONSchemaProps: v exclusiveMaximum exclusiveMinimum nullable uniqueItems x-kubernetes-embedded-resource x-kubernetes-int-or-string; p $ref x-kubernetes-list-type x-kubernetes-map-type
ValidationRule: p reason
APIServiceSpec: v insecureSkipTLSVerify
APIServiceCondition: a lastTransitionTime
"""  # noqa: E501 (one type, one line)


@dataclass(frozen=True, slots=True)
class Presence:
    """The facts of one type: names of fields of each sort."""

    values: frozenset[str] = frozenset()
    pointers: frozenset[str] = frozenset()
    always: frozenset[str] = frozenset()
    nulls: frozenset[str] = frozenset()
    omitted: frozenset[str] = frozenset()


@cache
def _table() -> dict[str, Presence]:
    table = {}
    for line in _TEXT.splitlines():
        name, _, rest = line.partition(":")
        sorts = {words[0]: frozenset(words[1:]) for part in rest.split(";") if (words := part.split())}
        none: frozenset[str] = frozenset()
        table[name] = Presence(*(sorts.get(sort, none) for sort in "vpano"))
    return table


_NO_FACTS: Final = Presence()


def of(definition: str) -> Presence:
    """The facts of a definition, by its long name (io.k8s.api.apps.v1.DeploymentSpec)."""
    parts = definition.split(".")
    if len(parts) < 3:
        return _NO_FACTS
    group, version, name = parts[-3:]
    table = _table()
    return table.get(f"{group}/{version}/{name}") or table.get(f"{group}/{name}") or table.get(name) or _NO_FACTS
