"""The built-in resources of Kubernetes v1.36 that are served by default: one constant a resource.

The API server serves discovery from this table; clients and informers name resources by its constants.

Source: the discovery documents of Kubernetes v1.36.
"""

from __future__ import annotations

from machinery.api.resource import SCALE, STANDARD_VERBS, STATUS, ResourceType, Subresource

BUILT_IN: list[ResourceType] = []

SCALES = ResourceType("autoscaling", "v1", "scales", "Scale", "scale")
"""The kind that the scale subresource speaks; nothing is served under this name."""


def _built_in(
    group: str,
    version: str,
    plural: str,
    kind: str,
    *,
    singular: str = "",
    namespaced: bool = True,
    short_names: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    verbs: tuple[str, ...] = STANDARD_VERBS,
    subresources: tuple[Subresource, ...] = (),
) -> ResourceType:
    made = ResourceType(
        group, version, plural, kind, singular or kind.lower(), namespaced, short_names, categories, verbs, subresources
    )
    BUILT_IN.append(made)
    return made


BINDINGS = _built_in("", "v1", "bindings", "Binding", verbs=("create",))
COMPONENTSTATUSES = _built_in(
    "", "v1", "componentstatuses", "ComponentStatus", namespaced=False, short_names=("cs",), verbs=("get", "list")
)
CONFIGMAPS = _built_in("", "v1", "configmaps", "ConfigMap", short_names=("cm",))
ENDPOINTS = _built_in("", "v1", "endpoints", "Endpoints", short_names=("ep",))
EVENTS = _built_in("", "v1", "events", "Event", short_names=("ev",))
LIMITRANGES = _built_in("", "v1", "limitranges", "LimitRange", short_names=("limits",))
NAMESPACES = _built_in(
    "",
    "v1",
    "namespaces",
    "Namespace",
    namespaced=False,
    short_names=("ns",),
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    subresources=(
        Subresource("finalize", "Namespace", ("update",)),
        STATUS,
    ),
)
NODES = _built_in(
    "",
    "v1",
    "nodes",
    "Node",
    namespaced=False,
    short_names=("no",),
    subresources=(
        Subresource("proxy", "NodeProxyOptions", ("create", "delete", "get", "patch", "update")),
        STATUS,
    ),
)
PERSISTENTVOLUMECLAIMS = _built_in(
    "", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", short_names=("pvc",), subresources=(STATUS,)
)
PERSISTENTVOLUMES = _built_in(
    "", "v1", "persistentvolumes", "PersistentVolume", namespaced=False, short_names=("pv",), subresources=(STATUS,)
)
PODS = _built_in(
    "",
    "v1",
    "pods",
    "Pod",
    short_names=("po",),
    categories=("all",),
    subresources=(
        Subresource("attach", "PodAttachOptions", ("create", "get")),
        Subresource("binding", "Binding", ("create",)),
        Subresource("ephemeralcontainers", "Pod", ("get", "patch", "update")),
        Subresource("eviction", "Eviction", ("create",), group="policy", version="v1"),
        Subresource("exec", "PodExecOptions", ("create", "get")),
        Subresource("log", "Pod", ("get",)),
        Subresource("portforward", "PodPortForwardOptions", ("create", "get")),
        Subresource("proxy", "PodProxyOptions", ("create", "delete", "get", "patch", "update")),
        Subresource("resize", "Pod", ("get", "patch", "update")),
        STATUS,
    ),
)
PODTEMPLATES = _built_in("", "v1", "podtemplates", "PodTemplate")
REPLICATIONCONTROLLERS = _built_in(
    "",
    "v1",
    "replicationcontrollers",
    "ReplicationController",
    short_names=("rc",),
    categories=("all",),
    subresources=(
        SCALE,
        STATUS,
    ),
)
RESOURCEQUOTAS = _built_in("", "v1", "resourcequotas", "ResourceQuota", short_names=("quota",), subresources=(STATUS,))
SECRETS = _built_in("", "v1", "secrets", "Secret")
SERVICEACCOUNTS = _built_in(
    "",
    "v1",
    "serviceaccounts",
    "ServiceAccount",
    short_names=("sa",),
    subresources=(Subresource("token", "TokenRequest", ("create",), group="authentication.k8s.io", version="v1"),),
)
SERVICES = _built_in(
    "",
    "v1",
    "services",
    "Service",
    short_names=("svc",),
    categories=("all",),
    subresources=(
        Subresource("proxy", "ServiceProxyOptions", ("create", "delete", "get", "patch", "update")),
        STATUS,
    ),
)
APISERVICES = _built_in(
    "apiregistration.k8s.io",
    "v1",
    "apiservices",
    "APIService",
    namespaced=False,
    categories=("api-extensions",),
    subresources=(STATUS,),
)
CONTROLLERREVISIONS = _built_in("apps", "v1", "controllerrevisions", "ControllerRevision")
DAEMONSETS = _built_in(
    "apps", "v1", "daemonsets", "DaemonSet", short_names=("ds",), categories=("all",), subresources=(STATUS,)
)
DEPLOYMENTS = _built_in(
    "apps",
    "v1",
    "deployments",
    "Deployment",
    short_names=("deploy",),
    categories=("all",),
    subresources=(
        SCALE,
        STATUS,
    ),
)
REPLICASETS = _built_in(
    "apps",
    "v1",
    "replicasets",
    "ReplicaSet",
    short_names=("rs",),
    categories=("all",),
    subresources=(
        SCALE,
        STATUS,
    ),
)
STATEFULSETS = _built_in(
    "apps",
    "v1",
    "statefulsets",
    "StatefulSet",
    short_names=("sts",),
    categories=("all",),
    subresources=(
        SCALE,
        STATUS,
    ),
)
EVENTS_K8S_IO = _built_in("events.k8s.io", "v1", "events", "Event", short_names=("ev",))
SELFSUBJECTREVIEWS = _built_in(
    "authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False, verbs=("create",)
)
TOKENREVIEWS = _built_in(
    "authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False, verbs=("create",)
)
LOCALSUBJECTACCESSREVIEWS = _built_in(
    "authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", verbs=("create",)
)
SELFSUBJECTACCESSREVIEWS = _built_in(
    "authorization.k8s.io",
    "v1",
    "selfsubjectaccessreviews",
    "SelfSubjectAccessReview",
    namespaced=False,
    verbs=("create",),
)
SELFSUBJECTRULESREVIEWS = _built_in(
    "authorization.k8s.io",
    "v1",
    "selfsubjectrulesreviews",
    "SelfSubjectRulesReview",
    namespaced=False,
    verbs=("create",),
)
SUBJECTACCESSREVIEWS = _built_in(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False, verbs=("create",)
)
HORIZONTALPODAUTOSCALERS = _built_in(
    "autoscaling",
    "v2",
    "horizontalpodautoscalers",
    "HorizontalPodAutoscaler",
    short_names=("hpa",),
    categories=("all",),
    subresources=(STATUS,),
)
HORIZONTALPODAUTOSCALERS_V1 = _built_in(
    "autoscaling",
    "v1",
    "horizontalpodautoscalers",
    "HorizontalPodAutoscaler",
    short_names=("hpa",),
    categories=("all",),
    subresources=(STATUS,),
)
CRONJOBS = _built_in(
    "batch", "v1", "cronjobs", "CronJob", short_names=("cj",), categories=("all",), subresources=(STATUS,)
)
JOBS = _built_in("batch", "v1", "jobs", "Job", categories=("all",), subresources=(STATUS,))
CERTIFICATESIGNINGREQUESTS = _built_in(
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    namespaced=False,
    short_names=("csr",),
    subresources=(
        Subresource("approval", "CertificateSigningRequest", ("get", "patch", "update")),
        STATUS,
    ),
)
INGRESSCLASSES = _built_in("networking.k8s.io", "v1", "ingressclasses", "IngressClass", namespaced=False)
INGRESSES = _built_in("networking.k8s.io", "v1", "ingresses", "Ingress", short_names=("ing",), subresources=(STATUS,))
IPADDRESSES = _built_in("networking.k8s.io", "v1", "ipaddresses", "IPAddress", namespaced=False, short_names=("ip",))
NETWORKPOLICIES = _built_in("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", short_names=("netpol",))
SERVICECIDRS = _built_in(
    "networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", namespaced=False, subresources=(STATUS,)
)
PODDISRUPTIONBUDGETS = _built_in(
    "policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", short_names=("pdb",), subresources=(STATUS,)
)
CLUSTERROLEBINDINGS = _built_in(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
CLUSTERROLES = _built_in("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
ROLEBINDINGS = _built_in("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
ROLES = _built_in("rbac.authorization.k8s.io", "v1", "roles", "Role")
CSIDRIVERS = _built_in("storage.k8s.io", "v1", "csidrivers", "CSIDriver", namespaced=False)
CSINODES = _built_in("storage.k8s.io", "v1", "csinodes", "CSINode", namespaced=False)
CSISTORAGECAPACITIES = _built_in("storage.k8s.io", "v1", "csistoragecapacities", "CSIStorageCapacity")
STORAGECLASSES = _built_in(
    "storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False, short_names=("sc",)
)
VOLUMEATTACHMENTS = _built_in(
    "storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", namespaced=False, subresources=(STATUS,)
)
VOLUMEATTRIBUTESCLASSES = _built_in(
    "storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass", namespaced=False, short_names=("vac",)
)
MUTATINGADMISSIONPOLICIES = _built_in(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingadmissionpolicies",
    "MutatingAdmissionPolicy",
    namespaced=False,
    categories=("api-extensions",),
)
MUTATINGADMISSIONPOLICYBINDINGS = _built_in(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingadmissionpolicybindings",
    "MutatingAdmissionPolicyBinding",
    namespaced=False,
    categories=("api-extensions",),
)
MUTATINGWEBHOOKCONFIGURATIONS = _built_in(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
    categories=("api-extensions",),
)
VALIDATINGADMISSIONPOLICIES = _built_in(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicies",
    "ValidatingAdmissionPolicy",
    namespaced=False,
    categories=("api-extensions",),
    subresources=(STATUS,),
)
VALIDATINGADMISSIONPOLICYBINDINGS = _built_in(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicybindings",
    "ValidatingAdmissionPolicyBinding",
    namespaced=False,
    categories=("api-extensions",),
)
VALIDATINGWEBHOOKCONFIGURATIONS = _built_in(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
    categories=("api-extensions",),
)
CUSTOMRESOURCEDEFINITIONS = _built_in(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    subresources=(STATUS,),
)
PRIORITYCLASSES = _built_in(
    "scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False, short_names=("pc",)
)
LEASES = _built_in("coordination.k8s.io", "v1", "leases", "Lease")
RUNTIMECLASSES = _built_in("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False)
ENDPOINTSLICES = _built_in("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
DEVICECLASSES = _built_in("resource.k8s.io", "v1", "deviceclasses", "DeviceClass", namespaced=False)
RESOURCECLAIMS = _built_in("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim", subresources=(STATUS,))
RESOURCECLAIMTEMPLATES = _built_in("resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate")
RESOURCESLICES = _built_in("resource.k8s.io", "v1", "resourceslices", "ResourceSlice", namespaced=False)
FLOWSCHEMAS = _built_in(
    "flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", namespaced=False, subresources=(STATUS,)
)
PRIORITYLEVELCONFIGURATIONS = _built_in(
    "flowcontrol.apiserver.k8s.io",
    "v1",
    "prioritylevelconfigurations",
    "PriorityLevelConfiguration",
    namespaced=False,
    subresources=(STATUS,),
)
