"""Defaults of what keeps pods running.

Source: pkg/apis/apps/v1/defaults.go, pkg/apis/batch/v1/defaults.go, pkg/apis/core/v1/defaults.go.
"""

from __future__ import annotations

from controlplane.apiserver.registry.defaults.podspec import default_template
from controlplane.apiserver.registry.defaults.volumes import default_claim
from controlplane.apiserver.registry.objects import child, integer, items, put_absent, put_empty, strings, sub, text
from machinery.api.meta import Object

NO_LIMIT = 2**31 - 1


def default_deployment(deployment: Object) -> None:
    """A Deployment."""
    spec = child(deployment, "spec")
    put_absent(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = child(spec, "strategy")
    put_empty(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        put_absent(child(strategy, "rollingUpdate"), maxUnavailable="25%", maxSurge="25%")
    default_template(child(spec, "template"))


def default_replica_set(replica_set: Object) -> None:
    """A ReplicaSet."""
    spec = child(replica_set, "spec")
    put_absent(spec, replicas=1)
    default_template(child(spec, "template"))


def default_replication_controller(controller: Object) -> None:
    """A ReplicationController: its selector and labels are its template's if it has none."""
    spec = child(controller, "spec")
    put_absent(spec, replicas=1)
    if isinstance(spec.get("template"), dict):
        labels = strings(spec["template"], "metadata", "labels")
        if labels:
            if not spec.get("selector"):
                spec["selector"] = dict(labels)
            metadata = child(controller, "metadata")
            if not metadata.get("labels"):
                metadata["labels"] = dict(labels)
        default_template(spec["template"])


def default_daemon_set(daemon_set: Object) -> None:
    """A DaemonSet."""
    spec = child(daemon_set, "spec")
    put_absent(spec, revisionHistoryLimit=10)
    strategy = child(spec, "updateStrategy")
    put_empty(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        put_absent(child(strategy, "rollingUpdate"), maxUnavailable=1, maxSurge=0)
    default_template(child(spec, "template"))


def default_stateful_set(stateful_set: Object) -> None:
    """A StatefulSet."""
    spec = child(stateful_set, "spec")
    put_empty(spec, podManagementPolicy="OrderedReady")
    strategy = child(spec, "updateStrategy")
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        if "rollingUpdate" not in strategy:
            strategy["rollingUpdate"] = {"partition": 0}
    if strategy["type"] == "RollingUpdate" and isinstance(strategy.get("rollingUpdate"), dict):
        put_absent(strategy["rollingUpdate"], partition=0)
    put_empty(child(spec, "persistentVolumeClaimRetentionPolicy"), whenDeleted="Retain", whenScaled="Retain")
    put_absent(spec, replicas=1, revisionHistoryLimit=10)
    default_template(child(spec, "template"))
    for claim in items(spec, "volumeClaimTemplates"):
        # Claims in a template carry their apiVersion, kind and status, as upstream stores them.
        put_empty(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        default_claim(claim)


def default_job_spec(spec: Object) -> None:
    """The spec of a Job, or of the template of a CronJob."""
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = spec["parallelism"] = 1
    put_absent(spec, parallelism=1)
    put_absent(spec, backoffLimit=NO_LIMIT if "backoffLimitPerIndex" in spec else 6)
    put_absent(spec, completionMode="NonIndexed", suspend=False, manualSelector=False)
    put_absent(spec, podReplacementPolicy="Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    for rule in items(spec, "podFailurePolicy", "rules"):
        for pattern in items(rule, "onPodConditions"):
            put_empty(pattern, status="True")


def default_job(job: Object) -> None:
    """A Job: its labels are its template's if it has none."""
    spec = child(job, "spec")
    default_job_spec(spec)
    default_template(child(spec, "template"))
    metadata = child(job, "metadata")
    labels = strings(spec, "template", "metadata", "labels")
    if labels and not metadata.get("labels"):
        # The same dict, as upstream: labels that are generated for the template then stand on the Job, too.
        metadata["labels"] = spec["template"]["metadata"]["labels"]


def default_cron_job(cron_job: Object) -> None:
    """A CronJob. Its job template gets no defaults but those of the pods."""
    spec = child(cron_job, "spec")
    put_empty(spec, concurrencyPolicy="Allow")
    put_absent(spec, suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    job = child(child(spec, "jobTemplate"), "spec")
    for rule in items(job, "podFailurePolicy", "rules"):
        for pattern in items(rule, "onPodConditions"):
            put_empty(pattern, status="True")
    default_template(child(job, "template"))


def default_pod_template(template: Object) -> None:
    """A PodTemplate."""
    default_template(child(template, "template"))


def default_hpa(hpa: Object) -> None:
    """A HorizontalPodAutoscaler of autoscaling/v2."""
    spec = child(hpa, "spec")
    put_absent(spec, minReplicas=1)
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    if isinstance(behavior := spec.get("behavior"), dict):
        up = child(behavior, "scaleUp")
        put_absent(up, stabilizationWindowSeconds=0, selectPolicy="Max")
        if "policies" not in up:
            up["policies"] = [
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15},
            ]
        down = child(behavior, "scaleDown")
        put_absent(down, selectPolicy="Max")
        if "policies" not in down:
            down["policies"] = [{"type": "Percent", "value": 100, "periodSeconds": 15}]


def default_hpa_v1(hpa: Object) -> None:
    """A HorizontalPodAutoscaler of autoscaling/v1."""
    put_absent(child(hpa, "spec"), minReplicas=1)


def daemon_template_generation(daemon_set: Object) -> int:
    """How often the template of a DaemonSet has changed: upstream keeps it in an annotation."""
    value = text(daemon_set, "metadata", "annotations", TEMPLATE_GENERATION)
    return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else 0


TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"


def desired_replicas(obj: Object) -> int:
    """spec.replicas, 1 if it is absent."""
    replicas = integer(sub(obj, "spec"), "replicas")
    return 1 if replicas is None else replicas
