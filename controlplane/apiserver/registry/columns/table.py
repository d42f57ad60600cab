"""Which resource has which columns."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.apiserver.registry.columns import others, pods, services, storage, workloads
from controlplane.apiserver.registry.columns.parts import NAME_AND_AGE, NAME_AND_CREATION
from controlplane.apiserver.registry.strategy import Column
from machinery.api import catalogue
from machinery.api.resource import ResourceType

COLUMNS: dict[ResourceType, Sequence[Column]] = {
    catalogue.PODS: pods.POD,
    catalogue.PODTEMPLATES: pods.POD_TEMPLATE,
    catalogue.DEPLOYMENTS: workloads.DEPLOYMENT,
    catalogue.REPLICASETS: workloads.REPLICA_SET,
    catalogue.REPLICATIONCONTROLLERS: workloads.REPLICATION_CONTROLLER,
    catalogue.DAEMONSETS: workloads.DAEMON_SET,
    catalogue.STATEFULSETS: workloads.STATEFUL_SET,
    catalogue.CONTROLLERREVISIONS: workloads.CONTROLLER_REVISION,
    catalogue.SCALES: workloads.SCALE,
    catalogue.JOBS: workloads.JOB,
    catalogue.CRONJOBS: workloads.CRON_JOB,
    catalogue.PODDISRUPTIONBUDGETS: workloads.POD_DISRUPTION_BUDGET,
    catalogue.HORIZONTALPODAUTOSCALERS: workloads.HORIZONTAL_POD_AUTOSCALER,
    catalogue.SERVICES: services.SERVICE,
    catalogue.ENDPOINTS: services.ENDPOINTS,
    catalogue.ENDPOINTSLICES: services.ENDPOINT_SLICE,
    catalogue.INGRESSES: services.INGRESS,
    catalogue.INGRESSCLASSES: services.INGRESS_CLASS,
    catalogue.NETWORKPOLICIES: services.NETWORK_POLICY,
    catalogue.SERVICECIDRS: services.SERVICE_CIDR,
    catalogue.IPADDRESSES: services.IP_ADDRESS,
    catalogue.EVENTS: services.EVENT,
    catalogue.EVENTS_K8S_IO: services.EVENT,
    catalogue.PERSISTENTVOLUMES: storage.PERSISTENT_VOLUME,
    catalogue.PERSISTENTVOLUMECLAIMS: storage.PERSISTENT_VOLUME_CLAIM,
    catalogue.STORAGECLASSES: storage.STORAGE_CLASS,
    catalogue.VOLUMEATTRIBUTESCLASSES: storage.VOLUME_ATTRIBUTES_CLASS,
    catalogue.VOLUMEATTACHMENTS: storage.VOLUME_ATTACHMENT,
    catalogue.CSINODES: storage.CSI_NODE,
    catalogue.CSIDRIVERS: storage.CSI_DRIVER,
    catalogue.CSISTORAGECAPACITIES: storage.CSI_STORAGE_CAPACITY,
    catalogue.NODES: others.NODE,
    catalogue.NAMESPACES: others.NAMESPACE,
    catalogue.SECRETS: others.SECRET,
    catalogue.CONFIGMAPS: others.CONFIG_MAP,
    catalogue.SERVICEACCOUNTS: NAME_AND_AGE,
    catalogue.RESOURCEQUOTAS: others.RESOURCE_QUOTA,
    catalogue.LIMITRANGES: NAME_AND_CREATION,
    catalogue.COMPONENTSTATUSES: others.COMPONENT_STATUS,
    catalogue.ROLES: NAME_AND_CREATION,
    catalogue.CLUSTERROLES: NAME_AND_CREATION,
    catalogue.ROLEBINDINGS: others.ROLE_BINDING,
    catalogue.CLUSTERROLEBINDINGS: others.CLUSTER_ROLE_BINDING,
    catalogue.CERTIFICATESIGNINGREQUESTS: others.CERTIFICATE_SIGNING_REQUEST,
    catalogue.LEASES: others.LEASE,
    catalogue.PRIORITYCLASSES: others.PRIORITY_CLASS,
    catalogue.RUNTIMECLASSES: others.RUNTIME_CLASS,
    catalogue.FLOWSCHEMAS: others.FLOW_SCHEMA,
    catalogue.PRIORITYLEVELCONFIGURATIONS: others.PRIORITY_LEVEL,
    catalogue.MUTATINGWEBHOOKCONFIGURATIONS: others.WEBHOOKS,
    catalogue.VALIDATINGWEBHOOKCONFIGURATIONS: others.WEBHOOKS,
    catalogue.MUTATINGADMISSIONPOLICIES: others.MUTATING_POLICY,
    catalogue.MUTATINGADMISSIONPOLICYBINDINGS: others.POLICY_BINDING,
    catalogue.VALIDATINGADMISSIONPOLICIES: others.VALIDATING_POLICY,
    catalogue.VALIDATINGADMISSIONPOLICYBINDINGS: others.POLICY_BINDING,
    catalogue.DEVICECLASSES: NAME_AND_AGE,
    catalogue.RESOURCECLAIMS: others.RESOURCE_CLAIM,
    catalogue.RESOURCECLAIMTEMPLATES: NAME_AND_AGE,
    catalogue.RESOURCESLICES: others.RESOURCE_SLICE,
    catalogue.CUSTOMRESOURCEDEFINITIONS: NAME_AND_CREATION,
    catalogue.APISERVICES: others.API_SERVICE,
}
"""A resource that is not here is shown by name and time of creation."""
