"""Pods and PodTemplates."""

from __future__ import annotations

from controlplane.apiserver.registry.columns.pods import row_conditions
from controlplane.apiserver.registry.defaults.podspec import default_pod
from controlplane.apiserver.registry.defaults.workloads import default_pod_template
from controlplane.apiserver.registry.objects import child, flag, integer, items, number, sub, text
from controlplane.apiserver.registry.pod_affinity import apply_label_keys
from controlplane.apiserver.registry.pod_apparmor import apply_app_armor
from controlplane.apiserver.registry.pod_facts import grace_seconds, new_status
from controlplane.apiserver.registry.rules import (
    count_generation,
    keep_generation,
    keep_metadata,
    prepare_create,
    prepare_update,
)
from controlplane.apiserver.registry.strategy import Context, Strategy
from controlplane.apiserver.registry.validation import pods
from controlplane.apiserver.registry.validation.pod_status import validate_status_update
from controlplane.apiserver.registry.validation.workloads import pod_template_object
from controlplane.apiserver.registry.warnings import others as other_warnings
from controlplane.apiserver.registry.warnings import pods as pod_warnings
from machinery.api import catalogue
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


def _prepare_create(pod: Object, context: Context) -> None:
    pod["status"] = new_status(pod)
    child(pod, "metadata")["generation"] = 1
    apply_label_keys(pod)
    context.warnings.extend(apply_app_armor(pod))
    seconds = integer(pod, "spec", "terminationGracePeriodSeconds")
    if seconds is not None and seconds < 0:
        pod["spec"]["terminationGracePeriodSeconds"] = 1


def _prepare_update(new: Object, old: Object, context: Context) -> None:
    new["status"] = old.get("status") or {}
    keep_generation(new, old)
    if new.get("spec") != old.get("spec"):
        count_generation(new, old)


def _prepare_status_update(new: Object, old: Object, context: Context) -> None:
    new["spec"] = old.get("spec") or {}
    keep_metadata(new, old, ("ownerReferences",))
    keep_generation(new, old)
    child(new, "metadata").pop("deletionTimestamp", None)  # which the generic part then takes from the old pod
    status = child(new, "status")
    _keep_observed_generations(status, sub(old, "status"))
    if not status.get("qosClass") and text(old, "status", "qosClass"):
        status["qosClass"] = text(old, "status", "qosClass")


def _keep_observed_generations(status: Object, before: Object) -> None:
    """Writers that know nothing of them don't clear them."""
    if not status.get("observedGeneration") and before.get("observedGeneration"):
        status["observedGeneration"] = before["observedGeneration"]
    earlier: dict[str, list[int]] = {}
    for condition in items(before, "conditions"):
        earlier.setdefault(text(condition, "type"), []).append(number(condition, "observedGeneration"))
    for condition in items(status, "conditions"):
        left = earlier.get(text(condition, "type"))
        generation = left.pop(0) if left else 0
        if generation and not condition.get("observedGeneration"):
            condition["observedGeneration"] = generation


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.PODS: Strategy(
        default=default_pod,
        warnings=pod_warnings.pod,
        prepare_create=_prepare_create,
        prepare_update=_prepare_update,
        prepare_status_update=_prepare_status_update,
        validate=pods.validate,
        validate_update=pods.validate_update,
        validate_status_update=validate_status_update,
        has_status=True,
        fields={
            "spec.nodeName": lambda pod: text(pod, "spec", "nodeName"),
            "spec.host": lambda pod: text(pod, "spec", "nodeName"),  # its name long ago
            "spec.restartPolicy": lambda pod: text(pod, "spec", "restartPolicy"),
            "spec.schedulerName": lambda pod: text(pod, "spec", "schedulerName"),
            "spec.serviceAccountName": lambda pod: text(pod, "spec", "serviceAccountName"),
            "spec.hostNetwork": lambda pod: "true" if flag(pod, "spec", "hostNetwork") else "false",
            "status.phase": lambda pod: text(pod, "status", "phase"),
            "status.podIP": lambda pod: text(pod, "status", "podIP"),
            "status.podIPs": lambda pod: "",  # accepted, but upstream's pods have no such field to select by
            "status.nominatedNodeName": lambda pod: text(pod, "status", "nominatedNodeName"),
        },
        default_grace_seconds=grace_seconds,
        row_conditions=row_conditions,
    ),
    catalogue.PODTEMPLATES: Strategy(
        default=default_pod_template,
        warnings=other_warnings.pod_template,
        validate=pod_template_object,
        validate_update=lambda new, old: pod_template_object(new),
        prepare_create=prepare_create(generation=True),
        prepare_update=prepare_update(counts=("template",)),
    ),
}
