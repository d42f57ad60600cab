"""Columns of nodes, namespaces, configuration, access control, admission and the rest."""

from __future__ import annotations

from typing import Any

from controlplane.apiserver.registry.columns.parts import AGE, NAME, Cell, column, text_or
from controlplane.apiserver.registry.objects import flag, integer, items, number, strings, sub, text, values
from controlplane.apiserver.registry.printing import NONE, UNKNOWN, UNSET, human_duration
from machinery.api.meta import Object, condition


def _node_status(node: Object) -> str:
    ready = condition(items(node, "status", "conditions"), "Ready")
    word = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
    return f"{word},SchedulingDisabled" if flag(node, "spec", "unschedulable") else word


def _roles(node: Object) -> str:
    roles = set()
    for key, value in strings(node, "metadata", "labels").items():
        prefix = "node-role.kubernetes.io/"
        if key.startswith(prefix) and key != prefix:
            roles.add(key.removeprefix(prefix))
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    return ",".join(sorted(roles)) or NONE


def _address(kind: str) -> Cell:
    return lambda node: next(
        (text(a, "address") for a in items(node, "status", "addresses") if a.get("type") == kind), NONE
    )


_INFO = ("status", "nodeInfo")
NODE = (
    NAME,
    column("Status", _node_status, "The status of the node"),
    column("Roles", _roles, "The roles of the node"),
    AGE,
    column("Version", lambda obj: text(obj, *_INFO, "kubeletVersion"), "core.v1.NodeSystemInfo.kubeletVersion"),
    column("Internal-IP", _address("InternalIP"), "core.v1.NodeStatus.addresses", wide=True),
    column("External-IP", _address("ExternalIP"), "core.v1.NodeStatus.addresses", wide=True),
    column("OS-Image", text_or(UNKNOWN, *_INFO, "osImage"), "core.v1.NodeSystemInfo.osImage", wide=True),
    column(
        "Kernel-Version", text_or(UNKNOWN, *_INFO, "kernelVersion"), "core.v1.NodeSystemInfo.kernelVersion", wide=True
    ),
    column(
        "Container-Runtime",
        text_or(UNKNOWN, *_INFO, "containerRuntimeVersion"),
        "core.v1.NodeSystemInfo.containerRuntimeVersion",
        wide=True,
    ),
)

RUNTIME_CLASS = (NAME, column("Handler", lambda obj: text(obj, "handler")), AGE)

NAMESPACE = (NAME, column("Status", lambda obj: text(obj, "status", "phase"), "The status of the namespace"), AGE)

SECRET = (
    NAME,
    column("Type", lambda obj: text(obj, "type"), "core.v1.Secret.type"),
    column("Data", lambda obj: len(sub(obj, "data")), "core.v1.Secret.data"),
    AGE,
)

CONFIG_MAP = (
    NAME,
    column("Data", lambda obj: len(sub(obj, "data")) + len(sub(obj, "binaryData")), "core.v1.ConfigMap.data"),
    AGE,
)


def _quota(*, limits: bool) -> Cell:
    def cell(quota: Object) -> str:
        hard, used = sub(quota, "status", "hard"), sub(quota, "status", "used")
        return ", ".join(
            f"{name}: {used.get(name) or '0'}/{hard[name]}"
            for name in sorted(hard)
            if name.startswith("limits.") == limits
        )

    return cell


RESOURCE_QUOTA = (
    NAME,
    column(
        "Request",
        _quota(limits=False),
        "Request represents a minimum amount of cpu/memory that a container may consume.",
    ),
    column(
        "Limit",
        _quota(limits=True),
        "Limits control the maximum amount of cpu/memory that a container may use independent of contention on "
        "the node.",
    ),
    AGE,
)


def _component(key: str) -> Cell:
    def cell(component: Object) -> str:
        healthy = condition(items(component, "conditions"), "Healthy")
        if key == "status":
            return "Unknown" if not healthy else "Healthy" if healthy.get("status") == "True" else "Unhealthy"
        return text(healthy or {}, key)

    return cell


COMPONENT_STATUS = (
    NAME,
    column("Status", _component("status"), "Status of the component conditions"),
    column("Message", _component("message"), "Message of the component conditions"),
    column("Error", _component("error"), "Error of the component conditions"),
)


def _subjects(kind: str) -> Cell:
    def cell(binding: Object) -> str:
        found = [s for s in items(binding, "subjects") if text(s, "kind") == kind]
        if kind == "ServiceAccount":
            return ", ".join(f"{text(s, 'namespace')}/{text(s, 'name')}" for s in found)
        return ", ".join(text(s, "name") for s in found)

    return cell


def _binding(kind: str, word: str) -> tuple[Any, ...]:
    return (
        NAME,
        column(
            "Role",
            lambda obj: f"{text(obj, 'roleRef', 'kind')}/{text(obj, 'roleRef', 'name')}",
            f"rbac.v1.{kind}.roleRef",
        ),
        AGE,
        column("Users", _subjects("User"), f"Users in the {word}", wide=True),
        column("Groups", _subjects("Group"), f"Groups in the {word}", wide=True),
        column("ServiceAccounts", _subjects("ServiceAccount"), f"ServiceAccounts in the {word}", wide=True),
    )


ROLE_BINDING = _binding("RoleBinding", "roleBinding")
CLUSTER_ROLE_BINDING = _binding("ClusterRoleBinding", "clusterRoleBinding")


def _request_state(request: Object) -> str:
    kinds = {text(c, "type") for c in items(request, "status", "conditions")}
    word = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    word += ",Failed" if "Failed" in kinds else ""
    return word + (",Issued" if sub(request, "status").get("certificate") else "")


def _requested_duration(request: Object) -> str:
    seconds = integer(request, "spec", "expirationSeconds")
    return NONE if seconds is None else human_duration(seconds)


_REQUEST = "certificates.v1.CertificateSigningRequest"
# Descriptions of v1beta1, which is no longer published.
_SIGNER = (
    "Requested signer for the request. It is a qualified name in the form: `scope-hostname.io/name`. If empty, it will "
    "be defaulted:\n"
    " 1. If it's a kubelet client certificate, it is assigned\n"
    '    "kubernetes.io/kube-apiserver-client-kubelet".\n'
    " 2. If it's a kubelet serving certificate, it is assigned\n"
    '    "kubernetes.io/kubelet-serving".\n'
    ' 3. Otherwise, it is assigned "kubernetes.io/legacy-unknown".\n'
    "Distribution of trust for signers happens out of band. You can select on this field using `spec.signerName`."
)
CERTIFICATE_SIGNING_REQUEST = (
    NAME,
    AGE,
    column("SignerName", text_or(NONE, "spec", "signerName"), _SIGNER),
    column("Requestor", lambda obj: text(obj, "spec", "username"), "Base64-encoded PKCS#10 CSR data"),
    column("RequestedDuration", _requested_duration, f"{_REQUEST}Spec.expirationSeconds"),
    column("Condition", _request_state, "Conditions applied to the request, such as approval or denial."),
)

LEASE = (
    NAME,
    column("Holder", lambda obj: text(obj, "spec", "holderIdentity"), "coordination.v1.LeaseSpec.holderIdentity"),
    AGE,
)

PRIORITY_CLASS = (
    NAME,
    column("Value", lambda obj: number(obj, "value"), "scheduling.v1.PriorityClass.value", kind="integer"),
    column(
        "Global-Default",
        lambda obj: flag(obj, "globalDefault"),
        "scheduling.v1.PriorityClass.globalDefault",
        kind="boolean",
    ),
    AGE,
    column(
        "PreemptionPolicy", lambda obj: text(obj, "preemptionPolicy"), "scheduling.v1.PriorityClass.preemptionPolicy"
    ),
)


def _dangling(schema: Object) -> str:
    found = condition(items(schema, "status", "conditions"), "Dangling")
    return text(found, "status") if found else "?"


_SCHEMA = "flowcontrol.v1.FlowSchemaSpec"
FLOW_SCHEMA = (
    NAME,
    column(
        "PriorityLevel",
        lambda obj: text(obj, "spec", "priorityLevelConfiguration", "name"),
        "flowcontrol.v1.PriorityLevelConfigurationReference.name",
    ),
    column(
        "MatchingPrecedence", lambda obj: number(obj, "spec", "matchingPrecedence"), f"{_SCHEMA}.matchingPrecedence"
    ),
    column(
        "DistinguisherMethod",
        lambda obj: (
            text(sub(obj, "spec")["distinguisherMethod"], "type")
            if isinstance(sub(obj, "spec").get("distinguisherMethod"), dict)
            else NONE
        ),
        f"{_SCHEMA}.distinguisherMethod",
    ),
    AGE,
    column("MissingPL", _dangling, "references a broken or non-existent PriorityLevelConfiguration"),
)


def flow_schema_order(schema: Object) -> Any:
    """Rows of FlowSchemas stand in the order in which requests are matched."""
    return (number(schema, "spec", "matchingPrecedence"), text(schema, "metadata", "name"))


def _limited(*path: str) -> Cell:
    def cell(level: Object) -> Any:
        found = sub(level, "spec", "limited", *path[:-1]).get(path[-1])
        return NONE if found is None else found

    return cell


_QUEUING = ("limitResponse", "queuing")
PRIORITY_LEVEL = (
    NAME,
    column("Type", lambda obj: text(obj, "spec", "type"), "flowcontrol.v1.PriorityLevelConfigurationSpec.type"),
    column(
        "NominalConcurrencyShares",
        _limited("nominalConcurrencyShares"),
        "flowcontrol.v1.LimitedPriorityLevelConfiguration.nominalConcurrencyShares",
    ),
    column("Queues", _limited(*_QUEUING, "queues"), "flowcontrol.v1.QueuingConfiguration.queues"),
    column("HandSize", _limited(*_QUEUING, "handSize"), "flowcontrol.v1.QueuingConfiguration.handSize"),
    column(
        "QueueLengthLimit",
        _limited(*_QUEUING, "queueLengthLimit"),
        "flowcontrol.v1.QueuingConfiguration.queueLengthLimit",
    ),
    AGE,
)

WEBHOOKS = (
    NAME,
    column(
        "Webhooks",
        lambda obj: len(values(obj, "webhooks")),
        "Webhooks indicates the number of webhooks registered in this configuration",
        kind="integer",
    ),
    AGE,
)


def _param_kind(policy: Object) -> str:
    kind = sub(policy, "spec").get("paramKind")
    return f"{text(kind, 'apiVersion')}/{text(kind, 'kind')}" if isinstance(kind, dict) else UNSET


def _policy(name: str, key: str, description: str) -> tuple[Any, ...]:
    return (
        NAME,
        column(name, lambda obj: len(values(obj, "spec", key)), description, kind="integer"),
        column("ParamKind", _param_kind, "ParamKind specifies the kind of resources used to parameterize this policy"),
        AGE,
    )


VALIDATING_POLICY = _policy(
    "Validations",
    "validations",
    "Validations indicates the number of validation rules defined in this configuration",
)
MUTATING_POLICY = _policy(
    "Mutations", "mutations", "Mutation indicates the number of mutations rules defined in this configuration"
)


def _go_selector(selector: Object) -> str:
    """A LabelSelector as Go's generated String method prints it."""
    labels = "".join(f"{k}: {v}," for k, v in sorted(strings(selector, "matchLabels").items()))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{text(e, 'key')},Operator:{text(e, 'operator')},"
        f"Values:[{' '.join(str(v) for v in values(e, 'values'))}],}},"
        for e in items(selector, "matchExpressions")
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )


def _param_ref(binding: Object) -> str:
    reference = sub(binding, "spec", "paramRef")
    if name := text(reference, "name"):
        return f"{text(reference, 'namespace') or '*'}/{name}"
    return _go_selector(reference["selector"]) if isinstance(reference.get("selector"), dict) else UNSET


POLICY_BINDING = (
    NAME,
    column(
        "PolicyName",
        lambda obj: text(obj, "spec", "policyName"),
        "PolicyName indicates the policy definition which the policy binding binded to",
    ),
    column("ParamRef", _param_ref, "ParamRef indicates the param resource which sets the configration param"),
    AGE,
)


def _claim_state(claim: Object) -> str:
    deleted = bool(sub(claim, "metadata").get("deletionTimestamp"))
    states = ["deleted"] if deleted else []
    if sub(claim, "status").get("allocation") is None:
        states += [] if deleted else ["pending"]
    else:
        states += ["allocated", *(["reserved"] if values(claim, "status", "reservedFor") else [])]
    return ",".join(states)


RESOURCE_CLAIM = (
    NAME,
    column("State", _claim_state, "A summary of the current state (allocated, pending, reserved, etc.)."),
    AGE,
)

RESOURCE_SLICE = (
    NAME,
    column("Node", lambda obj: text(obj, "spec", "nodeName"), "resource.v1.ResourceSliceSpec.nodeName"),
    column("Driver", lambda obj: text(obj, "spec", "driver"), "resource.v1.ResourceSliceSpec.driver"),
    column("Pool", lambda obj: text(obj, "spec", "pool", "name"), "resource.v1.ResourcePool.name"),
    AGE,
)


def _api_service(service: Object) -> str:
    reference = sub(service, "spec").get("service")
    return f"{text(reference, 'namespace')}/{text(reference, 'name')}" if isinstance(reference, dict) else "Local"


def _available(service: Object) -> str:
    found = condition(items(service, "status", "conditions"), "Available")
    if found is None:
        return "Unknown"
    status = text(found, "status")
    return status if status == "True" else f"{status} ({text(found, 'reason')})"


API_SERVICE = (
    NAME,
    column("Service", _api_service, "The reference to the service that hosts this API endpoint."),
    column("Available", _available, "Whether this service is available."),
    AGE,
)
