"""Warnings about everything else.

Source: pkg/api/{service,persistentvolume,persistentvolumeclaim,storage,job}/*.go, pkg/registry/*/strategy.go.
"""

from __future__ import annotations

from controlplane.apiserver.registry.objects import items, strings, sub, text, values
from controlplane.apiserver.registry.validation.parts import address_warnings, network_warnings
from controlplane.apiserver.registry.warnings.pods import (
    VOLUMES,
    fractional,
    label_warning,
    named,
    node_term,
    template,
)
from machinery.api.meta import Object

_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_MOUNT_ANNOTATION = "volume.beta.kubernetes.io/mount-options"
_INSTEAD = 'deprecated since v1.8; use "storageClassName" attribute instead'


def _template(obj: Object | None) -> Object | None:
    return None if obj is None else sub(obj, "spec", "template")


def named_workload(new: Object, old: Object | None) -> list[str]:
    """What names its pods after itself: Deployments, ReplicaSets, ReplicationControllers."""
    found = named(new) if old is None else []
    return found + template("spec.template", sub(new, "spec", "template"), _template(old))


def workload(new: Object, old: Object | None) -> list[str]:
    """What has a pod template."""
    return template("spec.template", sub(new, "spec", "template"), _template(old))


def stateful_set(new: Object, old: Object | None) -> list[str]:
    """A StatefulSet, with the claims it makes."""
    found = workload(new, old)
    if old is None or sub(new, "spec") != sub(old, "spec"):
        for index, claim in enumerate(items(new, "spec", "volumeClaimTemplates")):
            found += fractional(f"spec.volumeClaimTemplates[{index}].Spec.resources", sub(claim, "spec", "resources"))
    return found


def cron_job(new: Object, old: Object | None) -> list[str]:
    """A CronJob."""
    found = named(new) if old is None else []
    before = None if old is None else sub(old, "spec", "jobTemplate", "spec", "template")
    found += template("spec.jobTemplate.spec.template", sub(new, "spec", "jobTemplate", "spec", "template"), before)
    if "TZ" in text(new, "spec", "schedule"):
        found.append(
            "CRON_TZ or TZ used in spec.schedule is not officially supported, see "
            "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#unsupported-timezone-specification "
            "for more details"
        )
    return found


def pod_template(new: Object, old: Object | None) -> list[str]:
    """A PodTemplate."""
    return template("template", sub(new, "template"), None if old is None else sub(old, "template"))


_IGNORED = "is ignored for headless services"


def service(new: Object, old: Object | None) -> list[str]:
    """A Service."""
    spec = sub(new, "spec")
    found: list[str] = []
    hints = "service.kubernetes.io/topology-aware-hints"
    if hints in strings(new, "metadata", "annotations"):
        found.append(f"annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead")
    kind, external, balancer = text(spec, "type"), values(spec, "externalIPs"), text(spec, "loadBalancerIP")
    if text(spec, "clusterIP") not in ("", "None"):
        found += _addresses("spec.clusterIPs", values(spec, "clusterIPs"))
    headless = kind == "ClusterIP" and text(spec, "clusterIP") == "None"
    if headless:
        found += [f"spec.loadBalancerIP {_IGNORED}"] if balancer else []
        found += [f"spec.externalIPs {_IGNORED}"] if external else []
        if text(spec, "sessionAffinity") != "None":
            found.append(f"spec.SessionAffinity {_IGNORED}")
    found += _addresses("spec.externalIPs", external)
    if external and not headless and kind != "ExternalName":
        found.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    found += address_warnings("spec.loadBalancerIP", balancer)
    for index, network in enumerate(values(spec, "loadBalancerSourceRanges")):
        found += network_warnings(f"spec.loadBalancerSourceRanges[{index}]", network)
    if kind == "ExternalName":
        found += ['spec.externalIPs is ignored when spec.type is "ExternalName"'] if external else []
    elif text(spec, "externalName"):
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if text(spec, "trafficDistribution") == "PreferClose":
        found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return found


def _addresses(at: str, found: list[str]) -> list[str]:
    return [warning for index, address in enumerate(found) for warning in address_warnings(f"{at}[{index}]", address)]


def endpoints(new: Object, old: Object | None) -> list[str]:
    """Endpoints; what the controller writes it has copied."""
    if strings(new, "metadata", "labels").get("endpoints.kubernetes.io/managed-by") == "endpoint-controller":
        return []
    found: list[str] = []
    for index, subset in enumerate(items(new, "subsets")):
        for kind in ("addresses", "notReadyAddresses"):
            for at, address in enumerate(items(subset, kind)):
                found += address_warnings(f"subsets[{index}].{kind}[{at}].ip", text(address, "ip"))
    return found


def persistent_volume(new: Object, old: Object | None) -> list[str]:
    """A PersistentVolume."""
    found: list[str] = []
    annotations = strings(new, "metadata", "annotations")
    if _CLASS_ANNOTATION in annotations:
        found.append(f"metadata.annotations[{_CLASS_ANNOTATION}]: {_INSTEAD}")
    if _MOUNT_ANNOTATION in annotations:
        found.append(
            f'metadata.annotations[{_MOUNT_ANNOTATION}]: deprecated since v1.31; use "mountOptions" attribute instead'
        )
    spec = sub(new, "spec")
    if text(spec, "persistentVolumeReclaimPolicy") == "Recycle":
        found.append(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended "
            "approach is to use dynamic provisioning."
        )
    for index, term in enumerate(items(spec, "nodeAffinity", "required", "nodeSelectorTerms")):
        found += node_term(f"spec.nodeAffinity.required.nodeSelectorTerms[{index}]", term)
    found += [f"spec.{kind}: {message}" for kind, message in VOLUMES.items() if isinstance(spec.get(kind), dict)]
    return found


def claim(new: Object, old: Object | None) -> list[str]:
    """A PersistentVolumeClaim."""
    found: list[str] = []
    if _CLASS_ANNOTATION in strings(new, "metadata", "annotations"):
        found.append(f"metadata.annotations[{_CLASS_ANNOTATION}]: {_INSTEAD}")
    return found + fractional("spec.resources", sub(new, "spec", "resources"))


def storage_class(new: Object, old: Object | None) -> list[str]:
    """A StorageClass."""
    return [
        f"allowedTopologies[{i}].matchLabelExpressions[{j}].key: {label_warning(text(expression, 'key'))}"
        for i, term in enumerate(items(new, "allowedTopologies"))
        for j, expression in enumerate(items(term, "matchLabelExpressions"))
        if label_warning(text(expression, "key"))
    ]


def runtime_class(new: Object, old: Object | None) -> list[str]:
    """A RuntimeClass."""
    return [
        f"scheduling.nodeSelector[{key}]: {label_warning(key)}"
        for key in sorted(strings(new, "scheduling", "nodeSelector"))
        if label_warning(key)
    ]


def csi_driver(new: Object, old: Object | None) -> list[str]:
    """A CSIDriver."""
    spec = sub(new, "spec")
    if old is None and items(spec, "tokenRequests") and spec.get("serviceAccountTokenInSecrets") is None:
        return [
            "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent "
            "possible logging of tokens in volume attributes"
        ]
    return []


def service_account(new: Object, old: Object | None) -> list[str]:
    """A ServiceAccount."""
    key = "kubernetes.io/enforce-mountable-secrets"
    annotations = strings(new, "metadata", "annotations")
    if annotations.get(key) == "true" and (old is None or strings(old, "metadata", "annotations").get(key) != "true"):
        return [
            f"metadata.annotations[{key}]: deprecated in v1.32+; prefer separate namespaces to isolate access to "
            "mounted secrets"
        ]
    return []


def node(new: Object, old: Object | None) -> list[str]:
    """A Node."""
    found: list[str] = []
    if sub(new, "spec").get("configSource") is not None:
        found.append("spec.configSource: the feature is no longer supported")
    if text(new, "spec", "externalID"):
        found.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
    for index, network in enumerate(values(new, "spec", "podCIDRs")):
        found += network_warnings(f"spec.podCIDRs[{index}]", network)
    return found


def ingress(new: Object, old: Object | None) -> list[str]:
    """A new Ingress."""
    key = "kubernetes.io/ingress.class"
    if old is None and key in strings(new, "metadata", "annotations"):
        return [f"annotation {_quoted(key)} is deprecated, please use 'spec.ingressClassName' instead"]
    return []


def _quoted(word: str) -> str:
    return f'"{word}"'
