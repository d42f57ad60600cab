"""Columns of what keeps pods running."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from controlplane.apiserver.registry.columns.parts import (
    AGE,
    NAME,
    Cell,
    column,
    containers,
    format_selector,
    labels_cell,
    selector_cell,
    text_if_set,
)
from controlplane.apiserver.registry.objects import integer, items, number, sub, text, values
from controlplane.apiserver.registry.printing import NONE, UNKNOWN, UNSET, Age, human_duration, listed, moment_of
from machinery.api.meta import Object, condition, controller_of


def _number(*path: str) -> Cell:
    return lambda obj: number(obj, *path)


def _of_desired(obj: Object) -> str:
    return f"{number(obj, 'status', 'readyReplicas')}/{number(obj, 'spec', 'replicas')}"


DEPLOYMENT = (
    NAME,
    column("Ready", _of_desired, "Number of the pod with ready state"),
    column("Up-to-date", _number("status", "updatedReplicas"), "apps.v1.DeploymentStatus.updatedReplicas"),
    column("Available", _number("status", "availableReplicas"), "apps.v1.DeploymentStatus.availableReplicas"),
    AGE,
    *containers("spec", "template"),
    column(
        "Selector",
        lambda obj: format_selector(sub(obj, "spec").get("selector"), invalid="<invalid>", nothing=""),
        "apps.v1.DeploymentSpec.selector",
        wide=True,
    ),
)


def _counted(group: str, kind: str, selector: Cell) -> tuple[Any, ...]:
    return (
        NAME,
        column("Desired", _number("spec", "replicas"), f"{group}.{kind}Spec.replicas", kind="integer"),
        column("Current", _number("status", "replicas"), f"{group}.{kind}Status.replicas", kind="integer"),
        column("Ready", _number("status", "readyReplicas"), f"{group}.{kind}Status.readyReplicas", kind="integer"),
        AGE,
        *containers("spec", "template"),
        column("Selector", selector, f"{group}.{kind}Spec.selector", wide=True),
    )


REPLICA_SET = _counted("apps.v1", "ReplicaSet", selector_cell("spec", "selector"))
REPLICATION_CONTROLLER = _counted("core.v1", "ReplicationController", labels_cell("spec", "selector"))

DAEMON_SET = (
    NAME,
    *(
        column(name, _number("status", key), f"apps.v1.DaemonSetStatus.{key}", kind="integer")
        for name, key in (
            ("Desired", "desiredNumberScheduled"),
            ("Current", "currentNumberScheduled"),
            ("Ready", "numberReady"),
            ("Up-to-date", "updatedNumberScheduled"),
            ("Available", "numberAvailable"),
        )
    ),
    column("Node Selector", labels_cell("spec", "template", "spec", "nodeSelector"), "core.v1.PodSpec.nodeSelector"),
    AGE,
    *containers("spec", "template"),
    column("Selector", selector_cell("spec", "selector"), "apps.v1.DaemonSetSpec.selector", wide=True),
)

STATEFUL_SET = (
    NAME,
    column("Ready", _of_desired, "Number of the pod with ready state"),
    AGE,
    *containers("spec", "template"),
)


def _completions(job: Object) -> str:
    done, wanted = number(job, "status", "succeeded"), integer(job, "spec", "completions")
    parallelism = number(job, "spec", "parallelism")
    if wanted is not None:
        return f"{done}/{wanted}"
    return f"{done}/1 of {parallelism}" if parallelism > 1 else f"{done}/1"


def _job_status(job: Object) -> str:
    conditions = items(job, "status", "conditions")

    def holds(kind: str) -> bool:
        found = condition(conditions, kind)
        return found is not None and found.get("status") == "True"

    if holds("Complete"):
        return "Complete"
    if holds("Failed"):
        return "Failed"
    if sub(job, "metadata").get("deletionTimestamp"):
        return "Terminating"
    return "Suspended" if holds("Suspended") else "FailureTarget" if holds("FailureTarget") else "Running"


def _job_duration(job: Object) -> Any:
    start, end = sub(job, "status").get("startTime"), sub(job, "status").get("completionTime")
    if not start:
        return ""
    began, ended = moment_of(start), moment_of(end)
    if not began or not ended:
        return Age(start)
    return human_duration((ended - began) / timedelta(seconds=1))


JOB = (
    NAME,
    column("Status", _job_status, "Status of the job."),
    column("Completions", _completions, "batch.v1.JobStatus.succeeded"),
    column("Duration", _job_duration, "Time required to complete the job."),
    AGE,
    *containers("spec", "template"),
    column("Selector", selector_cell("spec", "selector"), "batch.v1.JobSpec.selector", wide=True),
)


def _suspend(cron_job: Object) -> str:
    suspend = sub(cron_job, "spec").get("suspend")
    return {True: "True", False: "False"}.get(suspend, UNSET) if isinstance(suspend, bool) else UNSET


def _last_schedule(cron_job: Object) -> Any:
    last = sub(cron_job, "status").get("lastScheduleTime")
    return Age(last) if last else NONE


_JOB_TEMPLATE = ("spec", "jobTemplate", "spec")
CRON_JOB = (
    NAME,
    column("Schedule", lambda obj: text(obj, "spec", "schedule"), "batch.v1.CronJobSpec.schedule"),
    column("Timezone", text_if_set(NONE, "spec", "timeZone"), "batch.v1.CronJobSpec.timeZone"),
    column("Suspend", _suspend, "batch.v1.CronJobSpec.suspend", kind="boolean"),
    column("Active", lambda obj: len(values(obj, "status", "active")), "batch.v1.CronJobStatus.active", kind="integer"),
    column("Last Schedule", _last_schedule, "batch.v1.CronJobStatus.lastScheduleTime"),
    AGE,
    *containers(*_JOB_TEMPLATE, "template"),
    column("Selector", selector_cell(*_JOB_TEMPLATE, "selector"), "batch.v1.JobSpec.selector", wide=True),
)


def _controller(revision: Object) -> str:
    owner = controller_of({"metadata": {"ownerReferences": items(revision, "metadata", "ownerReferences")}})
    if owner is None:
        return NONE
    group = text(owner, "apiVersion").rpartition("/")[0]
    kind = f"{text(owner, 'kind')}.{group}" if group else text(owner, "kind")
    return f"{kind.lower()}/{text(owner, 'name')}"


CONTROLLER_REVISION = (
    NAME,
    column("Controller", _controller, "Controller of the object"),
    column("Revision", _number("revision"), "apps.v1.ControllerRevision.revision"),
    AGE,
)

SCALE = (
    column("Name", NAME.cell, NAME.description),
    column("Desired", _number("spec", "replicas"), "autoscaling.v1.ScaleSpec.replicas", kind="integer"),
    column("Available", _number("status", "replicas"), "autoscaling.v1.ScaleStatus.replicas", kind="integer"),
    AGE,
)


def _min_or_na(key: str) -> Cell:
    def cell(budget: Object) -> str:
        found = sub(budget, "spec").get(key)
        return "N/A" if found is None else str(found)

    return cell


POD_DISRUPTION_BUDGET = (
    NAME,
    column("Min Available", _min_or_na("minAvailable"), "The minimum number of pods that must be available."),
    column("Max Unavailable", _min_or_na("maxUnavailable"), "The maximum number of pods that may be unavailable."),
    column(
        "Allowed Disruptions",
        _number("status", "disruptionsAllowed"),
        "Calculated number of pods that may be disrupted at this time.",
        kind="integer",
    ),
    AGE,
)

_METRIC_FIELDS = {
    "External": "external",
    "Pods": "pods",
    "Object": "object",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}


def _amount(holder: Object, key: str) -> str | None:
    found = holder.get(key)
    return None if found is None else str(found)


def _metric(metric: Object, status: Object) -> str:
    kind = text(metric, "type")
    key = _METRIC_FIELDS.get(kind)
    if key is None:
        return "<unknown type>"
    source = sub(metric, key)
    target, current = sub(source, "target"), sub(status, key, "current")
    known = isinstance(status.get(key), dict)
    average = _amount(target, "averageValue")
    if kind in ("Resource", "ContainerResource"):
        if average is not None:
            now = (_amount(current, "averageValue") or NONE) if known else UNKNOWN
            return f"{text(source, 'name')}: {now}/{average}"
        used, wanted = integer(current, "averageUtilization"), integer(target, "averageUtilization")
        return f"{text(source, 'name')}: {UNKNOWN if used is None else f'{used}%'}/" + (
            "<auto>" if wanted is None else f"{wanted}%"
        )
    if kind == "Pods":
        return f"{(_amount(current, 'averageValue') or NONE) if known else UNKNOWN}/{average or NONE}"
    if average is not None:
        return f"{_amount(current, 'averageValue') or UNKNOWN}/{average} (avg)"
    now = (_amount(current, "value") or NONE) if known else UNKNOWN
    return f"{now}/{_amount(target, 'value') or NONE}"


def _metrics(hpa: Object) -> str:
    metrics, statuses = items(hpa, "spec", "metrics"), items(hpa, "status", "currentMetrics")
    if not metrics:
        return NONE
    told = [_metric(m, statuses[i] if i < len(statuses) else {}) for i, m in enumerate(metrics)]
    return listed(told, 2, separator=", ")


def _target(hpa: Object) -> str:
    return f"{text(hpa, 'spec', 'scaleTargetRef', 'kind')}/{text(hpa, 'spec', 'scaleTargetRef', 'name')}"


def _min_pods(hpa: Object) -> str:
    found = integer(hpa, "spec", "minReplicas")
    return UNSET if found is None else str(found)


_HPA = "autoscaling.v2.HorizontalPodAutoscaler"
HORIZONTAL_POD_AUTOSCALER = (
    NAME,
    column("Reference", _target, f"{_HPA}Spec.scaleTargetRef"),
    column("Targets", _metrics, f"{_HPA}Spec.metrics"),
    column("MinPods", _min_pods, f"{_HPA}Spec.minReplicas"),
    column("MaxPods", _number("spec", "maxReplicas"), f"{_HPA}Spec.maxReplicas"),
    column("Replicas", _number("status", "currentReplicas"), f"{_HPA}Status.currentReplicas"),
    AGE,
)


SCALE = (
    replace(NAME, format=""),
    column("Desired", lambda obj: number(obj, "spec", "replicas"), "autoscaling.v1.ScaleSpec.replicas", kind="integer"),
    column(
        "Available",
        lambda obj: number(obj, "status", "replicas"),
        "autoscaling.v1.ScaleStatus.replicas",
        kind="integer",
    ),
    AGE,
)
