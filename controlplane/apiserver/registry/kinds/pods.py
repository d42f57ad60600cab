"""Pods and PodTemplates."""

from __future__ import annotations

from controlplane.apiserver.registry.objects import child, flag, items, sub, text
from controlplane.apiserver.registry.rules import (
    count_generation,
    keep_generation,
    keep_metadata,
    prepare_create,
    prepare_update,
)
from controlplane.apiserver.registry.strategy import Context, Strategy
from machinery.api import catalogue
from machinery.api.meta import Object
from machinery.api.resource import ResourceType


def _prepare_create(pod: Object, context: Context) -> None:
    pod["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
    child(pod, "metadata")["generation"] = 1


def _prepare_update(new: Object, old: Object, context: Context) -> None:
    new["status"] = old.get("status") or {}
    keep_generation(new, old)
    if new.get("spec") != old.get("spec"):
        count_generation(new, old)


def _prepare_status_update(new: Object, old: Object, context: Context) -> None:
    new["spec"] = old.get("spec") or {}
    keep_metadata(new, old, ("ownerReferences",))
    keep_generation(new, old)
    status = child(new, "status")
    if not status.get("qosClass") and text(old, "status", "qosClass"):
        status["qosClass"] = text(old, "status", "qosClass")


def _grace_seconds(pod: Object, asked: int | None) -> int:
    """Seconds a pod gets to end: none if it is bound to no node, or has ended already."""
    seconds = asked if asked is not None else sub(pod, "spec").get("terminationGracePeriodSeconds", 30)
    if not isinstance(seconds, int):
        seconds = 30
    if not text(pod, "spec", "nodeName") or text(pod, "status", "phase") in ("Failed", "Succeeded"):
        return 0
    return max(seconds, 1) if seconds < 0 else seconds


def _pod_ips(pod: Object) -> str:
    return ",".join(text(ip, "ip") for ip in items(pod, "status", "podIPs"))


STRATEGIES: dict[ResourceType, Strategy] = {
    catalogue.PODS: Strategy(
        prepare_create=_prepare_create,
        prepare_update=_prepare_update,
        prepare_status_update=_prepare_status_update,
        has_status=True,
        fields={
            "spec.nodeName": lambda pod: text(pod, "spec", "nodeName"),
            "spec.restartPolicy": lambda pod: text(pod, "spec", "restartPolicy"),
            "spec.schedulerName": lambda pod: text(pod, "spec", "schedulerName"),
            "spec.serviceAccountName": lambda pod: text(pod, "spec", "serviceAccountName"),
            "spec.hostNetwork": lambda pod: "true" if flag(pod, "spec", "hostNetwork") else "false",
            "status.phase": lambda pod: text(pod, "status", "phase"),
            "status.podIP": lambda pod: text(pod, "status", "podIP"),
            "status.podIPs": _pod_ips,
            "status.nominatedNodeName": lambda pod: text(pod, "status", "nominatedNodeName"),
        },
        default_grace_seconds=_grace_seconds,
    ),
    catalogue.PODTEMPLATES: Strategy(
        prepare_create=prepare_create(generation=True), prepare_update=prepare_update(counts=("template",))
    ),
}
