"""The pods that a Job makes of its template.

Source: k8s.io/kubernetes/pkg/controller/job/indexed_job_utils.go; KEP-2214, KEP-4017.
"""

from __future__ import annotations

from typing import Any

from controlplane.controllers.job.indexes import FAILURES_ANNOTATION, IGNORED_ANNOTATION, INDEX_ANNOTATION
from controlplane.controllers.job.tally import TRACKING, index_failures
from controlplane.controllers.pods import from_template
from machinery.api.catalogue import JOBS
from machinery.api.meta import Object, name_of

_LONGEST_PREFIX = 63 - 5
"""What leaves room for the five random letters in a label's value."""

_INDEX_VARIABLE = {
    "name": "JOB_COMPLETION_INDEX",
    "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX_ANNOTATION}']"}},
}


def make_pod(job: Object, index: int | None, predecessor: Object | None = None) -> Object:
    """A pod of the Job; `predecessor` is the failed pod of the same index that knows most failures."""
    pod = from_template(job["spec"]["template"], job, JOBS)
    metadata = pod["metadata"]
    metadata["finalizers"] = [*metadata.get("finalizers", ()), TRACKING]
    if index is None:
        return pod
    name = name_of(job)
    tail = f"-{index}-"
    metadata["generateName"] = name[: _LONGEST_PREFIX - len(tail)] + tail
    metadata["annotations"] = {**metadata.get("annotations", {}), INDEX_ANNOTATION: str(index)}
    metadata["labels"] = {**metadata.get("labels", {}), INDEX_ANNOTATION: str(index)}
    if job["spec"].get("backoffLimitPerIndex") is not None:
        failures, ignored = index_failures(job, predecessor) if predecessor is not None else (0, 0)
        metadata["annotations"][FAILURES_ANNOTATION] = str(failures)
        if ignored:
            metadata["annotations"][IGNORED_ANNOTATION] = str(ignored)
    spec: dict[str, Any] = dict(pod["spec"])
    spec["hostname"] = f"{name}-{index}"
    for part in ("initContainers", "containers"):
        if spec.get(part):
            spec[part] = [_with_index(container) for container in spec[part]]
    return {**pod, "spec": spec}


def _with_index(container: Object) -> Object:
    variables = container.get("env") or []
    if any(variable.get("name") == _INDEX_VARIABLE["name"] for variable in variables):
        return container
    return {**container, "env": [*variables, _INDEX_VARIABLE]}
