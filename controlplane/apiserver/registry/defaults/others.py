"""Defaults of kinds that need few.

Source: pkg/apis/*/v1/defaults.go, apiextensions-apiserver and kube-aggregator pkg/apis/*/v1/defaults.go.
"""

from __future__ import annotations

import base64

from controlplane.apiserver.registry.defaults.containers import round_amounts
from controlplane.apiserver.registry.objects import child, items, put_absent, put_empty, sub, text, values
from machinery.api.meta import Object, name_of

RBAC_GROUP = "rbac.authorization.k8s.io"
NAMESPACE_LABEL = "kubernetes.io/metadata.name"


def default_secret(secret: Object) -> None:
    """A Secret: `stringData` is written into `data`."""
    put_empty(secret, type="Opaque")
    plain = secret.pop("stringData", None)
    if isinstance(plain, dict) and plain:
        data = child(secret, "data")
        for key, value in plain.items():
            encoded = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b""
            data[key] = base64.b64encode(encoded).decode()


def default_namespace(namespace: Object) -> None:
    """A Namespace: labelled with its name, so that selectors can name it."""
    if name := name_of(namespace):
        labels = child(child(namespace, "metadata"), "labels")
        labels[NAMESPACE_LABEL] = name
    put_empty(child(namespace, "status"), phase="Active")


def default_node(node: Object) -> None:
    """A Node: all it has can be allocated unless it says otherwise."""
    spec, status = child(node, "spec"), child(node, "status")
    ranges = values(spec, "podCIDRs")
    if ranges and isinstance(ranges[0], str):
        spec["podCIDR"] = ranges[0]
    elif text(spec, "podCIDR"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    capacity = sub(status, "capacity")
    round_amounts(capacity)
    if capacity and not sub(status, "allocatable"):
        status["allocatable"] = dict(capacity)
    round_amounts(sub(status, "allocatable"))


def default_limit_range(limit_range: Object) -> None:
    """A LimitRange: limits of containers default to their maximum, requests to the limits or the minimum."""
    for item in items(limit_range, "spec", "limits"):
        for amounts in ("default", "defaultRequest", "max", "min", "maxLimitRequestRatio"):
            round_amounts(sub(item, amounts))
        if text(item, "type") != "Container":
            continue
        limits, requests = dict(sub(item, "default")), dict(sub(item, "defaultRequest"))
        for key, amount in sub(item, "max").items():
            limits.setdefault(key, amount)
        for key, amount in limits.items():
            requests.setdefault(key, amount)
        for key, amount in sub(item, "min").items():
            requests.setdefault(key, amount)
        if limits:
            item["default"] = limits
        if requests:
            item["defaultRequest"] = requests


def default_role_ref(binding: Object) -> None:
    """A RoleBinding or ClusterRoleBinding."""
    put_empty(child(binding, "roleRef"), apiGroup=RBAC_GROUP)
    for subject in items(binding, "subjects"):
        if text(subject, "kind") in ("User", "Group"):
            put_empty(subject, apiGroup=RBAC_GROUP)


def default_priority_class(priority_class: Object) -> None:
    """A PriorityClass."""
    put_absent(priority_class, preemptionPolicy="PreemptLowerPriority")


def default_flow_schema(schema: Object) -> None:
    """A FlowSchema."""
    spec = child(schema, "spec")
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = 1000


def default_priority_level(level: Object) -> None:
    """A PriorityLevelConfiguration."""
    spec = child(level, "spec")
    if isinstance(exempt := spec.get("exempt"), dict):
        put_absent(exempt, nominalConcurrencyShares=0, lendablePercent=0)
    if isinstance(limited := spec.get("limited"), dict):
        put_absent(limited, nominalConcurrencyShares=30, lendablePercent=0)
        response = child(limited, "limitResponse")
        if isinstance(queuing := response.get("queuing"), dict):
            for key, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                if not queuing.get(key):
                    queuing[key] = value


def _default_rules(rules: list[Object]) -> None:
    for rule in rules:
        put_absent(rule, scope="*")


def default_webhooks(configuration: Object, *, mutating: bool) -> None:
    """A webhook configuration."""
    for webhook in items(configuration, "webhooks"):
        put_absent(
            webhook, failurePolicy="Fail", matchPolicy="Equivalent", namespaceSelector={}, objectSelector={},
            timeoutSeconds=10,
        )  # fmt: skip
        if mutating:
            put_absent(webhook, reinvocationPolicy="Never")
        _default_rules(items(webhook, "rules"))
        if isinstance(service := sub(webhook, "clientConfig").get("service"), dict):
            put_absent(service, port=443)


def default_match_resources(resources: object) -> None:
    """`matchConstraints` or `matchResources` of a policy or its binding."""
    if isinstance(resources, dict):
        put_absent(resources, matchPolicy="Equivalent", namespaceSelector={}, objectSelector={})
        _default_rules(items(resources, "resourceRules"))
        _default_rules(items(resources, "excludeResourceRules"))


def default_policy(policy: Object) -> None:
    """A ValidatingAdmissionPolicy or MutatingAdmissionPolicy."""
    spec = child(policy, "spec")
    put_absent(spec, failurePolicy="Fail")
    default_match_resources(spec.get("matchConstraints"))


def default_policy_binding(binding: Object) -> None:
    """The binding of either policy."""
    spec = child(binding, "spec")
    default_match_resources(spec.get("matchResources"))


def default_custom_resource_definition(definition: Object) -> None:
    """A CustomResourceDefinition."""
    spec = child(definition, "spec")
    names = child(spec, "names")
    if kind := text(names, "kind"):
        put_empty(names, singular=kind.lower(), listKind=f"{kind}List")
    put_absent(spec, conversion={"strategy": "None"})
    put_empty(child(spec, "conversion"), strategy="None")
    if isinstance(service := sub(spec, "conversion", "webhook", "clientConfig").get("service"), dict):
        put_absent(service, port=443)
    status = definition.get("status")
    if isinstance(status, dict) and not status.get("storedVersions"):
        status["storedVersions"] = [text(v, "name") for v in items(spec, "versions") if v.get("storage") is True][:1]


def default_api_service(service: Object) -> None:
    """An APIService."""
    if isinstance(reference := sub(service, "spec").get("service"), dict):
        put_absent(reference, port=443)


def default_device_claim(claim: Object) -> None:
    """The `devices` of a ResourceClaim or of its template."""
    for request in items(claim, "requests"):
        alternatives = items(request, "firstAvailable")
        if isinstance(exactly := request.get("exactly"), dict):
            alternatives = [exactly, *alternatives]
            _default_tolerations(exactly)
        for alternative in alternatives:
            put_absent(alternative, allocationMode="ExactCount")
            if alternative["allocationMode"] == "ExactCount":
                put_absent(alternative, count=1)
            _default_tolerations(alternative)


def _default_tolerations(request: Object) -> None:
    for toleration in items(request, "tolerations"):
        put_empty(toleration, operator="Equal")


def default_resource_claim(claim: Object) -> None:
    """A ResourceClaim."""
    default_device_claim(child(child(claim, "spec"), "devices"))


def default_resource_claim_template(template: Object) -> None:
    """A ResourceClaimTemplate."""
    default_device_claim(child(child(child(template, "spec"), "spec"), "devices"))


def default_resource_slice(piece: Object, now: str) -> None:
    """A ResourceSlice: taints carry the time they were added."""
    for device in items(piece, "spec", "devices"):
        for taint in items(device, "taints"):
            put_absent(taint, timeAdded=now)


def default_quota(quota: Object) -> None:
    """A ResourceQuota."""
    round_amounts(sub(quota, "spec", "hard"))


def default_runtime_class(runtime_class: Object) -> None:
    """A RuntimeClass."""
    round_amounts(sub(runtime_class, "overhead", "podFixed"))
